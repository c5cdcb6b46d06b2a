// The rules of binding, names and release as data in, data out: a small world that applies what is decided.
#include <catch2/catch.hpp>

#include "core/connect_rules.hpp"
#include "core/earlier_runs.hpp"
#include "core_world.hpp"

using namespace portwrap;
using namespace std::chrono_literals;
using test::World;

TEST_CASE("a free port is given as it was asked for", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto bound = world.serve(app, 3000);
    CHECK(bound.port == 3000);
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    CHECK(world.lease(bound.lease).range == "node");
    CHECK(world.lease(bound.lease).key.requested == Port{3000});
}

TEST_CASE("a port outside of every range is given when it is free", "[policy]") {
    World world;
    CHECK(world.serve(world.start(world.place("/a")), 12345).port == 12345);
    CHECK(world.serve(world.start(world.place("/b")), 80).port == 80);
}

TEST_CASE("the second project moves into the range of its type", "[policy]") {
    World world;
    world.serve(world.start(world.place("/a")), 3000);
    CHECK(world.serve(world.start(world.place("/b")), 3000).port == 3001);
    auto typeless = world.place("/c");
    typeless.type = "";
    auto python = world.start(typeless);
    python.executable = "python3.11";
    python.arguments = {"python3", "app.py"};
    CHECK(world.serve(python, 3000).port == 5000);
    python = world.start(world.place("/d"));
    python.executable = "python3.11";
    python.arguments = {"python3", "-m", "http.server", "3000"};
    CHECK(world.serve(python, 3000).port == 4000);
}

TEST_CASE("a cache is known by the name that it was called by, too", "[policy]") {
    World world;
    auto redis = world.start(world.place("/a"));
    redis.executable = "redis-check-rdb";  // what Debian's redis-server is a link to
    redis.arguments = {"/usr/bin/redis-server *:6379"};  // what it writes over its arguments
    CHECK(world.serve(redis, 6379).port == 6379);
    auto other = redis;
    const auto blog = world.start(world.place("/b"));
    other.holder = blog.holder;
    other.session = blog.session;
    other.scope = blog.scope;
    other.place = blog.place;
    CHECK(world.serve(other, 6379).port == 6380);
}

TEST_CASE("what -p said is this run's alone: the next one learns nothing from it", "[policy]") {
    World world;
    auto app = world.start(world.place("/a"));
    app.scope->command = "npm run dev";
    app.scope->port = Port{3005};
    const auto bound = world.serve(app, 3005);
    CHECK(bound.port == 3005);
    CHECK(world.lease(bound.lease).started_by.empty());
    auto other = world.start(world.place("/b"));
    other.scope->command = "npm run dev";
    other.scope->port = Port{3006};
    CHECK(!world.lease(world.serve(other, 3100).lease).started_by.empty());  // it asked for a number of its own
}

TEST_CASE("what listened remembers the command that started it, and the next run of that finds it", "[policy]") {
    World world;
    auto app = world.start(world.place("/a"));
    app.scope->command = "npm run dev";
    app.scope->cwd = "/a/web";
    world.serve(app, 3000);
    CHECK(earlier_runs(world.registry, app.place->project, "npm run dev (in web)").listener == KnownListener{"main", 3000, std::nullopt});
    CHECK_FALSE(earlier_runs(world.registry, app.place->project, "npm run dev").listener);
    CHECK_FALSE(earlier_runs(world.registry, app.place->project, "").listener);
}

TEST_CASE("two services of a launch that listen at the same time are noted, one after the other are not", "[policy]") {
    World world;
    auto app = world.start(world.place("/a"));
    app.scope->command = "npm run dev";
    const auto before = world.serve(app, 3000);
    world.close(before.cookie);
    const auto after = world.serve(app, 3100);  // a watcher starts it again, and its code has changed
    CHECK_FALSE(earlier_runs(world.registry, app.place->project, "npm run dev").several);
    (void)world.serve(app, 9229);  // its inspector
    CHECK_FALSE(earlier_runs(world.registry, app.place->project, "npm run dev").several);
    const auto api = world.serve(app, 4000);
    CHECK(earlier_runs(world.registry, app.place->project, "npm run dev").several);
    world.close(after.cookie);
    world.close(api.cookie);
    CHECK(earlier_runs(world.registry, app.place->project, "npm run dev").several);
}

TEST_CASE("nothing is learnt from a program that takes PORT for more than its port", "[policy]") {
    World world;
    auto app = world.start(world.place("/a"));
    app.scope->command = "make serve";
    app.arguments = {"/usr/bin/python3", "/usr/bin/gunicorn", "app:app"};
    world.serve(app, 8000);
    CHECK_FALSE(earlier_runs(world.registry, app.place->project, "make serve").listener);
}

TEST_CASE("a port that others were told of is taken by whoever runs the service, in any session of the project", "[policy]") {
    World world;
    auto place = world.place("/a");
    place.config.services = {test::service("api", 4000)};
    const auto web = world.start(place);
    OfferRequest offer;
    offer.session = *web.scope;
    offer.place = place;
    offer.service = "api";
    offer.natural = Port{4000};
    offer.another = true;
    const auto offered = decide_offer(world.registry, world.config, offer, world.facts());
    world.apply(offered.changes);
    const auto id = std::get<LeaseId>(offered.answer);
    REQUIRE(world.lease(id).announced);

    const auto second = world.start(place);
    offer.session = *second.scope;
    const auto again = decide_offer(world.registry, world.config, offer, world.facts());
    CHECK(std::get<LeaseId>(again.answer) == id);
    CHECK(again.changes.empty());
    world.apply(decide_session_ended(world.registry, world.config, web.session, world.facts()));
    REQUIRE(world.lease(id).live());  // the second one was told of it, too

    const auto server = world.start(place);
    const auto served = world.serve(server, 4000);
    CHECK(served.port == 4000);
    CHECK(served.lease == id);
    CHECK_FALSE(world.lease(id).announced);
}

TEST_CASE("a launch that adopts another number's port learns its own number, not that one", "[policy]") {
    World world;
    const auto place = world.place("/a");
    auto first = world.start(place);
    first.scope->command = "server 5000";
    world.external.insert(5000);
    const auto moved = world.serve(first, 5000);
    REQUIRE(moved.port != 5000);
    world.close(moved.cookie);
    auto second = world.start(place);
    second.scope->command = "server";
    REQUIRE(world.serve(second, moved.port).lease == moved.lease);
    CHECK_FALSE(earlier_runs(world.registry, place.project, "server").listener);
    CHECK(earlier_runs(world.registry, place.project, "server 5000").listener);
}

TEST_CASE("a launch that adopts another service's port does not learn that service", "[policy]") {
    World world;
    auto place = world.place("/a");
    place.package_dir = "api";
    auto api = world.start(place);
    api.scope->command = "server";
    api.scope->cwd = "/a/api";
    const auto served = world.serve(api, 8080);
    world.close(served.cookie);
    place.package_dir.clear();
    auto main = world.start(place);
    main.scope->command = "server";
    REQUIRE(world.serve(main, 8080).lease == served.lease);
    CHECK_FALSE(earlier_runs(world.registry, place.project, "server").listener);
    CHECK(earlier_runs(world.registry, place.project, "server (in api)").listener);
}

