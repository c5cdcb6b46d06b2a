// Which projects are forgotten when ever new directories are named.
#include "core/project_memory.hpp"

#include <catch2/catch.hpp>

#include <string>

#include "core_world.hpp"

using namespace portwrap;
using namespace portwrap::test;

namespace {

/// A registry and the memory that follows it.
struct Remembering {
    void apply(std::vector<Change> changes) {
        for (const auto& event : world.registry.stamp(std::move(changes), world.now)) {
            world.registry.apply(event);
            memory.on_event(event);
        }
    }
    Project see(const std::string& root) {
        Project project{root, "shop", {}, {}, {}, {}};
        apply({ProjectSeen{project}});
        return project;
    }
    void open(const std::string& root, std::int32_t pid) {
        Session session;
        session.id = session.outermost = {pid, 1};
        session.root = session.cwd = root;
        apply({SessionOpened{session}});
    }
    /// New projects until some are too many; how many were forgotten.
    std::size_t flood() {
        for (int number = 0;; ++number) {
            see("/flood/" + std::to_string(number) + std::string(3000, 'x'));
            if (auto changes = memory.surplus(world.registry); !changes.empty()) {
                const auto count = changes.size();
                apply(std::move(changes));
                return count;
            }
        }
    }
    [[nodiscard]] bool knows(const std::string& root) const { return world.registry.find_project(root) != nullptr; }
    World world;
    ProjectMemory memory;
};

}  // namespace

TEST_CASE("of projects that have nothing those are forgotten that were used longest ago", "[project_memory]") {
    Remembering it;
    it.see("/first");
    it.see("/second");
    it.open("/first", 1);
    it.apply({SessionClosed{{1, 1}}});
    it.see("/third");
    const auto before = it.world.registry.projects().size();
    const auto forgotten = it.flood();
    CHECK(forgotten > 3);
    CHECK(before == 3);
    CHECK_FALSE(it.knows("/second"));
    CHECK(it.memory.surplus(it.world.registry).empty());
    std::size_t bytes = 0;
    for (const auto& [root, project] : it.world.registry.projects()) { bytes += ProjectMemory::bytes_of(project); }
    CHECK(bytes <= ProjectMemory::k_most_bytes);
    CHECK(bytes > ProjectMemory::k_most_bytes / 2);
}

TEST_CASE("one that had a session lately is kept before one that was only seen", "[project_memory]") {
    Remembering it;
    it.see("/used");
    for (int number = 0; number < 2000; ++number) {
        it.see("/r" + std::to_string(number));
        it.open("/used", 1);
        it.apply({SessionClosed{{1, 1}}});
        it.apply(it.memory.surplus(it.world.registry));
    }
    CHECK(it.knows("/used"));
    CHECK_FALSE(it.knows("/r0"));
    CHECK(it.knows("/r1999"));
}

TEST_CASE("a project with a session, a lease or a block is never forgotten, and does not count", "[project_memory]") {
    Remembering it;
    const auto big = std::string(3500, 'y');
    for (int number = 0; number < 100; ++number) {
        it.see("/open" + big + std::to_string(number));
        it.open("/open" + big + std::to_string(number), number + 1);
    }
    auto blocked = it.see("/blocked");
    blocked.block = PortInterval{3000, 3099};
    it.apply({ProjectSeen{blocked}});
    it.see("/leased");
    Lease lease;
    lease.id = 1;
    lease.key = {"/leased", "web", Protocol::tcp, std::nullopt, 0};
    lease.port = 3000;
    lease.state = LeaseState::released;
    it.apply({LeaseEvent{LeaseChange::released, lease}});
    it.see("/unused");
    CHECK(it.memory.surplus(it.world.registry).empty());
    CHECK(it.knows("/unused"));
    (void)it.flood();
    CHECK_FALSE(it.knows("/unused"));
    CHECK(it.knows("/blocked"));
    CHECK(it.knows("/leased"));
    for (int number = 0; number < 100; ++number) { CHECK(it.knows("/open" + big + std::to_string(number))); }
}

TEST_CASE("what a registry brings along is counted when the agent starts", "[project_memory]") {
    Remembering it;
    for (int number = 0; number < 1000; ++number) { it.world.apply({ProjectSeen{{"/r" + std::to_string(number) + std::string(3000, 'x'), "shop", {}, {}, {}, {}}}}); }
    it.memory.start(it.world.registry);
    it.apply(it.memory.surplus(it.world.registry));
    CHECK(it.world.registry.projects().size() < 100);
}
