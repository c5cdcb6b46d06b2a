// What portwrap makes of its arguments and of the environment, without an agent.
#include <catch2/catch.hpp>

#include "launch.hpp"

using namespace portwrap;
using Words = std::vector<std::string>;

TEST_CASE("portwrap's options end at the first word that is not one", "[cli]") {
    const auto options = parse_launch_options({"-q", "-p", "3000", "node", "--version", "-p", "1"});
    REQUIRE(options);
    CHECK(options->quiet);
    CHECK(options->port == 3000);
    CHECK(options->show.empty());
    CHECK(options->command == Words{"node", "--version", "-p", "1"});
}

TEST_CASE("a command may be separated by two dashes, and then begin with one", "[cli]") {
    CHECK(parse_launch_options({"--", "--odd", "--"})->command == Words{"--odd", "--"});
    CHECK(parse_launch_options({"env", "--", "x", "--"})->command == Words{"env", "--", "x", "--"});
    CHECK(parse_launch_options({"-", "x"})->command == Words{"-", "x"});
}

TEST_CASE("arguments of the command reach it byte for byte", "[cli]") {
    const Words command{"sh", "-c", "", "a b", "--help", "++", "{port}", "[x]", "\xff", "-n"};
    CHECK(parse_launch_options(command)->command == command);
}

TEST_CASE("a bad option, a bad port and a missing command are refused", "[cli]") {
    for (const Words& words : {Words{"-x", "node"}, {"--prot", "3000", "node"}, {"-p"}, {"-p", "70000", "node"},
                               {"-p", "3e3", "node"}, {"-p", "", "node"}, {"-s", "", "node"}, {}, {"-q"}, {"--"}, {""}}) {
        CHECK_FALSE(parse_launch_options(words));
    }
}

TEST_CASE("help and version are shown only when they are portwrap's own", "[cli]") {
    CHECK(parse_launch_options({"--version"})->show == "portwrap 0.1.0\n");
    CHECK(parse_launch_options({"--help"})->show.find("Usage: portwrap") != std::string::npos);
}

TEST_CASE("the shim is put last into LD_PRELOAD and nothing there is dropped", "[cli]") {
    const std::string shim = "/opt/p/lib/portwrap/libportwrap.so";
    CHECK(merge_preload("", shim) == shim);
    CHECK(merge_preload("libasan.so.8", shim) == "libasan.so.8:" + shim);
    CHECK(merge_preload("libasan.so.8 /x/y.so", shim) == "libasan.so.8 /x/y.so " + shim);
    CHECK(merge_preload("a.so:", shim) == "a.so:" + shim);
}

TEST_CASE("the shim is put into LD_PRELOAD only once", "[cli]") {
    const std::string shim = "/opt/p/lib/portwrap/libportwrap.so";
    CHECK(merge_preload(shim, shim) == shim);
    CHECK(merge_preload(shim + ":b.so", shim) == shim + ":b.so");
    CHECK(merge_preload("/old/libportwrap.so:b.so", shim) == "b.so:" + shim);
}

TEST_CASE("a path with a blank, a colon or a dollar sign is not put into LD_PRELOAD", "[cli]") {
    CHECK(is_preloadable("/usr/lib/portwrap/libportwrap.so"));
    for (const char* path : {"/my tools/x.so", "/a:b/x.so", "/a/$LIB/x.so"}) { CHECK_FALSE(is_preloadable(path)); }
}

TEST_CASE("the agent is told names of variables, ports first, never values", "[cli]") {
    CHECK(told_names({"HOME=/root", "API_URL=x", "PORT=80", "1X=2", "A-B=c", "broken"}) ==
          Words{"PORT", "API_URL", "HOME"});
    std::vector<std::string> many;
    for (int i = 0; i < 1000; ++i) { many.push_back("NAME_" + std::to_string(i) + "=v"); }
    many.emplace_back("LAST_PORT=1");
    const std::vector<std::string_view> views(many.begin(), many.end());
    const auto told = told_names(views);
    CHECK(told.size() == 200);
    CHECK(told.front() == "LAST_PORT");
}

TEST_CASE("what the agent changes of the command is taken over, the rest stays as it was", "[cli]") {
    const Words command{"vite", "\xff", "{port}"};
    const auto told = told_command(command);
    CHECK(told == Words{"vite", "?", "{port}"});
    CHECK(command_to_run(command, told, {"vite", "?", "3001", "--strict"}) == Words{"vite", "\xff", "3001", "--strict"});
    CHECK(command_to_run(command, told, {}) == command);
}

TEST_CASE("a command that is longer than a request is told in part and run whole", "[cli]") {
    const Words command{"gcc", "{port}", std::string(100'000, 'x'), "end"};
    const auto told = told_command(command);
    CHECK(told == Words{"gcc", "{port}"});
    CHECK(command_to_run(command, told, {"gcc", "3001"}) == Words{"gcc", "3001", command[2], "end"});
}
