// Events and records as JSON: nothing is lost, nothing wrong is let in.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <set>

#include "storage/crc32.hpp"
#include "storage/event_codec.hpp"
#include "storage/snapshot.hpp"
#include "storage_support.hpp"

using namespace portwrap;
using namespace portwrap::storage_test;
using nlohmann::json;

namespace {
std::string with_crc(const std::string& members) {
    const auto before = members + ",";
    return before + "\"crc\":\"" + crc32_text(before) + "\"}";
}
/// A line with one value of its lease replaced, and the right checksum.
std::string line_with(const std::string& pointer, const json& value) {
    json line = json::parse(encode_event(Event{1, k_now, LeaseEvent{LeaseChange::allocated, full_lease(1)}}));
    line.erase("crc");
    line[json::json_pointer(pointer)] = value;
    auto text = line.dump();
    text.pop_back();
    return with_crc(text);
}

std::string record_of(const Lease& lease) {
    std::string text;
    append_record(text, lease);
    return text;
}
Result<Lease> lease_of(const std::string& record) {
    const auto parsed = JsonText::parse(record, 8);
    if (!parsed) { return parsed.error(); }
    return lease_from_record(parsed->root());
}
}  // namespace

TEST_CASE("every kind of event comes back as it was, with everything set and with nothing", "[storage]") {
    Lease empty;
    empty.id = 1;
    std::vector<Change> changes{LeaseForgotten{3},
                                ProjectSeen{Project{"/r\xff", "n", "main", "/m", "git:/x", "abc"}},
                                ProjectSeen{},
                                ProjectSeen{Project{"/r", "n", {}, {}, "", "", PortInterval{3000, 3099}, "/m/.git/worktrees/x\xff", "1a.2b.3"}},
                                ProjectForgotten{"/r\xff"},
                                SessionOpened{full_session()},
                                SessionOpened{},
                                SessionClosed{ProcessId{4, 5}},
                                LeaseEvent{LeaseChange::expired, empty}};
    for (std::size_t i = 0; i < Words<LeaseChange>::k_words.size(); ++i) {
        changes.emplace_back(LeaseEvent{static_cast<LeaseChange>(i), full_lease(i + 1)});
    }
    for (const auto& change : changes) {
        const Event event{7, k_now, change};
        const auto line = encode_event(event);
        CHECK(line.find('\n') == std::string::npos);
        const auto parsed = json::parse(line, nullptr, false);
        REQUIRE(parsed.is_object());
        const auto decoded = decode_event(line);
        REQUIRE(decoded);
        CHECK(*decoded == event);
    }
    CHECK(*lease_of(record_of(full_lease(9))) == full_lease(9));
}

