// What prompts show, as data in, data out.
#include <catch2/catch.hpp>

#include "core/segment.hpp"

using namespace portwrap;

namespace {

Lease lease(Port port, LeaseState state, const std::string& service = "main") {
    Lease made;
    made.port = port;
    made.state = state;
    made.key.service = service;
    return made;
}

std::string segment(const std::vector<Lease>& leases) {
    std::vector<const Lease*> pointers;
    for (const auto& one : leases) { pointers.push_back(&one); }
    return prompt_segment(pointers);
}

}  // namespace

TEST_CASE("a project without live leases has no segment", "[segment]") {
    CHECK(segment({}).empty());
    CHECK(segment({lease(3000, LeaseState::released)}).empty());
}

TEST_CASE("listening ports come before silent ones, and those are marked", "[segment]") {
    CHECK(segment({lease(3000, LeaseState::allocated), lease(3005, LeaseState::active)}) == ":3005 ~:3000");
    CHECK(segment({lease(3002, LeaseState::reserved), lease(3001, LeaseState::conflict)}) == "~:3001 ~:3002");
}

TEST_CASE("auxiliary services come last", "[segment]") {
    CHECK(segment({lease(3000, LeaseState::active, "main.debug"), lease(9229, LeaseState::active)}) == ":9229 :3000");
}

TEST_CASE("of more than three ports the first is shown and the others are counted", "[segment]") {
    std::vector<Lease> leases{lease(3003, LeaseState::active), lease(3001, LeaseState::active), lease(3002, LeaseState::active)};
    CHECK(segment(leases) == ":3001 :3002 :3003");
    leases.push_back(lease(2999, LeaseState::allocated));
    CHECK(segment(leases) == ":3001 +3");
}

TEST_CASE("TCP and UDP of one number are one port", "[segment]") {
    auto udp = lease(3000, LeaseState::allocated);
    udp.key.protocol = Protocol::udp;
    CHECK(segment({udp, lease(3000, LeaseState::active)}) == ":3000");
}