TEST_CASE("a grant on which nobody listened returns to its sticky port, without a claim where somebody listened there meanwhile", "[policy]") {
    for (const bool meanwhile : {false, true}) {
        World world;
        const auto a = world.place("/a");
        const auto first = world.serve(world.start(a), 3000);
        world.close(first.cookie);
        world.external.insert(3000);
        const auto granted = world.ask(world.start(a), 3000);
        REQUIRE(granted.lease == first.lease);
        REQUIRE(granted.port != 3000);
        world.external.clear();
        const auto b = world.place("/b");
        std::optional<World::Bound> other;
        if (meanwhile) { other = world.serve(world.start(b), 3000); }
        world.apply(decide_unbound(world.registry, world.config, granted.lease, true, world.facts()));
        CHECK(world.lease(first.lease).port == 3000);
        CHECK(world.lease(first.lease).claimed == !meanwhile);
        if (other) {
            REQUIRE(other->port == 3000);
            world.close(other->cookie);
            CHECK(world.serve(world.start(b), 3000).port == 3000);
        }
    }
}

TEST_CASE("a server that starts again in its session keeps its instance although a lower one is free", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto first = world.serve(world.start(place), 3000);
    auto watcher = world.start(place);
    const auto second = world.serve(watcher, 3000);
    REQUIRE(second.port != first.port);
    world.close(first.cookie);
    world.close(second.cookie);
    watcher.holder.process.pid = ++world.next_pid;
    const auto again = world.serve(watcher, 3000);
    CHECK(again.lease == second.lease);
    CHECK(again.port == second.port);
    CHECK(world.serve(world.start(place), 3000).lease == first.lease);
    world.close(again.cookie);
    CHECK(world.serve(world.start(place), 3000).lease == second.lease);  // while the watcher waits, the next session has it
    CHECK(world.serve(watcher, 3000).port != second.port);
}

TEST_CASE("the ports stay the same when the servers start in the other order", "[policy]") {
    World world;
    const auto a = world.place("/a");
    const auto b = world.place("/b");
    const auto first = world.serve(world.start(a), 3000);
    const auto second = world.serve(world.start(b), 3000);
    REQUIRE(second.port == 3001);
    world.close(first.cookie);
    world.close(second.cookie);
    CHECK(world.lease(first.lease).state == LeaseState::released);
    CHECK(world.lease(first.lease).claimed);
    world.now += 24h;
    CHECK(world.serve(world.start(b), 3000).port == 3001);
    CHECK(world.serve(world.start(a), 3000).port == 3000);
}

TEST_CASE("a claim keeps others away for seven days, then only prefers its key", "[policy]") {
    World world;
    const auto a = world.place("/a");
    const auto bound = world.serve(world.start(a), 3000);
    world.close(bound.cookie);
    world.now += 6 * 24h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    const auto moved = world.serve(world.start(world.place("/b")), 3000);
    CHECK(moved.port == 3001);
    world.now += 2 * 24h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK_FALSE(world.lease(bound.lease).claimed);
    CHECK(world.serve(world.start(world.place("/c")), 3000).port == 3000);
    // The key is remembered, but its port is somebody's now.
    CHECK(world.serve(world.start(a), 3000).port == 3002);
}

TEST_CASE("released leases are forgotten after thirty days", "[policy]") {
    World world;
    const auto bound = world.serve(world.start(world.place("/a")), 3000);
    world.close(bound.cookie);
    world.now += 31 * 24h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.registry.find(bound.lease) == nullptr);
}

TEST_CASE("a port of a program that portwrap does not know is not given", "[policy]") {
    World world;
    world.external = {3000, 3001};
    const auto answer = world.ask(world.start(world.place("/a")), 3000);
    CHECK(answer.port == 3002);
    CHECK(answer.move.reason == MoveReason::external);
}

TEST_CASE("the port that was read back is bound as it is", "[policy]") {
    World world;
    world.serve(world.start(world.place("/a")), 3000);
    const auto app = world.start(world.place("/b"));
    const auto bound = world.serve(app, 3000);
    REQUIRE(bound.port == 3001);
    CHECK(world.ask(app, 3001).port == 3001);
    CHECK(world.ask(app, 3001).lease == bound.lease);
    CHECK(world.ask(app, 3000).port == 3001);
}

TEST_CASE("a second process of the session gets the same port and the kernel's answer", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto bound = world.serve(app, 3000);
    auto other = app;
    other.holder.process = {++world.next_pid, 1};
    CHECK(world.ask(other, 3000).port == 3000);
    const auto final = world.ask(other, 3000, {{3000, 98}});
    CHECK(final.port == 3000);
    CHECK(final.lease == bound.lease);
}

TEST_CASE("a port that the kernel refuses is tried no further", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    REQUIRE(world.ask(app, 3000).port == 3000);
    const auto next = world.ask(app, 3000, {{3000, 98}});
    CHECK(next.port == 3001);
    CHECK(world.ask(app, 3000, {{3000, 98}, {3001, 98}}).port == 3002);
}

TEST_CASE("a port below 1024 that is not permitted moves into the range", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto answer = world.ask(app, 80, {{80, 13}});
    CHECK(answer.port == 3000);
    CHECK(answer.move.reason == MoveReason::not_permitted);
}

TEST_CASE("the ports of portwrap itself are never given", "[policy]") {
    World world;
    CHECK(world.ask(world.start(world.place("/a")), 2601).port == 3000);
    world.config.reserved = {3001, 3005};
    const auto answer = world.ask(world.start(world.place("/b")), 3005);
    CHECK(answer.port == 3002);
    CHECK(answer.move.reason == MoveReason::reserved);
}

TEST_CASE("ports that browsers refuse are never chosen", "[policy]") {
    World world;
    for (Port port = 3000; port < 3659; ++port) { world.external.insert(port); }
    CHECK(world.ask(world.start(world.place("/a")), 3000).port == 3660);
}

TEST_CASE("an automatic choice does not land in an exclusive range", "[policy]") {
    World world;
    for (Port port = 5000; port < 5432; ++port) { world.external.insert(port); }
    auto place = world.place("/a");
    place.type = "python";
    auto app = world.start(place);
    app.executable = "python3";
    CHECK(world.ask(app, 5000).port == 5440);
    auto database = world.start(world.place("/b"));
    database.executable = "postgres";
    world.external.insert(5432);
    CHECK(world.ask(database, 5432).port == 5433);
}

TEST_CASE("a full range goes on in the default chain, and a full machine leaves the program alone", "[policy]") {
    World world;
    for (Port port = 3000; port < 4000; ++port) { world.external.insert(port); }
    CHECK(world.ask(world.start(world.place("/a")), 3000).port == 4000);
    for (Port port = 4000; port < 10000; ++port) { world.external.insert(port); }
    const auto answer = world.ask(world.start(world.place("/b")), 3000);
    CHECK(answer.port == 3000);
    CHECK(answer.lease == 0);
}

TEST_CASE("a second live session with the same server is another instance, and the lowest free one is reused", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto first = world.serve(world.start(place), 3000);
    const auto second = world.serve(world.start(place), 3000);
    CHECK(second.port == 3001);
    CHECK(world.lease(second.lease).key.instance == 1);
    world.close(first.cookie);
    const auto third = world.serve(world.start(place), 3000);
    CHECK(third.port == 3000);
    CHECK(third.lease == first.lease);
}

TEST_CASE("numbers that the project or a sibling asks for are chosen for nobody in it", "[policy]") {
    World world;
    const auto main = world.place("/a", "git:/a/.git");
    world.serve(world.start(main), 3001);
    world.serve(world.start(main), 3000);
    // The sibling asks for 3000: 3001 and 3000 mean something there.
    CHECK(world.serve(world.start(world.place("/a-fix", "git:/a/.git")), 3000).port == 3002);
}

