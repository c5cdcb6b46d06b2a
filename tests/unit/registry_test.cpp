// The registry as a value: applying, numbering, looking up.
#include <catch2/catch.hpp>

#include "core/registry.hpp"
#include "storage_support.hpp"

using namespace portwrap;
using namespace portwrap::storage_test;

namespace {
void apply_all(Registry& registry, std::vector<Change> changes) {
    for (const auto& event : registry.stamp(std::move(changes), k_now)) { registry.apply(event); }
}
}  // namespace

TEST_CASE("stamping numbers the changes from the last applied one and applies nothing", "[registry]") {
    Registry registry;
    const auto events = registry.stamp({LeaseForgotten{1}, LeaseForgotten{2}}, k_now);
    REQUIRE(events.size() == 2);
    CHECK(events[0].seq == 1);
    CHECK(events[1].seq == 2);
    CHECK(events[1].at == k_now);
    CHECK(registry.last_seq() == 0);
    registry.apply(events[0]);
    registry.apply(events[1]);
    CHECK(registry.stamp({LeaseForgotten{1}}, k_now)[0].seq == 3);
}

TEST_CASE("the number of an event that was given up is not given again", "[registry]") {
    Registry registry;
    const auto refused = registry.stamp({SessionClosed{{1, 2}}, SessionClosed{{3, 4}}}, {});
    registry.skip(refused);
    CHECK(registry.last_seq() == refused.back().seq);
    CHECK(registry.stamp({SessionClosed{{5, 6}}}, {}).front().seq == refused.back().seq + 1);
}

TEST_CASE("an event that was applied already is passed over", "[registry]") {
    Registry registry;
    auto lease = full_lease(1);
    apply_all(registry, {LeaseEvent{LeaseChange::allocated, lease}, LeaseForgotten{1}});
    registry.apply(Event{1, k_now, LeaseEvent{LeaseChange::allocated, lease}});
    CHECK(registry.leases().empty());
    CHECK(registry.next_lease_id() == 2);
}

TEST_CASE("a changed lease is found by its new port, key, session and sockets and no longer by the old",
          "[registry]") {
    Registry registry;
    auto lease = full_lease(5);
    apply_all(registry, {LeaseEvent{LeaseChange::allocated, lease}});
    CHECK(registry.next_lease_id() == 6);
    const auto old = lease;
    lease.port = 4000;
    lease.key.service = "api";
    lease.key.root = "/other";
    lease.session.reset();
    lease.sockets = {Socket{99, true, true}};
    apply_all(registry, {LeaseEvent{LeaseChange::updated, lease}});
    CHECK(registry.find(old.key) == nullptr);
    CHECK(registry.find_by_cookie(7) == nullptr);
    CHECK(registry.on_port(old.port).empty());
    CHECK(registry.of_project(old.key.root).empty());
    CHECK(registry.of_session(*old.session).empty());
    REQUIRE(registry.find(lease.key) != nullptr);
    CHECK(*registry.find(lease.key) == lease);
    CHECK(registry.find_by_cookie(99)->id == 5);
    CHECK(registry.on_port(4000).size() == 1);
    CHECK(registry.of_project("/other").size() == 1);
}

TEST_CASE("of several leases with one key the live one is found, else the newest", "[registry]") {
    Registry registry;
    auto first = full_lease(1);
    auto second = full_lease(2);
    second.state = LeaseState::released;
    apply_all(registry, {LeaseEvent{LeaseChange::allocated, first}, LeaseEvent{LeaseChange::released, second}});
    CHECK(registry.find(first.key)->id == 1);
    first.state = LeaseState::released;
    apply_all(registry, {LeaseEvent{LeaseChange::released, first}});
    CHECK(registry.find(first.key)->id == 2);
    apply_all(registry, {LeaseForgotten{2}});
    CHECK(registry.find(first.key)->id == 1);
}

