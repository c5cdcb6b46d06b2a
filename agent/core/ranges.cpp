// The built-in ranges and the rules that pick among them.
#include "core/ranges.hpp"

#include <algorithm>

namespace portwrap {

bool Range::contains(Port port) const {
    return std::any_of(intervals.begin(), intervals.end(), [port](const auto& part) { return part.contains(port); });
}

int Range::size() const {
    int total = 0;
    for (const auto& part : intervals) { total += part.size(); }
    return total;
}

Config default_config(Preset preset) {
    using enum RangeKind;
    Config config;
    config.preset = preset;
    config.ranges = {
        {"system", system, {{2601, 2699}}, false, "", "portwrap's own services"},
        {"node", type, {{3000, 3999}}, false, "default", "Node.js, Deno and Bun"},
        {"static", type, {{4000, 4999}}, false, "default", "plain files and static site generators"},
        {"python", type, {{5000, 5999}}, false, "default", "Python"},
        {"php", type, {{8080, 8980}}, false, "default", "PHP"},
        {"web", service, {{8080, 8099}}, false, "php", "web front ends"},
        {"api", service, {{3000, 3099}}, false, "node", "APIs"},
        {"database", service, {{5432, 5439}}, true, "default", "PostgreSQL, MySQL, MongoDB"},
        {"cache", service, {{6379, 6389}}, true, "default", "Redis, Memcached"},
        {"debug", service, {{5555, 5564}}, true, "default", "debuggers"},
        {"testing", service, {{9000, 9099}}, false, "default", "test runners and mock servers"},
        {"test", environment, {{7000, 7999}}, false, "default", "the environment test"},
        {"production", environment, {{9000, 9999}}, false, "default", "the environment production"},
        {"default", chain, {{3000, 3999}, {4000, 4999}, {5000, 9999}}, false, "", "everything else"},
    };
    const auto before_default = [&config](Range range) { config.ranges.insert(config.ranges.end() - 1, std::move(range)); };
    if (preset == Preset::environments) { before_default({"dev", environment, {{8000, 8999}}, false, "default", "the environment dev"}); }
    if (preset == Preset::blocks) { before_default({"shared", project, {{9000, 9999}}, false, "", "the project shared-services"}); }
    return config;
}

namespace {

/// A kind by the name of what people call it by: "postgres" is a database.
std::string_view kind_of_name(std::string_view name) {
    static constexpr std::array<std::string_view, 6> k_databases{"postgres", "postgresql", "mysql", "mariadb", "mongo", "mongodb"};
    static constexpr std::array<std::string_view, 3> k_caches{"redis", "memcached", "valkey"};
    if (std::find(k_databases.begin(), k_databases.end(), name) != k_databases.end()) { return "database"; }
    return std::find(k_caches.begin(), k_caches.end(), name) != k_caches.end() ? std::string_view("cache") : std::string_view();
}

}  // namespace

const Range* find_range(const Config& config, std::string_view name) {
    for (const auto& range : config.ranges) {
        if (range.name == name) { return &range; }
    }
    return nullptr;
}

std::vector<const Range*> ranges_that_serve(const Config& config, const RangeQuery& query) {
    const Range* first = nullptr;
    if (query.range) {
        first = find_range(config, *query.range);
        if (first == nullptr) { return {}; }
    }
    if (first == nullptr && query.environment != Environment::dev) { first = find_range(config, word(query.environment)); }
    const auto find_of_kind = [&config](std::string_view name, RangeKind kind) {
        const auto* found = find_range(config, name);
        return found != nullptr && found->kind == kind ? found : nullptr;
    };
    if (first == nullptr && query.kind) { first = find_of_kind(*query.kind, RangeKind::service); }
    if (first == nullptr && query.kind) { first = find_of_kind(kind_of_name(*query.kind), RangeKind::service); }
    if (first == nullptr && !query.kind && config.preset == Preset::services) { first = find_of_kind(query.service, RangeKind::service); }
    if (first == nullptr) { first = query.block; }
    if (first == nullptr && config.preset == Preset::environments) { first = find_of_kind(word(Environment::dev), RangeKind::environment); }
    if (first == nullptr && config.preset != Preset::localdb && !query.type.empty()) {
        first = find_of_kind(query.type == "deno" || query.type == "bun" ? "node" : query.type, RangeKind::type);
    }
    if (first == nullptr) { first = find_range(config, "default"); }

    std::vector<const Range*> chain;
    // A range named by the user is meant; an exclusive one is not left by a person's request.
    const bool stays = query.range || (first != nullptr && first->exclusive && query.explicit_request);
    while (first != nullptr && std::find(chain.begin(), chain.end(), first) == chain.end()) {
        chain.push_back(first);
        first = stays || first->fallback.empty() ? nullptr : find_range(config, first->fallback);
    }
    return chain;
}

namespace {

bool is_versioned(std::string_view name, std::string_view program) {
    if (!name.starts_with(program)) { return false; }
    return name.substr(program.size()).find_first_not_of("0123456789.") == std::string_view::npos;
}

bool has_pair(const std::vector<std::string>& arguments, std::string_view first, std::string_view second) {
    for (std::size_t i = 0; i + 1 < arguments.size(); ++i) {
        if (arguments[i] == first && arguments[i + 1] == second) { return true; }
    }
    return false;
}

std::string_view base_name(std::string_view path) {
    const auto slash = path.rfind('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::string type_of_program(std::string_view executable, const std::vector<std::string>& arguments) {
    static constexpr std::array<std::string_view, 5> k_static{"http-server", "serve", "live-server", "sirv", "http.server"};
    static constexpr std::array<std::string_view, 9> k_python{"flask", "uvicorn", "gunicorn", "hypercorn", "daphne", "waitress-serve", "django-admin", "manage.py", "mkdocs"};
    const auto is_in = [](const auto& names, std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); };
    if (is_in(k_static, executable)) { return "static"; }
    if (is_in(k_python, executable)) { return "python"; }
    if (executable == "node" || executable == "nodejs" || executable == "deno" || executable == "bun") {
        const bool is_static = std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) { return is_in(k_static, base_name(argument)); });
        return is_static ? "static" : "node";
    }
    if (is_versioned(executable, "python") || is_versioned(executable, "pypy")) {
        return has_pair(arguments, "-m", "http.server") ? "static" : "python";
    }
    if (is_versioned(executable, "php")) { return "php"; }
    if (is_versioned(executable, "ruby")) { return "ruby"; }
    if (executable == "java") { return "java"; }
    return {};
}

