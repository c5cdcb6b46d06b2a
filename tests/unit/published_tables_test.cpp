// The files of published tables: when they are made, kept, mended, made anew and removed, and what becomes of readers of the old ones.
#include "service/remap_tables.hpp"

#include <catch2/catch.hpp>

#include <csignal>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core_world.hpp"
#include "hand_loop.hpp"
#include "scratch.hpp"

using namespace portwrap;
using namespace portwrap::test;

namespace {

constexpr std::size_t k_resting = 64;

/// A program that has a table's file mapped.
struct Reader {
    explicit Reader(const std::string& path) {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        void* memory = ::mmap(nullptr, sizeof(remap_table::Table), PROT_READ, MAP_SHARED, fd, 0);
        ::close(fd);
        REQUIRE(memory != MAP_FAILED);
        table = static_cast<const remap_table::Table*>(memory);
    }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader() { ::munmap(const_cast<remap_table::Table*>(table), sizeof(remap_table::Table)); }
    [[nodiscard]] Port where(Port port) const { return remap_table::find_connect(*table, port, {}).target; }
    [[nodiscard]] bool is_retired() const { return remap_table::is_retired(*table); }
    [[nodiscard]] bool has_ended() const { return remap_table::has_ended(*table); }
    const remap_table::Table* table = nullptr;
};

/// A registry whose events the tables follow.
struct Publisher {
    void follow() {
        for (; seen < world.journal.size(); ++seen) { tables->on_event(world.journal[seen], world.registry); }
    }
    void begin_anew() {
        tables = std::make_unique<RemapTables>(loop, options());
        tables->start(world.registry);
        seen = world.journal.size();
    }
    RemapTables::Options options() {
        return {directory, agent, 0, [this](const std::string& line) { troubles.push_back(line); }};
    }
    Session open(const std::string& root, std::int32_t pid) {
        Session session;
        session.id = session.outermost = {pid, 1};
        session.root = session.cwd = root;
        world.apply({SessionOpened{session}});
        follow();
        return session;
    }
    [[nodiscard]] std::string file(const std::string& root) const {
        return directory + "/" + table_name(remap_table::hash_of(root.data(), root.size()));
    }
    [[nodiscard]] bool has(const std::string& root) const { return fs::exists(file(root)); }
    [[nodiscard]] std::size_t files() const {
        std::size_t count = 0;
        for (const auto& entry : fs::directory_iterator(directory)) { count += entry.exists() ? 1U : 0U; }
        return count;
    }
    /// A program of /a listens on 3000.
    std::pair<Caller, test::World::Bound> serve_one() {
        auto caller = world.start(world.place("/a"));
        const auto bound = world.serve(caller, 3000);
        follow();
        return {std::move(caller), bound};
    }
    /// That program and its session end, and so many other tables rest that theirs closes.
    void close_table(const Caller& caller, const test::World::Bound& bound) {
        world.apply(decide_destroyed(world.registry, world.config, bound.cookie, world.facts()));
        world.apply({SessionClosed{caller.session}});
        follow();
        for (int number = 0; number < 100; ++number) { (void)tables->open("/r" + std::to_string(number), {}, world.registry); }
    }
    /// /b listens on 3000, and /a on another one, which asked for 3000, too.
    Port serve_two() {
        (void)world.serve(world.start(world.place("/b")), 3000);
        const auto moved = world.serve(world.start(world.place("/a")), 3000);
        follow();
        return moved.port;
    }
    void told(const std::string& name) { loop.directories.at(directory)(name); }

    /// What an agent does in a process of its own, which is killed after that.
    void play_killed(const std::function<void()>& play) {
        const auto child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            agent = {::getpid(), 99};
            begin_anew();
            play();
            (void)::raise(SIGKILL);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    }

    ProcessId agent{77, 88};
    Scratch scratch;
    std::string directory = scratch.at("tables");
    World world;
    HandLoop loop;
    std::vector<std::string> troubles;
    std::unique_ptr<RemapTables> tables = std::make_unique<RemapTables>(loop, options());
    std::size_t seen = 0;
};

}  // namespace