TEST_CASE("strings are escaped so that another parser reads the same", "[storage]") {
    std::string all;
    for (int c = 0; c < 128; ++c) { all += static_cast<char>(c); }
    for (const std::string& text : {all, std::string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80\xef\xbf\xbf"), std::string()}) {
        std::string out;
        append_json_string(out, text);
        CHECK(json::parse(out).get<std::string>() == text);
    }
    for (const char* bad : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\x80"}) {
        std::string out;
        append_json_string(out, bad);
        const auto parsed = json::parse(out, nullptr, false);
        CHECK(parsed.is_object());
    }
}

TEST_CASE("numbers out of range and values of another kind are refused", "[storage]") {
    const json port_values[] = {70000, -1, 80.9, true, "3000", nullptr, json::array()};
    for (const auto& value : port_values) {
        CHECK_FALSE(decode_event(line_with("/lease/port", value)));
        CHECK_FALSE(decode_event(line_with("/seq", value == 70000 ? json(0) : value)));
    }
    CHECK_FALSE(decode_event(line_with("/lease/state", "Active")));
    CHECK_FALSE(decode_event(line_with("/event", "granted")));
    CHECK_FALSE(decode_event(line_with("/lease/claimed", 1)));
    CHECK_FALSE(decode_event(line_with("/lease/instance", 3'000'000'000)));
    CHECK_FALSE(decode_event(line_with("/lease/id", 0)));
    CHECK_FALSE(decode_event(line_with("/lease/id", UINT64_MAX)));
    CHECK_FALSE(decode_event(line_with("/lease/holder", json::object())));
    CHECK_FALSE(decode_event(line_with("/lease/root", json{{"hex", "f"}})));
    CHECK_FALSE(decode_event(line_with("/lease/sockets/0/cookie", -5)));
    CHECK_FALSE(decode_event(line_with("/at", "2026-02-30T09:10:00.123Z")));
    CHECK(decode_event(line_with("/lease/port", 3001)));
    CHECK(decode_event(line_with("/lease/a_later_field", 1)));
    CHECK(decode_event(line_with("/v", 1)));
    const auto newer = decode_event(line_with("/v", 2));
    REQUIRE_FALSE(newer);
    CHECK(newer.error().code == ErrorCode::version_mismatch);
}

TEST_CASE("a record with any one field missing is refused, but for those that older records lack", "[storage]") {
    const auto record = json::parse(record_of(full_lease(1)));
    for (const auto& item : record.items()) {
        auto less = record;
        less.erase(item.key());
        INFO(item.key());
        const std::set<std::string> later{"shared", "started_by", "kept_port", "last_session", "unseen", "announced", "beside"};
        CHECK(lease_of(less.dump()).has_value() == later.contains(item.key()));
    }
}

TEST_CASE("hostile lines are refused without harm", "[storage]") {
    for (const std::string& members :
         {std::string("{"), std::string("[1"), std::string("{\"seq\":1"), std::string("{\"seq\":\"\xff\xfe\""),
          "{\"seq\":" + std::string(100000, '['), "{\"seq\":1e999,\"at\":" + std::string(1000, '{'), std::string(50, '\0'),
          std::string("{\"seq\":1,\"at\":\"2026-11-21T09:10:00.123Z\",\"event\":null"),
          std::string("{\"seq\":1,\"at\":\"2026-11-21T09:10:00.123Z\",\"event\":\"allocated\"")}) {
        CHECK_FALSE(decode_event(with_crc(members)));
    }
    CHECK_FALSE(decode_event(""));
    CHECK_FALSE(decode_event("{}"));
}

TEST_CASE("a line with any one bit changed is refused", "[storage]") {
    const auto line = encode_event(Event{1, k_now, LeaseEvent{LeaseChange::allocated, full_lease(1)}});
    for (std::size_t i = 0; i < line.size() * 8; ++i) {
        auto bad = line;
        bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
        if (decode_event(bad)) { FAIL("bit " << i); }
    }
}

TEST_CASE("times are RFC 3339 with milliseconds in UTC", "[storage]") {
    CHECK(format_time(Time{}) == "1970-01-01T00:00:00.000Z");
    CHECK(format_time(Time{std::chrono::milliseconds{-1}}) == "1969-12-31T23:59:59.999Z");
    CHECK(format_time(Time::max()) == "9999-12-31T23:59:59.999Z");
    CHECK(format_time(Time::min()) == "0000-01-01T00:00:00.000Z");
    CHECK(*parse_time("2026-11-21T09:10:00.123Z") == k_now);
    for (const char* bad : {"", "2026-11-21T09:10:00Z", "2026-11-21T24:10:00.123Z", "2026-13-21T09:10:00.123Z",
                            "2026-11-21T09:10:60.123Z", "2026-11-21 09:10:00.123Z", "2026-11-21T09:10:00.123+"}) {
        CHECK_FALSE(parse_time(bad));
    }
}

TEST_CASE("a snapshot comes back as it was and can be read by people and edited", "[storage]") {
    Registry registry;
    Changes changes(3);
    for (int i = 0; i < 300; ++i) {
        for (const auto& event : registry.stamp({changes.next(registry)}, k_now)) { registry.apply(event); }
    }
    const auto text = encode_snapshot(registry, "m", k_now, "[{\"name\":\"node\"}]");
    const auto object = json::parse(text);
    CHECK(object["schema_version"] == 1);
    CHECK(object["totals"]["leases"] == registry.leases().size());
    CHECK(object["ranges"][0]["name"] == "node");
    auto back = decode_snapshot(text);
    REQUIRE(back);
    CHECK(back->registry == registry);
    CHECK(back->registry.last_seq() == registry.last_seq());
    CHECK(back->registry.next_lease_id() == registry.next_lease_id());

    auto edited = object;
    edited.erase("crc");
    REQUIRE(decode_snapshot(edited.dump(4)));
    CHECK(decode_snapshot(edited.dump(4))->registry == registry);
    edited["leases"][0]["port"] = 70000;
    CHECK_FALSE(decode_snapshot(edited.dump()));
    CHECK_FALSE(decode_snapshot(object.dump()));
    CHECK(json::parse(encode_snapshot(registry, "m", k_now, "nonsense"))["ranges"].empty());
}
