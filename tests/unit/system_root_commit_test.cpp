// Repositories in every shape that git gives them, made by git itself.
#include <catch2/catch.hpp>

#include <zlib.h>

#include <fstream>

#include "scratch.hpp"
#include "system/places.hpp"
#include "system/root_commit.hpp"

namespace {

using namespace portwrap;
using portwrap::test::Scratch;

/// A repository with a history whose first commit is tagged "root", and a side branch that is merged.
std::string repository_with_history(const Scratch& scratch, const std::string& name) {
    scratch.repository(name);
    scratch.git(name, {"tag", "root"});
    for (int i = 0; i < 30; ++i) { scratch.git(name, {"commit", "-q", "--allow-empty", "-m", "commit " + std::to_string(i) + std::string(300, 'x')}); }
    scratch.git(name, {"checkout", "-q", "-b", "side", "HEAD~10"});
    scratch.git(name, {"commit", "-q", "--allow-empty", "-m", "side"});
    scratch.git(name, {"checkout", "-q", "main"});
    scratch.git(name, {"merge", "-q", "--no-ff", "-m", "merge", "side"});
    std::string root;
    std::ifstream(scratch.at(name + "/.git/refs/tags/root")) >> root;
    REQUIRE(root.size() == 40);
    return root;
}

std::string root_of(const std::string& git_dir) { return read_root_commit(git_dir, git_dir); }

}  // namespace

TEST_CASE("the first commit is found among loose objects, in packs, deltas and commit-graphs", "[root_commit]") {
    Scratch scratch;
    const auto root = repository_with_history(scratch, "a");
    const auto git_dir = scratch.at("a/.git");
    CHECK(root_of(git_dir) == root);
    scratch.git("a", {"pack-refs", "--all"});
    CHECK(root_of(git_dir) == root);
    scratch.git("a", {"repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50"});
    CHECK(root_of(git_dir) == root);
    scratch.git("a", {"commit", "-q", "--allow-empty", "-m", "loose again"});
    CHECK(root_of(git_dir) == root);
    scratch.git("a", {"commit-graph", "write", "--reachable"});
    CHECK(root_of(git_dir) == root);
    scratch.git("a", {"commit", "-q", "--allow-empty", "-m", "beyond the graph"});
    CHECK(root_of(git_dir) == root);
    std::filesystem::remove(git_dir + "/objects/info/commit-graph");
    for (int layer = 0; layer < 3; ++layer) {
        scratch.git("a", {"commit-graph", "write", "--reachable", "--split=no-merge"});
        CHECK(root_of(git_dir) == root);
        scratch.git("a", {"commit", "-q", "--allow-empty", "-m", "layer"});
    }
    scratch.git("a", {"checkout", "-q", "--detach", "HEAD~3"});
    CHECK(root_of(git_dir) == root);
}

TEST_CASE("with the graph alone the history need not be unpacked", "[root_commit]") {
    Scratch scratch;
    const auto root = repository_with_history(scratch, "a");
    scratch.git("a", {"commit-graph", "write", "--reachable"});
    std::filesystem::remove_all(scratch.at("a/.git/objects") + "/" + root.substr(0, 2));
    CHECK(root_of(scratch.at("a/.git")) == root);
}

TEST_CASE("clones have the same first commit, and other repositories have not", "[root_commit]") {
    Scratch scratch;
    const auto root = repository_with_history(scratch, "a");
    scratch.git("", {"clone", "-q", "--no-local", scratch.at("a"), "b"});
    CHECK(root_of(scratch.at("b/.git")) == root);
    scratch.git("", {"clone", "-q", "--shared", scratch.at("a"), "c"});
    CHECK(root_of(scratch.at("c/.git")) == root);
    scratch.git("a", {"worktree", "add", "-q", scratch.at("tree")});
    CHECK(read_root_commit(scratch.at("a/.git/worktrees/tree"), scratch.at("a/.git")) == root);
    scratch.repository("other");
    scratch.git("other", {"commit", "-q", "--allow-empty", "--amend", "-m", "another first"});
    const auto other = root_of(scratch.at("other/.git"));
    CHECK(other.size() == 40);
    CHECK(other != root);
    RootCommits roots;
    const auto place = [&](const std::string& name) { return find_place(scratch.at(name), "/nowhere", &roots); };
    CHECK(place("a").project.root_commit == root);
    CHECK(place("b").project.root_commit == root);
    CHECK(place("a").project.family != place("b").project.family);
}