TEST_CASE("a session that goes on in another project lets the first one's table rest, and of those the oldest are removed", "[tables]") {
    Publisher publisher;
    (void)publisher.world.place("/shop");
    for (int number = 0; number < 100; ++number) {
        const auto root = "/r" + std::to_string(number);
        (void)publisher.world.place(root);
        (void)publisher.open(root, number + 1);
        (void)publisher.open("/shop", number + 1);
    }
    CHECK(publisher.files() == k_resting + 1);
    CHECK(publisher.has("/shop"));
    CHECK_FALSE(publisher.has("/r0"));
}

TEST_CASE("a table that is only looked at by what has no session rests, too", "[tables]") {
    Publisher publisher;
    for (int number = 0; number < 100; ++number) { CHECK(publisher.tables->open("/r" + std::to_string(number), {}, publisher.world.registry) != 0); }
    CHECK(publisher.files() == k_resting);
}

TEST_CASE("a closed table stays for its sticky ports, and goes with its project", "[tables]") {
    Publisher publisher;
    auto& world = publisher.world;
    const auto [caller, bound] = publisher.serve_one();
    const Reader reader(publisher.file("/a"));
    publisher.close_table(caller, bound);
    CHECK(publisher.has("/a"));
    CHECK_FALSE(reader.is_retired());
    CHECK(remap_table::find_bind(*reader.table, 3000, {}) == 3000);
    SECTION("that is forgotten") {
        world.apply({LeaseForgotten{bound.lease}, ProjectForgotten{"/a"}});
        publisher.follow();
    }
    SECTION("whose directory is gone") { publisher.tables->let_go("/a"); }
    CHECK_FALSE(publisher.has("/a"));
    CHECK(reader.is_retired());
}

TEST_CASE("an agent that starts removes the tables of projects that nobody knows, and keeps those of living sessions", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    (void)publisher.open("/unremembered", 7);
    (void)publisher.tables->open("/gone", {}, publisher.world.registry);
    const Reader gone(publisher.file("/gone"));
    const Reader kept(publisher.file("/unremembered"));
    publisher.scratch.file("tables/0123456789abcdef", "no table");
    publisher.scratch.file("tables/0123456789abcdef.new", "half a table");
    publisher.scratch.file("tables/notes", "somebody's");
    (void)publisher.world.place("/known");
    (void)publisher.tables->open("/known", {}, publisher.world.registry);
    publisher.begin_anew();
    CHECK_FALSE(publisher.has("/known"));
    CHECK(publisher.files() == 4);
    CHECK(publisher.has("/a"));
    CHECK(publisher.has("/b"));
    CHECK(publisher.has("/unremembered"));
    CHECK(fs::exists(publisher.directory + "/notes"));
    CHECK(gone.is_retired());
    CHECK_FALSE(kept.is_retired());
    CHECK(Reader(publisher.file("/a")).where(3000) == port);
}

