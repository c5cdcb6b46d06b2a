// What people see of results.
#include <catch2/catch.hpp>

#include "render.hpp"
#include "text.hpp"

using namespace portwrap;

namespace {
Json some_lease() {
    return Json::parse(R"({"port":3001,"requested_port":3000,"protocol":"tcp","service":"web","instance":0,
        "project":{"name":"shop","root":"/s","branch":"fix","worktree_of":null},"state":"active","health":"unknown",
        "holder":{"pid":42,"command":"node","cwd":"/s","started_at":null},"description":"the shop's front end",
        "allocated_at":"2026-11-21T09:10:00Z"})");
}
}  // namespace

TEST_CASE("a table is aligned and has no trailing blanks", "[cli]") {
    const auto table = render_table({{"NAME", false, 0}, {"PORT", true, 0}, {"NOTE", false, 4}},
                                    {{{"a"}, {"1"}, {""}}, {{"longer"}, {"65535"}, {"x"}}}, Style{});
    CHECK(table == "NAME     PORT  NOTE\na           1\nlonger  65535  x\n");
    CHECK(render_table({{"NAME", false, 0}, {"PORT", true, 0}}, {{{"\u5e97\u8217\u5e97"}, {"1"}}, {{"u\u0308"}, {"2"}}}, Style{}) ==
          "NAME    PORT\n\u5e97\u8217\u5e97     1\nu\u0308          2\n");
}

TEST_CASE("a table that is wider than the terminal is cut in its last column first", "[cli]") {
    Style style;
    style.width = 19;
    const auto table = render_table({{"A", false, 3}, {"B", false, 4}}, {{{"aaaaaaaaaa"}, {"bbbbbbbbbbbb"}}}, style);
    CHECK(table == "A           B\naaaaaaaaaa  bbbbbb\u2026\n");
    style.width = 12;
    const auto narrow = render_table({{"A", false, 3}, {"B", false, 4}}, {{{"aaaaaaaaaa"}, {"bbbbbbbbbbbb"}}}, style);
    CHECK(narrow == "A       B\naaaaa\u2026  bbb\u2026\n");
}

TEST_CASE("columns that a narrow terminal has no room for are left out, from the right", "[cli]") {
    Style style;
    style.width = 12;
    const auto table = render_table({{"SERVICE", false, 0}, {"PORT", true, 0}, {"STATE", false, 0}}, {{{"web"}, {"3000"}, {"active"}}}, style);
    CHECK(table.find("STATE") == std::string::npos);
    CHECK(table.find("3000") != std::string::npos);
}

TEST_CASE("colour appears only when it is asked for", "[cli]") {
    Style style;
    const auto leases = Json::array({some_lease()});
    CHECK(render_leases(leases, true, TableForm::aligned, style).find('\033') == std::string::npos);
    style.colour = true;
    CHECK(render_leases(leases, true, TableForm::aligned, style).find("\033[32mactive\033[0m") != std::string::npos);
}

TEST_CASE("the list shows service, port, what was asked for, state, holder and age", "[cli]") {
    Style style;
    style.now = *parse_time("2026-11-21T12:10:30Z");
    CHECK(render_leases(Json::array({some_lease()}), false, TableForm::aligned, style) ==
          "SERVICE  PORT  ASKED  STATE   HEALTH  PID  AGE  DESCRIPTION\n"
          "web      3001   3000  active  -        42   3h  the shop's front end\n");
}

TEST_CASE("a lease with missing or wrong fields is shown as far as it goes", "[cli]") {
    CHECK(render_leases(Json::parse(R"([{"port":"x","holder":7},null])"), true, TableForm::aligned, Style{}).find("SERVICE") != std::string::npos);
}

TEST_CASE("times are RFC 3339 in UTC", "[cli]") {
    CHECK(parse_time("1970-01-01T00:01:00Z") == 60);
    CHECK(parse_time("1970-01-01T00:01:00.5Z") == 60);
    CHECK_FALSE(parse_time(""));
    CHECK_FALSE(parse_time("1970-01-01T00:01:00+01:00"));
    CHECK(render_age(59) == "59s");
    CHECK(render_age(-5) == "0s");
    CHECK(render_age(3 * 86400) == "3d");
}

TEST_CASE("check shows the stranger that listens and what is free instead", "[cli]") {
    const auto text = render_check(Json::parse(R"({"port":3000,"available":false,"code":"PORT_IN_USE","lease":null,
        "listeners":[{"address":"::","protocol":"tcp","pid":99,"user":"me","command":"node x","cwd":"/b","project":null,
        "container":null,"started_at":null}],"suggestions":[3001,3002]})"), Style{});
    CHECK(text == "port 3000: taken (PORT_IN_USE)\n  listener: :: tcp, pid 99 (me), node x\n    in /b\n  free: 3001, 3002\n");
}

TEST_CASE("a refusal is its message with the free ports", "[cli]") {
    CHECK(render_refusal(Json::parse(R"({"code":"PORT_IN_USE","message":"no","suggestions":[1,2]})")) == "no (free: 1, 2)");
}
