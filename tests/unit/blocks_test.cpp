// Presets and blocks: which range serves whom.
#include <catch2/catch.hpp>

#include <set>

#include "core/blocks.hpp"

using namespace portwrap;

namespace {

Facts facts() {
    Facts facts;
    facts.ephemeral = {32768, 60999};
    facts.in_use = [](Port, bool, bool) { return false; };
    return facts;
}

Project project(const std::string& root) {
    Project made;
    made.root = root;
    made.name = root.substr(1);
    return made;
}

/// Sees a project as the agent does: with its block.
std::optional<PortInterval> see(Registry& registry, const Config& config, Project seen) {
    seen.block = block_for(registry, config, seen, facts());
    for (const auto& event : registry.stamp({ProjectSeen{seen}}, {})) { registry.apply(event); }
    return seen.block;
}

std::string serving(const Config& config, RangeQuery query) { return ranges_that_serve(config, query).front()->name; }

}  // namespace

TEST_CASE("there are about 330 blocks of 100 and 660 of 50, none over ports of special use", "[blocks]") {
    auto config = default_config(Preset::blocks);
    const auto hundreds = all_blocks(config, facts());
    CHECK(hundreds.front() == PortInterval{3000, 3099});
    CHECK(hundreds[1] == PortInterval{3100, 3199});
    CHECK(hundreds.size() == 329);
    for (const auto& block : hundreds) {
        for (const auto port : std::initializer_list<Port>{2601, 5432, 5555, 6379, 9000, 9999, 32768, 60999}) { CHECK_FALSE(block.contains(port)); }
    }
    config.block_size = 50;
    CHECK(all_blocks(config, facts()).size() == 662);
}

TEST_CASE("each project gets the first block that nobody has, and keeps it", "[blocks]") {
    Registry registry;
    const auto config = default_config(Preset::blocks);
    CHECK(see(registry, config, project("/a")) == PortInterval{3000, 3099});
    CHECK(see(registry, config, project("/b")) == PortInterval{3100, 3199});
    CHECK(see(registry, config, project("/a")) == PortInterval{3000, 3099});
    CHECK(block_owner(registry, config, "/b", 3050)->root == "/a");
    CHECK(block_owner(registry, config, "/a", 3050) == nullptr);
    CHECK(block_owner(registry, config, "/a", 3250) == nullptr);
    CHECK(block_owner(registry, default_config(), "/b", 3050) == nullptr);
}

TEST_CASE("a pinned block is its project's and nobody else's, and of two of that name the first has it", "[blocks]") {
    Registry registry;
    auto config = default_config(Preset::blocks);
    config.pinned_blocks["consilio"] = 3000;
    CHECK(see(registry, config, project("/a")) == PortInterval{3100, 3199});
    auto pinned = project("/consilio");
    CHECK(see(registry, config, pinned) == PortInterval{3000, 3099});
    pinned.root = "/worktree";
    CHECK(see(registry, config, pinned) == PortInterval{3200, 3299});
    auto shared = project("/shared");
    shared.name = "shared-services";
    CHECK(see(registry, config, shared) == PortInterval{9000, 9999});
}

TEST_CASE("when all blocks are gone a project has none", "[blocks]") {
    Registry registry;
    auto config = default_config(Preset::blocks);
    config.block_size = 1000;
    const auto count = all_blocks(config, facts()).size();
    std::set<Port> starts;
    for (std::size_t i = 0; i < count; ++i) { starts.insert(see(registry, config, project("/p" + std::to_string(i)))->start); }
    CHECK(starts.size() == count);
    CHECK_FALSE(see(registry, config, project("/late")));
}

TEST_CASE("a block serves its project unless a range, an environment or a kind says otherwise", "[blocks]") {
    Registry registry;
    const auto config = default_config(Preset::blocks);
    const auto shop = project("/shop");
    const auto name = [&](RangeQuery query) { return serving_ranges(registry, config, shop, std::move(query), facts()).ranges.front()->name; };
    CHECK(name({{}, Environment::dev, {}, "node"}) == "block");
    CHECK(name({{}, Environment::test, {}, "node"}) == "test");
    CHECK(name({"php", Environment::dev, {}, "node"}) == "php");
    CHECK(name({{}, Environment::dev, "database", "node"}) == "database");
    CHECK(serving_ranges(registry, default_config(), shop, {{}, Environment::dev, {}, "node"}, facts()).ranges.front()->name == "node");
}

TEST_CASE("under the preset services a service's name is its kind", "[blocks]") {
    const auto services = default_config(Preset::services);
    RangeQuery query{{}, Environment::dev, {}, "node"};
    query.service = "api";
    CHECK(serving(services, query) == "api");
    CHECK(serving(default_config(), query) == "node");
    query.service = "main";
    CHECK(serving(services, query) == "node");
    query.kind = "web";
    CHECK(serving(services, query) == "web");
}

TEST_CASE("under environments all is served by its environment, under localdb by one chain", "[blocks]") {
    const RangeQuery node{{}, Environment::dev, {}, "node"};
    CHECK(serving(default_config(Preset::environments), node) == "dev");
    CHECK(serving(default_config(Preset::environments), {{}, Environment::production, {}, "node"}) == "production");
    CHECK(serving(default_config(Preset::localdb), node) == "default");
    CHECK(ranges_that_serve(default_config(Preset::localdb), node).size() == 1);
    CHECK(find_range(default_config(), "dev") == nullptr);
    CHECK(find_range(default_config(), "shared") == nullptr);
}
