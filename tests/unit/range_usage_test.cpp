// How full ranges are, as data in, data out.
#include <catch2/catch.hpp>

#include <algorithm>

#include "core/range_usage.hpp"
#include "core_world.hpp"

using namespace portwrap;
using portwrap::test::World;

namespace {

/// A world with one more range: ruby, of `count` ports from 12000.
World world_with_ruby(int count) {
    World world;
    world.config.ranges.push_back({"ruby", RangeKind::type, {{12000, static_cast<Port>(12000 + count - 1)}}, false, "", "Ruby"});
    return world;
}
const Range& ruby(const World& world) { return *find_range(world.config, "ruby"); }

RangeUsage usage(World& world, const Place& place, const Range& range) {
    const auto facts = world.facts();
    const Search search(world.registry, world.config, facts, place, {place.project.root, "", Protocol::tcp, std::nullopt, 0});
    return usage_of(world.registry, search, range);
}
Refusal exhausted(World& world, const std::vector<std::string>& names) {
    std::vector<const Range*> ranges;
    for (const auto& name : names) { ranges.push_back(find_range(world.config, name)); }
    return range_exhausted(world.registry, world.config, ranges, world.facts());
}
LeaseId get_of(World& world, const Place& place, const std::string& service, const std::string& range) {
    GetRequest request;
    request.place = place;
    request.service = service;
    request.range = range;
    auto decision = decide_get(world.registry, world.config, request, world.facts());
    world.apply(std::move(decision.changes));
    return std::get<LeaseId>(decision.answer);
}
void release(World& world, const Place& place) {
    ReleaseRequest request;
    request.root = place.project.root;
    request.everything = true;
    world.apply(decide_release(world.registry, world.config, request, world.facts()).changes);
}

}  // namespace

TEST_CASE("an unused range is available from its first port to its last", "[range_usage]") {
    auto world = world_with_ruby(10);
    const auto place = world.place("/home/me/shop");
    const auto used = usage(world, place, ruby(world));
    CHECK(used.total == 10);
    CHECK(used.allocated == 0);
    CHECK(used.active == 0);
    CHECK(used.available == 10);
    CHECK(used.gaps == std::vector<PortInterval>{{12000, 12009}});
}

TEST_CASE("leases, strangers and reserved ports leave gaps between them, at the ends of a range, too", "[range_usage]") {
    auto world = world_with_ruby(10);
    const auto shop = world.place("/home/me/shop");
    const auto blog = world.place("/home/me/blog");
    CHECK(world.lease(get_of(world, blog, "web", "ruby")).port == 12000);
    world.external = {12004, 12009};
    world.config.reserved = {12006};
    const auto used = usage(world, shop, ruby(world));
    CHECK(used.allocated == 1);
    CHECK(used.active == 0);
    CHECK(used.available == 6);
    CHECK(used.gaps == std::vector<PortInterval>{{12001, 12003}, {12005, 12005}, {12007, 12008}});
}

TEST_CASE("a server that listens counts as active, and as one port", "[range_usage]") {
    World world;
    const auto shop = world.place("/home/me/shop");
    const auto served = world.serve(world.start(shop), 3000);
    CHECK(served.port == 3000);
    const auto used = usage(world, world.place("/home/me/blog"), *find_range(world.config, "node"));
    CHECK(used.total == 1000);
    CHECK(used.allocated == 1);
    CHECK(used.active == 1);
    CHECK(used.gaps.front().start == 3001);
}

TEST_CASE("what somebody claims is not available to others though nobody listens", "[range_usage]") {
    World world;
    const auto shop = world.place("/home/me/shop");
    const auto served = world.serve(world.start(shop), 3000);
    world.close(served.cookie);
    const auto used = usage(world, world.place("/home/me/blog"), *find_range(world.config, "node"));
    CHECK(used.allocated == 0);
    CHECK(used.gaps.front().start == 3001);
}

TEST_CASE("nothing of portwrap's own range is available, and other ranges go round exclusive ones", "[range_usage]") {
    World world;
    const auto shop = world.place("/home/me/shop");
    const auto own = usage(world, shop, *find_range(world.config, "system"));
    CHECK(own.total == 99);
    CHECK(own.available == 0);
    CHECK(usage(world, shop, *find_range(world.config, "database")).available == 8);
    const auto python = usage(world, shop, *find_range(world.config, "python"));
    CHECK(std::none_of(python.gaps.begin(), python.gaps.end(), [](const PortInterval& gap) { return gap.contains(5432) || gap.contains(5564); }));
}

