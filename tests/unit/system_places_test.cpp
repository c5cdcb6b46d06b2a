// From a directory to its project, with real repositories made by git and real files of every awkward kind.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scratch.hpp"
#include "system/places.hpp"
#include "system/scripts.hpp"

namespace {

namespace fs = std::filesystem;
using namespace portwrap;
using portwrap::test::Scratch;

Place place(const std::string& directory) { return find_place(directory, "/nonexistent-home"); }

}  // namespace

TEST_CASE("a directory inside a main worktree belongs to the worktree's root", "[places]") {
    Scratch scratch;
    scratch.repository("shop");
    scratch.file("shop/package.json", R"({"name": "@acme/shop"})");
    const auto deep = scratch.directory("shop/src/deep");
    const Place found = place(deep);
    CHECK(found.project.root == scratch.at("shop"));
    CHECK(found.project.name == "@acme/shop");
    CHECK(found.project.branch == "main");
    CHECK_FALSE(found.project.worktree_of);
    CHECK(found.project.family == "git:" + scratch.at("shop/.git"));
    CHECK(found.type == "node");
    CHECK(found.package_dir.empty());
    CHECK(found.problem.empty());
}

TEST_CASE("a linked worktree is its own project and a sibling of the main one", "[places]") {
    Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"worktree", "add", "-q", "-b", "feature/fix", "../shop fix"});
    const Place found = place(scratch.at("shop fix"));
    CHECK(found.project.root == scratch.at("shop fix"));
    CHECK(found.project.name == "shop fix");
    CHECK(found.project.branch == "feature/fix");
    CHECK(found.project.worktree_of == scratch.at("shop"));
    CHECK(found.project.family == place(scratch.at("shop")).project.family);
}

TEST_CASE("a worktree nested below the main checkout does not inherit its config or manifest", "[places]") {
    Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"worktree", "add", "-q", ".worktrees/fix"});
    scratch.file("shop/.portwrap.json", R"({"name": "main-only"})");
    scratch.file("shop/package.json", "{}");
    const Place found = place(scratch.directory("shop/.worktrees/fix/src"));
    CHECK(found.project.root == scratch.at("shop/.worktrees/fix"));
    CHECK(found.project.name == "fix");
    CHECK(found.config == ProjectConfig{});
    CHECK(found.type.empty());
    CHECK(place(scratch.at("shop")).project.name == "main-only");
    // Without its repository it is still not the checkout around it.
    fs::remove_all(scratch.at("shop/.git/worktrees"));
    CHECK(place(scratch.at("shop/.worktrees/fix")).project.root == scratch.at("shop/.worktrees/fix"));
    // And when it is gone altogether, its path stays its own.
    fs::remove_all(scratch.at("shop/.worktrees/fix"));
    CHECK(place(scratch.at("shop/.worktrees/fix")).project.root == scratch.at("shop/.worktrees/fix"));
}

TEST_CASE("a submodule, a nested one and one in a linked worktree belong to their superproject", "[places]") {
    Scratch scratch;
    scratch.repository("leaf");
    scratch.repository("middle");
    scratch.git("middle", {"submodule", "add", "-q", scratch.at("leaf"), "leaf"});
    scratch.git("middle", {"commit", "-q", "-m", "leaf"});
    scratch.repository("top");
    scratch.git("top", {"submodule", "add", "-q", scratch.at("middle"), "libs/middle"});
    scratch.git("top", {"submodule", "update", "-q", "--init", "--recursive"});
    scratch.git("top", {"commit", "-q", "-m", "middle"});
    CHECK(place(scratch.at("top/libs/middle")).project.root == scratch.at("top"));
    CHECK(place(scratch.at("top/libs/middle/leaf")).project.root == scratch.at("top"));

    scratch.git("top", {"worktree", "add", "-q", "../top-fix"});
    scratch.git("top-fix", {"submodule", "update", "-q", "--init", "--recursive"});
    CHECK(place(scratch.at("top-fix/libs/middle/leaf")).project.root == scratch.at("top-fix"));
    // A worktree made of the submodule is nobody's submodule.
    scratch.git("top/libs/middle", {"worktree", "add", "-q", scratch.at("middle-fix")});
    CHECK(place(scratch.at("middle-fix")).project.root == scratch.at("middle-fix"));
}

