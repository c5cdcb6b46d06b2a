// What is asked for by name or number: allocate, register, reserve, update, transfer, lists, suggestions.
#include <catch2/catch.hpp>

#include "core/lease_steps.hpp"
#include "core_world.hpp"

using namespace portwrap;
using namespace std::chrono_literals;
using test::World;

namespace {

/// The requests by name, applied as they are decided.
struct NamedWorld : World {
    using Ports = std::vector<Port>;
    AllocateRequest request(const Place& place, const std::string& service) {
        AllocateRequest made;
        made.place = place;
        made.service = service;
        return made;
    }
    Outcome<std::vector<LeaseId>> decide(const AllocateRequest& asked) {
        auto decision = decide_allocate(registry, config, asked, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    Ports allocate(const AllocateRequest& asked) {
        Ports ports;
        const auto answer = decide(asked);
        for (const auto id : std::get<std::vector<LeaseId>>(answer)) { ports.push_back(lease(id).port); }
        return ports;
    }
    Ports allocate(const Place& place, const std::string& service, std::optional<Port> port = std::nullopt, bool force = false) {
        auto asked = request(place, service);
        asked.port = port;
        asked.force = force;
        return allocate(asked);
    }
    ErrorCode refused(const Place& place, const std::string& service, Port port, bool force = false) {
        auto asked = request(place, service);
        asked.port = port;
        asked.force = force;
        return std::get<Refusal>(decide(asked)).code;
    }
    Outcome<Registered> enter(const Place& place, const std::string& service, Port port, Environment environment = Environment::dev) {
        RegisterRequest asked;
        asked.place = place;
        asked.service = service;
        asked.port = port;
        asked.environment = environment;
        auto decision = decide_register(registry, config, asked, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    Outcome<LeaseId> reserve(const Place& place, std::optional<Port> port, const std::string& service = "main",
                             std::optional<std::chrono::seconds> ttl = std::nullopt) {
        ReserveRequest asked;
        asked.place = place;
        asked.service = service;
        asked.port = port;
        asked.ttl = ttl;
        auto decision = decide_reserve(registry, config, asked, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    Outcome<LeaseId> update(const Place& place, UpdateRequest asked) {
        asked.target.root = place.project.root;
        asked.place = place;
        auto decision = decide_update(registry, config, asked, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    Outcome<LeaseId> transfer(const Place& from, Port port, const Place& to, bool force = false) {
        auto decision = decide_transfer(registry, {{from.project.root, port, std::nullopt, force}, to.project});
        apply(std::move(decision.changes));
        return decision.answer;
    }
    Outcome<std::vector<LeaseId>> release(const Place& place, Port port) {
        auto decision = decide_release(registry, config, {place.project.root, port, std::nullopt, false, false}, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    void expire() { apply(decide_expiry(registry, config, facts()).changes); }
};

template <typename T>
ErrorCode code_of(const Outcome<T>& outcome) {
    return std::get<Refusal>(outcome).code;
}

}  // namespace

TEST_CASE("allocate always gives a new instance, get the lowest one", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    CHECK(world.allocate(shop, "web") == NamedWorld::Ports{3000});
    CHECK(world.allocate(shop, "web") == NamedWorld::Ports{3001});
    CHECK(world.port_of(world.get(shop, "web")) == 3000);
    CHECK(world.registry.on_port(3001).front()->key.instance == 1);
}

TEST_CASE("a released instance comes back with its port, the lowest first", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    for (int i = 0; i < 3; ++i) { world.allocate(shop, "web"); }
    world.release(shop, 3001);
    world.release(shop, 3000);
    CHECK(world.allocate(shop, "web") == NamedWorld::Ports{3000});
    CHECK(world.allocate(shop, "web") == NamedWorld::Ports{3001});
    CHECK(world.allocate(shop, "web") == NamedWorld::Ports{3003});
}

TEST_CASE("a specific port is given or refused, never another one", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    CHECK(world.allocate(shop, "web", Port{3100}) == NamedWorld::Ports{3100});
    CHECK(world.refused(blog, "web", 3100) == ErrorCode::port_leased);
    CHECK(world.refused(blog, "web", 3100, true) == ErrorCode::port_leased);
    world.external.insert(3200);
    CHECK(world.refused(blog, "web", 3200) == ErrorCode::port_in_use);
    CHECK(world.allocate(blog, "web", Port{3200}, true) == NamedWorld::Ports{3200});
    CHECK(world.refused(blog, "web", 2601, true) == ErrorCode::system_reserved);
    world.config.reserved = {3300};
    CHECK(world.refused(blog, "web", 3300) == ErrorCode::port_reserved);
    CHECK(world.allocate(blog, "web", Port{3300}, true) == NamedWorld::Ports{3300});
    CHECK(world.refused(blog, "web", 8000) == ErrorCode::out_of_range);
    CHECK(world.refused(blog, "web", 2999) == ErrorCode::out_of_range);
    CHECK(world.refused(blog, "web", 4000) == ErrorCode::out_of_range);
    CHECK(world.allocate(blog, "web", Port{3999}) == NamedWorld::Ports{3999});
    CHECK(world.allocate(blog, "web", Port{8000}, true) == NamedWorld::Ports{8000});
    auto in_php = world.request(blog, "web");
    in_php.port = 8085;
    in_php.range = "php";
    CHECK(world.allocate(in_php) == NamedWorld::Ports{8085});
    in_php.range = "nowhere";
    CHECK(code_of(world.decide(in_php)) == ErrorCode::unknown_range);
}

TEST_CASE("a listening port of another project is in use, and force does not take it", "[named]") {
    NamedWorld world;
    const auto blog = world.place("/blog");
    const auto served = world.serve(world.start(world.place("/shop")), 3000);
    world.external.insert(served.port);
    CHECK(world.refused(blog, "web", 3000) == ErrorCode::port_in_use);
    CHECK(world.refused(blog, "web", 3000, true) == ErrorCode::port_in_use);
}

TEST_CASE("a number that a person asks for may be another's claim, never its live lease", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto served = world.serve(world.start(shop), 3000);
    world.close(served.cookie);
    CHECK(world.lease(served.lease).claimed);
    CHECK(world.allocate(blog, "web", Port{3000}) == NamedWorld::Ports{3000});
    CHECK_FALSE(world.lease(served.lease).claimed);
}

TEST_CASE("force takes a silent port of the own project and ends that lease", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    world.allocate(shop, "api", Port{3100});
    CHECK(world.refused(shop, "web", 3100) == ErrorCode::port_leased);
    CHECK(world.allocate(shop, "web", Port{3100}, true) == NamedWorld::Ports{3100});
    int live = 0;
    for (const auto* lease : world.registry.on_port(3100)) { live += lease->live() ? 1 : 0; }
    CHECK(live == 1);
}

TEST_CASE("a preferred port is given if it is free, else the next of the range", "[named]") {
    NamedWorld world;
    auto asked = world.request(world.place("/shop"), "web");
    asked.preferred = 3500;
    CHECK(world.allocate(asked) == NamedWorld::Ports{3500});
    CHECK(world.allocate(asked) == NamedWorld::Ports{3000});
    asked.preferred = 2601;
    CHECK(world.allocate(asked) == NamedWorld::Ports{3001});
}

TEST_CASE("several ports are given all or none, neighbours with a block", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    auto asked = world.request(shop, "shard");
    asked.count = 3;
    CHECK(world.allocate(asked) == NamedWorld::Ports{3000, 3001, 3002});
    world.external = {3004, 3007};
    asked.block = true;
    CHECK(world.allocate(asked) == NamedWorld::Ports{3008, 3009, 3010});
    asked.port = 3005;
    CHECK(code_of(world.decide(asked)) == ErrorCode::port_in_use);
    CHECK(world.registry.on_port(3005).empty());
    asked.port = 3995;
    CHECK(world.allocate(asked) == NamedWorld::Ports{3995, 3996, 3997});
    asked.port = 65534;
    asked.force = true;
    CHECK(code_of(world.decide(asked)) == ErrorCode::invalid_request);
}

TEST_CASE("a range of one port, and a full range", "[named]") {
    NamedWorld world;
    world.config.ranges.push_back({"tiny", RangeKind::service, {{3333, 3333}}, false, "", ""});
    auto asked = world.request(world.place("/shop"), "web");
    asked.range = "tiny";
    CHECK(world.allocate(asked) == NamedWorld::Ports{3333});
    CHECK(code_of(world.decide(asked)) == ErrorCode::range_exhausted);
    asked.count = 2;
    asked.block = true;
    CHECK(code_of(world.decide(asked)) == ErrorCode::range_exhausted);
}

TEST_CASE("TCP and UDP of one service share a number", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    CHECK(world.allocate(shop, "web", Port{3443}) == NamedWorld::Ports{3443});
    auto udp = world.request(shop, "web");
    udp.port = 3443;
    udp.protocol = Protocol::udp;
    CHECK(world.allocate(udp) == NamedWorld::Ports{3443});
    udp.service = "other";
    CHECK(code_of(world.decide(udp)) == ErrorCode::port_leased);
}

TEST_CASE("register records any port and warns about another environment's range", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    world.external.insert(9443);
    const auto first = std::get<Registered>(world.enter(shop, "web", 9443, Environment::production));
    CHECK(first.warning.empty());
    CHECK(world.lease(first.lease).environment == Environment::production);
    CHECK(std::get<Registered>(world.enter(shop, "web", 9443, Environment::production)).lease == first.lease);
    CHECK_FALSE(std::get<Registered>(world.enter(shop, "job", 9444)).warning.empty());
    CHECK(std::get<Registered>(world.enter(shop, "low", 1)).warning.empty());
    CHECK(std::get<Registered>(world.enter(shop, "high", 65535)).warning.empty());
    CHECK(code_of(world.enter(world.place("/blog"), "web", 9443)) == ErrorCode::port_leased);
    CHECK(code_of(world.enter(shop, "api", 9443)) == ErrorCode::port_leased);
    CHECK(code_of(world.enter(shop, "api", 2650)) == ErrorCode::system_reserved);
}

TEST_CASE("a reservation keeps others away until its time is over", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto id = std::get<LeaseId>(world.reserve(shop, Port{3000}, "main", 2h));
    CHECK(world.lease(id).state == LeaseState::reserved);
    CHECK(world.serve(world.start(blog), 3000).port != 3000);
    CHECK(world.refused(blog, "web", 3000) == ErrorCode::port_leased);
    world.now += 1h;
    CHECK(std::get<LeaseId>(world.reserve(shop, Port{3000}, "main", 2h)) == id);  // begins anew
    world.now += 90min;
    world.expire();
    CHECK(world.lease(id).live());
    world.now += 31min;
    world.expire();
    CHECK_FALSE(world.lease(id).live());
    CHECK(world.allocate(blog, "web", Port{3000}) == NamedWorld::Ports{3000});
}

TEST_CASE("a program takes the port that was reserved for it", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto id = std::get<LeaseId>(world.reserve(shop, Port{3000}));
    const auto served = world.serve(world.start(shop), 3000);
    CHECK(served.port == 3000);
    CHECK(served.lease == id);
}

TEST_CASE("reserving what the project has already changes nothing", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto port = world.port_of(world.get(shop, "web"));
    const auto id = std::get<LeaseId>(world.reserve(shop, port, "other"));
    CHECK(world.lease(id).key.service == "web");
    CHECK(world.lease(id).state == LeaseState::allocated);
    CHECK(std::get<LeaseId>(world.reserve(shop, std::nullopt, "web")) == id);
}

TEST_CASE("a reservation without a time ends when it was inactive for long", "[named]") {
    NamedWorld world;
    const auto id = std::get<LeaseId>(world.reserve(world.place("/shop"), Port{3000}));
    world.now += 24h * 6;
    world.expire();
    CHECK(world.lease(id).live());
    world.now += 24h * 2;
    world.expire();
    CHECK_FALSE(world.lease(id).live());
}

TEST_CASE("get makes a reservation a lease", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto id = std::get<LeaseId>(world.reserve(shop, std::nullopt, "web", 1h));
    CHECK(std::get<LeaseId>(world.get(shop, "web")) == id);
    CHECK(world.lease(id).state == LeaseState::allocated);
    CHECK_FALSE(world.lease(id).expires_at);
}

TEST_CASE("update changes what is given, and an empty text takes a value away", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto id = std::get<LeaseId>(world.get(shop, "web"));
    UpdateRequest asked;
    asked.target.service = "web";
    asked.description = "the shop";
    asked.hostname = "shop.example.org";
    CHECK(std::get<LeaseId>(world.update(shop, asked)) == id);
    CHECK(world.lease(id).description == "the shop");
    asked.description = "";
    asked.hostname.reset();
    world.update(shop, asked);
    CHECK_FALSE(world.lease(id).description);
    CHECK(world.lease(id).hostname == "shop.example.org");
    asked.service = "front";
    world.update(shop, asked);
    CHECK(world.lease(id).key.service == "front");
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::not_found);
}

TEST_CASE("by force an instance takes the port of another one of its service, which then has none", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    world.allocate(shop, "web");
    world.allocate(shop, "web");
    UpdateRequest asked;
    asked.target.port = 3000;
    asked.target.force = true;
    asked.port = 3001;
    CHECK(std::holds_alternative<LeaseId>(world.update(shop, asked)));
    int live = 0;
    for (const auto* lease : world.registry.on_port(3001)) { live += lease->live() ? 1 : 0; }
    CHECK(live == 1);
}

TEST_CASE("update moves a sticky port, live or remembered, but not under a running program", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto served = world.serve(world.start(shop), 3000);
    UpdateRequest asked;
    asked.target.service = "main";
    asked.port = 3050;
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::port_in_use);
    world.close(served.cookie);
    world.update(shop, asked);
    CHECK(world.serve(world.start(shop), 3000).port == 3050);
    asked.port = 9999;
    asked.target.service = "nobody";
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::not_found);
    world.get(shop, "api");
    asked.target.service = "api";
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::out_of_range);
    asked.port = 3050;
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::port_in_use);
}

TEST_CASE("a renamed service takes the lowest free instance", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    world.get(shop, "web");
    const auto api = std::get<LeaseId>(world.get(shop, "api"));
    UpdateRequest asked;
    asked.target.service = "api";
    asked.service = "web";
    world.update(shop, asked);
    CHECK(world.lease(api).key.instance == 1);
}

TEST_CASE("another project's lease is changed only by force", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto port = world.port_of(world.get(shop, "web"));
    UpdateRequest asked;
    asked.target.port = port;
    asked.description = "mine";
    CHECK(code_of(world.update(blog, asked)) == ErrorCode::not_owner);
    CHECK(code_of(world.transfer(blog, port, blog)) == ErrorCode::not_owner);
    CHECK(code_of(world.release(blog, port)) == ErrorCode::not_owner);
    asked.target.force = true;
    CHECK(std::holds_alternative<LeaseId>(world.update(blog, asked)));
}

TEST_CASE("a port is handed over with its number", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto port = world.port_of(world.get(shop, "web"));
    world.get(blog, "web");
    const auto id = std::get<LeaseId>(world.transfer(shop, port, blog));
    CHECK(world.lease(id).key.root == "/blog");
    CHECK(world.lease(id).key.instance == 1);
    CHECK(world.lease(id).port == port);
    CHECK(code_of(world.transfer(shop, 3999, blog)) == ErrorCode::not_found);
    const auto served = world.serve(world.start(shop), 3500);
    CHECK(code_of(world.transfer(shop, served.port, blog)) == ErrorCode::port_in_use);
}

TEST_CASE("what is handed over while its program runs is a conflict of its new owner's, and comes back whole", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto caller = world.start(shop);
    const auto served = world.serve(caller, 3000);
    const auto id = std::get<LeaseId>(world.transfer(blog, served.port, blog, true));
    CHECK(id == served.lease);  // it is blog's already: by force from there, too
    const auto& lease = world.lease(id);
    CHECK(lease.key.root == "/blog");
    CHECK(lease.state == LeaseState::conflict);
    CHECK(lease.origin == LeaseOrigin::named);
    CHECK(lease.sockets.empty());
    CHECK_FALSE(lease.holder);
    CHECK_FALSE(lease.session);
    CHECK(world.registry.of_session(caller.session).empty());
    SECTION("its program ends") {
        world.close(served.cookie);
        world.apply(decide_heard(world.registry, {world.lease(id)}, {}, world.facts()));
        CHECK(world.lease(id).state == LeaseState::allocated);
    }
    SECTION("it is handed back") {
        world.transfer(blog, served.port, shop);
        world.apply(decide_heard(world.registry, {world.lease(id)}, {world.heard(served.port, "/shop")}, world.facts()));
        CHECK(world.lease(id).state == LeaseState::active);
        CHECK(world.lease(id).key.root == "/shop");
    }
}

TEST_CASE("a program that runs in the project that its port is handed to stays its holder", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    auto caller = world.start(shop);
    caller.holder.cwd = "/blog/api";
    const auto served = world.serve(caller, 3000);
    const auto id = std::get<LeaseId>(world.transfer(shop, served.port, blog, true));
    CHECK(world.lease(id).key.root == "/blog");
    CHECK(world.lease(id).state == LeaseState::active);
    CHECK(world.lease(id).listening());
}

TEST_CASE("whose program has a port is said by its session, else by the nearest project above its directory", "[named]") {
    NamedWorld world;
    world.place("/shop");
    world.place("/shop/fix");
    const auto blog = world.place("/blog");
    Lease lease;
    CHECK(root_of_program(world.registry, lease, "/shop").empty());
    lease.holder = Holder{{7, 1}, "node", "/shop/fix/api", world.now};
    CHECK(root_of_program(world.registry, lease, "/shop/fix") == "/shop/fix");
    CHECK(root_of_program(world.registry, lease, "/shop") == "/shop/fix");
    lease.holder->cwd = "/elsewhere";
    CHECK(root_of_program(world.registry, lease, "/shop").empty());
    lease.session = world.start(blog).session;
    CHECK(root_of_program(world.registry, lease, "/shop") == "/blog");
    lease.holder->cwd = "/shop";  // started by blog's session, here
    CHECK(root_of_program(world.registry, lease, "/shop") == "/shop");
    CHECK(root_of_program(world.registry, lease, "/blog") == "/blog");
}

TEST_CASE("a reservation that moves out of a stranger's way is still one, with its time", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto reserved = std::get<LeaseId>(world.reserve(shop, std::nullopt, "foo", 2h));
    const auto kept = std::get<LeaseId>(world.get(shop, "web"));
    const auto ends = world.lease(reserved).expires_at;
    REQUIRE(ends);
    for (const auto id : {reserved, kept}) {
        world.apply(decide_heard(world.registry, {world.lease(id)}, {world.heard(world.lease(id).port, "/elsewhere")}, world.facts()));
        REQUIRE(world.lease(id).state == LeaseState::conflict);
        UpdateRequest asked;
        asked.target.port = world.lease(id).port;
        asked.port = static_cast<Port>(world.lease(id).port + 50);
        REQUIRE(std::holds_alternative<LeaseId>(world.update(shop, asked)));
    }
    CHECK(world.lease(reserved).state == LeaseState::reserved);
    CHECK(world.lease(reserved).expires_at == ends);
    CHECK(world.lease(kept).state == LeaseState::allocated);
}

TEST_CASE("of TCP and UDP on one number one is changed or given back", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto tcp = std::get<LeaseId>(world.get(shop, "h3"));
    const auto number = world.lease(tcp).port;
    AllocateRequest beside;
    beside.place = shop;
    beside.service = "h3";
    beside.protocol = Protocol::udp;
    beside.port = number;
    auto made = decide_allocate(world.registry, world.config, beside, world.facts());
    world.apply(std::move(made.changes));
    const auto udp = std::get<std::vector<LeaseId>>(made.answer).front();
    UpdateRequest asked;
    asked.target.port = number;
    asked.target.protocol = Protocol::udp;
    asked.port = Port{3050};
    CHECK(std::get<LeaseId>(world.update(shop, asked)) == udp);
    CHECK(world.lease(tcp).port == number);
    CHECK(world.lease(udp).port == 3050);
    CHECK(code_of(world.update(shop, asked)) == ErrorCode::not_found);
    const auto release = [&](Protocol protocol) {
        ReleaseRequest request{"/shop", std::nullopt, "h3", false, false, protocol};
        auto decision = decide_release(world.registry, world.config, request, world.facts());
        world.apply(std::move(decision.changes));
        return decision.answer;
    };
    CHECK(std::get<std::vector<LeaseId>>(release(Protocol::tcp)) == std::vector{tcp});
    CHECK(world.lease(udp).live());
    CHECK(code_of(release(Protocol::tcp)) == ErrorCode::not_found);
}

TEST_CASE("suggestions lie in the range that serves the request", "[named]") {
    NamedWorld world;
    auto asked = world.request(world.place("/shop"), "web");
    asked.port = 8080;
    const auto answer = world.decide(asked);
    const auto& refusal = std::get<Refusal>(answer);
    CHECK(refusal.range == "node");
    CHECK(refusal.suggestions == std::vector<Port>{3080, 3180, 3280});
    world.external.insert(3000);
    asked.port = 3000;
    const auto taken = world.decide(asked);
    CHECK(std::get<Refusal>(taken).suggestions == std::vector<Port>{3001, 3002, 3003});
}

TEST_CASE("a port that the system does not permit is refused as such", "[named]") {
    NamedWorld world;
    world.config.ranges.push_back({"low", RangeKind::service, {{80, 90}}, false, "", ""});
    auto asked = world.request(world.place("/shop"), "web");
    asked.range = "low";
    asked.port = 80;
    auto facts = world.facts();
    facts.first_permitted = 1024;
    const auto decision = decide_allocate(world.registry, world.config, asked, facts);
    CHECK(std::get<Refusal>(decision.answer).code == ErrorCode::permission_denied);
}

TEST_CASE("lists show the worktrees of a repository, one of them, or those of given roots", "[named]") {
    NamedWorld world;
    const auto main = world.place("/shop", "git:/shop/.git");
    auto fix = world.place("/shop-fix", "git:/shop/.git");
    fix.project.branch = "fix";
    world.apply({ProjectSeen{fix.project}});
    world.get(main, "web");
    world.get(fix, "web");
    world.get(world.place("/blog"), "web");
    const auto count = [&](ListFilter filter) { return list_leases(world.registry, filter).size(); };
    ListFilter filter;
    CHECK(count(filter) == 3);
    filter.project = std::make_shared<const Project>(main.project);
    CHECK(count(filter) == 1);
    filter.worktree = "";
    CHECK(count(filter) == 2);
    filter.worktree = "fix";
    CHECK(count(filter) == 1);
    filter.worktree = "shop-fix";
    CHECK(list_leases(world.registry, filter).front()->key.root == "/shop-fix");
    filter.worktree = "nothing";
    CHECK(count(filter) == 0);
    ListFilter gone;
    gone.roots = {"/blog"};
    CHECK(count(gone) == 1);
    gone.range = "php";
    CHECK(count(gone) == 0);
}

TEST_CASE("who gets a service at a number gets that number, or what the service has already", "[named]") {
    World world;
    const auto place = world.place("/r/a");
    const auto get_at = [&](const Place& where, const std::string& service, Port port) {
        AllocateRequest request;
        request.place = where;
        request.service = service;
        request.port = port;
        auto decision = decide_get_at(world.registry, world.config, request, world.facts());
        world.apply(std::move(decision.changes));
        return decision.answer;
    };
    CHECK(world.port_of(get_at(place, "web", 3055)) == 3055);
    CHECK(world.port_of(get_at(place, "web", 3056)) == 3055);
    CHECK(world.port_of(world.get(place, "web")) == 3055);
    CHECK(std::get<Refusal>(get_at(place, "api", 3055)).code == ErrorCode::port_leased);
    CHECK(std::get<Refusal>(get_at(world.place("/r/b"), "web", 3055)).code == ErrorCode::port_leased);
    world.external.insert(3057);
    CHECK(std::get<Refusal>(get_at(place, "api", 3057)).code == ErrorCode::port_in_use);
    CHECK(world.registry.of_service("/r/a", "api").empty());
}

TEST_CASE("of what all projects together got by name and released the oldest is forgotten beyond some memory", "[named]") {
    NamedWorld world;
    const auto kept = world.port_of(world.get(world.place("/kept"), "web"));
    const std::string deep = "/" + std::string(3000, 'x');
    std::size_t most = 0;
    for (int project = 0; project < 12; ++project) {
        const auto place = world.place(deep + std::to_string(project));
        for (int service = 0; service < 100; ++service) {
            world.now += 1s;
            const auto port = world.port_of(world.get(place, "s" + std::to_string(service)));
            REQUIRE(std::holds_alternative<std::vector<LeaseId>>(world.release(place, port)));
            most = std::max(most, world.registry.remembered_bytes());
        }
    }
    CHECK(most > k_most_remembered_bytes);
    CHECK(most < k_most_remembered_bytes + 2 * (4 * 3010 + 2048));
    CHECK(world.registry.of_service(deep + "0", "s0").empty());
    CHECK_FALSE(world.registry.of_service(deep + "11", "s99").empty());
    CHECK(world.port_of(world.get(world.place("/kept"), "web")) == kept);
    // The sum is what the leases say one by one.
    std::size_t sum = 0;
    for (const auto& [id, lease] : world.registry.leases()) { sum += lease.only_remembered() ? Registry::bytes_of(lease) : 0; }
    CHECK(sum == world.registry.remembered_bytes());
}

TEST_CASE("of what a project got by name and released only the last few hundred are remembered", "[named]") {
    NamedWorld world;
    const auto shop = world.place("/shop");
    const auto blog = world.place("/blog");
    const auto released_of = [&](const std::string& root) {
        const auto leases = world.registry.of_project(root);
        return static_cast<std::size_t>(std::count_if(leases.begin(), leases.end(), [](const Lease* lease) { return !lease->live(); }));
    };
    const auto kept = world.port_of(world.get(shop, "kept"));
    const auto theirs = world.port_of(world.get(blog, "theirs"));
    REQUIRE(std::holds_alternative<std::vector<LeaseId>>(world.release(blog, theirs)));
    const auto get_and_release = [&](const std::string& service) {
        world.now += 1s;
        const auto port = world.port_of(world.get(shop, service));
        REQUIRE(std::holds_alternative<std::vector<LeaseId>>(world.release(shop, port)));
    };
    for (std::size_t i = 0; i < k_most_released; ++i) { get_and_release("s" + std::to_string(i)); }
    CHECK(released_of("/shop") == k_most_released);
    CHECK_FALSE(world.registry.of_service("/shop", "s0").empty());
    for (std::size_t i = 0; i < 2 * k_most_released; ++i) { get_and_release("t" + std::to_string(i)); }
    CHECK(released_of("/shop") <= k_most_released + 1);
    world.expire();
    CHECK(released_of("/shop") == k_most_released);
    // The oldest went first; what is live and what is another project's stays.
    CHECK(world.registry.of_service("/shop", "s0").empty());
    CHECK_FALSE(world.registry.of_service("/shop", "t" + std::to_string(2 * k_most_released - 1)).empty());
    CHECK(world.port_of(world.get(shop, "kept")) == kept);
    CHECK(world.port_of(world.get(blog, "theirs")) == theirs);
}