TEST_CASE("two thousand requests at once get different ports", "[policy]") {
    World world;
    std::set<Port> ports;
    for (int i = 0; i < 2000; ++i) { ports.insert(world.serve(world.start(world.place("/p" + std::to_string(i % 100))), 3000).port); }
    CHECK(ports.size() == 2000);
    std::set<Port> registered;
    for (const auto& [id, lease] : world.registry.leases()) { registered.insert(lease.port); }
    CHECK(registered == ports);
}

TEST_CASE("a lease that never listened leaves nothing, after ten seconds at most", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto answer = world.ask(app, 3000);
    world.apply(decide_bound(world.registry, app, answer.lease, answer.port, 7, world.facts()));
    world.close(7);
    CHECK(world.lease(answer.lease).state == LeaseState::allocated);
    CHECK(decide_expiry(world.registry, world.config, world.facts()).answer == world.now + 10s);
    world.now += 10s;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.registry.leases().empty());
}

TEST_CASE("a probe that is closed does not cost a server its sticky port", "[policy]") {
    World world;
    const auto place = world.place("/a");
    world.serve(world.start(world.place("/b")), 3000);
    const auto bound = world.serve(world.start(place), 3000);
    REQUIRE(bound.port == 3001);
    world.close(bound.cookie);
    const auto app = world.start(place);
    const auto probe = world.ask(app, 3000);
    world.apply(decide_bound(world.registry, app, probe.lease, probe.port, 9, world.facts()));
    world.close(9);
    world.now += 20s;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.serve(world.start(place), 3000).port == 3001);
}

TEST_CASE("a lease ends only with the last of its sockets", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto bound = world.serve(app, 3000);
    const auto again = world.serve(app, 3000);
    CHECK(again.lease == bound.lease);
    world.close(bound.cookie);
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    world.close(again.cookie);
    CHECK(world.lease(bound.lease).state == LeaseState::released);
}

TEST_CASE("a port got by name is used by the program that asks for it", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto port = world.port_of(world.get(place, "web"));
    CHECK(port == 3000);
    const auto bound = world.serve(world.start(place), port);
    CHECK(bound.port == port);
    CHECK(world.lease(bound.lease).key.service == "web");
    CHECK(world.lease(bound.lease).origin == LeaseOrigin::named);
    world.close(bound.cookie);
    CHECK(world.lease(bound.lease).state == LeaseState::allocated);
}

TEST_CASE("a port that was got by name is known by the number that its program asks for", "[policy]") {
    World world;
    const auto main = world.place("/main", "git:/main/.git");
    const auto fix = world.place("/fix", "git:/main/.git");
    const auto named = std::get<LeaseId>(world.get(main, "web"));
    REQUIRE(world.lease(named).port == 3000);
    const auto bound = world.serve(world.start(main), 3000);
    CHECK(bound.lease == named);
    CHECK(world.lease(named).key == LeaseKey{"/main", "web", Protocol::tcp, Port{3000}, 0});
    CHECK(current_lease(world.registry, main, std::nullopt, Port{3000})->id == named);
    // A sibling is not to reach it by that number.
    const auto rows = ConnectView(world.registry, "/fix").rows(10);
    CHECK(rows == std::vector<ConnectRow>{{ConnectKind::refused, 3000, 0, std::nullopt, {}}});

    CHECK(std::get<LeaseId>(world.get(main, "web")) == named);
    world.close(bound.cookie);
    CHECK(std::get<LeaseId>(world.get(main, "web")) == named);
    CHECK(world.serve(world.start(main), 3000).lease == named);
    CHECK(world.lease(named).key.service == "web");
    CHECK(world.serve(world.start(fix), 3000).port == 3001);
}

TEST_CASE("after its release a port that was got by name is the number's, whoever asks for it first", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto named = std::get<LeaseId>(world.get(place, "web"));
    world.close(world.serve(world.start(place), 3000).cookie);
    ReleaseRequest release;
    release.root = "/a";
    release.service = "web";
    world.apply(decide_release(world.registry, world.config, release, world.facts()).changes);
    CHECK_FALSE(world.lease(named).live());
    const auto bound = world.serve(world.start(place), 3000);
    CHECK(bound.port == 3000);
    CHECK(world.lease(bound.lease).key.service == "main");
    CHECK(world.port_of(world.get(place, "web")) == 3001);
    // Another one under the number that is remembered takes its place.
    world.close(bound.cookie);
    release.service = "main";
    world.apply(decide_release(world.registry, world.config, release, world.facts()).changes);
    const auto other = std::get<LeaseId>(world.get(place, "main"));
    CHECK(world.serve(world.start(place), 3000).lease == other);
}

TEST_CASE("-p on a port that was got by name keeps its name, whatever the program asks for", "[policy]") {
    for (const Port asked : {Port{3000}, Port{4321}}) {
        World world;
        const auto place = world.place("/a");
        const auto named = std::get<LeaseId>(world.get(place, "web"));
        REQUIRE(world.lease(named).port == 3000);
        auto app = world.start(place);
        app.scope->port = Port{3000};
        OfferRequest offer{*app.scope, place, "main", "node", std::nullopt, Port{3000}, "me"};
        world.apply(decide_offer(world.registry, world.config, offer, world.facts()).changes);
        const auto bound = world.serve(app, asked);
        CHECK(bound.port == 3000);
        CHECK(bound.lease == named);
        CHECK(world.lease(named).key.service == "web");
        CHECK(world.lease(named).key.requested == asked);
        CHECK(world.lease(named).by_name());
    }
}

TEST_CASE("what was got by name for one protocol is not given to a program of the other", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto udp = std::get<LeaseId>(world.get(place, "dns", Protocol::udp));
    const auto before = world.lease(udp);
    auto app = world.start(place);
    app.scope->port = before.port;
    OfferRequest offer{*app.scope, place, "main", "node", std::nullopt, before.port, "me"};
    const auto refused = decide_offer(world.registry, world.config, offer, world.facts());
    REQUIRE(std::holds_alternative<Refusal>(refused.answer));
    CHECK(std::get<Refusal>(refused.answer).code == ErrorCode::port_leased);
    CHECK(refused.changes.empty());
    CHECK(world.lease(udp) == before);

    const auto tcp = std::get<LeaseId>(world.get(place, "web"));
    app.scope->port = world.lease(tcp).port;
    offer = {*app.scope, place, "main", "node", std::nullopt, world.lease(tcp).port, "me"};
    world.apply(decide_offer(world.registry, world.config, offer, world.facts()).changes);
    CHECK(decide_bind(world.registry, world.config, app, {5353, Protocol::udp, 0, {}}, world.facts()).answer.lease != tcp);
    CHECK(world.serve(app, 4321).lease == tcp);
    CHECK(world.lease(tcp).key.protocol == Protocol::tcp);
}