TEST_CASE("a range of one port is empty or full", "[range_usage]") {
    auto world = world_with_ruby(1);
    const auto shop = world.place("/home/me/shop");
    CHECK(usage(world, shop, ruby(world)).available == 1);
    (void)get_of(world, shop, "web", "ruby");
    const auto used = usage(world, shop, ruby(world));
    CHECK(used.available == 0);
    CHECK(used.gaps.empty());
    CHECK(utilization(used.allocated, used.total) == 100.0);
}

TEST_CASE("per cents have one decimal, and more than 80 is nearly full", "[range_usage]") {
    CHECK(utilization(3, 1000) == 0.3);
    CHECK(utilization(1, 3) == 33.3);
    CHECK(utilization(2, 3) == 66.7);
    CHECK(utilization(0, 0) == 0.0);
    CHECK_FALSE(is_nearly_full(80, 100));
    CHECK(is_nearly_full(81, 100));
    CHECK_FALSE(is_nearly_full(0, 0));
}

TEST_CASE("who is refused by a full range learns who holds most of it", "[range_usage]") {
    auto world = world_with_ruby(5);
    const auto shop = world.place("/home/me/shop");
    const auto blog = world.place("/home/me/blog");
    (void)get_of(world, blog, "web", "ruby");
    for (const char* service : {"a", "b", "c"}) { (void)get_of(world, shop, service, "ruby"); }
    world.external = {12004};
    GetRequest request;
    request.place = shop;
    request.service = "d";
    request.range = "ruby";
    const auto decision = decide_get(world.registry, world.config, request, world.facts());
    const auto& refusal = std::get<Refusal>(decision.answer);
    CHECK(refusal.code == ErrorCode::range_exhausted);
    CHECK(refusal.range == "ruby");
    CHECK(refusal.message == "every port of the range \"ruby\" is taken; project \"shop\" holds most: 3 of 5");
    REQUIRE(refusal.exhausted);
    CHECK(refusal.exhausted->total == 5);
    CHECK(refusal.exhausted->allocated == 4);
    REQUIRE(refusal.exhausted->holders.size() == 2);
    CHECK(refusal.exhausted->holders[0].root == "/home/me/shop");
    CHECK(refusal.exhausted->holders[0].ports == 3);
    CHECK(refusal.exhausted->holders[1].name == "blog");
    CHECK(refusal.exhausted->cleanup_frees == 0);
}

TEST_CASE("who is refused learns what a cleanup would free, within these ranges only", "[range_usage]") {
    auto world = world_with_ruby(2);
    const auto shop = world.place("/home/me/shop");
    (void)get_of(world, shop, "a", "ruby");
    (void)get_of(world, shop, "elsewhere", "python");
    world.now += world.config.inactive + std::chrono::hours(1);
    (void)get_of(world, shop, "b", "ruby");
    const auto refusal = exhausted(world, {"ruby"});
    CHECK(refusal.exhausted->cleanup_frees == 1);
    CHECK(refusal.message.ends_with("; portctl cleanup would free 1"));
}

TEST_CASE("who asks for more ports than there are learns how many there are", "[range_usage]") {
    auto world = world_with_ruby(5);
    const auto shop = world.place("/home/me/shop");
    const auto blog = world.place("/home/me/blog");
    AllocateRequest request;
    request.place = shop;
    request.service = "web";
    request.range = "ruby";
    const auto message = [&](int count, bool block) {
        request.count = count;
        request.block = block;
        const auto decision = decide_allocate(world.registry, world.config, request, world.facts());
        const auto& refusal = std::get<Refusal>(decision.answer);
        CHECK(refusal.code == ErrorCode::range_exhausted);
        CHECK(refusal.exhausted);
        return refusal.message;
    };
    CHECK(message(1000, false) == "the range \"ruby\" has 5 free ports for this, and 1000 were asked for");
    CHECK(message(6, true) == "the range \"ruby\" has no 6 free ports in a row");
    world.external = {12000, 12002, 12003};
    (void)get_of(world, blog, "web", "ruby");
    CHECK(message(2, false) == "the range \"ruby\" has 1 free port for this, and 2 were asked for; project \"blog\" holds most: 1 of 5");
    CHECK(message(2, true) == "the range \"ruby\" has no 2 free ports in a row; project \"blog\" holds most: 1 of 5");
    world.external.insert(12004);
    CHECK(message(2, false) == "every port of the range \"ruby\" is taken; project \"blog\" holds most: 1 of 5");
}

