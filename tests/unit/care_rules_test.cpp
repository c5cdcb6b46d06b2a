// Audit, cleanup and ports in advance, as data in, data out.
#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/care_rules.hpp"
#include "core_world.hpp"
#include "portwrap/unique_fd.hpp"
#include "service/health_probe.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

namespace {

struct World : test::World {
    Place place(const std::string& root, std::optional<std::string> main = std::nullopt) {
        auto place = test::World::place(root, "git:/r");
        place.project.worktree_of = std::move(main);
        apply({ProjectSeen{place.project}});
        return place;
    }
    Lease get(const Place& place, const std::string& service) { return lease(std::get<LeaseId>(test::World::get(place, service))); }
    void listen(Lease lease, Cookie cookie) {
        lease.state = LeaseState::active;
        lease.listened = true;
        lease.sockets = {{cookie, true, true}};
        apply({LeaseEvent{LeaseChange::activated, lease}});
    }
    std::set<LeaseId> granted;  ///< in exchanges that have not ended yet
    std::vector<CleanupReason> clean(const std::set<std::string>& gone, std::chrono::hours later = 0h, bool everywhere = true) {
        auto then = facts();
        then.is_granted = [this](LeaseId id) { return granted.contains(id); };
        then.now += later;
        auto decision = decide_cleanup(registry, config, gone, [everywhere](const std::string& root) { return everywhere || root == "/r/a"; }, then);
        apply(std::move(decision.changes));
        std::vector<CleanupReason> reasons;
        for (const auto& cleaned : decision.answer) { reasons.push_back(cleaned.reason); }
        return reasons;
    }
};

std::vector<FindingKind> kinds(const Audit& audit) {
    std::vector<FindingKind> all;
    for (const auto& finding : audit.findings) { all.push_back(finding.kind); }
    return all;
}

}  // namespace

TEST_CASE("a silent lease, a stranger's port and a running one are told apart", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    const auto silent = world.get(place, "silent");
    const auto taken = world.get(place, "taken");
    const auto running = world.get(place, "running");
    const auto unwrapped = world.get(place, "unwrapped");
    world.listen(running, 7);
    const auto audit = audit_leases(world.registry, world.config, std::nullopt,
                                    {world.heard(taken.port, "/elsewhere"), {running.port, Protocol::tcp, 7, {}, {}}, world.heard(unwrapped.port, "/r/a/src")});
    CHECK(kinds(audit) == std::vector{FindingKind::not_running, FindingKind::conflict});
    CHECK(audit.findings[0].lease == silent.id);
    CHECK(audit.findings[1].lease == taken.id);
    CHECK(audit.allocated == 4);
    CHECK(audit.active == 2);
    CHECK(audit.conflicts == 1);
    CHECK(audit.not_running == 1);
    CHECK(audit_leases(world.registry, world.config, "/r/b", {}).findings.empty());
}

TEST_CASE("a directory whose name only begins like the project's is a stranger's", "[care]") {
    World world;
    const auto lease = world.get(world.place("/r/a"), "web");
    CHECK(audit_leases(world.registry, world.config, std::nullopt, {world.heard(lease.port, "/r/ab")}).conflicts == 1);
}

TEST_CASE("two live leases on one port are a duplicate", "[care]") {
    World world;
    const auto first = world.get(world.place("/r/a"), "web");
    auto second = world.get(world.place("/r/b"), "web");
    second.port = first.port;
    world.apply({LeaseEvent{LeaseChange::updated, second}});
    const auto audit = audit_leases(world.registry, world.config, std::nullopt, {});
    CHECK(std::count_if(audit.findings.begin(), audit.findings.end(), [](const Finding& finding) { return finding.kind == FindingKind::duplicate; }) == 1);
}

TEST_CASE("a removed worktree's ports are released, what listens there is not", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    const auto silent = world.get(place, "silent");
    const auto running = world.get(place, "running");
    const auto outside = world.get(place, "outside");
    auto taken = world.get(place, "taken");
    const auto other = world.get(world.place("/r/b"), "web");
    world.listen(running, 7);
    world.external = {outside.port, taken.port};
    taken.state = LeaseState::conflict;  // a stranger listens there
    world.apply({LeaseEvent{LeaseChange::conflicted, taken}});
    CHECK(world.clean({"/r/a"}) == std::vector{CleanupReason::worktree_gone, CleanupReason::worktree_gone});
    CHECK_FALSE(world.registry.find(silent.id)->live());
    CHECK_FALSE(world.registry.find(taken.id)->live());
    CHECK(world.registry.find(running.id)->live());
    CHECK(world.registry.find(outside.id)->live());
    CHECK(world.registry.find(other.id)->live());
    CHECK(world.clean({"/r/a"}).empty());
}

