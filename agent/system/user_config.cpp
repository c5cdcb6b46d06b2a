#include "system/user_config.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "portwrap/config_variables.hpp"
#include "system/bounded_read.hpp"
#include "system/json_tree.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

using namespace json_tree;

constexpr std::int64_t k_max_days = 3650;

std::optional<std::int64_t> whole_number(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::optional<Port> port_of(std::string_view text) {
    const auto number = whole_number(text);
    return number && *number >= 1 && *number <= 65535 ? std::optional(static_cast<Port>(*number)) : std::nullopt;
}

// --- ranges ------------------------------------------------------------------------------------------------------

std::string shown(const PortInterval& part) { return std::to_string(part.start) + "-" + std::to_string(part.end); }

/// "3000-3999" or {"start": 3000, "end": 3999}.
Problem read_interval(const Node& node, const std::string& path, PortInterval& into) {
    std::optional<Port> start;
    std::optional<Port> end;
    if (node.kind == Node::Kind::string) {
        const auto dash = node.text.find('-');
        if (dash != std::string::npos) {
            start = port_of(std::string_view(node.text).substr(0, dash));
            end = port_of(std::string_view(node.text).substr(dash + 1));
        }
        if (!start || !end) { return problem_at(node, path, "must be two ports like \"3000-3999\""); }
    } else if (node.kind == Node::Kind::object) {
        for (const auto& child : node.children) {
            const auto where = path_of(path, child.key);
            Problem problem = child.key == "start" ? read_port(child, where, start)
                              : child.key == "end" ? read_port(child, where, end)
                                                   : problem_at(child, where, "unknown key");
            if (problem) { return problem; }
        }
        if (!start || !end) { return problem_at(node, path, "needs \"start\" and \"end\""); }
    } else {
        return problem_at(node, path, "must be \"START-END\" or an object with \"start\" and \"end\"");
    }
    if (*start > *end) { return problem_at(node, path, "begins at " + std::to_string(*start) + ", after its end " + std::to_string(*end)); }
    into = {*start, *end};
    return std::nullopt;
}

/// What a range's object says over what the range is already.
Problem read_range(const Node& node, const std::string& path, bool is_new, Range& range) {
    if (node.kind == Node::Kind::string) {
        range.intervals.resize(1);
        return read_interval(node, path, range.intervals.front());
    }
    if (node.kind != Node::Kind::object) { return problem_at(node, path, "must be an object, \"START-END\", or null to remove it"); }
    std::optional<Port> start;
    std::optional<Port> end;
    bool has_ports = !is_new;
    for (const auto& child : node.children) {
        const auto where = path_of(path, child.key);
        Problem problem;
        if (child.key == "start") {
            problem = read_port(child, where, start);
        } else if (child.key == "end") {
            problem = read_port(child, where, end);
        } else if (child.key == "ports") {
            if (child.kind != Node::Kind::array || child.children.empty()) { return problem_at(child, where, "must be an array of intervals like \"3000-3999\""); }
            range.intervals.clear();
            for (const auto& part : child.children) {
                PortInterval interval;
                problem = read_interval(part, where + "[" + std::to_string(range.intervals.size()) + "]", interval);
                if (problem) { return problem; }
                range.intervals.push_back(interval);
            }
            has_ports = true;
        } else if (child.key == "kind") {
            std::size_t kind = 0;
            problem = read_choice(child, where, {Words<RangeKind>::k_words.begin(), Words<RangeKind>::k_words.end()}, kind);
            range.kind = static_cast<RangeKind>(kind);
        } else if (child.key == "exclusive") {
            std::optional<bool> exclusive;
            problem = read_boolean(child, where, exclusive);
            range.exclusive = exclusive.value_or(false);
        } else if (child.key == "fallback") {
            std::optional<std::string> fallback;
            if (child.kind != Node::Kind::null) { problem = read_word(child, where, fallback); }
            range.fallback = fallback.value_or("");
        } else if (child.key == "description") {
            std::optional<std::string> description;
            problem = read_shown_name(child, where, description);
            range.description = description.value_or("");
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    if (start || end) {
        if (range.intervals.size() > 1) { return problem_at(node, path, "has several intervals: use \"ports\""); }
        range.intervals.resize(1);
        auto& only = range.intervals.front();
        if (is_new && (!start || !end)) { return problem_at(node, path, "needs \"start\" and \"end\""); }
        only = {start.value_or(only.start), end.value_or(only.end)};
        if (only.start > only.end) { return problem_at(node, path, "begins at " + std::to_string(only.start) + ", after its end " + std::to_string(only.end)); }
        has_ports = true;
    }
    return has_ports ? Problem() : problem_at(node, path, "needs \"start\" and \"end\", or \"ports\"");
}

/// The lines that name ranges, for messages about what they are together.
using RangeLines = std::map<std::string, std::size_t>;

Problem read_ranges(const Node& node, UserConfig& user, RangeLines& lines) {
    if (node.kind != Node::Kind::object) { return problem_at(node, "ranges", "must be an object"); }
    for (const auto& child : node.children) {
        const auto path = path_of("ranges", child.key);
        if (!is_word(child.key)) { return problem_at(child, path, std::string("the name ") + k_word_rule); }
        auto& ranges = user.config.ranges;
        const auto known = std::find_if(ranges.begin(), ranges.end(), [&](const Range& range) { return range.name == child.key; });
        user.origins[path] = "file";
        lines[child.key] = child.line;
        if (child.kind == Node::Kind::null) {
            if (known == ranges.end()) { return problem_at(child, path, "there is no such range to remove"); }
            if (child.key == "default" || child.key == "system") { return problem_at(child, path, "cannot be removed"); }
            ranges.erase(known);
            continue;
        }
        Range range;
        range.name = child.key;
        range.fallback = "default";
        const bool is_new = known == ranges.end();
        if (!is_new) { range = *known; }
        if (auto problem = read_range(child, path, is_new, range)) { return problem; }
        if (is_new) {
            ranges.push_back(std::move(range));
        } else {
            *known = std::move(range);
        }
    }
    return std::nullopt;
}

bool overlap(const Range& a, const Range& b) {
    return std::any_of(a.intervals.begin(), a.intervals.end(), [&](const PortInterval& one) {
        return std::any_of(b.intervals.begin(), b.intervals.end(), [&](const PortInterval& other) { return one.start <= other.end && other.start <= one.end; });
    });
}

/// What can only be judged of all ranges together.
Problem check_ranges(UserConfig& user, const RangeLines& lines, const PortInterval& ephemeral) {
    const auto& ranges = user.config.ranges;
    const auto line_of = [&](const std::string& name) {
        const auto known = lines.find(name);
        return known == lines.end() ? std::size_t{0} : known->second;
    };
    const auto problem = [&](const Range& range, const std::string& what) {
        return std::optional<std::string>(std::to_string(line_of(range.name)) + ": ranges." + printable(range.name, 64) + ": " + what);
    };
    for (const auto& range : ranges) {
        if (!range.fallback.empty() && find_range(user.config, range.fallback) == nullptr) {
            // A built-in range whose fallback was removed goes on in the default chain.
            if (line_of(range.name) != 0) { return problem(range, "falls back to \"" + printable(range.fallback, 64) + "\", which is no range"); }
        }
        for (std::size_t i = 0; i < range.intervals.size(); ++i) {
            for (std::size_t j = i + 1; j < range.intervals.size(); ++j) {
                if (range.intervals[i].start <= range.intervals[j].end && range.intervals[j].start <= range.intervals[i].end) {
                    return problem(range, shown(range.intervals[i]) + " and " + shown(range.intervals[j]) + " overlap");
                }
            }
        }
        for (const auto& part : range.intervals) {
            if (part.start <= ephemeral.end && ephemeral.start <= part.end) {
                user.warnings.push_back("ranges." + printable(range.name, 64) + ": " + shown(part) + " has ports that the kernel gives to anybody (" + shown(ephemeral) +
                                        "); those are never chosen");
            }
        }
    }
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        for (std::size_t j = i + 1; j < ranges.size(); ++j) {
            const auto apart = [](const Range& range) { return range.exclusive || range.kind == RangeKind::system; };
            // Kinds lie over each other (web within php); within one, and among those that keep others out, each port is one's.
            const bool both = ranges[i].kind == ranges[j].kind || (apart(ranges[i]) && apart(ranges[j]));
            if (!both || !overlap(ranges[i], ranges[j])) { continue; }
            const bool later = line_of(ranges[j].name) >= line_of(ranges[i].name);
            const auto& blamed = later ? ranges[j] : ranges[i];
            return problem(blamed, "overlaps the range \"" + printable((later ? ranges[i] : ranges[j]).name, 64) + "\"");
        }
    }
    return std::nullopt;
}

// --- the other keys ----------------------------------------------------------------------------------------------

Problem read_reserved(const Node& node, const std::string& path, std::vector<Port>& into) {
    if (node.kind != Node::Kind::array) { return problem_at(node, path, "must be an array of ports"); }
    into.clear();
    for (const auto& child : node.children) {
        std::optional<Port> port;
        if (auto problem = read_port(child, path + "[" + std::to_string(into.size()) + "]", port)) { return problem; }
        into.push_back(*port);
    }
    return std::nullopt;
}

Problem read_blocks(const Node& node, const std::string& path, std::map<std::string, Port>& into) {
    if (node.kind != Node::Kind::object) { return problem_at(node, path, "must be an object of project names and first ports"); }
    for (const auto& child : node.children) {
        std::optional<Port> port;
        if (auto problem = read_port(child, path_of(path, child.key), port)) { return problem; }
        into[child.key] = *port;
    }
    return std::nullopt;
}

Problem read_days(const Node& node, const std::string& path, std::chrono::hours& into) {
    std::int64_t days = 0;
    if (auto problem = read_number(node, path, 1, k_max_days, days)) { return problem; }
    into = std::chrono::hours(24 * days);
    return std::nullopt;
}

/// A time, or false. `examples` are for the message.
Problem read_duration(const Node& node, const std::string& path, const char* examples, std::optional<std::chrono::seconds>& into) {
    if (node.kind == Node::Kind::null || (node.kind == Node::Kind::boolean && !node.boolean)) {
        into.reset();
        return std::nullopt;
    }
    into = node.kind == Node::Kind::string ? parse_duration(node.text) : std::nullopt;
    return into ? Problem() : problem_at(node, path, std::string("must be a time like ") + examples + ", or false");
}

Problem read_idle_exit(const Node& node, const std::string& path, std::optional<std::chrono::minutes>& into) {
    std::optional<std::chrono::seconds> time;
    auto problem = read_duration(node, path, "\"30m\" or \"2h\"", time);
    into = time ? std::optional(std::chrono::ceil<std::chrono::minutes>(*time)) : std::nullopt;
    return problem;
}

Problem read_key(const Node& node, UserConfig& user, RangeLines& lines) {
    auto& config = user.config;
    const auto path = path_of("", node.key);
    std::size_t choice = 0;
    std::string ignored;
    Problem problem;
    if (node.key == "preset") { return std::nullopt; }  // read first: the others change what it gives
    if (node.key == "$schema") { return read_text(node, path, ignored); }
    if (node.key == "ranges") { return read_ranges(node, user, lines); }
    if (node.key == "reserved") {
        problem = read_reserved(node, path, config.reserved);
    } else if (node.key == "strategy") {
        problem = read_choice(node, path, {Words<Strategy>::k_words.begin(), Words<Strategy>::k_words.end()}, choice);
        config.strategy = static_cast<Strategy>(choice);
    } else if (node.key == "sticky") {
        problem = read_choice(node, path, {"claim", "prefer"}, choice);
        config.claims = choice == 0;
    } else if (node.key == "connect") {
        problem = read_choice(node, path, {"project", "off"}, choice);
        config.connect = choice == 0;
    } else if (node.key == "port_zero") {
        problem = read_choice(node, path, {"range", "kernel"}, choice);
        config.port_zero_kernel = choice == 1;
    } else if (node.key == "auto_cleanup") {
        std::optional<bool> on;
        problem = read_boolean(node, path, on);
        config.auto_cleanup = on.value_or(true);
    } else if (node.key == "block_size") {
        std::int64_t size = 0;
        problem = read_number(node, path, 10, 1000, size);
        config.block_size = static_cast<int>(size);
    } else if (node.key == "blocks") {
        problem = read_blocks(node, path, config.pinned_blocks);
    } else if (node.key == "inactive_days") {
        problem = read_days(node, path, config.inactive);
    } else if (node.key == "released_days") {
        problem = read_days(node, path, config.remembered);
    } else if (node.key == "history_days") {
        problem = read_days(node, path, config.history);
    } else if (node.key == "idle_exit") {
        problem = read_idle_exit(node, path, config.idle_exit);
    } else if (node.key == "health_interval") {
        problem = read_duration(node, path, "\"30s\" or \"5m\"", config.health_interval);
    } else if (node.key == "health_timeout") {
        problem = read_health_timeout(node, path, config.health_timeout);
    } else if (node.key == "log_level") {
        constexpr std::array<std::string_view, 4> k_levels{"debug", "info", "warn", "error"};
        problem = read_choice(node, path, {k_levels.begin(), k_levels.end()}, choice);
        config.log_level = k_levels[choice];
    } else {
        return problem_at(node, path, "unknown key");
    }
    user.origins[node.key] = "file";
    return problem;
}

/// A block that reaches over another's, beyond the last port, or has ports that are never chosen.
Problem check_blocks(const Node& root, const UserConfig& user, const PortInterval& ephemeral) {
    const auto why_useless = [&](const PortInterval& block) -> std::string {
        const auto meets = [&](const PortInterval& other) { return block.start <= other.end && other.start <= block.end; };
        if (block.start < 1024) { return "has ports below 1024"; }
        if (meets(ephemeral)) { return "has ports that the kernel gives to anybody (" + shown(ephemeral) + ")"; }
        for (const auto& range : user.config.ranges) {
            const bool apart = range.exclusive || range.kind == RangeKind::system;
            if (apart && std::any_of(range.intervals.begin(), range.intervals.end(), meets)) { return "has ports of the range \"" + printable(range.name, 64) + "\""; }
        }
        return {};
    };
    for (const auto& node : root.children) {
        if (node.key != "blocks") { continue; }
        for (const auto& child : node.children) {
            const int start = user.config.pinned_blocks.at(child.key);
            const int end = start + user.config.block_size - 1;
            if (end > 65535) { return problem_at(child, path_of("blocks", child.key), "reaches beyond port 65535"); }
            const auto useless = why_useless({static_cast<Port>(start), static_cast<Port>(end)});
            if (!useless.empty()) { return problem_at(child, path_of("blocks", child.key), useless + ", which are never chosen"); }
            for (const auto& [name, other] : user.config.pinned_blocks) {
                if (name != child.key && start <= other + user.config.block_size - 1 && other <= end) {
                    return problem_at(child, path_of("blocks", child.key), "overlaps the block of \"" + printable(name, 64) + "\"");
                }
            }
        }
    }
    return std::nullopt;
}

// --- the environment ---------------------------------------------------------------------------------------------

struct EnvironmentRange {
    const char* start;
    const char* end;
    const char* range;
};
constexpr std::array k_environment_ranges{EnvironmentRange{"DEV_PORT_START", "DEV_PORT_END", "dev"}, EnvironmentRange{"TEST_PORT_START", "TEST_PORT_END", "test"},
                                          EnvironmentRange{"PROD_PORT_START", "PROD_PORT_END", "production"}};

Problem apply_variables(const ConfigVariables& variables, UserConfig& user) {
    const auto find = [&](const char* name) -> const std::string* {
        const auto known = variables.find(name);
        return known == variables.end() || known->second.empty() ? nullptr : &known->second;
    };
    const auto wrong = [](const char* name, const std::string& what) { return std::optional<std::string>(std::string("environment ") + name + ": " + what); };
    for (const auto& row : k_environment_ranges) {
        const auto* start = find(row.start);
        const auto* end = find(row.end);
        if (start == nullptr && end == nullptr) { continue; }
        auto& ranges = user.config.ranges;
        const auto range = std::find_if(ranges.begin(), ranges.end(), [&](const Range& one) { return one.name == row.range; });
        if (range == ranges.end()) { continue; }  // another preset was named
        auto interval = range->intervals.front();
        for (const auto& [name, text, into] : {std::tuple(row.start, start, &interval.start), std::tuple(row.end, end, &interval.end)}) {
            if (text == nullptr) { continue; }
            const auto port = port_of(*text);
            if (!port) { return wrong(name, "must be a port from 1 to 65535"); }
            *into = *port;
        }
        if (interval.start > interval.end) { return wrong(start != nullptr ? row.start : row.end, "the range would begin at " + std::to_string(interval.start) + ", after its end " + std::to_string(interval.end)); }
        range->intervals = {interval};
        user.origins["ranges." + range->name] = std::string("environment ") + (start != nullptr ? row.start : row.end);
    }
    if (const auto* text = find("RESERVED_PORTS")) {
        std::vector<Port> reserved;
        std::string_view rest = *text;
        while (!rest.empty()) {
            const auto comma = rest.find(',');
            auto part = rest.substr(0, comma);
            rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
            while (!part.empty() && part.front() == ' ') { part.remove_prefix(1); }
            while (!part.empty() && part.back() == ' ') { part.remove_suffix(1); }
            const auto port = port_of(part);
            if (!port) { return wrong("RESERVED_PORTS", "must be ports with commas between them, like 3000,5432"); }
            reserved.push_back(*port);
        }
        user.config.reserved = std::move(reserved);
        user.origins["reserved"] = "environment RESERVED_PORTS";
    }
    if (const auto* text = find("PORT_ALLOCATION_STRATEGY")) {
        const auto strategy = from_word<Strategy>(*text);
        if (!strategy) { return wrong("PORT_ALLOCATION_STRATEGY", "must be sequential or random"); }
        user.config.strategy = *strategy;
        user.origins["strategy"] = "environment PORT_ALLOCATION_STRATEGY";
    }
    if (const auto* text = find("PORT_AUTO_CLEANUP")) {
        if (*text != "true" && *text != "false") { return wrong("PORT_AUTO_CLEANUP", "must be true or false"); }
        user.config.auto_cleanup = *text == "true";
        user.origins["auto_cleanup"] = "environment PORT_AUTO_CLEANUP";
    }
    return std::nullopt;
}

/// The preset decides what everything else changes. Variables with ranges of environments select theirs unless one is named.
Problem read_preset(const Node* root, const ConfigVariables& variables, UserConfig& user) {
    std::optional<Preset> preset;
    if (root != nullptr) {
        for (const auto& node : root->children) {
            if (node.key != "preset") { continue; }
            std::size_t choice = 0;
            if (auto problem = read_choice(node, "preset", {Words<Preset>::k_words.begin(), Words<Preset>::k_words.end()}, choice)) { return problem; }
            preset = static_cast<Preset>(choice);
            user.origins["preset"] = "file";
        }
    }
    if (!preset) {
        for (const auto& row : k_environment_ranges) {
            for (const char* name : {row.start, row.end}) {
                const auto known = variables.find(name);
                if (preset || known == variables.end() || known->second.empty()) { continue; }
                preset = Preset::environments;
                user.origins["preset"] = std::string("environment ") + name;
            }
        }
    }
    user.config = default_config(preset.value_or(Preset::types));
    return std::nullopt;
}

}  // namespace

ConfigVariables config_variables() {
    ConfigVariables variables;
    for (const char* name : k_config_variables) {
        if (const char* value = std::getenv(name)) { variables[name] = value; }
    }
    return variables;
}

Result<UserConfig> parse_user_config(const std::optional<std::string>& text, const std::string& path, const ConfigVariables& variables,
                                     const PortInterval& ephemeral) {
    const auto in_file = [&path](const std::string& problem) { return Error{ErrorCode::invalid_request, printable(path, 4096) + ":" + problem}; };
    std::optional<Node> root;
    if (text) {
        auto parsed = json_tree::parse(*text);
        if (!parsed) { return in_file(parsed.error().message); }
        root = std::move(*parsed);
        if (root->kind != Node::Kind::object) { return in_file(std::to_string(root->line) + ": the file must be a JSON object"); }
    }
    UserConfig user;
    RangeLines lines;
    if (auto problem = read_preset(root ? &*root : nullptr, variables, user)) { return in_file(*problem); }
    if (root) {
        for (const auto& node : root->children) {
            if (auto problem = read_key(node, user, lines)) { return in_file(*problem); }
        }
    }
    if (auto problem = apply_variables(variables, user)) { return Error{ErrorCode::invalid_request, *problem}; }
    if (auto problem = check_ranges(user, lines, ephemeral)) {
        // A range of the environment's has no line.
        const bool by_environment = problem->starts_with("0: ");
        return by_environment ? Error{ErrorCode::invalid_request, "environment: " + problem->substr(3)} : in_file(*problem);
    }
    if (root) {
        if (auto problem = check_blocks(*root, user, ephemeral)) { return in_file(*problem); }
    }
    return user;
}

Result<UserConfig> read_user_config(const std::string& path, const ConfigVariables& variables, const PortInterval& ephemeral) {
    const auto content = examine_project_file(path);
    if (const auto* refused = std::get_if<FileRefused>(&content)) {
        return Error{ErrorCode::invalid_request, printable(path, 4096) + ": " + refused->reason};
    }
    const auto* text = std::get_if<std::string>(&content);
    return parse_user_config(text != nullptr ? std::optional(*text) : std::nullopt, path, variables, ephemeral);
}

}  // namespace portwrap