TEST_CASE("of a service that has a number by name with both protocols each program gets its own, whichever was got first", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto first = GENERATE(Protocol::udp, Protocol::tcp);
    AllocateRequest named;
    named.place = place;
    named.service = "web";
    named.port = 3333;
    LeaseId tcp = 0;
    for (const auto protocol : {first, first == Protocol::udp ? Protocol::tcp : Protocol::udp}) {
        named.protocol = protocol;
        auto granted = decide_get_at(world.registry, world.config, named, world.facts());
        REQUIRE(std::holds_alternative<LeaseId>(granted.answer));
        if (protocol == Protocol::tcp) { tcp = std::get<LeaseId>(granted.answer); }
        world.apply(std::move(granted.changes));
    }
    auto app = world.start(place);
    SECTION("named with -p") {
        app.scope->port = 3333;
        const OfferRequest offer{*app.scope, place, "main", "node", std::nullopt, 3333, "me"};
        auto offered = decide_offer(world.registry, world.config, offer, world.facts());
        REQUIRE(std::holds_alternative<LeaseId>(offered.answer));
        CHECK(std::get<LeaseId>(offered.answer) == tcp);
        world.apply(std::move(offered.changes));
        CHECK(world.serve(app, 4321).port == 3333);
    }
    SECTION("asked for") {
        const auto bound = world.serve(app, 3333);
        CHECK(bound.port == 3333);
        CHECK(bound.lease == tcp);
    }
    SECTION("asked for with UDP while the other one runs") {
        world.serve(app, 3333);
        auto facts = world.facts();
        facts.in_use = [](Port port, bool, bool) { return port == 3333; };
        const auto udp = world.start(place);
        CHECK(decide_bind(world.registry, world.config, udp, {3333, Protocol::udp, 0, {}}, facts).answer.port != 3333);
        facts.in_use = [](Port port, bool for_tcp, bool) { return port == 3333 && for_tcp; };
        const auto bound = decide_bind(world.registry, world.config, udp, {3333, Protocol::udp, 0, {}}, facts).answer;
        CHECK(bound.port == 3333);
        REQUIRE(bound.lease != 0);
        CHECK(bound.lease != tcp);
        CHECK(world.lease(bound.lease).key.service == "web");
    }
}

TEST_CASE("a program that opens and closes many sockets at once has its port as long as one of them lives", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto first = world.serve(app, 3333);
    std::vector<Cookie> others;
    for (int i = 0; i < 100; ++i) {
        const auto bound = world.serve(app, 3333);
        CHECK(bound.lease == first.lease);
        others.push_back(bound.cookie);
    }
    // They ended long ago, which is told only now.
    const auto last = others.back();
    others.pop_back();
    world.close(first.cookie);
    for (const auto cookie : others) { world.close(cookie); }
    CHECK(world.lease(first.lease).state == LeaseState::active);
    CHECK(world.serve(app, 3333).port == 3333);
    CHECK(world.lease(first.lease).sockets.size() == 2);
    world.close(last);
    world.close(world.lease(first.lease).sockets.front().cookie);
    CHECK_FALSE(world.lease(first.lease).live());
}

TEST_CASE("a socket that listens is not forgotten for sockets that do not", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto first = world.serve(app, 3333);
    const auto reloaded = world.serve(app, 3333);
    const auto listeners = GENERATE(0, 62);  // more of them; then there is no room for one that does not listen
    for (int i = 0; i < listeners; ++i) { world.serve(app, 3333); }
    std::vector<Cookie> dials;
    for (int i = 0; i < 100; ++i) {
        const auto answer = world.ask(app, 3333);
        dials.push_back(++world.next_cookie);
        world.apply(decide_bound(world.registry, app, answer.lease, answer.port, dials.back(), world.facts()));
    }
    world.close(first.cookie);
    for (const auto cookie : dials) { world.close(cookie); }
    CHECK(world.lease(first.lease).state == LeaseState::active);
    CHECK(world.lease(first.lease).sockets.size() == static_cast<std::size_t>(1 + listeners));
    CHECK(world.lease(first.lease).sockets.front().cookie == reloaded.cookie);
}

TEST_CASE("get is idempotent and finds the port of a running program", "[policy]") {
    World world;
    const auto place = world.place("/a");
    CHECK(world.port_of(world.get(place, "web")) == world.port_of(world.get(place, "web")));
    CHECK(world.port_of(world.get(place, "api")) == 3001);
    const auto bound = world.serve(world.start(world.place("/b")), 3500);
    CHECK(world.port_of(world.get(world.place("/b"), "main")) == 3500);
    CHECK(world.lease(bound.lease).origin == LeaseOrigin::named);
}

TEST_CASE("a port leased to another project is not handed out though nobody listens", "[policy]") {
    World world;
    const auto port = world.port_of(world.get(world.place("/a"), "web"));
    CHECK(world.serve(world.start(world.place("/b")), port).port == port + 1);
}

TEST_CASE("release ends the lease and the claim, but not of a running program without force", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto bound = world.serve(world.start(place), 3000);
    ReleaseRequest request{"/a", Port{3000}, std::nullopt, false, false};
    auto decision = decide_release(world.registry, world.config, request, world.facts());
    CHECK(std::get<Refusal>(decision.answer).code == ErrorCode::port_in_use);
    CHECK(decision.changes.empty());
    request.root = "/b";
    CHECK(std::get<Refusal>(decide_release(world.registry, world.config, request, world.facts()).answer).code == ErrorCode::not_owner);
    world.close(bound.cookie);
    request.root = "/a";
    world.apply(decide_release(world.registry, world.config, request, world.facts()).changes);
    CHECK_FALSE(world.lease(bound.lease).claimed);
    CHECK(world.serve(world.start(world.place("/b")), 3000).port == 3000);
    request.port = 4567;
    CHECK(std::get<Refusal>(decide_release(world.registry, world.config, request, world.facts()).answer).code == ErrorCode::not_found);
}

TEST_CASE("-p takes the port that the user named, claims of others included, live leases never", "[policy]") {
    World world;
    const auto a = world.place("/a");
    const auto held = world.serve(world.start(a), 3000);
    auto app = world.start(world.place("/b"));
    app.scope->port = Port{3000};
    OfferRequest offer{*app.scope, *app.place, "main", "node", std::nullopt, Port{3000}, "me"};
    CHECK(std::get<Refusal>(decide_offer(world.registry, world.config, offer, world.facts()).answer).code == ErrorCode::port_in_use);
    world.close(held.cookie);
    world.apply(decide_offer(world.registry, world.config, offer, world.facts()).changes);
    CHECK(world.lease(held.lease).claimed);  // until somebody listens there
    // Whatever number the program has in its code; and again after a restart inside the session.
    const auto bound = world.serve(app, 4321);
    CHECK(bound.port == 3000);
    CHECK_FALSE(world.lease(held.lease).claimed);
    CHECK(world.lease(bound.lease).key.requested == Port{4321});
    world.close(bound.cookie);
    CHECK(world.ask(app, 4321).port == 3000);
    CHECK(world.serve(world.start(a), 3000).port == 3001);
}

TEST_CASE("another service of the session is not handed a port that this one listens on", "[policy]") {
    World world;
    world.external.insert(3000);
    auto package = world.place("/a");
    package.package_dir = "web";
    auto web = world.start(package);
    web.holder.cwd = "/a/web";
    const auto bound = world.serve(web, 3000);
    REQUIRE(bound.port == 3001);
    auto api = web;
    api.holder.process = {++world.next_pid, 1};
    api.holder.cwd = "/a/api";
    package.package_dir = "api";
    api.place = std::make_shared<const Place>(package);
    CHECK(world.ask(api, 3001).port == 3002);
    auto worker = web;
    worker.holder.process = {++world.next_pid, 1};
    CHECK(world.ask(worker, 3001).lease == bound.lease);
}

