// What is heard of the system about leases whose listener nobody told of.
#include <catch2/catch.hpp>

#include "core_world.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

namespace {

struct World : test::World {
    /// Looks at every live lease, as a list does.
    void hear(const std::vector<HeardSocket>& heard) {
        std::vector<Lease> looked_at;
        for (const auto& [id, lease] : registry.leases()) { looked_at.push_back(lease); }
        apply(decide_heard(registry, looked_at, heard, facts()));
    }
};

}  // namespace

TEST_CASE("a listener without portwrap below the lease's root becomes its holder, and its end leaves the lease silent", "[heard]") {
    World world;
    const auto id = std::get<LeaseId>(world.get(world.place("/r/a"), "web"));
    const auto heard = world.heard(world.lease(id).port, "/r/a/src");
    world.hear({heard});
    CHECK(world.lease(id).state == LeaseState::active);
    CHECK(world.lease(id).holder == heard.holder);
    CHECK(world.lease(id).listening());
    CHECK(world.lease(id).last_active_at == world.now);
    world.close(heard.cookie);
    CHECK(world.lease(id).state == LeaseState::allocated);
    CHECK_FALSE(world.lease(id).holder);
}

TEST_CASE("what was found of a stranger's health is not said of the own server", "[heard]") {
    World world;
    const auto id = std::get<LeaseId>(world.get(world.place("/r/a"), "web"));
    world.hear({world.heard(world.lease(id).port, "/elsewhere")});
    auto checked = world.lease(id);
    checked.health = Health::unhealthy;
    world.apply({LeaseEvent{LeaseChange::updated, checked}});
    SECTION("the stranger went") {
        world.hear({});
        CHECK(world.lease(id).health == Health::unknown);
    }
    SECTION("the own server came") {
        world.hear({world.heard(world.lease(id).port, "/r/a")});
        CHECK(world.lease(id).state == LeaseState::active);
        CHECK(world.lease(id).health == Health::unknown);
    }
}

TEST_CASE("a stranger's listener is a conflict until it goes", "[heard]") {
    World world;
    const auto id = std::get<LeaseId>(world.get(world.place("/r/a"), "web"));
    world.hear({world.heard(world.lease(id).port, "/r/ab")});
    CHECK(world.lease(id).state == LeaseState::conflict);
    CHECK_FALSE(world.lease(id).holder);
    CHECK(world.lease(id).live());
    const auto seq = world.registry.last_seq();
    world.hear({world.heard(world.lease(id).port, "/r/ab")});
    CHECK(world.registry.last_seq() == seq);  // nothing new, nothing written
    world.hear({});
    CHECK(world.lease(id).state == LeaseState::allocated);
}

TEST_CASE("a listener whose process may not be looked at is no holder and a stranger", "[heard]") {
    World world;
    const auto id = std::get<LeaseId>(world.get(world.place("/r/a"), "web"));
    world.hear({{world.lease(id).port, Protocol::tcp, 5, {}, std::nullopt}});
    CHECK(world.lease(id).state == LeaseState::conflict);
}

TEST_CASE("whoever listens on a registered port is its holder", "[heard]") {
    World world;
    RegisterRequest asked;
    asked.place = world.place("/r/a");
    asked.service = "shop";
    asked.port = 9100;
    auto decision = decide_register(world.registry, world.config, asked, world.facts());
    world.apply(std::move(decision.changes));
    const auto id = std::get<Registered>(decision.answer).lease;
    world.hear({world.heard(9100, "/srv/shop")});
    CHECK(world.lease(id).state == LeaseState::active);
}