TEST_CASE("a table that somebody deletes is made anew with all that it said, and its readers are sent there", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    const auto file = publisher.file("/a");
    const Reader before(file);
    REQUIRE(before.where(3000) == port);

    SECTION("told by the watch") {
        fs::remove(file);
        publisher.told(fs::path(file).filename().string());
    }
    SECTION("with the directory") {
        fs::remove_all(publisher.directory);
        publisher.told("tables");
        CHECK(publisher.has("/b"));
    }
    SECTION("with the directory, of which the watch tells no more than the first file") {
        fs::remove_all(publisher.directory);
        publisher.told(fs::path(publisher.file("/b")).filename().string());
    }
    SECTION("replaced by a copy") {
        fs::copy_file(file, file + ".copy");
        fs::rename(file + ".copy", file);
        publisher.told(fs::path(file).filename().string());
    }
    SECTION("unseen, until the next session asks") {
        fs::remove_all(publisher.directory);
        CHECK(publisher.tables->open("/a", {}, publisher.world.registry) != 0);
    }
    SECTION("unseen, until the next program binds") {
        fs::remove(file);
        (void)publisher.world.serve(publisher.world.start(publisher.world.place("/a")), 3100);
        publisher.follow();
    }
    SECTION("unseen, until the agent ends and the next one starts") {
        fs::remove_all(publisher.directory);
        publisher.tables->leave();
        publisher.begin_anew();
    }
    CHECK(before.is_retired());
    const Reader after(file);
    CHECK_FALSE(after.is_retired());
    CHECK(after.where(3000) == port);
    CHECK(publisher.tables->keep_in_place().empty());
    CHECK(publisher.troubles.empty());
    // The one that is in place follows what happens.
    publisher.world.now += std::chrono::seconds(1);
    const auto more = publisher.world.serve(publisher.world.start(publisher.world.place("/a")), 3000);
    publisher.follow();
    CHECK(more.port != port);
    CHECK(after.where(more.port) == 0);
    CHECK(after.where(3000) == more.port);
}

TEST_CASE("where a table cannot be made anew its readers keep the one that they have, and the trouble is said once", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    const Reader reader(publisher.file("/a"));
    fs::remove_all(publisher.directory);
    publisher.scratch.file("tables", "a file in its place");
    publisher.told("tables");
    CHECK_FALSE(publisher.tables->keep_in_place().empty());
    CHECK(publisher.troubles.size() == 1);
    CHECK_FALSE(reader.is_retired());
    CHECK(reader.where(3000) == port);
    fs::remove(publisher.directory);
    CHECK(publisher.tables->keep_in_place().empty());
    CHECK(reader.is_retired());
    CHECK(Reader(publisher.file("/a")).where(3000) == port);
}

TEST_CASE("readers of a table learn that its agent was killed, and that another one writes it", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    const Reader reader(publisher.file("/a"));
    const Reader other(publisher.file("/b"));
    CHECK_FALSE(reader.has_ended());
    SECTION("with its tables in their place") {
        publisher.play_killed([] {});
        CHECK(reader.has_ended());
        CHECK(other.has_ended());
        publisher.begin_anew();
        CHECK_FALSE(reader.has_ended());
        CHECK_FALSE(other.has_ended());
    }
    SECTION("after it has closed some of them") {
        publisher.play_killed([&] {
            for (int number = 0; number < 100; ++number) { (void)publisher.tables->open("/r" + std::to_string(number), {}, publisher.world.registry); }
        });
        CHECK(reader.has_ended());
        CHECK(other.has_ended());
    }
    SECTION("with files that have lost their name") {
        publisher.play_killed([&] { fs::remove_all(publisher.directory); });
        CHECK(reader.has_ended());
        CHECK(other.has_ended());
        publisher.begin_anew();
        CHECK(reader.has_ended());
        CHECK_FALSE(Reader(publisher.file("/a")).has_ended());
    }
    CHECK_FALSE(reader.is_retired());
    CHECK(reader.where(3000) == port);
}

TEST_CASE("readers of a table learn that its agent has left, or tells it of others no more", "[tables]") {
    Publisher publisher;
    auto& world = publisher.world;
    const auto [caller, bound] = publisher.serve_one();
    const Reader reader(publisher.file("/a"));
    SECTION("it leaves") {
        publisher.tables->leave();
        CHECK(reader.has_ended());
        publisher.begin_anew();
    }
    SECTION("it closes the table") {
        publisher.close_table(caller, bound);
        CHECK(reader.has_ended());
        (void)publisher.tables->open("/a", {}, world.registry);
    }
    CHECK_FALSE(reader.has_ended());
    CHECK_FALSE(reader.is_retired());
}