TEST_CASE("a server's own number is not shared with another one of its session that was moved there", "[policy]") {
    World world;
    world.is_alive = [](const ProcessId&) { return true; };
    world.external.insert(4000);
    const auto api = world.start(world.place("/a"));
    auto web = api;
    web.holder.process = {++world.next_pid, 1};
    auto child = api;
    child.holder.process = {++world.next_pid, 1};
    world.children = {child.holder.process};
    const auto ask = [&](const Caller& caller, Port port, bool reuse_port) {
        BindRequest request{port, Protocol::tcp, 0, {}};
        request.reuse_port = reuse_port;
        return decide_bind(world.registry, world.config, caller, request, world.facts()).answer;
    };

    // Granted, and bound in this very moment.
    const auto answer = world.ask(api, 4000);
    REQUIRE(answer.port == 3000);
    world.being_bound.insert(answer.lease);
    CHECK(ask(web, 3000, false).port == 3001);
    CHECK(ask(child, 3000, false).port == 3001);
    CHECK(ask(api, 3000, false).lease == answer.lease);
    // Workers that share have learnt the number.
    CHECK(ask(web, 3000, true).lease == answer.lease);
    // With `-p`, too.
    auto pinned = web;
    pinned.scope->port = Port{3000};
    CHECK(ask(pinned, 3000, false).port == 3001);

    // Bound, and not listening yet: it may be kept for a child.
    world.apply(decide_bound(world.registry, api, answer.lease, answer.port, 7, world.facts()));
    world.being_bound.clear();
    CHECK(ask(web, 3000, false).port == 3001);
    CHECK(ask(web, 3000, true).lease == answer.lease);
    CHECK(ask(child, 3000, false).lease == answer.lease);
    // Listening.
    world.apply(decide_listening(world.registry, world.config, api, answer.port, 7, world.facts()).changes);
    CHECK(ask(web, 3000, false).port == 3001);
    CHECK(ask(child, 3000, false).port == 3001);
    CHECK(ask(web, 3000, true).lease == answer.lease);

    // A probe that was closed: whoever it tells of the number may have it.
    const auto probe = world.start(world.place("/b"));
    const auto probed = world.ask(probe, 4000);
    world.apply(decide_bound(world.registry, probe, probed.lease, probed.port, 8, world.facts()));
    world.close(8);
    auto told = probe;
    told.holder.process = {++world.next_pid, 1};
    CHECK(ask(told, probed.port, false).lease == probed.lease);
}

TEST_CASE("a number that this user may not bind is no offer, but what the program asks for", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const OfferRequest offer{*app.scope, *app.place, "main", "node", Port{80}, std::nullopt, "me"};
    auto facts = world.facts();
    facts.first_permitted = 1024;
    auto decision = decide_offer(world.registry, world.config, offer, facts);
    world.apply(std::move(decision.changes));
    const auto& offered = world.lease(std::get<LeaseId>(decision.answer));
    CHECK(offered.port == 3000);
    CHECK(offered.key.requested == Port{80});
    CHECK(world.serve(app, 80).port == 3000);
    facts.first_permitted = 0;
    decision = decide_offer(world.registry, world.config, offer, facts);
    world.apply(std::move(decision.changes));
    CHECK(world.lease(std::get<LeaseId>(decision.answer)).port == 80);
}

TEST_CASE("a launch is offered the port that its service got by name, where its own number is another's", "[policy]") {
    World world;
    const auto main = world.place("/main", "git:/main/.git");
    const auto fix = world.place("/fix", "git:/main/.git");
    const auto running = world.serve(world.start(main), 3000);
    const auto named = std::get<LeaseId>(world.get(fix, "main"));
    REQUIRE(world.lease(named).port == 3001);
    world.external.insert(4000);
    const auto launched = [&](const Caller& app) {
        OfferRequest offer{*app.scope, fix, "main", "node", Port{3000}, std::nullopt, "me"};
        offer.brief = true;
        auto decision = decide_offer(world.registry, world.config, offer, world.facts());
        world.apply(std::move(decision.changes));
        return std::get<LeaseId>(decision.answer);
    };

    const auto app = world.start(fix);
    CHECK(launched(app) == named);
    CHECK(world.lease(named).port == 3001);
    CHECK(world.lease(named).key.requested == Port{3000});
    // Whether the program takes the variable or asks for its number.
    CHECK(world.ask(app, 3001).lease == named);
    const auto bound = world.serve(app, 3000);
    CHECK(bound.lease == named);
    CHECK(bound.port == 3001);
    CHECK(std::get<LeaseId>(world.get(fix, "main")) == named);

    // It is still the one that was got by name: its end is not its program's.
    world.close(bound.cookie);
    world.apply(decide_session_ended(world.registry, world.config, app.session, world.facts()));
    world.now += 24h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.lease(named).state == LeaseState::allocated);
    CHECK(world.lease(named).by_name());
    CHECK(launched(world.start(fix)) == named);
    CHECK(world.lease(running.lease).port == 3000);
}

TEST_CASE("a launch is not offered what is another environment's, another's, or in use", "[policy]") {
    World world;
    world.external.insert(3000);
    const auto place = world.place("/a");
    const auto offered_to = [&](const Caller& app) {
        OfferRequest offer{*app.scope, place, "main", "node", Port{3000}, std::nullopt, "me"};
        return std::get<LeaseId>(decide_offer(world.registry, world.config, offer, world.facts()).answer);
    };
    GetRequest test;
    test.place = place;
    test.service = "main";
    test.environment = Environment::test;
    auto elsewhere = decide_get(world.registry, world.config, test, world.facts());
    world.apply(std::move(elsewhere.changes));
    CHECK(offered_to(world.start(place)) != std::get<LeaseId>(elsewhere.answer));
    const auto named = std::get<LeaseId>(world.get(place, "main"));
    CHECK(offered_to(world.start(place)) == named);
    world.external.insert(world.lease(named).port);
    CHECK(offered_to(world.start(place)) != named);
}

TEST_CASE("a port that was got by name keeps its terms when a launch is offered it", "[policy]") {
    World world;
    auto place = world.place("/a");
    place.config.services = {test::service("main", 3000)};
    const auto named = std::get<LeaseId>(world.get(place, "main"));
    REQUIRE(world.lease(named).port == 3000);
    auto app = world.start(place);
    for (const bool inside : {false, true}) {
        OfferRequest offer{*app.scope, place, "main", "node", Port{3000}, std::nullopt, "me"};
        offer.brief = true;
        if (inside) { offer.session.id = {++world.next_pid, 1}; }
        auto decision = decide_offer(world.registry, world.config, offer, world.facts());
        CHECK(std::get<LeaseId>(decision.answer) == named);
        world.apply(std::move(decision.changes));
        const auto bound = world.serve(app, 3000);
        CHECK(bound.lease == named);
        world.close(bound.cookie);
        world.now += 5min;
        world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
        CHECK(world.lease(named).live());
    }
    // What a run inside a long one did not use is free for the others.
    OfferRequest offer{*app.scope, place, "main", "node", Port{3000}, std::nullopt, "me"};
    offer.session.id = {++world.next_pid, 1};
    world.apply(decide_offer(world.registry, world.config, offer, world.facts()).changes);
    CHECK(world.serve(world.start(place), 3000).lease == named);
}

TEST_CASE("a named lease that a session did not use is free for the next one", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto named = std::get<LeaseId>(world.get(place, "main"));
    auto app = world.start(place);
    OfferRequest offer{*app.scope, place, "main", "node", std::nullopt, std::nullopt, "me"};
    auto decision = decide_offer(world.registry, world.config, offer, world.facts());
    REQUIRE(std::get<LeaseId>(decision.answer) == named);
    world.apply(decision.changes);
    world.apply(decide_session_ended(world.registry, world.config, app.session, world.facts()));
    app = world.start(place);
    offer.session = *app.scope;
    CHECK(std::get<LeaseId>(decide_offer(world.registry, world.config, offer, world.facts()).answer) == named);
}

