// Worktrees that were moved, as data in, data out.
#include <catch2/catch.hpp>

#include "core/move_rules.hpp"
#include "core_world.hpp"

using namespace portwrap;

namespace {

struct World : test::World {
    Project project(const std::string& root, const std::string& id) {
        auto found = place(root, "git:/r").project;
        found.git_id = id;
        apply({ProjectSeen{found}});
        return found;
    }
    Lease get(const Project& project, const std::string& service) {
        Place at;
        at.project = project;
        at.type = "node";
        return lease(std::get<LeaseId>(test::World::get(at, service)));
    }
    void move(const std::string& from, const Project& to) { apply(decide_moved(registry, from, to)); }
};

Project elsewhere(Project project, const std::string& root) {
    project.root = root;
    return project;
}

}  // namespace

TEST_CASE("a project at an unknown root with a known git directory may have been elsewhere before", "[moved]") {
    World world;
    const auto old = world.project("/r/old", "1.2.3");
    CHECK(earlier_self(world.registry, old) == nullptr);
    REQUIRE(earlier_self(world.registry, elsewhere(old, "/r/new")) != nullptr);
    CHECK(earlier_self(world.registry, elsewhere(old, "/r/new"))->root == "/r/old");
    auto other = elsewhere(old, "/r/new");
    other.git_id = "4.5.6";
    CHECK(earlier_self(world.registry, other) == nullptr);
    other.git_id.clear();
    CHECK(earlier_self(world.registry, other) == nullptr);
}

TEST_CASE("leases, stickiness and the block move with the worktree, and the old root is forgotten", "[moved]") {
    World world;
    auto old = world.project("/r/old", "1");
    old.block = PortInterval{3100, 3199};
    world.apply({ProjectSeen{old}});
    const auto live = world.get(old, "web");
    const auto released = world.get(old, "api");
    ReleaseRequest release;
    release.root = "/r/old";
    release.service = "api";
    world.apply(decide_release(world.registry, world.config, release, world.facts()).changes);
    auto to = elsewhere(old, "/r/new");
    to.block.reset();
    world.move("/r/old", to);
    CHECK(world.registry.find_project("/r/old") == nullptr);
    CHECK(world.registry.find_project("/r/new")->block == PortInterval{3100, 3199});
    CHECK(world.registry.of_project("/r/old").empty());
    CHECK(world.lease(live.id).key.root == "/r/new");
    CHECK(world.lease(live.id).state == live.state);
    CHECK(world.get(to, "web").id == live.id);
    CHECK(world.get(to, "api").port == released.port);
}

TEST_CASE("a running server's directory and session move along", "[moved]") {
    World world;
    const auto old = world.project("/r/old", "1");
    Place place;
    place.project = old;
    place.type = "node";
    auto caller = world.start(place);
    caller.holder.cwd = "/r/old/packages/web";
    const auto bound = world.serve(caller, 3000);
    world.move("/r/old", elsewhere(old, "/r/new"));
    CHECK(world.lease(bound.lease).holder->cwd == "/r/new/packages/web");
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    const auto* session = world.registry.find_session(caller.session);
    REQUIRE(session != nullptr);
    CHECK(session->root == "/r/new");
    CHECK(session->cwd == "/r/new");
    world.close(bound.cookie);
    CHECK(world.lease(bound.lease).state == LeaseState::released);
    CHECK(world.lease(bound.lease).claimed);
}

TEST_CASE("what the new root has already stays its own", "[moved]") {
    World world;
    const auto old = world.project("/r/old", "1");
    const auto there = world.project("/r/new", "2");
    const auto theirs = world.get(there, "web");
    const auto ours = world.get(old, "web");
    const auto to = elsewhere(old, "/r/new");
    world.move("/r/old", to);
    CHECK(world.lease(theirs.id).key.instance == 0);
    CHECK(world.lease(ours.id).key.instance == 1);
    CHECK(world.lease(ours.id).port == ours.port);
    CHECK(world.registry.find_project("/r/new")->git_id == "1");
}

TEST_CASE("nothing moves from a root that nobody knows", "[moved]") {
    World world;
    const auto there = world.project("/r/new", "2");
    CHECK(decide_moved(world.registry, "/r/nowhere", there).empty());
    CHECK(decide_moved(world.registry, "/r/new", there).empty());
}
