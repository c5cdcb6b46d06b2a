// What can stand at the cursor of a command line, read off a parser.
#include <catch2/catch.hpp>

#include "cli11.hpp"
#include "completion.hpp"

using namespace portwrap;

namespace {

struct Parser {
    CLI::App app;
    std::string text;
    bool flag = false;
    Parser() {
        app.add_option("target", text, "A word")->option_text("PORT|auto");
        app.add_option("-f,--format", text, "A form")->option_text("FORMAT")->check(CLI::IsMember({"csv", "json"}));
        app.add_option("--state", text, "States")->option_text("STATE,...")->check(CLI::IsMember({"active", "released"}));
        app.add_option("--tree", text, "A tree")->option_text("[TREE]")->expected(0, 1);
        app.add_flag("-n,--dry-run", flag, "A flag");
    }
    [[nodiscard]] const CLI::Option* option(const std::string& name) const { return app.get_option(name); }
    [[nodiscard]] CursorPlace at(const std::vector<std::string>& words, bool is_prefix = false) const { return find_cursor(app, words, is_prefix); }
};

using What = CursorPlace::What;

}  // namespace

TEST_CASE("a word after an option that takes a value is its value", "[completion]") {
    const Parser parser;
    for (const auto& words : {std::vector<std::string>{"--format", "c"}, {"-f", "c"}, {"-n", "--format", "c"}}) {
        const auto place = parser.at(words);
        CHECK(place.what == What::value);
        CHECK(place.option == parser.option("--format"));
        CHECK(place.typed == "c");
        CHECK(place.kept.empty());
    }
}

TEST_CASE("a value that hangs on its option keeps the option's name", "[completion]") {
    const Parser parser;
    CHECK(parser.at({"--format=c"}).kept == "--format=");
    CHECK(parser.at({"--format=c"}).typed == "c");
    CHECK(parser.at({"-fc"}).kept == "-f");
    CHECK(parser.at({"--state=active,rel"}).kept == "--state=active,");
    CHECK(parser.at({"--state", "active,rel"}).typed == "rel");
}

TEST_CASE("a flag takes no value", "[completion]") {
    const Parser parser;
    CHECK(parser.at({"-n", ""}).option == parser.option("target"));
    CHECK(parser.at({"--dry-run", "np"}, true).command_at == 1);
}

TEST_CASE("an optional value gives way to the next option", "[completion]") {
    const Parser parser;
    CHECK(parser.at({"--tree", ""}).option == parser.option("--tree"));
    CHECK(parser.at({"--tree", "-"}).what == What::option);
    CHECK(parser.at({"--tree", "-n", ""}).option == parser.option("target"));
}

TEST_CASE("after the last word an empty one is an option, and nothing after two dashes", "[completion]") {
    const Parser parser;
    CHECK(parser.at({"3000", ""}).what == What::option);
    CHECK(parser.at({"3000", "x"}).what == What::nothing);
    CHECK(parser.at({"3000", "--", ""}).what == What::nothing);
    CHECK(parser.at({"--", "-"}).option == parser.option("target"));
}

TEST_CASE("of a prefix the first word that is no option is another command", "[completion]") {
    const Parser parser;
    CHECK(parser.at({""}, true).command_at == 0);
    CHECK(parser.at({"-f", "csv", "np"}, true).command_at == 2);
    CHECK(parser.at({"-fcsv", "npm", "-"}, true).command_at == 1);
    CHECK(parser.at({"--", "-x", ""}, true).command_at == 1);
    CHECK(parser.at({"--form"}, true).what == What::option);
    CHECK(parser.at({"-f", "c"}, true).what == What::value);
}

TEST_CASE("values of options that stand before the cursor are known", "[completion]") {
    const Parser parser;
    CHECK(parser.at({"-f", "csv", "--format=json", ""}).value_of(parser.app, "--format") == "json");
    CHECK(parser.at({""}).value_of(parser.app, "--format").empty());
}

TEST_CASE("a label says what completes a value", "[completion]") {
    const Parser parser;
    const auto target = value_form(*parser.option("target"));
    CHECK(target.literals == std::vector<std::string>{"auto"});
    CHECK(target.kinds == std::vector<std::string>{"PORT"});
    CHECK(value_form(*parser.option("--format")).literals == std::vector<std::string>{"csv", "json"});
    CHECK(value_form(*parser.option("--state")).is_list);
    CHECK(value_form(*parser.option("--tree")).kinds == std::vector<std::string>{"TREE"});
    CHECK(option_names(*parser.option("--dry-run")) == std::vector<std::string>{"--dry-run", "-n"});
}