TEST_CASE("worktrees of a bare repository name the repository as their main worktree", "[places]") {
    Scratch scratch;
    scratch.repository("seed");
    scratch.git("", {"clone", "-q", "--bare", "seed", "shop.git"});
    scratch.git("shop.git", {"worktree", "add", "-q", "../one"});
    const Place found = place(scratch.at("one"));
    CHECK(found.project.root == scratch.at("one"));
    CHECK(found.project.worktree_of == scratch.at("shop.git"));
    CHECK(found.project.family == "git:" + scratch.at("shop.git"));
}

TEST_CASE("a detached HEAD reads as the first twelve digits of the commit", "[places]") {
    Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"checkout", "-q", "--detach"});
    std::string digits;
    std::ifstream(scratch.at("shop/.git/HEAD")) >> digits;
    REQUIRE(digits.size() == 40);
    CHECK(place(scratch.at("shop")).project.branch == digits.substr(0, 12));
}

TEST_CASE("a separate git directory is no linked worktree, and an empty .git is no repository", "[places]") {
    Scratch scratch;
    scratch.directory("shop");
    scratch.git("shop", {"init", "-q", "--separate-git-dir", scratch.at("store")});
    const Place found = place(scratch.at("shop"));
    CHECK(found.project.root == scratch.at("shop"));
    CHECK_FALSE(found.project.worktree_of);
    CHECK(found.project.family == "git:" + scratch.at("store"));
    scratch.directory("shop/empty/.git");
    scratch.directory("shop/empty/inside");
    CHECK(place(scratch.at("shop/empty/inside")).project.root == scratch.at("shop"));
}

TEST_CASE("without git the config comes before a nearer manifest, and a manifest before the directory", "[places]") {
    Scratch scratch;
    const auto deep = scratch.directory("outer/middle/inner");
    CHECK(place(deep).project.root == deep);
    CHECK(place(deep).project.family.empty());
    scratch.file("outer/middle/pyproject.toml", "[build-system]\nname = \"no\"\n[project]\nname = 'calc' # it is\n");
    Place found = place(deep);
    CHECK(found.project.root == scratch.at("outer/middle"));
    CHECK(found.project.name == "calc");
    CHECK(found.type == "python");
    CHECK(found.project.family.starts_with("manifest:"));
    CHECK(found.project.family.size() == 9 + 16);
    scratch.file("outer/.portwrap.json", "{}");
    found = place(deep);
    CHECK(found.project.root == scratch.at("outer"));
    CHECK(found.package_dir == "middle");
    CHECK(found.type == "python");
}

TEST_CASE("copies with one manifest are a family, those with another are not", "[places]") {
    Scratch scratch;
    scratch.file("a/package.json", R"({"name": "x"})");
    scratch.file("b/package.json", R"({"name": "x"})");
    scratch.file("c/package.json", R"({"name": "y"})");
    CHECK(place(scratch.at("a")).project.family == place(scratch.at("b")).project.family);
    CHECK(place(scratch.at("a")).project.family != place(scratch.at("c")).project.family);
}

TEST_CASE("the type is the nearest manifest's", "[places]") {
    Scratch scratch;
    scratch.repository("mono");
    const std::array<std::pair<const char*, const char*>, 15> kinds{{{"package.json", "node"}, {"deno.json", "node"},
        {"deno.jsonc", "node"}, {"pyproject.toml", "python"}, {"requirements.txt", "python"}, {"manage.py", "python"},
        {"Pipfile", "python"}, {"composer.json", "php"}, {"artisan", "php"}, {"index.html", "static"},
        {"Cargo.toml", "rust"}, {"go.mod", "go"}, {"Gemfile", "ruby"}, {"pom.xml", "java"}, {"build.gradle", "java"}}};
    for (const auto& [file, type] : kinds) {
        const std::string package = std::string("packages/") + file + ".d";
        scratch.file("mono/" + package + "/" + file);
        const Place found = place(scratch.directory("mono/" + package + "/src"));
        INFO(file);
        CHECK(found.type == type);
        CHECK(found.package_dir == package);
        CHECK(found.project.root == scratch.at("mono"));
    }
    scratch.file("mono/packages/package.json.d/index.html");
    CHECK(place(scratch.at("mono/packages/package.json.d")).type == "node");
}