TEST_CASE("a first commit that cannot be known is empty", "[root_commit]") {
    Scratch scratch;
    (void)repository_with_history(scratch, "a");
    scratch.git("", {"clone", "-q", "--depth=3", "--no-local", "file://" + scratch.at("a"), "shallow"});
    CHECK(root_of(scratch.at("shallow/.git")).empty());
    scratch.directory("unborn");
    scratch.git("unborn", {"init", "-q"});
    CHECK(root_of(scratch.at("unborn/.git")).empty());
    scratch.directory("long");
    scratch.git("long", {"init", "-q", "--object-format=sha256"});
    scratch.git("long", {"commit", "-q", "--allow-empty", "-m", "first"});
    CHECK(root_of(scratch.at("long/.git")).empty());
    CHECK(root_of(scratch.at("nowhere")).empty());
}

TEST_CASE("damaged packs and graphs give no first commit and do no harm", "[root_commit]") {
    Scratch scratch;
    const auto root = repository_with_history(scratch, "a");
    scratch.git("a", {"repack", "-q", "-a", "-d", "-f"});
    scratch.git("a", {"commit-graph", "write", "--reachable"});
    std::vector<std::string> files{scratch.at("a/.git/objects/info/commit-graph")};
    for (const auto& entry : std::filesystem::directory_iterator(scratch.at("a/.git/objects/pack"))) { files.push_back(entry.path().string()); }
    for (const auto& file : files) {
        std::filesystem::permissions(file, std::filesystem::perms::owner_all);
        std::ifstream in(file, std::ios::binary);
        const std::string good{std::istreambuf_iterator<char>(in), {}};
        for (std::size_t at = 0; at < good.size(); at += 1 + good.size() / 200) {
            auto bad = good;
            bad[at] = static_cast<char>(bad[at] ^ 0x55);
            std::ofstream(file, std::ios::binary | std::ios::trunc) << bad;
            const auto found = root_of(scratch.at("a/.git"));
            CHECK((found.empty() || found.size() == 40));
            std::ofstream(file, std::ios::binary | std::ios::trunc) << good.substr(0, at);
            (void)root_of(scratch.at("a/.git"));
        }
        std::ofstream(file, std::ios::binary | std::ios::trunc) << good;
        CHECK(root_of(scratch.at("a/.git")) == root);
    }
}

TEST_CASE("a commit-graph that goes in a circle is left for the commits themselves", "[root_commit]") {
    Scratch scratch;
    const auto root = repository_with_history(scratch, "a");
    scratch.git("a", {"commit-graph", "write", "--reachable"});
    const auto file = scratch.at("a/.git/objects/info/commit-graph");
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    std::ifstream in(file, std::ios::binary);
    std::string graph{std::istreambuf_iterator<char>(in), {}};
    // gitformat-commit-graph(5): who has no parent says 0x70000000 in its place; here it has the first of the table.
    const std::string no_parents("\x70\0\0\0\x70\0\0\0", 8);
    const auto at = graph.find(no_parents);
    REQUIRE(at != std::string::npos);
    graph.replace(at, 4, 4, '\0');
    std::ofstream(file, std::ios::binary | std::ios::trunc) << graph;
    CHECK(root_of(scratch.at("a/.git")) == root);
}