TEST_CASE("a reservation that met a stranger is a reservation again", "[heard]") {
    World world;
    ReserveRequest asked;
    asked.place = world.place("/r/a");
    asked.service = "web";
    asked.port = 3100;
    asked.ttl = 2h;
    auto decision = decide_reserve(world.registry, world.config, asked, world.facts());
    world.apply(std::move(decision.changes));
    const auto id = std::get<LeaseId>(decision.answer);
    world.hear({world.heard(3100, "/elsewhere")});
    CHECK(world.lease(id).state == LeaseState::conflict);
    world.hear({});
    CHECK(world.lease(id).state == LeaseState::reserved);
    CHECK(world.lease(id).expires_at == world.now + 2h);
}

TEST_CASE("the other protocol's listener says nothing about a lease", "[heard]") {
    World world;
    const auto id = std::get<LeaseId>(world.get(world.place("/r/a"), "web"));
    auto heard = world.heard(world.lease(id).port, "/elsewhere");
    heard.protocol = Protocol::udp;
    world.hear({heard});
    CHECK(world.lease(id).state == LeaseState::allocated);
}

TEST_CASE("what was offered to a session is held by a program of that session that nobody intercepted, wherever it works", "[heard]") {
    World world;
    const auto app = world.start(world.place("/r/a"));
    const auto answer = world.ask(app, 3000);
    auto heard = world.heard(answer.port, "/elsewhere");
    heard.session = app.session;
    world.hear({heard});
    CHECK(world.lease(answer.lease).state == LeaseState::active);
    CHECK(world.lease(answer.lease).holder == heard.holder);
}

TEST_CASE("the heir of a dead holder's socket is named, and a lease that has changed since it was looked at is left alone", "[heard]") {
    World world;
    const auto app = world.start(world.place("/r/a"));
    const auto bound = world.serve(app, 3000);
    auto heir = world.heard(bound.port, "/");
    heir.cookie = bound.cookie;
    const auto looked_at = world.lease(bound.lease);
    world.apply(decide_heard(world.registry, {looked_at}, {heir}, world.facts()));
    CHECK(world.lease(bound.lease).holder == heir.holder);
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    CHECK(decide_heard(world.registry, {looked_at}, {world.heard(bound.port, "/")}, world.facts()).empty());
}

TEST_CASE("only whole names of directories lie below a project", "[heard]") {
    World world;
    const auto lease = world.lease(std::get<LeaseId>(world.get(world.place("/r/a"), "web")));
    CHECK(may_listen(lease, world.heard(lease.port, "/r/a")));
    CHECK(may_listen(lease, world.heard(lease.port, "/r/a/b")));
    CHECK_FALSE(may_listen(lease, world.heard(lease.port, "/r/ab")));
    CHECK_FALSE(may_listen(lease, world.heard(lease.port, "/r")));
    CHECK_FALSE(may_listen(lease, world.heard(lease.port, "")));
    const auto at_top = world.lease(std::get<LeaseId>(world.get(world.place("/"), "web")));
    CHECK(may_listen(at_top, world.heard(at_top.port, "/srv")));
}

namespace {

/// A program of the caller's listens on a port for which it got no answer.
LeaseId listen_unanswered(World& world, const Caller& caller, Port port, Cookie cookie) {
    world.external.insert(port);
    auto decision = decide_unanswered(world.registry, world.config, caller, port, cookie, world.facts());
    world.apply(std::move(decision.changes));
    return decision.answer;
}

}  // namespace

TEST_CASE("a port that a session's program bound without an answer is recorded under its number", "[heard]") {
    World world;
    const auto app = world.start(world.place("/r/a"));
    const auto id = listen_unanswered(world, app, 4000, 7);
    REQUIRE(id != 0);
    const auto& lease = world.lease(id);
    CHECK(lease.key == LeaseKey{"/r/a", "main", Protocol::tcp, Port{4000}, 0});
    CHECK(lease.state == LeaseState::active);
    CHECK(lease.port == 4000);
    CHECK(lease.range == "default");  // the fallback of its type
    CHECK(lease.holder == app.holder);
    CHECK(lease.session == app.session);
    CHECK(lease.sockets == std::vector<Socket>{{7, true, true}});
    CHECK_FALSE(lease.expires_at);
    world.close(7);
    CHECK(world.lease(id).state == LeaseState::released);
    CHECK(world.lease(id).claimed);
}