TEST_CASE("a range that strangers have filled names no project; ports of overlapping ranges count once", "[range_usage]") {
    World world;
    const auto refusal = exhausted(world, {"node", "default"});
    CHECK(refusal.exhausted->total == 7000);
    CHECK(refusal.exhausted->holders.empty());
    CHECK(refusal.exhausted->ranges == std::vector<std::string>{"node", "default"});
    CHECK(refusal.message == "every port of the range \"node\" is taken, and of \"default\"; none by a lease: portctl check PORT tells who has one");
}

TEST_CASE("a range is told to be nearly full once, and again only after it had some air", "[range_usage]") {
    auto world = world_with_ruby(10);
    const auto shop = world.place("/home/me/shop");
    RangeFill fill(world.config, world.registry);
    std::vector<std::string> told;
    const auto follow = [&](std::vector<Change> changes) {
        for (const auto& event : world.registry.stamp(std::move(changes), world.now)) {
            world.registry.apply(event);
            for (const auto& name : fill.on_event(event)) { told.push_back(name); }
        }
    };
    const auto get = [&](const std::string& service) {
        GetRequest request;
        request.place = shop;
        request.service = service;
        request.range = "ruby";
        follow(decide_get(world.registry, world.config, request, world.facts()).changes);
    };
    const auto drop = [&](const std::string& service) {
        ReleaseRequest request;
        request.root = shop.project.root;
        request.service = service;
        follow(decide_release(world.registry, world.config, request, world.facts()).changes);
    };
    for (int i = 0; i < 8; ++i) { get(std::to_string(i)); }
    CHECK(told.empty());
    CHECK(fill.warning("ruby").empty());
    get("8");
    CHECK(told == std::vector<std::string>{"ruby"});
    CHECK(fill.warning("ruby") == "the range \"ruby\" is 90.0 % full (9 of 10 ports)");
    CHECK(fill.warning("nothing").empty());
    drop("8");
    CHECK(fill.warning("ruby").empty());
    get("8");
    CHECK(told.size() == 1);
    for (const char* service : {"8", "7"}) { drop(service); }
    for (const char* service : {"7", "8"}) { get(service); }
    CHECK(told.size() == 2);
}

TEST_CASE("counting at each event and counting all leases at once agree", "[range_usage]") {
    auto world = world_with_ruby(20);
    std::vector<Place> places{world.place("/home/me/a"), world.place("/home/me/b")};
    RangeFill fill(world.config, world.registry);
    unsigned seed = 1;
    for (int i = 0; i < 400; ++i) {
        seed = seed * 1103515245U + 12345U;
        const auto& place = places[(seed >> 8U) % 2];
        std::vector<Change> changes;
        if ((seed >> 16U) % 40 == 0) {
            ReleaseRequest request;
            request.root = place.project.root;
            request.everything = true;
            changes = decide_release(world.registry, world.config, request, world.facts()).changes;
        } else {
            GetRequest request;
            request.place = place;
            request.service = std::to_string((seed >> 20U) % 30);
            request.range = "ruby";
            changes = decide_get(world.registry, world.config, request, world.facts()).changes;
        }
        for (const auto& event : world.registry.stamp(std::move(changes), world.now)) {
            world.registry.apply(event);
            (void)fill.on_event(event);
        }
        REQUIRE(fill.warning("ruby") == RangeFill(world.config, world.registry).warning("ruby"));
        const auto used = usage(world, places.front(), ruby(world));
        REQUIRE(fill.warning("ruby").empty() != is_nearly_full(used.allocated, used.total));
    }
    for (const auto& place : places) { release(world, place); }
    CHECK(usage(world, places.front(), ruby(world)).allocated == 0);
}