TEST_CASE("what was offered to a program that ended before it bound is its next start's, a living one's is not", "[policy]") {
    World world;
    const auto place = world.place("/a");
    world.external.insert(3000);
    const auto bound = world.serve(world.start(place), 3000);
    REQUIRE(bound.port == 3001);
    world.close(bound.cookie);
    std::set<ProcessId> dead;
    const auto facts = [&] {
        auto known = world.facts();
        known.is_alive = [&dead](const ProcessId& process) { return !dead.contains(process); };
        return known;
    };
    const auto offer_to = [&](const Caller& caller) {
        const OfferRequest offer{*caller.scope, place, "main", "node", Port{3000}, std::nullopt, "me"};
        auto decision = decide_offer(world.registry, world.config, offer, facts());
        world.apply(std::move(decision.changes));
        return world.registry.find(std::get<LeaseId>(decision.answer))->port;
    };
    const auto broken = world.start(place);
    CHECK(offer_to(broken) == 3001);
    CHECK(offer_to(world.start(place)) != 3001);
    dead.insert(broken.session);
    world.apply(decide_session_ended(world.registry, world.config, broken.session, facts()));
    CHECK(world.lease(bound.lease).live());
    CHECK(offer_to(world.start(place)) == 3001);
}

TEST_CASE("a socket that was bound and then connected does not keep its lease", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto answer = world.ask(app, 0);
    world.apply(decide_bound(world.registry, app, answer.lease, answer.port, 5, world.facts()));
    world.now += 10s;
    auto facts = world.facts();
    facts.is_gone = [](const Socket&, const Lease&) { return false; };
    world.apply(decide_expiry(world.registry, world.config, facts).changes);
    REQUIRE(world.lease(answer.lease).sockets.size() == 1);
    world.now += 60s;
    facts = world.facts();
    facts.is_gone = [](const Socket&, const Lease&) { return true; };
    world.apply(decide_expiry(world.registry, world.config, facts).changes);
    world.now += 10s;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.registry.leases().empty());
}

TEST_CASE("a named lease in use by a program without portwrap does not expire", "[policy]") {
    World world;
    const auto named = std::get<LeaseId>(world.get(world.place("/a"), "web"));
    world.external.insert(world.lease(named).port);
    world.now += 8 * 24h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.lease(named).state == LeaseState::allocated);
    world.external.clear();
    world.now += 2h;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.lease(named).state == LeaseState::released);
}

TEST_CASE("port 0 gets a port of the range, sticky for the first listener, the upper half for more", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto app = world.start(place);
    const auto first = world.serve(app, 0);
    CHECK(first.port == 3000);
    const auto second = world.serve(app, 0);
    CHECK(second.port >= 3500);
    world.close(first.cookie);
    world.close(second.cookie);
    CHECK(world.registry.find(second.lease) == nullptr);
    world.serve(world.start(world.place("/b")), 3001);
    CHECK(world.serve(world.start(place), 0).port == 3000);
}

TEST_CASE("a number that was dropped is given to no other process for a while", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    world.dropped[3000] = {1, 1};
    CHECK(world.ask(app, 0).port == 3001);
    auto runner = world.start(world.place("/b"));
    runner.arguments = {"node", "/x/node_modules/.bin/vitest"};
    CHECK(world.ask(runner, 0).lease == 0);
}

TEST_CASE("listening makes an unmanaged program's port known", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    CHECK(decide_listening(world.registry, world.config, app, 3333, 55, world.facts()).answer == 0);  // it has gone by now
    world.external = {3333, 40000};
    const auto decision = decide_listening(world.registry, world.config, app, 3333, 55, world.facts());
    world.apply(decision.changes);
    CHECK(world.lease(decision.answer).state == LeaseState::active);
    CHECK(decide_listening(world.registry, world.config, app, 40000, 56, world.facts()).answer == 0);
}

TEST_CASE("after a reboot process leases are released with their stickiness and named ones stay", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto bound = world.serve(world.start(place), 3000);
    const auto named = std::get<LeaseId>(world.get(place, "api"));
    auto facts = world.facts();
    facts.boot_id = "another";
    world.apply(decide_census(world.registry, world.config, {{bound.cookie}, {}, {}, false, true, [](const ProcessId&) { return true; }}, facts));
    CHECK(world.lease(bound.lease).state == LeaseState::released);
    CHECK(world.lease(bound.lease).claimed);
    CHECK(world.lease(named).state == LeaseState::allocated);
    CHECK(world.registry.sessions().empty());
}

TEST_CASE("a census ends what lost its sockets and keeps what has them", "[policy]") {
    World world;
    const auto gone = world.serve(world.start(world.place("/a")), 3000);
    const auto kept = world.serve(world.start(world.place("/b")), 4000);
    world.apply(decide_census(world.registry, world.config, {{kept.cookie}, {}, {}, false, true, [](const ProcessId&) { return false; }}, world.facts()));
    CHECK(world.lease(gone.lease).state == LeaseState::released);
    CHECK(world.lease(kept.lease).state == LeaseState::active);
}

TEST_CASE("a census that cannot ask for sockets goes by ports in use and living processes", "[policy]") {
    World world;
    const auto shop = world.place("/shop");
    const auto dead_and_free = world.serve(world.start(shop), 3000);
    const auto inherited = world.serve(world.start(world.place("/blog")), 3001);
    const auto closed = world.serve(world.start(world.place("/wiki")), 3002);
    const auto caller = world.start(world.place("/mail"));
    const auto bound = world.ask(caller, 3003);
    world.apply(decide_bound(world.registry, caller, bound.lease, 3003, 900, world.facts()));
    world.external = {3001};
    const auto alive = world.registry.find(closed.lease)->holder->process;
    Census census;
    census.blind = true;
    census.is_alive = [&](const ProcessId& process) { return process == alive || process == caller.holder.process; };
    world.apply(decide_census(world.registry, world.config, census, world.facts()));
    CHECK_FALSE(world.registry.find(dead_and_free.lease)->live());
    CHECK(world.registry.find(inherited.lease)->live());
    CHECK_FALSE(world.registry.find(closed.lease)->live());
    CHECK(world.registry.find(bound.lease)->sockets.size() == 1);
}

TEST_CASE("a census finds the sockets of programs whose word was lost", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto unconfirmed = world.ask(app, 3000);
    const auto other = world.start(world.place("/b"));
    const auto unheard = world.ask(other, 4000);
    world.apply(decide_bound(world.registry, other, unheard.lease, 4000, 8, world.facts()));
    Census census{{7, 8}, {7, 8}, {{{app.holder.process, Port{3000}}, 7}}, false, true, [](const ProcessId&) { return true; }};
    world.apply(decide_census(world.registry, world.config, census, world.facts()));
    CHECK(world.lease(unconfirmed.lease).state == LeaseState::active);
    CHECK_FALSE(world.lease(unconfirmed.lease).expires_at);
    CHECK(world.lease(unheard.lease).state == LeaseState::active);
    world.close(7);
    CHECK(world.lease(unconfirmed.lease).state == LeaseState::released);
}

TEST_CASE("a session's end frees what was offered and keeps what still listens", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto bound = world.serve(app, 3000);
    const auto offered = world.ask(app, 4000);
    world.apply(decide_session_ended(world.registry, world.config, app.session, world.facts()));
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    CHECK(world.registry.sessions().size() == 1);
    world.close(bound.cookie);
    CHECK(world.registry.sessions().size() == 1);  // a child may be about to bind what was granted
    world.now += 10s;
    world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
    CHECK(world.registry.find(offered.lease) == nullptr);
    world.apply(decide_session_ended(world.registry, world.config, app.session, world.facts()));
    CHECK(world.registry.sessions().empty());
}

