// What a file of rows means for the registry: which rows become leases, and why the others do not. Pure.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

/// What the changes of one import may take of memory, as Registry::bytes_of counts: thousands of rows may be of a project that lies
/// kilobytes deep.
inline constexpr std::size_t k_imported_bytes = 12 * 1024 * 1024;

/// One row of a file, read and checked by itself. Whose it is stands in `directory` or `name` until `project` is known.
struct ImportRow {
    int row = 0;            ///< for people: the line of a table, the position of a record
    std::string name;       ///< what the file calls the project; may be empty
    std::string directory;  ///< absolute; empty when the file has none
    std::shared_ptr<const Project> project{};  ///< all rows of a project have one
    Port port = 0;
    std::optional<Port> requested;
    std::string service;
    Protocol protocol = Protocol::tcp;
    int instance = 0;
    Environment environment = Environment::dev;
    std::optional<std::string> kind;
    std::string range;  ///< as the file names it; the config here may have none of that name
    LeaseState state = LeaseState::allocated;
    std::optional<std::string> description;
    std::optional<std::string> hostname;
    std::string allocated_by;
    std::optional<Time> allocated_at;
    std::optional<Time> last_active_at;
    std::optional<Time> expires_at;
};

struct RefusedRow {
    int row = 0;
    std::string reason;
    bool operator==(const RefusedRow&) const = default;
};

struct ImportAnswer {
    std::vector<Lease> imported;  ///< as they are afterwards
    std::vector<RefusedRow> refused;
    bool too_much = false;  ///< more than k_imported_bytes: nothing is changed
};

/// `refused` are rows that fell through earlier; they belong to the report. Rows without a project are refused. With
/// `strict` one refused row refuses all. What the registry has exactly so already is imported without a change.
[[nodiscard]] Decision<ImportAnswer> decide_import(const Registry& registry, const Config& config, const std::vector<ImportRow>& rows,
                                                   std::vector<RefusedRow> refused, bool strict, const Facts& facts);

}  // namespace portwrap