TEST_CASE("what a project remembers on a port revives with its key for a program that got no answer", "[heard]") {
    World world;
    const auto place = world.place("/r/a");
    world.serve(world.start(world.place("/r/b")), 4000);
    const auto first = world.serve(world.start(place), 4000);
    REQUIRE(first.port != 4000);
    world.close(first.cookie);
    const auto app = world.start(place);
    SECTION("while it is claimed") {}
    SECTION("when its claim is over") {
        auto lease = world.lease(first.lease);
        lease.claimed = false;
        world.apply({LeaseEvent{LeaseChange::updated, lease}});
    }
    CHECK(listen_unanswered(world, app, first.port, 7) == first.lease);
    CHECK(world.lease(first.lease).state == LeaseState::active);
    CHECK(world.lease(first.lease).key.requested == Port{4000});
    CHECK(world.lease(first.lease).session == app.session);
    // Another copy has an instance of its own, as beside any other server.
    const auto second = world.ask(world.start(place), 4000);
    CHECK(second.move.reason == MoveReason::held);
    CHECK(world.lease(second.lease).key.instance == 1);
}

TEST_CASE("what was got by name without a number becomes that of the port", "[heard]") {
    World world;
    const auto place = world.place("/r/a");
    Lease named;
    named.id = world.registry.next_lease_id();
    named.key = {"/r/a", "web", Protocol::tcp, std::nullopt, 0};
    named.port = 4000;
    named.origin = LeaseOrigin::named;
    named.state = LeaseState::released;
    named.listened = named.claimed = true;
    world.apply({LeaseEvent{LeaseChange::released, named}});
    CHECK(listen_unanswered(world, world.start(place), 4000, 7) == named.id);
    CHECK(world.lease(named.id).key == LeaseKey{"/r/a", "web", Protocol::tcp, Port{4000}, 0});
    CHECK(world.lease(named.id).state == LeaseState::active);
}

TEST_CASE("a listener that got no answer takes nothing that is another's, the kernel's, or known already", "[heard]") {
    World world;
    auto app = world.start(world.place("/r/a"));
    const auto other = world.serve(world.start(world.place("/r/b")), 4000);
    Port port = 4001;
    Cookie cookie = 7;
    SECTION("another project's live lease") { port = 4000; }
    SECTION("another project's claim") {
        world.close(other.cookie);
        port = 4000;
    }
    SECTION("its own project's live lease") {
        world.serve(world.start(world.place("/r/a")), 4001);
    }
    SECTION("a number of the kernel's choice") { port = 40000; }
    SECTION("a socket that a lease has") { cookie = other.cookie; }
    SECTION("a socket that nobody can tell") { cookie = 0; }
    SECTION("a program of no session that is known") { app.scope.reset(); }
    const auto before = world.registry.last_seq();
    CHECK(listen_unanswered(world, app, port, cookie) == 0);
    CHECK(world.registry.last_seq() == before);
}

TEST_CASE("a listener that has gone before its port is decided leaves nothing", "[heard]") {
    World world;
    const auto app = world.start(world.place("/r/a"));
    const auto decision = decide_unanswered(world.registry, world.config, app, 4000, 7, world.facts());
    CHECK(decision.answer == 0);
    CHECK(decision.changes.empty());
}

TEST_CASE("a program that says that it listens, after it got no answer, has what its project remembers there", "[heard]") {
    World world;
    const auto place = world.place("/r/a");
    world.serve(world.start(world.place("/r/b")), 4000);
    const auto first = world.serve(world.start(place), 4000);
    world.close(first.cookie);
    world.external.insert(first.port);
    const auto decision = decide_listening(world.registry, world.config, world.start(place), first.port, 7, world.facts());
    CHECK(decision.answer == first.lease);
}
