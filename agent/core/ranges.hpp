// The named ranges, which of them serves a request, and the ports that are never chosen automatically. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

enum class RangeKind { system, type, service, environment, project, chain };
template <>
struct Words<RangeKind> {
    static constexpr std::array<std::string_view, 6> k_words{"system", "type", "service", "environment", "project", "chain"};
};

struct Range {
    std::string name;
    RangeKind kind = RangeKind::type;
    std::vector<PortInterval> intervals;  ///< one, or several for a chain, in the order of choice
    bool exclusive = false;               ///< no other range's automatic choice lands in it
    std::string fallback;                 ///< name of the range that goes on when this one is full; "" for none
    std::string description;
    [[nodiscard]] bool contains(Port port) const;
    [[nodiscard]] int size() const;
    bool operator==(const Range&) const = default;
};

/// Which ranges there are, and by what a request finds its own.
enum class Preset { types, services, environments, localdb, blocks };
template <>
struct Words<Preset> {
    static constexpr std::array<std::string_view, 5> k_words{"types", "services", "environments", "localdb", "blocks"};
};
/// In which order free ports are given.
enum class Strategy { sequential, random };
template <>
struct Words<Strategy> {
    static constexpr std::array<std::string_view, 2> k_words{"sequential", "random"};
};

/// What the user's config says; default_config() is what an absent one means.
struct Config {
    Preset preset = Preset::types;
    std::vector<Range> ranges;
    std::vector<Port> reserved;  ///< never given automatically
    Strategy strategy = Strategy::sequential;
    bool claims = true;             ///< false for "sticky": "prefer"
    bool connect = true;            ///< false for "connect": "off"
    bool port_zero_kernel = false;  ///< true for "port_zero": "kernel"
    bool auto_cleanup = true;       ///< what is inactive, gone or old ends by itself
    int block_size = 100;
    std::map<std::string, Port> pinned_blocks;  ///< first port by project name
    std::chrono::hours inactive{24 * 7};    ///< inactive_days
    std::chrono::hours remembered{24 * 30}; ///< released_days
    std::chrono::hours history{24 * 30};    ///< history_days
    std::optional<std::chrono::minutes> idle_exit;  ///< the agent leaves after this long without leases, sessions and clients
    std::optional<std::chrono::seconds> health_interval;  ///< listening services are checked this often; none: on request alone
    std::chrono::seconds health_timeout{5};                ///< to wait for an answer
    std::string log_level = "info";
    bool operator==(const Config&) const = default;
};
/// The built-in ranges of a preset, everything else as it is by default.
[[nodiscard]] Config default_config(Preset preset = Preset::types);

/// Null when there is no such range.
[[nodiscard]] const Range* find_range(const Config& config, std::string_view name);

/// What is known of a request that needs a range.
struct RangeQuery {
    std::optional<std::string> range;  ///< named by the user: beats all
    Environment environment = Environment::dev;
    std::optional<std::string> kind;  ///< "database", "cache", "web", ...
    std::string type;                 ///< "node", "python", ...
    bool explicit_request = false;    ///< by a person or script: an exclusive range does not go on in the default chain
    std::string service = {};         ///< its name implies its kind under the preset `services`
    const Range* block = nullptr;     ///< the project's own (blocks.hpp); outlives the answer
};
/// The ranges to try, in order. Empty only when `range` names none.
[[nodiscard]] std::vector<const Range*> ranges_that_serve(const Config& config, const RangeQuery& query);

/// "node" for node, nodejs, deno, bun...; "static" for `python -m http.server`; empty when the program says nothing.
/// `executable` is the file's name, `arguments` the whole command line.
[[nodiscard]] std::string type_of_program(std::string_view executable, const std::vector<std::string>& arguments);
/// "database" or "cache" for well-known servers.
[[nodiscard]] std::optional<std::string> kind_of_program(std::string_view executable);
/// Jest, vitest and the like: the kernel chooses their port 0.
[[nodiscard]] bool is_test_runner(const std::vector<std::string>& arguments);

/// The Fetch standard's bad ports (https://fetch.spec.whatwg.org/#port-blocking): browsers refuse to open them.
[[nodiscard]] bool is_bad_port(Port port);
/// In the range `system`.
[[nodiscard]] bool is_system_port(const Config& config, Port port);
[[nodiscard]] bool is_reserved_port(const Config& config, Port port);

/// "debug" for 9229 and up, "hmr" for 24678..., "livereload" for 35729...; empty for all other ports.
[[nodiscard]] std::string_view auxiliary_role(Port port);
[[nodiscard]] bool is_auxiliary_service(std::string_view service);

}  // namespace portwrap