TEST_CASE("what is over is said with its reason, and only where it concerns", "[care]") {
    World world;
    auto kept = world.get(world.place("/r/a"), "kept");
    kept.state = LeaseState::reserved;
    kept.expires_at = world.now + 1h;
    world.apply({LeaseEvent{LeaseChange::updated, kept}});
    world.get(world.place("/r/b"), "old");
    CHECK(world.clean({}).empty());
    CHECK(world.clean({}, 24h * 8, false) == std::vector{CleanupReason::expired});
    CHECK(world.clean({}, 24h * 8) == std::vector{CleanupReason::inactive});
    CHECK(world.clean({}, 24h * 60) == std::vector{CleanupReason::forgotten, CleanupReason::forgotten});
    CHECK(world.registry.leases().empty());
}

TEST_CASE("a worktree gets the services of its config, else those of its main worktree, once", "[care]") {
    World world;
    const auto main = world.place("/r/main");
    world.get(main, "web");
    world.get(main, "api");
    auto linked = world.place("/r/fix", "/r/main");
    auto decision = decide_provision(world.registry, world.config, linked, "me", world.facts());
    REQUIRE(decision.answer.size() == 2);
    CHECK(decision.answer[0].service == "web");
    CHECK(decision.answer[0].port != decision.answer[1].port);
    world.apply(std::move(decision.changes));
    CHECK(decide_provision(world.registry, world.config, linked, "me", world.facts()).changes.empty());
    linked.config.services.push_back({"db", {}, {}, {}, {}, "database", {}, {}, {}, {}, false});
    decision = decide_provision(world.registry, world.config, linked, "me", world.facts());
    REQUIRE(decision.answer.size() == 1);
    CHECK(decision.answer[0].port == 5432);
    CHECK(decide_provision(world.registry, world.config, main, "me", world.facts()).answer.empty());
}

TEST_CASE("an HTTP status is read from the first bytes", "[care]") {
    CHECK(http_status("HTTP/1.1 200 OK\r\n") == 200);
    CHECK(http_status("HTTP/1.0 404 \r\n") == 404);
    CHECK(http_status("") == 0);
    CHECK(http_status("HTTP/1.1 2") == 0);
    CHECK(http_status("SSH-2.0-x") == -1);
    CHECK(http_status("HTTP/1.1 2x0 OK\r\n") == -1);
    CHECK(http_status("SSH-2.0-OpenSSH_9") == -1);
}

TEST_CASE("a stranger's datagrams are no conflict for a TCP port, and its own protocol is one", "[care]") {
    World world;
    auto udp = world.get(world.place("/r/a"), "dns");
    const auto tcp = world.get(world.place("/r/a"), "web");
    udp.key.protocol = Protocol::udp;
    world.apply({LeaseEvent{LeaseChange::updated, udp}});
    auto datagrams = world.heard(tcp.port, "/elsewhere");
    datagrams.protocol = Protocol::udp;
    CHECK(audit_leases(world.registry, world.config, std::nullopt, {datagrams}).conflicts == 0);
    datagrams.port = udp.port;
    CHECK(audit_leases(world.registry, world.config, std::nullopt, {datagrams}).conflicts == 1);
    CHECK(audit_leases(world.registry, world.config, std::nullopt, {world.heard(udp.port, "/elsewhere")}).conflicts == 0);
}

TEST_CASE("each of two projects hears of its duplicate, and the fix ends the one that nobody uses", "[care]") {
    World world;
    const auto first = world.get(world.place("/r/a"), "web");
    auto second = world.get(world.place("/r/b"), "api");
    second.port = first.port;
    world.listen(second, 9);
    const auto duplicates = [&](const std::optional<std::string>& root) {
        std::vector<std::string> fixes;
        for (const auto& finding : audit_leases(world.registry, world.config, root, {{first.port, Protocol::tcp, 9, {}, {}}}).findings) {
            if (finding.kind == FindingKind::duplicate) { fixes.push_back(finding.fix); }
        }
        return fixes;
    };
    const std::vector<std::string> fix{"portctl release 'web' --project '/r/a'"};
    CHECK(duplicates(std::nullopt) == fix);
    CHECK(duplicates("/r/a") == fix);
    CHECK(duplicates("/r/b") == fix);
    CHECK(duplicates("/r/c").empty());
}

