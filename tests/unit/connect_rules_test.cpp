// Where connections go, as data in, data out.
#include <catch2/catch.hpp>

#include "core/connect_rules.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

namespace {

struct World {
    Registry registry;
    Time now{1'000'000'000s};
    LeaseId next_id = 0;

    void apply(Change change) {
        for (const auto& event : registry.stamp({std::move(change)}, now)) { registry.apply(event); }
    }
    void project(const std::string& root, const std::string& family = "", const std::string& commit = "") {
        apply(ProjectSeen{{root, root.substr(1), std::nullopt, std::nullopt, family, commit}});
    }
    Lease make(const std::string& root, Port requested, Port port) {
        Lease lease;
        lease.id = ++next_id;
        lease.key = {root, "main", Protocol::tcp, requested, 0};
        lease.port = port;
        lease.allocated_at = now;
        return lease;
    }
    /// A lease of a program that listens, in a session of its own.
    Lease active(const std::string& root, Port requested, Port port, int pid = 100) {
        auto lease = make(root, requested, port);
        lease.state = LeaseState::active;
        lease.listened = true;
        lease.session = ProcessId{pid, 1};
        lease.holder = Holder{{pid, 1}, "node server.js", root, now};
        lease.sockets = {{lease.id + 1000, true, true}};
        lease.last_active_at = now;
        now += 1s;
        return lease;
    }
    Lease sticky(const std::string& root, Port requested, Port port) {
        auto lease = make(root, requested, port);
        lease.state = LeaseState::released;
        lease.listened = lease.claimed = true;
        return lease;
    }
    LeaseId put(const Lease& lease) {
        apply(LeaseEvent{LeaseChange::updated, lease});
        return lease.id;
    }
    std::vector<ConnectRow> rows(const std::string& root) { return ConnectView(registry, root).rows(); }
};

ConnectRow refused(Port port) { return {ConnectKind::refused, port, 0, std::nullopt, {}}; }
ConnectRow remembered(Port port, Port target) { return {ConnectKind::sticky, port, target, std::nullopt, {}}; }
ConnectRow live(Port port, Port target, int pid, const std::string& directory) {
    return {ConnectKind::live, port, target, ProcessId{pid, 1}, directory};
}

}  // namespace

TEST_CASE("a live lease of the project leads from what was asked for to what it got", "[connect]") {
    World world;
    world.project("/a");
    world.put(world.active("/a", 3000, 3001));
    CHECK(world.rows("/a") == std::vector{live(3000, 3001, 100, "/a")});
}

TEST_CASE("of several leases for one number the most recently active comes first", "[connect]") {
    World world;
    world.project("/a");
    world.put(world.active("/a", 3000, 3000, 100));
    world.put(world.active("/a", 3000, 3001, 200));
    CHECK(world.rows("/a") == std::vector{live(3000, 3001, 200, "/a"), live(3000, 3000, 100, "/a")});
}

TEST_CASE("a port that a session was offered diverts nobody before the program asks for it, unless that cannot be seen", "[connect]") {
    World world;
    world.project("/a");
    auto offered = world.make("/a", 4000, 3005);
    offered.state = LeaseState::allocated;
    offered.session = ProcessId{100, 1};
    world.put(offered);
    const ConnectRow promised{ConnectKind::sticky, 4000, 3005, ProcessId{100, 1}, {}};
    CHECK(world.rows("/a") == std::vector{promised});
    const auto running = world.put(world.active("/a", 4000, 4000, 200));
    CHECK(world.rows("/a") == std::vector{live(4000, 4000, 200, "/a"), promised});
    world.apply(LeaseForgotten{running});
    SECTION("it cannot be seen") { offered.unseen = true; }
    SECTION("it was granted to a program that is about to bind") { offered.holder = Holder{{100, 1}, "node server.js", "/a", world.now}; }
    world.put(offered);
    CHECK(world.rows("/a") == std::vector{live(4000, 3005, 100, "/a")});
}

TEST_CASE("what is only remembered or reserved by name diverts nobody", "[connect]") {
    World world;
    world.project("/a");
    world.put(world.sticky("/a", 5432, 5433));
    auto named = world.make("/a", 6379, 6380);
    named.origin = LeaseOrigin::named;
    named.state = LeaseState::allocated;
    world.put(named);
    auto conflict = world.active("/a", 3000, 3001);
    conflict.state = LeaseState::conflict;
    world.put(conflict);
    CHECK(world.rows("/a") == std::vector{remembered(5432, 5433), remembered(6379, 6380)});
}

TEST_CASE("a number that a sibling listens on because it asked for it is refused", "[connect]") {
    World world;
    SECTION("worktrees") {
        world.project("/a", "git:/a/.git");
        world.project("/b", "git:/a/.git");
    }
    SECTION("clones") {
        world.project("/a", "git:/a/.git", "c0ffee");
        world.project("/b", "git:/b/.git", "c0ffee");
    }
    SECTION("copies") {
        world.project("/a", "manifest:1");
        world.project("/b", "manifest:1");
    }
    world.put(world.active("/a", 3000, 3000));
    CHECK(world.rows("/b") == std::vector{refused(3000)});
    const ConnectView view(world.registry, "/b");
    CHECK(view.refused_by(3000) == 1);
    CHECK(view.refused_by(3001) == 0);
}

TEST_CASE("a sibling's number that it did not ask for is nobody's business", "[connect]") {
    World world;
    world.project("/a", "git:/a/.git");
    world.project("/b", "git:/a/.git");
    world.put(world.active("/a", 3000, 3001));
    CHECK(world.rows("/b").empty());
}

TEST_CASE("a sibling that has the port and does not use it refuses nobody", "[connect]") {
    World world;
    world.project("/a", "git:/a/.git");
    world.project("/b", "git:/a/.git");
    auto silent = world.active("/a", 3000, 3000);
    silent.sockets.clear();
    world.put(silent);
    CHECK(world.rows("/b").empty());
}

TEST_CASE("the project's own lease beats a sibling's", "[connect]") {
    World world;
    world.project("/a", "git:/a/.git");
    world.project("/b", "git:/a/.git");
    world.put(world.active("/a", 3000, 3000));
    world.put(world.active("/b", 3000, 3001, 200));
    CHECK(world.rows("/b") == std::vector{live(3000, 3001, 200, "/b")});
}

TEST_CASE("siblings may connect to what is shared", "[connect]") {
    World world;
    world.project("/a", "git:/a/.git");
    world.project("/b", "git:/a/.git");
    auto database = world.active("/a", 5432, 5432);
    database.kind = "database";
    world.put(database);
    world.put(world.sticky("/b", 5432, 5433));
    CHECK(world.rows("/b") == std::vector{remembered(5432, 5433)});
    database.shared = false;
    world.put(database);
    CHECK(world.rows("/b") == std::vector{refused(5432), remembered(5432, 5433)});
    auto api = world.active("/a", 4000, 4000);
    api.shared = true;
    world.put(api);
    CHECK(world.rows("/b") == std::vector{refused(5432), remembered(5432, 5433)});
}

TEST_CASE("a stranger's port is refused only to a project that has a lease of its own for it", "[connect]") {
    World world;
    world.project("/a");
    world.project("/b");
    world.put(world.active("/a", 3000, 3000));
    CHECK(world.rows("/b").empty());
    const auto own = world.put(world.sticky("/b", 3000, 3001));
    CHECK(world.rows("/b") == std::vector{refused(3000), remembered(3000, 3001)});
    world.apply(LeaseForgotten{own});
    CHECK(world.rows("/b").empty());
}

TEST_CASE("a service's directory is its package's", "[connect]") {
    World world;
    world.project("/a");
    auto api = world.active("/a", 4000, 4001);
    api.key.service = "packages/api";
    api.holder->cwd = "/a/packages/api/src";
    world.put(api);
    CHECK(world.rows("/a").front().directory == "/a/packages/api");
    api.key.service = "backend";
    world.put(api);
    CHECK(world.rows("/a").front().directory == "/a/packages/api/src");
    api.holder->cwd = "/elsewhere";
    world.put(api);
    CHECK(world.rows("/a").front().directory == "/a");
}

TEST_CASE("UDP leases say nothing about connections", "[connect]") {
    World world;
    world.project("/a");
    auto udp = world.active("/a", 3000, 3001);
    udp.key.protocol = Protocol::udp;
    world.put(udp);
    CHECK(world.rows("/a").empty());
}

TEST_CASE("a view that follows the events is the view of the registry at any time", "[connect]") {
    World world;
    const std::vector<std::string> roots{"/a", "/b", "/c"};
    world.project("/a", "git:/a/.git");
    world.project("/b", "git:/a/.git");
    world.project("/c");
    std::vector<ConnectView> views;
    for (const auto& root : roots) { views.emplace_back(world.registry, root); }
    unsigned random = GENERATE(1U, 2U, 3U, 4U, 5U, 6U, 7U, 8U);
    const auto next = [&](unsigned below) {
        random = random * 1664525U + 1013904223U;
        return (random >> 16U) % below;
    };
    for (int step = 0; step < 400; ++step) {
        LeaseId id = next(12) + 1;
        if (next(5) == 0) {
            if (world.registry.find(id) == nullptr) { continue; }
            world.apply(LeaseForgotten{id});
        } else {
            const auto& root = roots[next(3)];
            const auto requested = static_cast<Port>(3000 + next(3));
            const auto port = static_cast<Port>(3000 + next(4));
            auto lease = next(3) == 0 ? world.sticky(root, requested, port) : world.active(root, requested, port, static_cast<int>(100 + next(3)));
            lease.id = id;
            if (next(4) == 0) { lease.sockets.clear(); }
            if (next(6) == 0) { lease.kind = "database"; }
            world.put(lease);
        }
        for (std::size_t i = 0; i < roots.size(); ++i) {
            const auto before = views[i].rows();
            const bool changed = views[i].reconsider(world.registry, id);
            REQUIRE(views[i].rows() == world.rows(roots[i]));
            REQUIRE((changed || views[i].rows() == before));
        }
    }
}