std::optional<std::string> kind_of_program(std::string_view executable) {
    static constexpr std::array<std::string_view, 6> k_databases{"postgres", "mysqld", "mariadbd", "mongod", "mysqld_safe", "cockroach"};
    static constexpr std::array<std::string_view, 4> k_caches{"redis-server", "memcached", "valkey-server", "keydb-server"};
    if (std::find(k_databases.begin(), k_databases.end(), executable) != k_databases.end()) { return "database"; }
    if (std::find(k_caches.begin(), k_caches.end(), executable) != k_caches.end()) { return "cache"; }
    return std::nullopt;
}

bool is_test_runner(const std::vector<std::string>& arguments) {
    static constexpr std::array<std::string_view, 9> k_runners{"jest", "vitest", "mocha", "ava", "playwright", "cypress", "pytest", "py.test", "karma"};
    // argv[0], the interpreter's script, or the module after -m: the words before the runner's own arguments.
    const auto end = arguments.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(arguments.size(), 4));
    return std::any_of(arguments.begin(), end, [](const std::string& argument) {
        auto name = base_name(argument);
        for (const std::string_view suffix : {".js", ".mjs", ".cjs"}) {
            if (name.ends_with(suffix)) { name.remove_suffix(suffix.size()); }
        }
        return std::find(k_runners.begin(), k_runners.end(), name) != k_runners.end();
    });
}

bool is_bad_port(Port port) {
    static constexpr std::array<Port, 82> k_bad{1,    7,    9,    11,   13,   15,   17,   19,   20,   21,   22,   23,   25,   37,
                                                42,   43,   53,   69,   77,   79,   87,   95,   101,  102,  103,  104,  109,  110,
                                                111,  113,  115,  117,  119,  123,  135,  137,  139,  143,  161,  179,  389,  427,
                                                465,  512,  513,  514,  515,  526,  530,  531,  532,  540,  548,  554,  556,  563,
                                                587,  601,  636,  989,  990,  993,  995,  1719, 1720, 1723, 2049, 3659, 4045, 4190,
                                                5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080};
    return std::binary_search(k_bad.begin(), k_bad.end(), port);
}

bool is_system_port(const Config& config, Port port) {
    return std::any_of(config.ranges.begin(), config.ranges.end(),
                       [port](const Range& range) { return range.kind == RangeKind::system && range.contains(port); });
}

bool is_reserved_port(const Config& config, Port port) {
    return std::find(config.reserved.begin(), config.reserved.end(), port) != config.reserved.end();
}

namespace {
struct AuxiliaryRow {
    PortInterval ports;
    std::string_view role;
};
// node's inspector counts up from 9229; vite's HMR websocket from 24678; the livereload protocol says 35729.
constexpr std::array k_auxiliary{AuxiliaryRow{{9229, 9299}, "debug"}, AuxiliaryRow{{24678, 24699}, "hmr"},
                                 AuxiliaryRow{{35729, 35749}, "livereload"}};
}  // namespace

std::string_view auxiliary_role(Port port) {
    for (const auto& row : k_auxiliary) {
        if (row.ports.contains(port)) { return row.role; }
    }
    return {};
}

bool is_auxiliary_service(std::string_view service) {
    return std::any_of(k_auxiliary.begin(), k_auxiliary.end(), [service](const AuxiliaryRow& row) {
        return service.size() > row.role.size() && service.ends_with(row.role) && service[service.size() - row.role.size() - 1] == '.';
    });
}

}  // namespace portwrap