TEST_CASE("projects and sessions come and go by their events", "[registry]") {
    Registry registry;
    const auto session = full_session();
    apply_all(registry, {ProjectSeen{Project{"/r", "a", {}, {}, "", ""}}, ProjectSeen{Project{"/r", "b", {}, {}, "", ""}},
                         SessionOpened{session}});
    CHECK(registry.find_project("/r")->name == "b");
    CHECK(*registry.find_session(session.id) == session);
    apply_all(registry, {SessionClosed{session.id}});
    CHECK(registry.find_session(session.id) == nullptr);
}

TEST_CASE("indexes tell the same as a search through all leases", "[registry]") {
    Registry registry;
    Changes changes(1);
    for (int i = 0; i < 2000; ++i) {
        apply_all(registry, {changes.next(registry)});
        if (i % 50 != 0) { continue; }
        for (Port port = 3000; port < 3010; ++port) {
            std::vector<LeaseId> expected;
            bool live = false;
            for (const auto& entry : registry.leases()) {
                if (entry.second.port != port) { continue; }
                expected.push_back(entry.first);
                live = live || entry.second.live();
            }
            std::vector<LeaseId> found;
            for (const auto* lease : registry.on_port(port)) { found.push_back(lease->id); }
            CHECK(found == expected);
            CHECK(registry.is_live(port) == live);
        }
        std::map<std::string, std::map<Port, int>> requested;
        std::map<std::pair<std::string, std::string>, std::vector<LeaseId>> services;
        for (const auto& entry : registry.leases()) {
            const auto& key = entry.second.key;
            services[{key.root, key.service}].push_back(entry.first);
            if (key.requested.value_or(0) != 0) { ++requested[key.root][*key.requested]; }
        }
        for (const auto& entry : services) {
            std::vector<LeaseId> found;
            for (const auto* lease : registry.of_service(entry.first.first, entry.first.second)) { found.push_back(lease->id); }
            CHECK(found == entry.second);
            const auto& root = entry.first.first;
            CHECK(registry.requested_in(root) == requested[root]);
        }
    }
    CHECK(registry.of_service("/nowhere", "web").empty());
    CHECK(registry.requested_in("/nowhere").empty());
}

TEST_CASE("a port that a lease has left is live only while another one has it", "[registry]") {
    Registry registry;
    auto first = full_lease(1);
    first.state = LeaseState::allocated;
    first.port = 3001;
    auto second = first;
    second.id = 2;
    second.key.service = "another";
    apply_all(registry, {LeaseEvent{LeaseChange::allocated, first}, LeaseEvent{LeaseChange::allocated, second}});
    first.port = 3002;
    apply_all(registry, {LeaseEvent{LeaseChange::updated, first}});
    CHECK(registry.is_live(3001));
    CHECK(registry.is_live(3002));
    apply_all(registry, {LeaseForgotten{2}});
    CHECK_FALSE(registry.is_live(3001));
    first.state = LeaseState::released;
    apply_all(registry, {LeaseEvent{LeaseChange::released, first}});
    CHECK_FALSE(registry.is_live(3002));
}

TEST_CASE("relatives are found by family and by root commit, and follow what is seen of a project", "[registry]") {
    Registry registry;
    const Project self{"/a", "a", {}, {}, "git:/x", "c1"};
    apply_all(registry, {ProjectSeen{self}, ProjectSeen{Project{"/b", "b", {}, {}, "git:/x", ""}}, ProjectSeen{Project{"/c", "c", {}, {}, "git:/y", "c1"}},
                         ProjectSeen{Project{"/d", "d", {}, {}, "", ""}}, ProjectSeen{Project{"/e", "e", {}, {}, "", ""}}});
    const auto roots_of = [&registry](const Project& project) {
        std::vector<std::string> roots;
        for (const auto* relative : registry.relatives_of(project)) { roots.push_back(relative->root); }
        return roots;
    };
    CHECK(roots_of(self) == std::vector<std::string>{"/b", "/c"});
    CHECK(roots_of(*registry.find_project("/d")).empty());
    apply_all(registry, {ProjectSeen{Project{"/b", "b", {}, {}, "git:/z", ""}}});
    CHECK(roots_of(self) == std::vector<std::string>{"/c"});
}