TEST_CASE("the home directory is a root only with a config of its own", "[places]") {
    Scratch scratch;
    scratch.repository("home");
    scratch.file("home/package.json", "{}");
    const auto work = scratch.directory("home/work");
    CHECK(find_place(work, scratch.at("home")).project.root == work);
    CHECK(find_place(work, scratch.at("home") + "/").project.root == work);
    CHECK(find_place(work, scratch.at("home")).type.empty());
    CHECK(find_place(work, "").project.root == scratch.at("home"));
    scratch.file("home/.portwrap.json", "{}");
    CHECK(find_place(work, scratch.at("home")).project.root == scratch.at("home"));
}

TEST_CASE("names with line ends, quotes and other scripts stay whole as paths and harmless as names", "[places]") {
    Scratch scratch;
    for (const std::string name : {"with space", "line\nend", "quo\"te'", "münchen", "\x1b[31mred", "bad\xff\xfe"}) {
        const auto directory = scratch.directory(name);
        scratch.repository(name);
        const Place found = place(directory + "/");
        CHECK(found.project.root == directory);
        CHECK(found.project.name == printable(name));
        CHECK(found.project.branch == "main");
    }
    scratch.git("quo\"te'", {"worktree", "add", "-q", "-b", "one", "../ other \"one\" "});
    CHECK(place(scratch.at(" other \"one\" ")).project.worktree_of == scratch.at("quo\"te'"));
    // git takes the branch's name from the directory's unless it is given, and refuses a line end there.
    scratch.git("line\nend", {"worktree", "add", "-q", "-b", "two", "../other\nline"});
    CHECK(place(scratch.at("other\nline")).project.worktree_of == scratch.at("line\nend"));
}

TEST_CASE("a directory reached by a symbolic link is the directory", "[places]") {
    Scratch scratch;
    scratch.repository("shop");
    fs::create_directory_symlink(scratch.at("shop"), scratch.at("link"));
    fs::create_directory_symlink(scratch.at("loop"), scratch.at("loop"));
    CHECK(place(scratch.at("link")).project.root == scratch.at("shop"));
    CHECK(place(scratch.at("loop")).project.root == scratch.at("loop"));
    CHECK(place(scratch.at("nowhere/./x/../y/")).project.root == scratch.at("nowhere/y"));
    CHECK(place("/").project.root == "/");
    CHECK(place("/").project.name == "/");
}