TEST_CASE("a table that somebody truncates or overwrites is mended in its place", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    const auto file = publisher.file("/a");
    const Reader reader(file);
    const auto serve_one_more = [&] {
        publisher.world.now += std::chrono::seconds(1);
        const auto more = publisher.world.serve(publisher.world.start(publisher.world.place("/a")), 3000);
        publisher.follow();
        return more.port;
    };

    const auto size = GENERATE(std::uintmax_t{0}, std::uintmax_t{100}, std::uintmax_t{4096}, std::uintmax_t{20000}, std::uintmax_t{sizeof(remap_table::Table)});
    if (size == sizeof(remap_table::Table)) { fs::resize_file(file, 0); }
    fs::resize_file(file, size);
    auto expected = port;
    SECTION("told by the watch") { publisher.told(fs::path(file).filename().string()); }
    SECTION("unseen, until the next session asks") { CHECK(publisher.tables->open("/a", {}, publisher.world.registry) != 0); }
    SECTION("unseen, until the next program binds") { expected = serve_one_more(); }
    SECTION("unseen, until somebody asks whether all is well") { CHECK(publisher.tables->keep_in_place().empty()); }
    CHECK(fs::file_size(file) == sizeof(remap_table::Table));
    CHECK_FALSE(reader.is_retired());
    CHECK(reader.where(3000) == expected);
    CHECK(remap_table::is_table(*reader.table));
    CHECK(Reader(file).where(3000) == expected);
    expected = serve_one_more();
    CHECK(reader.where(3000) == expected);
    CHECK(publisher.troubles.empty());
}

TEST_CASE("a truncated table that loses its name is retired, and can be read", "[tables]") {
    Publisher publisher;
    const auto port = publisher.serve_two();
    const auto file = publisher.file("/a");
    const Reader before(file);
    const auto size = GENERATE(std::uintmax_t{0}, std::uintmax_t{4096});
    SECTION("deleted") {
        fs::resize_file(file, size);
        fs::remove(file);
        publisher.told(fs::path(file).filename().string());
    }
    SECTION("while no agent runs") {
        publisher.tables->leave();
        fs::resize_file(file, size);
        publisher.begin_anew();
    }
    SECTION("deleted, unseen until the agent ends") {
        fs::resize_file(file, size);
        fs::remove(file);
        publisher.tables->leave();
        publisher.begin_anew();
    }
    CHECK(before.is_retired());
    CHECK(before.where(3000) == 0);
    const Reader after(file);
    CHECK_FALSE(after.is_retired());
    CHECK(after.where(3000) == port);
}

TEST_CASE("an agent ends and forgets projects with truncated tables", "[tables]") {
    Publisher publisher;
    (void)publisher.serve_two();
    (void)publisher.tables->open("/empty", {}, publisher.world.registry);
    const Reader empty(publisher.file("/empty"));
    const Reader reader(publisher.file("/a"));
    for (const auto* root : {"/a", "/b", "/empty"}) { fs::resize_file(publisher.file(root), 0); }
    publisher.tables->let_go("/empty");
    CHECK_FALSE(publisher.has("/empty"));
    CHECK(empty.is_retired());
    publisher.tables->leave();
    CHECK(reader.is_retired());
}

TEST_CASE("an agent that cannot give a truncated table its size back leaves it alone until it can", "[tables]") {
    Publisher publisher;
    (void)publisher.serve_two();
    const auto file = publisher.file("/a");
    const Reader reader(file);
    const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit small{4096, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    fs::resize_file(file, 0);
    publisher.told(fs::path(file).filename().string());
    publisher.world.now += std::chrono::seconds(1);
    const auto more = publisher.world.serve(publisher.world.start(publisher.world.place("/a")), 3000);
    publisher.follow();
    const auto problem = publisher.tables->keep_in_place();
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    (void)std::signal(SIGXFSZ, ignored);
    CHECK_FALSE(problem.empty());
    CHECK(publisher.troubles.size() == 1);
    CHECK(publisher.tables->keep_in_place().empty());
    CHECK(reader.where(3000) == more.port);
}