TEST_CASE("a cleanup that somebody asks for is done also where nothing ends by itself", "[care]") {
    World world;
    world.config.auto_cleanup = false;
    world.get(world.place("/r/a"), "old");
    auto later = world.facts();
    later.now += 24h * 8;
    CHECK(decide_expiry(world.registry, world.config, later).changes.empty());
    CHECK(world.clean({}, 24h * 8) == std::vector{CleanupReason::inactive});
}

TEST_CASE("a removed worktree's claims end, and are remembered no longer for it", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    const auto bound = world.serve(world.start(place), 3000);
    world.close(bound.cookie);
    const auto before = world.lease(bound.lease);
    REQUIRE(before.claimed);
    world.now += 1h;
    CHECK(world.clean({"/r/a"}) == std::vector{CleanupReason::worktree_gone});
    CHECK_FALSE(world.lease(bound.lease).claimed);
    CHECK(world.lease(bound.lease).released_at == before.released_at);
}

TEST_CASE("a listener that ends leaves not_running, and a new one is unknown until it is checked", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    auto lease = world.get(place, "web");
    CHECK(lease.health == Health::unknown);
    world.listen(lease, 7);
    lease = world.lease(lease.id);
    lease.health = Health::healthy;
    world.apply({LeaseEvent{LeaseChange::updated, lease}});
    world.close(7);
    CHECK(world.lease(lease.id).health == Health::not_running);
    CHECK(world.lease(lease.id).state == LeaseState::allocated);
    const auto bound = world.serve(world.start(place), lease.port);
    CHECK(bound.lease == lease.id);
    CHECK(world.lease(lease.id).health == Health::unknown);
}

TEST_CASE("each probe has its own time", "[care]") {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 4) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    std::vector<Probe> probes(3);
    for (auto& probe : probes) { probe.port = ntohs(address.sin_port); }
    probes[0].path = "/";
    probes[0].timeout = 20ms;
    probes[1].path = "/";
    probes[1].timeout = 60ms;
    run_probes(probes);
    CHECK(probes[0].error == "no answer within 20 ms");
    CHECK(probes[1].error == "no answer within 60 ms");
    CHECK(probes[2].healthy);
}

TEST_CASE("the way out of a conflict names the project and the range wherever it is typed", "[care]") {
    World world;
    const auto place = world.place("/r/a b");
    const auto fix = [&](const Lease& lease) {
        return audit_leases(world.registry, world.config, std::nullopt, {world.heard(lease.port, "/elsewhere")}).findings.front().fix;
    };
    auto lease = world.get(place, "web");
    CHECK(fix(lease) == "portctl update 3000 --port $(portctl next 'node' --project '/r/a b') --range 'node' --project '/r/a b'");
    lease.range = "block";  // what serves a project with a block needs no name
    world.apply({LeaseEvent{LeaseChange::updated, lease}});
    CHECK(fix(lease) == "portctl update 3000 --port $(portctl next --project '/r/a b') --project '/r/a b'");
}

TEST_CASE("the way out names the protocol where the project has both of one number", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    const auto tcp = world.get(place, "web");
    Lease udp = tcp;
    udp.id = world.registry.next_lease_id();
    udp.key.protocol = Protocol::udp;
    world.apply({LeaseEvent{LeaseChange::allocated, udp}});
    auto datagrams = world.heard(udp.port, "/elsewhere");
    datagrams.protocol = Protocol::udp;
    const auto audit = audit_leases(world.registry, world.config, std::nullopt, {datagrams});
    REQUIRE(audit.findings.size() == 2);
    CHECK(audit.findings[0].fix == "portctl release 3000 --protocol tcp --project '/r/a'");
    CHECK(audit.findings[1].fix == "portctl update 3000 --port $(portctl next 'node' --project '/r/a') --range 'node' --protocol udp --project '/r/a'");
}

TEST_CASE("a worktree of a bare repository gets the services of another worktree, and no registered ones", "[care]") {
    World world;
    const auto first = world.place("/r/one", "/r/bare.git");
    world.get(first, "web");
    auto elsewhere = world.get(first, "production");
    elsewhere.origin = LeaseOrigin::registered;
    world.apply({LeaseEvent{LeaseChange::updated, elsewhere}});
    const auto stranger = world.place("/r/other", "/r/other.git");
    world.get(stranger, "theirs");
    const auto decision = decide_provision(world.registry, world.config, world.place("/r/two", "/r/bare.git"), "me", world.facts());
    REQUIRE(decision.answer.size() == 1);
    CHECK(decision.answer[0].service == "web");
}

