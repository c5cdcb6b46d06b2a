// The kernel's word about roots that go or move.
#include <catch2/catch.hpp>

#include <poll.h>

#include "scratch.hpp"
#include "system/root_watch.hpp"

using namespace portwrap;
using test::Scratch;
namespace fs = std::filesystem;

namespace {

bool is_readable(const RootWatch& watch) {
    pollfd fd{watch.fd(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 1;
}

}  // namespace

TEST_CASE("a root that is removed or renamed is told, what happens in it is not", "[root_watch]") {
    const Scratch scratch;
    scratch.repository("shop");
    scratch.git("shop", {"worktree", "add", "-q", "-b", "fix", scratch.at("fix")});
    auto opened = RootWatch::open();
    REQUIRE(opened);
    auto& watch = *opened;
    const auto add = [&](const std::string& name, const std::string& git_dir) {
        watch.know(scratch.at(name), RootWatch::add(watch.fd(), scratch.at(name), git_dir));
        REQUIRE(watch.knows(scratch.at(name)));
    };
    add("shop", "");
    add("fix", scratch.at("shop/.git/worktrees/fix"));
    scratch.file("fix/src/new.txt", "x");
    fs::remove_all(scratch.at("fix/src"));
    scratch.git("fix", {"commit", "-q", "--allow-empty", "-m", "more"});
    scratch.git("fix", {"checkout", "-q", "-b", "other"});
    CHECK_FALSE(is_readable(watch));

    scratch.git("shop", {"worktree", "move", scratch.at("fix"), scratch.at("moved")});
    auto seen = watch.drain();
    CHECK(seen.changed == std::set{scratch.at("fix")});
    CHECK(seen.deleted.empty());
    watch.remove(scratch.at("fix"));
    (void)watch.drain();

    add("moved", scratch.at("shop/.git/worktrees/fix"));
    fs::remove_all(scratch.at("moved"));
    seen = watch.drain();
    CHECK(seen.changed == std::set{scratch.at("moved")});
    CHECK(seen.deleted == std::set{scratch.at("moved")});
    fs::remove_all(scratch.at("shop"));
    CHECK(watch.drain().deleted.contains(scratch.at("shop")));
    CHECK_FALSE(watch.knows(scratch.at("shop")));
}

TEST_CASE("what happens before the watches have their root's name is not lost", "[root_watch]") {
    const Scratch scratch;
    scratch.directory("shop");
    auto watch = RootWatch::open();
    REQUIRE(watch);
    const auto watches = RootWatch::add(watch->fd(), scratch.at("shop"), "");
    fs::remove_all(scratch.at("shop"));
    CHECK(watch->drain().changed.empty());
    watch->know(scratch.at("shop"), watches);
    CHECK(watch->drain().deleted == std::set{scratch.at("shop")});
    CHECK(RootWatch::add(watch->fd(), scratch.at("shop"), "").empty());
}