TEST_CASE("what a session was offered ends with the last of its processes", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto bound = world.serve(app, 3000);
    OfferRequest offer{*app.scope, *app.place, "api", "node", std::nullopt, Port{3444}, "me"};
    auto decision = decide_offer(world.registry, world.config, offer, world.facts());
    const auto offered = std::get<LeaseId>(decision.answer);
    world.apply(std::move(decision.changes));
    const auto session_ended = [&](Survivors survivors) {
        world.apply(decide_session_ended(world.registry, world.config, app.session, world.facts(), survivors));
    };
    session_ended(Survivors::possible);
    REQUIRE(world.registry.find(offered) != nullptr);
    CHECK(waits_for_survivor(world.lease(offered)));
    CHECK(world.lease(offered).expires_at == world.now + 60s);
    session_ended(Survivors::none);
    CHECK(world.registry.find(offered) == nullptr);
    CHECK(world.lease(bound.lease).state == LeaseState::active);
    CHECK(world.serve(world.start(world.place("/b")), 3444).port == 3444);
    world.close(bound.cookie);
    session_ended(Survivors::none);
    CHECK(world.registry.find_session(app.session) == nullptr);
}

TEST_CASE("a census leaves alone what was offered to a session until its time is over", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    OfferRequest offer{*app.scope, *app.place, "main", "node", std::nullopt, Port{3444}, "me"};
    auto decision = decide_offer(world.registry, world.config, offer, world.facts());
    const auto offered = std::get<LeaseId>(decision.answer);
    world.apply(std::move(decision.changes));
    const auto count = [&](std::string boot = "boot") {
        auto facts = world.facts();
        facts.boot_id = std::move(boot);
        return decide_census(world.registry, world.config, {{}, {}, {}, false, true, [](const ProcessId&) { return false; }}, facts);
    };
    // The session ended while nobody looked: its time begins now.
    world.apply(count());
    REQUIRE(world.registry.find(offered) != nullptr);
    CHECK(world.lease(offered).expires_at == world.now + 60s);
    CHECK(world.registry.find_session(app.session) != nullptr);
    world.now += 59s;
    CHECK(count().empty());
    CHECK_FALSE(count("another boot").empty());
    world.now += 1s;
    world.apply(count());
    CHECK(world.registry.find(offered) == nullptr);
    CHECK(world.registry.sessions().empty());
}

TEST_CASE("services are named by the config, the directory and the port's role", "[policy]") {
    Place place;
    place.project.root = "/a";
    CHECK(service_of(place, std::nullopt, Port{3000}) == "main");
    CHECK(service_of(place, std::nullopt, Port{9229}) == "main.debug");
    CHECK(service_of(place, std::nullopt, Port{24678}) == "main.hmr");
    place.package_dir = "apps/web";
    CHECK(service_of(place, std::nullopt, Port{3000}) == "apps/web");
    place.config.services = {{"web", Port{5173}, {}, {}, {}, {}, {}, {}, {}, {}, false}, {"api", Port{3000}, {}, {}, "apps", {}, {}, {}, {}, {}, false}};
    CHECK(service_of(place, std::nullopt, Port{5173}) == "web");
    CHECK(service_of(place, std::nullopt, Port{8000}) == "api");
    Session scope;
    scope.service = "mine";
    CHECK(service_of(place, scope, Port{8000}) == "mine");
    CHECK(is_auxiliary_service("main.debug"));
    CHECK_FALSE(is_auxiliary_service("debug"));
}

TEST_CASE("the project's port is the active one, then the configured, never the auxiliary", "[policy]") {
    World world;
    auto place = world.place("/a");
    CHECK(current_lease(world.registry, place, std::nullopt, std::nullopt) == nullptr);
    const auto app = world.start(place);
    const auto debug = world.serve(app, 9229);
    CHECK(current_lease(world.registry, place, std::nullopt, std::nullopt)->id == debug.lease);
    const auto named = std::get<LeaseId>(world.get(place, "api"));
    CHECK(current_lease(world.registry, place, std::nullopt, std::nullopt)->id == debug.lease);
    const auto web = world.serve(app, 3500);
    CHECK(current_lease(world.registry, place, std::nullopt, std::nullopt)->id == web.lease);
    CHECK(current_lease(world.registry, place, "api", std::nullopt)->id == named);
    CHECK(current_lease(world.registry, place, std::nullopt, Port{9229})->id == debug.lease);
    world.close(web.cookie);
    CHECK(current_lease(world.registry, place, std::nullopt, Port{3500}) == nullptr);
}

TEST_CASE("suggestions are free, near, and the project's own first", "[policy]") {
    World world;
    const auto bound = world.serve(world.start(world.place("/a")), 3456);
    world.close(bound.cookie);
    world.serve(world.start(world.place("/b")), 3001);
    world.external.insert(3002);
    CHECK(suggest_ports(world.registry, world.config, "/a", 3000, 3, world.facts()) == std::vector<Port>{3456, 3003, 3004});
    CHECK(suggest_ports(world.registry, world.config, "/a", 65535, 3, world.facts()) == std::vector<Port>{3456});
}

TEST_CASE("which range serves a request: range, environment, kind, type, default", "[ranges]") {
    const auto config = default_config();
    const auto first = [&](RangeQuery query) { return ranges_that_serve(config, query).front()->name; };
    CHECK(first({"php", Environment::test, "api", "node", false}) == "php");
    CHECK(first({std::nullopt, Environment::test, "api", "node", false}) == "test");
    CHECK(first({std::nullopt, Environment::dev, "api", "python", false}) == "api");
    CHECK(first({std::nullopt, Environment::dev, std::nullopt, "bun", false}) == "node");
    CHECK(first({std::nullopt, Environment::dev, std::nullopt, "cobol", false}) == "default");
    CHECK(ranges_that_serve(config, {"nonsense", Environment::dev, {}, "", false}).empty());
    CHECK(ranges_that_serve(config, {{}, Environment::dev, "database", "", true}).size() == 1);
    CHECK(ranges_that_serve(config, {{}, Environment::dev, "database", "", false}).size() == 2);
    CHECK(ranges_that_serve(config, {{}, Environment::dev, "web", "", false}).size() == 3);
}

TEST_CASE("programs say their type", "[ranges]") {
    CHECK(type_of_program("node", {"node", "server.js"}) == "node");
    CHECK(type_of_program("python3.11", {"python3", "app.py"}) == "python");
    CHECK(type_of_program("python3.11", {"python3", "-m", "http.server", "8000"}) == "static");
    CHECK(type_of_program("node", {"node", "/srv/node_modules/.bin/live-server"}) == "static");
    CHECK(type_of_program("live-server", {"live-server"}) == "static");
    CHECK(type_of_program("flask", {"flask", "run"}) == "python");
    CHECK(type_of_program("php8.2", {"php", "-S", "localhost:8000"}) == "php");
    CHECK(type_of_program("pythonista", {}).empty());
    CHECK(kind_of_program("redis-server") == "cache");
    CHECK_FALSE(kind_of_program("node"));
}

TEST_CASE("the built-in ranges are sound", "[ranges]") {
    const auto config = default_config();
    for (const auto& range : config.ranges) {
        CHECK(range.size() > 0);
        CHECK_FALSE(range.description.empty());
        if (!range.fallback.empty()) { CHECK(find_range(config, range.fallback) != nullptr); }
    }
    for (const Port port : {Port{1}, Port{3659}, Port{4045}, Port{6000}, Port{6697}, Port{10080}}) { CHECK(is_bad_port(port)); }
    for (const Port port : {Port{3000}, Port{8080}, Port{5432}}) { CHECK_FALSE(is_bad_port(port)); }
}

