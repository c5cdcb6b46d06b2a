// The block of ours in other people's files.
#include <catch2/catch.hpp>

#include "guarded_block.hpp"

using namespace portwrap;

namespace {
std::string put(std::string_view text, std::string_view block, BlockPlace place = BlockPlace::end) {
    const auto result = with_block(text, block, place);
    REQUIRE(result);
    return *result;
}
}  // namespace

TEST_CASE("the block is added, replaced and taken away without touching the rest", "[guarded_block]") {
    const std::string mine = "SECRET=1\r\n\n# comment\n";
    const auto first = put(mine, "PORT=3001\n");
    CHECK(first.starts_with(mine));
    CHECK(first.find("\nPORT=3001\n") != std::string::npos);
    const auto second = put(first + "MORE=2", "PORT=3002\nAPI_PORT=3003\n");
    CHECK(second.starts_with(mine));
    CHECK(second.ends_with("\nMORE=2"));
    CHECK(second.find("3001") == std::string::npos);
    CHECK(put(second, "") == mine + "MORE=2");
    CHECK(put("", "A=1\n").ends_with("<<<\n"));
    CHECK(put("", "") .empty());
}

TEST_CASE("a last line without a newline stays a line of its own", "[guarded_block]") {
    CHECK(put("A=1", "B=2\n").starts_with("A=1\n# >>> portwrap"));
}

TEST_CASE("a block of a script stands behind its first line", "[guarded_block]") {
    CHECK(put("#!/bin/sh\nexit 0\n", "x\n", BlockPlace::after_shebang).starts_with("#!/bin/sh\n# >>> portwrap"));
    CHECK(put("exit 0\n", "x\n", BlockPlace::after_shebang).ends_with("<<<\nexit 0\n"));
}

TEST_CASE("half a pair of guards is an error", "[guarded_block]") {
    CHECK_FALSE(with_block("# >>> portwrap >>> x\nA=1\n", "B=2\n", BlockPlace::end));
    CHECK_FALSE(with_block("# <<< portwrap <<<\n# >>> portwrap >>> x\n", "B=2\n", BlockPlace::end));
    CHECK(with_block("say # >>> portwrap >>>\n", "B=2\n", BlockPlace::end));
}
