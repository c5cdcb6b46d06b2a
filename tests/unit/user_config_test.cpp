// The user's config as text in, values or one clear error out.
#include <catch2/catch.hpp>

#include "system/json_tree.hpp"
#include "system/user_config.hpp"

using namespace portwrap;

namespace {

constexpr PortInterval k_ephemeral{32768, 60999};

Result<UserConfig> parse(const std::string& text, const ConfigVariables& variables = {}) {
    return parse_user_config(text, "config.json", variables, k_ephemeral);
}
std::string problem(const std::string& text, const ConfigVariables& variables = {}) {
    const auto parsed = parse(text, variables);
    return parsed ? "none" : parsed.error().message;
}
PortInterval ports_of(const UserConfig& user, const std::string& range) { return find_range(user.config, range)->intervals.front(); }

}  // namespace

TEST_CASE("no config and an empty one are the built-in values", "[user_config]") {
    CHECK(parse_user_config(std::nullopt, "config.json", {}, k_ephemeral)->config == default_config());
    CHECK(parse("{}")->config == default_config());
    CHECK(parse("// nothing\n{ /* yet */ }")->config == default_config());
    CHECK(parse("{}")->origins.empty());
}

TEST_CASE("every key is read, and its origin is known", "[user_config]") {
    const auto user = parse(R"({
        "preset": "services", "reserved": [3000, 5432], "strategy": "random", "sticky": "prefer", "connect": "off",
        "port_zero": "kernel", "auto_cleanup": false, "block_size": 50, "blocks": {"consilio": 3100}, "inactive_days": 14,
        "released_days": 60, "history_days": 90, "idle_exit": "2h", "log_level": "debug"})");
    REQUIRE(user);
    const auto& config = user->config;
    CHECK(config.preset == Preset::services);
    CHECK(config.reserved == std::vector<Port>{3000, 5432});
    CHECK(config.strategy == Strategy::random);
    CHECK_FALSE(config.claims);
    CHECK_FALSE(config.connect);
    CHECK(config.port_zero_kernel);
    CHECK_FALSE(config.auto_cleanup);
    CHECK(config.block_size == 50);
    CHECK(config.pinned_blocks.at("consilio") == 3100);
    CHECK(config.inactive == std::chrono::hours(14 * 24));
    CHECK(config.remembered == std::chrono::hours(60 * 24));
    CHECK(config.history == std::chrono::hours(90 * 24));
    CHECK(config.idle_exit == std::chrono::minutes(120));
    CHECK(config.log_level == "debug");
    CHECK(user->origins.at("preset") == "file");
    CHECK(user->origins.at("idle_exit") == "file");
    CHECK_FALSE(parse(R"({"idle_exit": false})")->config.idle_exit);
}

TEST_CASE("ranges are changed, added and removed", "[user_config]") {
    const auto user = parse(R"({"ranges": {
        "node": {"start": 3100}, "python": "5100-5199", "static": null,
        "ruby": {"start": 12000, "end": 12099, "description": "Ruby"},
        "default": {"ports": ["3000-3999", {"start": 10000, "end": 10999}]},
        "search": {"start": 9200, "end": 9209, "kind": "service", "exclusive": true, "fallback": null}}})");
    REQUIRE(user);
    CHECK(ports_of(*user, "node") == PortInterval{3100, 3999});
    CHECK(ports_of(*user, "python") == PortInterval{5100, 5199});
    CHECK(find_range(user->config, "static") == nullptr);
    CHECK(ports_of(*user, "ruby") == PortInterval{12000, 12099});
    CHECK(find_range(user->config, "ruby")->fallback == "default");
    CHECK(find_range(user->config, "ruby")->kind == RangeKind::type);
    CHECK(find_range(user->config, "default")->intervals.size() == 2);
    CHECK(find_range(user->config, "search")->exclusive);
    CHECK(find_range(user->config, "search")->fallback.empty());
    CHECK(user->origins.at("ranges.node") == "file");
}