TEST_CASE("TCP and UDP of one number share a lease, and the listing calls it TCP", "[policy]") {
    World world;
    world.serve(world.start(world.place("/a")), 3000);
    const auto app = world.start(world.place("/b"));
    const auto bind_udp = [&](std::map<Port, int> refused = {}) {
        auto decision = decide_bind(world.registry, world.config, app, {3000, Protocol::udp, 0, std::move(refused)}, world.facts());
        world.apply(std::move(decision.changes));
        return decision.answer;
    };
    const auto listens = [&](const BindAnswer& answer, Cookie cookie, Protocol protocol) {
        world.apply(decide_bound(world.registry, app, answer.lease, answer.port, cookie, world.facts()));
        world.apply(decide_listening(world.registry, world.config, app, answer.port, cookie, world.facts(), protocol).changes);
    };
    SECTION("TCP first") {
        const auto tcp = world.ask(app, 3000);
        listens(tcp, 1, Protocol::tcp);
        const auto udp = bind_udp();
        listens(udp, 2, Protocol::udp);
        CHECK(udp.port == tcp.port);
        CHECK(udp.lease == tcp.lease);
    }
    SECTION("UDP first") {
        const auto udp = bind_udp();
        listens(udp, 1, Protocol::udp);
        const auto tcp = world.ask(app, 3000);
        listens(tcp, 2, Protocol::tcp);
        CHECK(udp.port == tcp.port);
        CHECK(udp.lease == tcp.lease);
    }
    const auto& lease = *world.registry.of_project("/b").front();
    CHECK(lease.port == 3001);
    CHECK(lease.key.protocol == Protocol::tcp);
    CHECK(lease.sockets.size() == 2);
    const auto id = lease.id;
    world.close(1);
    CHECK(world.lease(id).state == LeaseState::active);
    world.close(2);
    CHECK(world.lease(id).state == LeaseState::released);
}

TEST_CASE("UDP sockets of one program that mean to share their number do, also beside its TCP server", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto tcp = world.serve(app, 3500);
    const Cookie first = 7;
    world.apply(decide_listening(world.registry, world.config, app, 3500, first, world.facts(), Protocol::udp).changes);
    REQUIRE(world.lease(tcp.lease).sockets.size() == 2);
    auto facts = world.facts();
    facts.in_use = [](Port port, bool, bool) { return port == 3500; };
    std::vector<Cookie> receivers{first};
    facts.receivers = [&](Port) { return receivers; };
    const auto bind = [&](bool reuse_port, std::map<Port, int> refused = {}) {
        return decide_bind(world.registry, world.config, app, {3500, Protocol::udp, 0, std::move(refused), reuse_port}, facts).answer;
    };
    CHECK(bind(true).port == 3500);
    CHECK(bind(true).lease == tcp.lease);
    CHECK(bind(false).port != 3500);
    CHECK(bind(true, {{3500, 98}}).port != 3500);
    receivers.push_back(8);  // a stranger's
    CHECK(bind(true).port != 3500);
    receivers = {0};  // a kernel that does not tell
    CHECK(bind(true).port != 3500);
}

TEST_CASE("a number that a stranger has with the other protocol is not shared", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto tcp = world.serve(app, 3000);
    const auto decision = decide_bind(world.registry, world.config, app, {3000, Protocol::udp, 0, {{3000, 98}}}, world.facts());
    CHECK(decision.answer.port != 3000);
    CHECK(decision.answer.lease != tcp.lease);
}

TEST_CASE("UDP ports that mean no server are left alone", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    for (const Port port : std::vector<Port>{0, 5353, 1900, 40000}) {
        const auto decision = decide_bind(world.registry, world.config, app, {port, Protocol::udp, 0, {}}, world.facts());
        CHECK(decision.answer.lease == 0);
        CHECK(decision.answer.port == port);
        CHECK(decision.changes.empty());
    }
}

TEST_CASE("what a dead program asked for and did not bind is free for its next start", "[policy]") {
    World world;
    const auto place = world.place("/a");
    const auto first = world.start(place);
    world.ask(first, 3000);
    auto facts = world.facts();
    SECTION("its process lives: a child may be about to bind") {
        facts.is_alive = [](const ProcessId&) { return true; };
        world.apply(decide_session_ended(world.registry, world.config, first.session, facts));
        CHECK(world.ask(world.start(place), 3000).port != 3000);
    }
    SECTION("it is gone") {
        facts.is_alive = [](const ProcessId&) { return false; };
        world.apply(decide_session_ended(world.registry, world.config, first.session, facts));
        CHECK(world.ask(world.start(place), 3000).port == 3000);
    }
}

TEST_CASE("a lease whose last socket closes while another is granted goes on", "[policy]") {
    World world;
    const auto app = world.start(world.place("/a"));
    const auto first = world.serve(app, 3000);
    auto facts = world.facts();
    facts.is_granted = [&](LeaseId id) { return id == first.lease; };
    world.apply(decide_destroyed(world.registry, world.config, first.cookie, facts));
    CHECK(world.lease(first.lease).state == LeaseState::allocated);
    world.apply(decide_bound(world.registry, app, first.lease, 3000, 77, world.facts()));
    CHECK(world.lease(first.lease).sockets.size() == 1);
}

TEST_CASE("a census leaves alone what an exchange still waits to hear of", "[policy]") {
    World world;
    const auto first = world.ask(world.start(world.place("/a")), 3000);
    const Census census{{}, {}, {}, false, true, [](const ProcessId&) { return false; }};
    auto facts = world.facts();
    facts.is_granted = [&](LeaseId id) { return id == first.lease; };
    world.apply(decide_census(world.registry, world.config, census, facts));
    CHECK(world.lease(first.lease).live());
    world.apply(decide_census(world.registry, world.config, census, world.facts()));
    CHECK(world.registry.find(first.lease) == nullptr);
}

TEST_CASE("a server whose number its sibling was moved to moves on, and a worker that shares does not", "[policy]") {
    World world;
    const auto other = world.place("/other");
    world.serve(world.start(other), 5000);
    const auto shop = world.place("/shop");
    const auto web = world.start(shop);
    const auto moved = world.serve(web, 5000);
    CHECK(moved.port != 5000);
    auto api = web;
    api.holder.process = {4711, 2};
    const auto alive = [](const ProcessId&) { return true; };
    auto facts = world.facts();
    facts.is_alive = alive;
    auto decision = decide_bind(world.registry, world.config, api, {moved.port, Protocol::tcp, 0, {}}, facts);
    CHECK(decision.answer.port != moved.port);
    BindRequest shared{moved.port, Protocol::tcp, 0, {}};
    shared.reuse_port = true;
    CHECK(decide_bind(world.registry, world.config, api, shared, facts).answer.port == moved.port);
}

TEST_CASE("a port that the user may not bind is refused before the program runs", "[policy]") {
    World world;
    const auto shop = world.place("/shop");
    OfferRequest offer;
    offer.place = shop;
    offer.service = "main";
    offer.session.id = offer.session.outermost = {77, 1};
    offer.wanted = 80;
    auto facts = world.facts();
    facts.first_permitted = 1024;
    const auto decision = decide_offer(world.registry, world.config, offer, facts);
    REQUIRE(std::holds_alternative<Refusal>(decision.answer));
    CHECK(std::get<Refusal>(decision.answer).code == ErrorCode::permission_denied);
}
