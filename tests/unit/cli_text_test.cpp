// Words as people type them.
#include <catch2/catch.hpp>

#include "text.hpp"

using namespace portwrap;

TEST_CASE("a port is one to five digits between 1 and 65535", "[cli]") {
    CHECK(*parse_port("1") == 1);
    CHECK(*parse_port("3000") == 3000);
    CHECK(*parse_port("65535") == 65535);
    for (const char* word : {"", "0", "-1", "+1", "65536", "70000", "3000 ", " 3000", "3e3", "0x10", "80.9", "080",
                             "99999999999999999999", "web"}) {
        INFO(word);
        REQUIRE_FALSE(parse_port(word));
        CHECK(parse_port(word).error().code == ErrorCode::invalid_request);
    }
}

TEST_CASE("a word that was meant as a number is never a service's name", "[cli]") {
    for (const char* word : {"3000", "3000 ", "3e3", "-1", "0x10", "80.9", "70000"}) { CHECK(looks_like_number(word)); }
    for (const char* word : {"web", "2x", "api2", "3d-viewer", "e2e", "main.debug", ""}) { CHECK_FALSE(looks_like_number(word)); }
}

TEST_CASE("what is shown cannot command the terminal", "[cli]") {
    CHECK(printable("a\033[31mb\nc") == "a?[31mb?c");
    CHECK(printable("\xc2\x9b" "31m") == "?31m");
    CHECK(printable("gr\u00fcn \u2026") == "gr\u00fcn \u2026");
    CHECK(printable("\xff\xc0\x80") == "???");
}

TEST_CASE("text is shortened by the columns that it takes, not by its bytes", "[cli]") {
    CHECK(shorten("\u00fc\u00fc\u00fc", 3) == "\u00fc\u00fc\u00fc");
    CHECK(shorten("\u00fc\u00fc\u00fc\u00fc", 3) == "\u00fc\u00fc\u2026");
    CHECK(shorten("abc", 0).empty());
    // Wide characters take two columns, combining ones none.
    CHECK(display_width("\u5e97\u8217-\u00fc") == 6);
    CHECK(display_width("u\u0308") == 1);
    CHECK(display_width("\U0001F600") == 2);
    CHECK(display_width("\xff\x80") == 2);
    CHECK(shorten("\u5e97\u8217", 4) == "\u5e97\u8217");
    CHECK(shorten("\u5e97\u8217\u5e97", 5) == "\u5e97\u8217\u2026");
    CHECK(shorten("\u5e97\u8217\u5e97", 4) == "\u5e97\u2026");
    CHECK(shorten("\u5e97\u8217", 1) == "\u2026");
    CHECK(shorten("u\u0308u\u0308u\u0308", 2) == "u\u0308\u2026");
}

TEST_CASE("a slip of a command finds the command", "[cli]") {
    const std::vector<std::string> known{"port", "get", "list", "release", "check"};
    CHECK(nearest_word("lsit", known) == "list");
    CHECK(nearest_word("relase", known) == "release");
    CHECK_FALSE(nearest_word("frobnicate", known));
    CHECK_FALSE(nearest_word("", known));
}
