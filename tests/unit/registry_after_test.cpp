#include "core/registry_after.hpp"

#include <catch2/catch.hpp>

using namespace portwrap;

namespace {

Change allocated(LeaseId id, Port port) {
    Lease lease;
    lease.id = id;
    lease.key.root = "/shop";
    lease.key.service = "s" + std::to_string(id);
    lease.port = port;
    lease.state = LeaseState::allocated;
    return LeaseEvent{LeaseChange::allocated, lease};
}

}  // namespace

TEST_CASE("decisions in a row see what the ones before them got, and the registry stays as it is", "[registry]") {
    Registry registry;
    RegistryAfter after(registry, Time{});
    CHECK(&after.get() == &registry);
    after.add({allocated(1, 3000)});
    CHECK(after.get().is_live(3000));
    CHECK(after.get().next_lease_id() == 2);
    after.add({allocated(2, 3001)});
    CHECK(after.get().is_live(3000));
    CHECK(after.get().is_live(3001));
    CHECK(registry.leases().empty());
    CHECK(after.take_changes() == std::vector{allocated(1, 3000), allocated(2, 3001)});
}

TEST_CASE("a lease's port after changes is that of the last of them, else the registry's", "[registry]") {
    Registry registry;
    for (const auto& event : registry.stamp({allocated(1, 3000)}, Time{})) { registry.apply(event); }
    CHECK(port_after(registry, {}, 1) == 3000);
    CHECK(port_after(registry, {allocated(1, 3005), allocated(2, 3001), allocated(1, 3006)}, 1) == 3006);
}
