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