namespace {
/// A pack whose only object is of this type and size, with a name or offset of what it is a delta of, and a text; HEAD is that object.
std::string repository_of_pack(const Scratch& scratch, const std::string& name, unsigned type, std::size_t size, const std::string& base, const std::string& text) {
    const std::string id(20, '\xab');
    std::string pack("PACK\0\0\0\2\0\0\0\1", 12);
    auto rest = size >> 4U;
    pack += static_cast<char>((type << 4U) | (size & 15U) | (rest != 0 ? 128U : 0U));
    for (; rest != 0; rest >>= 7U) { pack += static_cast<char>((rest & 127U) | (rest > 127 ? 128U : 0U)); }
    pack += base;
    auto length = ::compressBound(text.size());
    std::string packed(length, '\0');
    REQUIRE(::compress(reinterpret_cast<Bytef*>(packed.data()), &length, reinterpret_cast<const Bytef*>(text.data()), text.size()) == Z_OK);
    pack += packed.substr(0, length);
    std::string index("\xfftOc\0\0\0\2", 8);
    for (unsigned i = 0; i < 256; ++i) { index += std::string(3, '\0') + (i >= 0xab ? '\1' : '\0'); }
    index += id + std::string(4, '\0') + std::string("\0\0\0\x0c", 4) + std::string(40, '\0');
    std::string hex;
    for (int i = 0; i < 20; ++i) { hex += "ab"; }
    scratch.file(name + "/.git/HEAD", hex + "\n");
    scratch.file(name + "/.git/objects/pack/pack-1.pack", pack);
    scratch.file(name + "/.git/objects/pack/pack-1.idx", index);
    return scratch.at(name + "/.git");
}
}  // namespace

TEST_CASE("a pack that was made to be unpacked for ever gives no first commit", "[root_commit]") {
    Scratch scratch;
    const std::string id(20, '\xab');
    const auto commit = "tree " + std::string(40, 'a') + "\nauthor me\n";
    CHECK(root_of(repository_of_pack(scratch, "plain", 1, commit.size(), "", commit)).size() == 40);
    CHECK(root_of(repository_of_pack(scratch, "self", 7, 1 << 20, id, std::string(1 << 20, '\0'))).empty());
    CHECK(root_of(repository_of_pack(scratch, "small", 7, 100, id, std::string(100, '\0'))).empty());
    CHECK(root_of(repository_of_pack(scratch, "before", 6, 100, "\x0c", std::string(100, '\0'))).empty());
    const auto circle = "tree " + std::string(40, 'a') + "\nparent " + [] {
        std::string hex;
        for (int i = 0; i < 20; ++i) { hex += "ab"; }
        return hex;
    }() + "\n";
    CHECK(root_of(repository_of_pack(scratch, "circle", 1, circle.size(), "", circle)).empty());
    CHECK(root_of(repository_of_pack(scratch, "huge", 1, 1 << 20, "", commit + std::string(1 << 20, 'x'))).empty());
}

TEST_CASE("a root that was found is remembered, one that was not is looked for when HEAD has moved", "[root_commit]") {
    Scratch scratch;
    scratch.directory("a");
    scratch.git("a", {"init", "-q"});
    const auto git_dir = scratch.at("a/.git");
    RootCommits roots;
    CHECK(roots.of(git_dir, git_dir).empty());
    scratch.git("a", {"commit", "-q", "--allow-empty", "-m", "first"});
    const auto root = roots.of(git_dir, git_dir);
    CHECK(root.size() == 40);
    scratch.git("a", {"checkout", "-q", "--orphan", "pages"});
    scratch.git("a", {"commit", "-q", "--allow-empty", "-m", "pages"});
    CHECK(roots.of(git_dir, git_dir) == root);
    // Another repository at the same path.
    std::filesystem::remove_all(scratch.at("a"));
    scratch.repository("a");
    scratch.git("a", {"commit", "-q", "--allow-empty", "--amend", "-m", "new"});
    CHECK(roots.of(git_dir, git_dir) == root_of(git_dir));
}
