// Leases as files for other programs and for people. Pure: values in, text out. What is written as json, csv, markdown or
// env can be read back by read_rows.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/named_rules.hpp"
#include "system/compose_file.hpp"

namespace portwrap {

enum class ExportFormat { json, csv, markdown, env, compose };
template <>
struct Words<ExportFormat> {
    static constexpr std::array<std::string_view, 5> k_words{"json", "csv", "markdown", "env", "compose"};
};

/// `leases` in the order in which they shall appear. `file` is the project's compose file, if it has one that is understood.
[[nodiscard]] std::string write_text(ExportFormat format, const Registry& registry, const Config& config, const std::vector<const Lease*>& leases, Time now,
                                     const ComposeFile* file = nullptr);

/// "API_PORT" for api, "PORT" for main, "API_PORT_2" for a second instance: as the export of its project calls it.
[[nodiscard]] std::string variable_name(const Registry& registry, const Lease& lease);

/// What a variable's name says by itself; none when it is no port's ("API_PORTS").
struct SaidVariable {
    std::string service;
    int instance = 0;
};
[[nodiscard]] std::optional<SaidVariable> read_variable_name(std::string_view name);

}  // namespace portwrap
