// The registry's reader of JSON takes what another well-known one takes, refuses what it refuses, and reads the same values.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "storage/json_text.hpp"

using namespace portwrap;
using nlohmann::json;

namespace {

constexpr int k_depth = 16;

bool is_good(const std::string& text) { return JsonText::parse(text, k_depth).has_value(); }

/// Is this value the same as the other reader's, with all that is in it?
bool is_same(const JsonValue& value, const json& other) {
    if (other.is_null()) { return value.is_null(); }
    if (other.is_boolean()) { return value.boolean() == other.get<bool>(); }
    if (other.is_string()) { return value.text() == other.get<std::string>(); }
    if (other.is_number_unsigned()) { return value.unsigned_number() == other.get<std::uint64_t>(); }
    if (other.is_number_integer()) { return value.number() == other.get<std::int64_t>(); }
    if (other.is_number_float()) { return !value.unsigned_number() && !value.number() && !value.text() && !value.is_null(); }
    if (other.is_array()) {
        auto item = value.first();
        for (const auto& wanted : other) {
            if (!item.exists() || !is_same(item, wanted)) { return false; }
            item = item.next();
        }
        return value.is_array() && !item.exists();
    }
    JsonMembers members(value);
    for (const auto& [name, wanted] : other.items()) {
        if (!is_same(members.find(name), wanted)) { return false; }
    }
    return value.is_object() && !members.find("a name that nobody gives").exists();
}

}  // namespace

TEST_CASE("JSON is taken or refused as by another reader, and its values are the same", "[storage]") {
    for (const std::string text :
         {"{}", "[]", " [ ] ", "null", "true", "false", "nul", "True", "", " ", "0", "-0", "01", "-", "+1", "1.", ".5", "1.5", "1e3", "1E+3", "1e", "1e+", "18446744073709551615",
          "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "\"\"", "\"abc\"", "\"", "\"\\\"", "\"\\\\\"", "\"\\x\"", "\"\\/\\b\\f\\n\\r\\t\\\"\"",
          "\"\\u00e9\\u20ac\\ud83d\\ude80\"", "\"\\ud83d\"", "\"\\ud83dx\"", "\"\\ud83d\\u0041\"", "\"\\ude80\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u-123\"", "\"\\u0000\"",
          "\"a\tb\"", "\"a\x1f\"", "\"\x7f\"", "\"1234567\x01\"", "\"12345678\xc3\xa9 1234567\"", "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"",
          "[1,2,3]", "[1,]", "[,1]", "[1 2]", "[1", "[[],[[]],{}]", "{\"a\":1}", "{\"a\":1,}", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1 \"b\":2}", "{\"a\":{\"b\":[null,true,-5,\"x\"]},\"c\":1.5e300}",
          "{\"\":0,\" \":{}}", "{\"\\u0061b\":\"\\u0063\"}", "1 2", "[] []", "\xef\xbb\xbf" "1x", "/* */1", "[1]\n", "\t[1]\r\n", "NaN", "Infinity", "'a'"}) {
        INFO(text);
        const auto other = json::parse(text, nullptr, false);
        const auto read = JsonText::parse(text, k_depth);
        CHECK(read.has_value() == !other.is_discarded());
        if (read && !other.is_discarded()) { CHECK(is_same(read->root(), other)); }
    }
    CHECK_FALSE(is_good(std::string("\"a\0b\"", 5)));
    CHECK_FALSE(is_good(std::string("1\0", 2)));
    CHECK_FALSE(is_good(std::string("\"\\\0\"", 4)));
}

TEST_CASE("a text with any few bytes changed is judged as by another reader", "[storage]") {
    const std::string good = "{\"seq\":17, \"at\" : \"2026-11-21T09:10:00.123Z\",\"lease\":{\"x\":[1,-2,3.5e1,null,true],\"caf\xc3\xa9\":\"a\\n\\u20ac\\ud83d\\ude80 z\"},\"e\":[{},[]]}";
    const std::string odd = "{}[]\",:\\u0129dDeE+-.tfn\x01\x7f\x80\xc3\xa9\xf0 \n";
    std::mt19937 random(20261121);
    const auto below = [&random](std::size_t count) { return static_cast<std::size_t>(random() % count); };
    for (int round = 0; round < 20000; ++round) {
        auto text = good;
        for (std::size_t change = below(3) + 1; change > 0; --change) {
            const auto at = below(text.size());
            switch (below(3)) {
                case 0: text[at] = odd[below(odd.size())]; break;
                case 1: text.erase(at, 1); break;
                default: text.insert(at, 1, odd[below(odd.size())]);
            }
        }
        const auto other = json::parse(text, nullptr, false);
        const auto read = JsonText::parse(text, k_depth);
        // The other reader also refuses numbers that no double can hold.
        if (read.has_value() == other.is_discarded()) { FAIL(text); }
        bool has_same_names = true;  // of which the other reader takes the last
        [[maybe_unused]] const auto looked_at = json::parse(text, [&has_same_names, seen = std::vector<std::set<std::string>>{}](int, json::parse_event_t event, json& value) mutable {
            if (event == json::parse_event_t::object_start) { seen.emplace_back(); }
            if (event == json::parse_event_t::object_end && !seen.empty()) { seen.pop_back(); }
            if (event == json::parse_event_t::key && !seen.empty()) { has_same_names = has_same_names && seen.back().insert(value.get<std::string>()).second; }
            return true;
        }, false);
        if (read && has_same_names && !is_same(read->root(), other)) { FAIL(text); }
    }
}

TEST_CASE("nesting is bounded, however deep the text goes", "[storage]") {
    const auto nested = [](std::size_t levels) { return std::string(levels, '[') + std::string(levels, ']'); };
    CHECK(is_good(nested(k_depth)));
    CHECK_FALSE(is_good(nested(k_depth + 1)));
    CHECK_FALSE(is_good(std::string(1'000'000, '[')));
    CHECK_FALSE(is_good(std::string(1'000'000, '{')));
}

TEST_CASE("members are found in any order, and values of another kind say nothing", "[storage]") {
    const std::string text = "{\"a\":1,\"b\":\"two\",\"c\":[3],\"d\":{\"e\":false}}";
    const auto read = JsonText::parse(text, k_depth);
    REQUIRE(read);
    JsonMembers members(read->root());
    CHECK(members.find("d").is_object());
    CHECK(members.find("a").unsigned_number() == 1U);
    CHECK(members.find("c").is_array());
    CHECK(members.find("b").plain_text() == "two");
    CHECK_FALSE(members.find("e").exists());
    CHECK(JsonMembers(members.find("d")).find("e").boolean() == false);
    CHECK_FALSE(members.find("a").text());
    CHECK_FALSE(members.find("a").boolean());
    CHECK_FALSE(members.find("b").unsigned_number());
    CHECK_FALSE(members.find("b").first().exists());
    CHECK_FALSE(JsonMembers(members.find("b")).find("a").exists());
    CHECK_FALSE(JsonMembers(JsonValue{}).find("a").exists());
}