TEST_CASE("a mistake is named with file, line and key", "[user_config]") {
    CHECK(problem("{\n\"preset\": \"best\"}") == "config.json:2: preset: must be \"types\", \"services\", \"environments\", \"localdb\" or \"blocks\"");
    CHECK(problem("{\n\n\"colour\": 1}") == "config.json:3: colour: unknown key");
    CHECK(problem(R"({"reserved": [3000, 70000]})") == "config.json:1: reserved[1]: must be a whole number from 1 to 65535");
    CHECK(problem(R"({"reserved": ["3000"]})") == "config.json:1: reserved[0]: must be a whole number from 1 to 65535");
    CHECK(problem(R"({"reserved": [3000.5]})") == "config.json:1: reserved[0]: must be a whole number from 1 to 65535");
    CHECK(problem(R"({"inactive_days": 0})") == "config.json:1: inactive_days: must be a whole number from 1 to 3650");
    CHECK(problem(R"({"idle_exit": 5})") == "config.json:1: idle_exit: must be a time like \"30m\" or \"2h\", or false");
    CHECK(problem(R"({"ranges": {"node": {"start": 4000, "end": 3000}}})") == "config.json:1: ranges.node: begins at 4000, after its end 3000");
    CHECK(problem(R"({"ranges": {"node": "0-100"}})") == "config.json:1: ranges.node: must be two ports like \"3000-3999\"");
    CHECK(problem(R"({"ranges": {"node": "3000-65536"}})") == "config.json:1: ranges.node: must be two ports like \"3000-3999\"");
    CHECK(problem(R"({"ranges": {"node": "3000 -3999"}})") == "config.json:1: ranges.node: must be two ports like \"3000-3999\"");
    CHECK(problem(R"({"ranges": {"ruby": {"start": 4000}}})") == "config.json:1: ranges.ruby: needs \"start\" and \"end\"");
    CHECK(problem(R"({"ranges": {"ruby": {"description": "x"}}})") == "config.json:1: ranges.ruby: needs \"start\" and \"end\", or \"ports\"");
    CHECK(problem(R"({"ranges": {"nothing": null}})") == "config.json:1: ranges.nothing: there is no such range to remove");
    CHECK(problem(R"({"ranges": {"default": null}})") == "config.json:1: ranges.default: cannot be removed");
    CHECK(problem(R"({"ranges": {"ruby": {"start": 12000, "end": 12001, "fallback": "gems"}}})") ==
          "config.json:1: ranges.ruby: falls back to \"gems\", which is no range");
    CHECK(problem("[]") == "config.json:1: the file must be a JSON object");
    CHECK(problem("{\"preset\": \"types\",\n\"preset\": \"blocks\"}") == "config.json:2: the key \"preset\" is there twice");
    CHECK(problem("{").starts_with("config.json:1: "));
}

TEST_CASE("ranges of one kind, and those that keep others out, may not overlap", "[user_config]") {
    CHECK(problem("{\"ranges\": {\n\"ruby\": \"3500-3600\"}}") == "config.json:2: ranges.ruby: overlaps the range \"node\"");
    CHECK(problem("{\"ranges\": {\n\"node\": \"3000-4000\"}}") == "config.json:2: ranges.node: overlaps the range \"static\"");
    CHECK(problem(R"({"ranges": {"queue": {"start": 2650, "end": 2660, "kind": "service", "exclusive": true}}})") ==
          "config.json:1: ranges.queue: overlaps the range \"system\"");
    CHECK(problem(R"({"ranges": {"ruby": {"ports": ["12000-12010", "12010-12020"]}}})") == "config.json:1: ranges.ruby: 12000-12010 and 12010-12020 overlap");
    CHECK(problem(R"({"ranges": {"ruby": "12000-12000"}})") == "none");
    CHECK(problem(R"({"ranges": {"web": "3000-3010"}})") == "config.json:1: ranges.web: overlaps the range \"api\"");
    CHECK(problem(R"({"ranges": {"front": {"start": 4000, "end": 4100, "kind": "service"}}})") == "none");
}