TEST_CASE("a FIFO, a huge file or a loop in place of a manifest stops nobody", "[places]") {
    Scratch scratch;
    const auto fifo = scratch.directory("fifo");
    REQUIRE(::mkfifo((fifo + "/package.json").c_str(), 0600) == 0);
    CHECK(place(fifo).type.empty());
    CHECK(script_of_command({"npm", "start"}, fifo).empty());
    scratch.file("huge/package.json", R"({"name": "huge", "x": ")" + std::string(2'000'000, 'x') + "\"}");
    const Place huge = place(scratch.at("huge"));
    CHECK(huge.type == "node");
    CHECK(huge.project.name == "huge");  // the directory's: its own is not read
    CHECK(huge.project.family.empty());
    const auto loop = scratch.directory("loop");
    fs::create_symlink("package.json", loop + "/package.json");
    CHECK(place(loop).type.empty());
    scratch.file("brackets/package.json", std::string(900'000, '['));
    CHECK(place(scratch.at("brackets")).project.name == "brackets");
    scratch.file("git-fifo/package.json", "{}");
    REQUIRE(::mkfifo(scratch.at("git-fifo/.git").c_str(), 0600) == 0);
    CHECK(place(scratch.at("git-fifo")).project.root == scratch.at("git-fifo"));
}

TEST_CASE("a config that cannot be used is named with its file and line", "[places]") {
    Scratch scratch;
    scratch.file("bad/.portwrap.json", "{\n  \"name\": \"x\",\n  \"services\": {\"web\": {\"port\": 70000}}\n}");
    Place found = place(scratch.at("bad"));
    CHECK(found.problem == scratch.at("bad/.portwrap.json") + ":3: services.web.port: must be a whole number from 1 to 65535");
    CHECK(found.config == ProjectConfig{});
    CHECK(found.project.root == scratch.at("bad"));
    const auto fifo = scratch.directory("fifo");
    REQUIRE(::mkfifo((fifo + "/.portwrap.json").c_str(), 0600) == 0);
    CHECK(place(fifo).problem == fifo + "/.portwrap.json: not a regular file");
    scratch.file("huge/.portwrap.json", "{}" + std::string(1'000'000, ' '));
    CHECK(place(scratch.at("huge")).problem == scratch.at("huge/.portwrap.json") + ": larger than 1 MB");
}

TEST_CASE("scripts that lead to each other are read once, and no more of them than anybody has", "[places]") {
    Scratch scratch;
    const auto text_of = [&scratch](const std::string& name, const std::string& scripts) {
        scratch.file(name + "/package.json", "{\"scripts\": {" + scripts + "}}");
        return script_of_command({"npm", "run", "dev"}, scratch.at(name));
    };
    CHECK(text_of("self", R"("dev": "npm run dev; npm run dev; next dev")") == "npm run dev; npm run dev; next dev");
    CHECK(text_of("circle", R"("dev": "npm run web", "web": "npm run dev")") == "npm run web\nnpm run dev");
    CHECK(text_of("prepared", R"("dev": "a; b; c; d; e; f; g; h; i; j; npm run web", "web": "next dev")").ends_with("\nnext dev"));
    std::string calls;
    std::string scripts;
    for (int i = 0; i < 20; ++i) {
        calls += "npm run s" + std::to_string(i) + ";";
        scripts += ", \"s" + std::to_string(i) + "\": \"x" + std::to_string(i) + "\"";
    }
    const auto eight = text_of("many", "\"dev\": \"" + calls + "\"" + scripts);
    CHECK(std::count(eight.begin(), eight.end(), '\n') == 7);
    const std::string half(40'000, 'x');
    CHECK(text_of("halves", R"("dev": "npm run a; npm run b", "a": ")" + half + R"(", "b": ")" + half + "\"").size() < 41'000);
    CHECK(text_of("long", "\"dev\": \"" + std::string(70'000, 'x') + "\"").empty());
}

TEST_CASE("a launch's files say which framework runs, and values that are too long for a port are not kept", "[places]") {
    Scratch scratch;
    scratch.file("app/package.json", R"({"scripts": {"dev": "craco start"}, "dependencies": {"react-scripts": "5"}, "workspaces": ["a"]})");
    scratch.file("app/.env", "API=http://localhost:4000\nLONG=" + std::string(5000, 'x') + "\n");
    const auto files = read_launch_files({"npm", "run", "dev"}, scratch.at("app"));
    REQUIRE(files.traits.framework != nullptr);
    CHECK(files.traits.framework->name == "react-scripts");
    REQUIRE(files.env.size() == 1);
    CHECK(files.env[0].name == "API");
}

TEST_CASE("the script that a package manager runs is found", "[places]") {
    Scratch scratch;
    scratch.file("app/package.json", R"({"dev": "no", "nested": {"scripts": {"dev": "no"}},
        "scripts": {"dev": "vite --port $PORT", "start": "node .", "test": "vitest", "x": {"dev": "no"}, "add": "no"}})");
    const auto deep = scratch.directory("app/src/deep");
    const auto script = [&deep](std::vector<std::string> words) { return script_of_command(words, deep); };
    const std::string dev = "vite --port $PORT";
    CHECK(script({"npm", "run", "dev"}) == dev);
    CHECK(script({"/usr/bin/npm", "--silent", "run-script", "--if-present", "dev", "--", "--host"}) == dev);
    CHECK(script({"npm", "start"}) == "node .");
    CHECK(script({"npm", "t"}) == "vitest");
    CHECK(script({"yarn", "dev"}) == dev);
    CHECK(script({"yarn", "run", "dev"}) == dev);
    CHECK(script({"pnpm", "run", "dev"}) == dev);
    CHECK(script({"pnpm", "dev"}) == dev);
    CHECK(script({"bun", "run", "--hot", "dev"}) == dev);
    CHECK(script({"node", "--run", "dev"}) == dev);
    CHECK(script_of_command({"npm", "--prefix", "app", "run", "dev"}, scratch.at("")) == dev);
    CHECK(script({"npm", "-w", "api", "run", "dev"}).empty());
    CHECK(script({"npm", "dev"}).empty());
    CHECK(script({"npm", "run"}).empty());
    CHECK(script({"npm", "run", "x"}).empty());
    CHECK(script({"yarn", "add"}).empty());
    CHECK(script({"bun", "test"}).empty());
    CHECK(script({"node", "server.js"}).empty());
    CHECK(script({}).empty());
}

TEST_CASE("printable text has no controls and no broken UTF-8", "[places]") {
    CHECK(printable("a\nb\x1b[0m\x7f") == "ab[0m");
    CHECK(printable("\xc2\x9b" "31m") == "31m");
    CHECK(printable("x\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xae\xe2\x81\xa6y") == "xy");
    CHECK(printable("\xff|\xc0\x80|\xed\xa0\x80|\xe2\x82") == "\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd");
    CHECK(printable("h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80") == "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    CHECK(printable("ab\xe2\x82\xac", 4) == "ab");
    CHECK(printable(std::string(1000, 'x')).size() == 256);
    CHECK(printable(std::string_view("a\0b", 3)) == "ab");
}

TEST_CASE("a git directory is known again wherever it lies, and a copy of it is another", "[places]") {
    const Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"worktree", "add", "-q", "-b", "fix", scratch.at("fix")});
    const auto before = find_place(scratch.at("fix"), "/nowhere").project;
    const auto main = find_place(scratch.at("shop"), "/nowhere").project;
    REQUIRE_FALSE(before.git_id.empty());
    CHECK(before.git_dir == scratch.at("shop/.git/worktrees/fix"));
    CHECK(main.git_dir == scratch.at("shop/.git"));
    CHECK(main.git_id != before.git_id);
    CHECK_FALSE(has_left(before.root, before.git_id));
    CHECK_FALSE(find_whereabouts(before, "/nowhere").moved);

    scratch.git("shop", {"worktree", "move", scratch.at("fix"), scratch.at("moved")});
    const auto found = find_whereabouts(before, "/nowhere");
    CHECK(found.gone);
    REQUIRE(found.moved);
    CHECK(found.moved->project.root == scratch.at("moved"));
    CHECK(found.moved->project.git_id == before.git_id);
    CHECK(has_left(before.root, before.git_id));

    fs::rename(scratch.at("shop"), scratch.at("renamed"));
    CHECK(find_place(scratch.at("renamed"), "/nowhere").project.git_id == main.git_id);
    fs::copy(scratch.at("renamed"), scratch.at("copy"), fs::copy_options::recursive);
    CHECK(find_place(scratch.at("copy"), "/nowhere").project.git_id != main.git_id);
}

TEST_CASE("a worktree that was removed has not moved, and a lost main worktree is told apart", "[places]") {
    const Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"worktree", "add", "-q", "-b", "fix", scratch.at("fix")});
    const auto project = find_place(scratch.at("fix"), "/nowhere").project;
    fs::remove_all(scratch.at("fix"));
    auto found = find_whereabouts(project, "/nowhere");
    CHECK(found.gone);
    CHECK_FALSE(found.main_gone);
    CHECK_FALSE(found.moved);
    CHECK_FALSE(found.locked);
    scratch.git("shop", {"worktree", "lock", scratch.at("fix")});
    CHECK(find_whereabouts(project, "/nowhere").locked);
    fs::remove_all(scratch.at("shop"));
    CHECK(find_whereabouts(project, "/nowhere").main_gone);
}
