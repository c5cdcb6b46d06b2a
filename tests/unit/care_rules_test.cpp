// Audit, cleanup and ports in advance, as data in, data out.
#include <catch2/catch.hpp>

#include "core/care_rules.hpp"
#include "core_world.hpp"
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
    std::vector<CleanupReason> clean(const std::set<std::string>& gone, std::chrono::hours later = 0h, bool everywhere = true) {
        auto then = facts();
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
    const auto audit = audit_leases(world.registry, std::nullopt,
                                    {world.heard(taken.port, "/elsewhere"), {running.port, Protocol::tcp, 7, {}, {}}, world.heard(unwrapped.port, "/r/a/src")});
    CHECK(kinds(audit) == std::vector{FindingKind::not_running, FindingKind::conflict});
    CHECK(audit.findings[0].lease == silent.id);
    CHECK(audit.findings[1].lease == taken.id);
    CHECK(audit.allocated == 4);
    CHECK(audit.active == 2);
    CHECK(audit.conflicts == 1);
    CHECK(audit.not_running == 1);
    CHECK(audit_leases(world.registry, "/r/b", {}).findings.empty());
}

TEST_CASE("a directory whose name only begins like the project's is a stranger's", "[care]") {
    World world;
    const auto lease = world.get(world.place("/r/a"), "web");
    CHECK(audit_leases(world.registry, std::nullopt, {world.heard(lease.port, "/r/ab")}).conflicts == 1);
}

TEST_CASE("two live leases on one port are a duplicate", "[care]") {
    World world;
    const auto first = world.get(world.place("/r/a"), "web");
    auto second = world.get(world.place("/r/b"), "web");
    second.port = first.port;
    world.apply({LeaseEvent{LeaseChange::updated, second}});
    const auto audit = audit_leases(world.registry, std::nullopt, {});
    CHECK(std::count_if(audit.findings.begin(), audit.findings.end(), [](const Finding& finding) { return finding.kind == FindingKind::duplicate; }) == 1);
}

TEST_CASE("a removed worktree's ports are released, what listens there is not", "[care]") {
    World world;
    const auto place = world.place("/r/a");
    const auto silent = world.get(place, "silent");
    const auto running = world.get(place, "running");
    const auto outside = world.get(place, "outside");
    const auto other = world.get(world.place("/r/b"), "web");
    world.listen(running, 7);
    world.external = {outside.port};
    CHECK(world.clean({"/r/a"}) == std::vector{CleanupReason::worktree_gone});
    CHECK_FALSE(world.registry.find(silent.id)->live());
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
    linked.config.services.push_back({"db", {}, {}, {}, {}, "database", {}, {}, {}, false});
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