TEST_CASE("ports that the kernel gives to anybody are a warning", "[user_config]") {
    const auto user = parse(R"({"ranges": {"ruby": "32000-33000"}})");
    REQUIRE(user);
    REQUIRE(user->warnings.size() == 1);
    CHECK(user->warnings.front().find("32768-60999") != std::string::npos);
    CHECK(parse("{}")->warnings.empty());
}

TEST_CASE("blocks are pinned apart and within the ports", "[user_config]") {
    CHECK(problem(R"({"preset": "blocks", "blocks": {"a": 3100, "b": 3150}})") == "config.json:1: blocks.a: overlaps the block of \"b\"");
    CHECK(problem(R"({"preset": "blocks", "blocks": {"a": 65500}})") == "config.json:1: blocks.a: reaches beyond port 65535");
    CHECK(problem(R"({"preset": "blocks", "blocks": {"a": 3100, "b": 3200}})") == "none");
    CHECK(problem(R"({"block_size": 5})") == "config.json:1: block_size: must be a whole number from 10 to 1000");
}

TEST_CASE("variables of other tools override the file", "[user_config]") {
    const auto user = parse(R"({"reserved": [1], "strategy": "sequential"})",
                            {{"DEV_PORT_START", "8100"}, {"TEST_PORT_END", "7100"}, {"RESERVED_PORTS", "3000, 5432"}, {"PORT_ALLOCATION_STRATEGY", "random"},
                             {"PORT_AUTO_CLEANUP", "false"}});
    REQUIRE(user);
    CHECK(user->config.preset == Preset::environments);
    CHECK(user->origins.at("preset") == "environment DEV_PORT_START");
    CHECK(ports_of(*user, "dev") == PortInterval{8100, 8999});
    CHECK(ports_of(*user, "test") == PortInterval{7000, 7100});
    CHECK(user->config.reserved == std::vector<Port>{3000, 5432});
    CHECK(user->origins.at("reserved") == "environment RESERVED_PORTS");
    CHECK(user->config.strategy == Strategy::random);
    CHECK_FALSE(user->config.auto_cleanup);
    // A preset that is named stays.
    CHECK(parse(R"({"preset": "types"})", {{"DEV_PORT_START", "8100"}})->config.preset == Preset::types);
    CHECK(problem("{}", {{"RESERVED_PORTS", "3000,x"}}) == "environment RESERVED_PORTS: must be ports with commas between them, like 3000,5432");
    CHECK(problem("{}", {{"DEV_PORT_START", "0"}}) == "environment DEV_PORT_START: must be a port from 1 to 65535");
    CHECK(problem("{}", {{"DEV_PORT_START", "9500"}}) == "environment DEV_PORT_START: the range would begin at 9500, after its end 8999");
    CHECK(problem("{}", {{"PORT_AUTO_CLEANUP", "yes"}}) == "environment PORT_AUTO_CLEANUP: must be true or false");
    CHECK(problem("{}", {{"PORT_ALLOCATION_STRATEGY", ""}}) == "none");
}

TEST_CASE("durations are a number with a unit", "[user_config]") {
    CHECK(json_tree::parse_duration("90s") == std::chrono::seconds(90));
    CHECK(json_tree::parse_duration("30m") == std::chrono::minutes(30));
    CHECK(json_tree::parse_duration("7d") == std::chrono::minutes(7 * 24 * 60));
    for (const char* text : {"", "m", "30", "-1m", "1.5h", "0m", "1w", " 1m", "99999999999m"}) { CHECK_FALSE(json_tree::parse_duration(text)); }
}

TEST_CASE("a block is not pinned where no port is ever chosen", "[user_config]") {
    CHECK(problem(R"({"blocks": {"a": 80}})") == "config.json:1: blocks.a: has ports below 1024, which are never chosen");
    CHECK(problem(R"({"blocks": {"a": 33000}})").find("which are never chosen") != std::string::npos);
    CHECK(problem(R"({"blocks": {"a": 5400}})").find("\"database\"") != std::string::npos);
    CHECK(problem(R"({"blocks": {"a": 2600}})").find("\"system\"") != std::string::npos);
}