TEST_CASE("a new worktree's services are of the environments that they have in the main one", "[care]") {
    World world;
    auto lease = world.get(world.place("/r/main"), "web");
    lease.environment = Environment::test;
    world.apply({LeaseEvent{LeaseChange::updated, lease}});
    const auto decision = decide_provision(world.registry, world.config, world.place("/r/fix", "/r/main"), "me", world.facts());
    REQUIRE(decision.answer.size() == 1);
    CHECK(decision.answer[0].port >= 7000);
    CHECK(decision.answer[0].port <= 7999);
}

TEST_CASE("a reservation whose time is over stays while somebody listens, until that is known to be a stranger", "[care]") {
    World world;
    auto lease = world.get(world.place("/r/a"), "web");
    lease.state = LeaseState::reserved;
    lease.expires_at = world.now + 1h;
    world.apply({LeaseEvent{LeaseChange::updated, lease}});
    world.external = {lease.port};
    auto later = world.facts();
    later.now += 2h;
    const auto kept = decide_expiry(world.registry, world.config, later);
    CHECK(kept.changes.empty());
    CHECK(kept.answer == later.now + 1h);
    CHECK(world.clean({}, 2h).empty());
    lease.state = LeaseState::conflict;
    world.apply({LeaseEvent{LeaseChange::conflicted, lease}});
    CHECK(world.clean({}, 2h) == std::vector{CleanupReason::expired});
}

TEST_CASE("what people call a database by names its range", "[care]") {
    const auto config = default_config();
    const auto first = [&](const std::string& kind) { return ranges_that_serve(config, {{}, Environment::dev, kind, "node", true}).front()->name; };
    CHECK(first("postgres") == "database");
    CHECK(first("redis") == "cache");
    CHECK(first("frontend") == "node");
}

TEST_CASE("a probe goes to the address that is listened on, over either family", "[care]") {
    for (const char* address : {"127.0.0.5", "::1"}) {
        const bool is_ipv6 = std::string_view(address).find(':') != std::string_view::npos;
        const UniqueFd listener(::socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_storage bound{};
        bound.ss_family = is_ipv6 ? AF_INET6 : AF_INET;
        auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&bound);
        auto* ipv4 = reinterpret_cast<sockaddr_in*>(&bound);
        REQUIRE(::inet_pton(bound.ss_family, address, is_ipv6 ? static_cast<void*>(&ipv6->sin6_addr) : &ipv4->sin_addr) == 1);
        if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&bound), sizeof bound) != 0 && is_ipv6) { continue; }  // a machine without IPv6
        REQUIRE(::listen(listener.get(), 4) == 0);
        socklen_t size = sizeof bound;
        REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
        std::vector<Probe> probes(1);
        probes[0].port = ntohs(is_ipv6 ? ipv6->sin6_port : ipv4->sin_port);
        probes[0].address = address;
        run_probes(probes);
        CHECK(probes[0].error.empty());
        CHECK(probes[0].healthy);
    }
    std::vector<Probe> nonsense(1);
    nonsense[0].address = "no address";
    run_probes(nonsense);
    CHECK_FALSE(nonsense[0].healthy);
}

TEST_CASE("a server that runs in a worktree needs no port in advance", "[care]") {
    World world;
    world.get(world.place("/r/main"), "main");
    const auto linked = world.place("/r/fix", "/r/main");
    const auto bound = world.serve(world.start(linked), 3000);
    const auto decision = decide_provision(world.registry, world.config, linked, "me", world.facts());
    CHECK(decision.changes.empty());
    REQUIRE(decision.answer.size() == 1);
    CHECK(decision.answer[0].port == bound.port);
    CHECK(world.lease(bound.lease).origin == LeaseOrigin::process);
}

TEST_CASE("what a program is about to bind stays, although its worktree was removed", "[care]") {
    World world;
    const auto answer = world.ask(world.start(world.place("/r/a")), 3000);
    world.granted.insert(answer.lease);
    CHECK(world.clean({"/r/a"}).empty());
    CHECK(world.lease(answer.lease).live());
    world.granted.clear();
    CHECK(world.clean({"/r/a"}).size() == 1);
    CHECK_FALSE(world.lease(answer.lease).live());
}
