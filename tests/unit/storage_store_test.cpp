// The registry on disk through everything that can happen to it.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <optional>

#include "storage/crc32.hpp"
#include "storage/event_codec.hpp"
#include "storage/recovery.hpp"
#include "storage_support.hpp"

using namespace portwrap;
using namespace portwrap::storage_test;

namespace {

Store::Opened reopen(const Directory& directory) {
    auto opened = Store::open(system_files(), options_for(directory));
    REQUIRE(opened);
    return std::move(*opened);
}

void compact_and_wait(Store& store, Bell& bell, const Registry& registry, Time now) {
    store.compact(registry, now);
    REQUIRE(bell.wait([&] { return store.sync_state().synced_seq >= registry.last_seq(); }));
}

/// A directory with a snapshot, a backup, sealed segments and a journal.
Registry busy_directory(const Directory& directory, unsigned seed) {
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    Changes changes(seed);
    for (int i = 0; i < 60; ++i) {
        change(*opened->store, opened->registry, changes.next(opened->registry));
        if (i == 20 || i == 40) { compact_and_wait(*opened->store, bell, opened->registry, k_now); }
    }
    return opened->registry;
}

}  // namespace

TEST_CASE("what was appended is there after a kill, at every point of a random history", "[storage]") {
    for (unsigned seed = 1; seed <= 5; ++seed) {
        Directory directory;
        Changes changes(seed);
        Registry live;
        std::size_t count = 0;
        for (int life = 0; life < 6; ++life) {
            Bell bell;
            auto opened = Store::open(system_files(), options_for(directory, &bell));
            REQUIRE(opened);
            CHECK(opened->losses.empty());
            CHECK(opened->registry == live);
            CHECK(opened->registry.last_seq() == live.last_seq());
            CHECK(opened->registry.next_lease_id() == live.next_lease_id());
            for (unsigned i = changes.below(40); i > 0; --i) {
                REQUIRE(change(*opened->store, live, changes.next(live)));
                ++count;
                if (changes.below(10) == 0) { opened->store->compact(live, k_now); }
            }
            if (changes.below(2) == 0) { opened->store->close(live, k_now); }
            if (life == 5) { CHECK(opened->store->history().size() == count); }
        }
        CHECK(reopen(directory).registry == live);
    }
}

TEST_CASE("a journal cut at any byte gives the events of its whole lines", "[storage]") {
    Directory directory;
    Registry live;
    std::vector<Event> events;
    std::vector<std::size_t> ends;
    std::string text;
    Changes changes(11);
    for (int i = 0; i < 4; ++i) {
        auto event = live.stamp({changes.next(live)}, k_now).front();
        live.apply(event);
        text += encode_event(event);
        ends.push_back(text.size());
        text += '\n';
        events.push_back(std::move(event));
    }
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        directory.replace_with({{"journal.jsonl", text.substr(0, cut)}});
        Registry expected;
        for (std::size_t i = 0; i < events.size() && ends[i] <= cut; ++i) { expected.apply(events[i]); }
        {
            auto opened = reopen(directory);
            const bool whole = cut == 0 || text[cut - 1] == '\n' || std::find(ends.begin(), ends.end(), cut) != ends.end();
            if (!(opened.registry == expected) || opened.losses.empty() != whole) { FAIL("cut at " << cut); }
            change(*opened.store, expected, LeaseEvent{LeaseChange::allocated, full_lease(50)});
        }
        auto again = reopen(directory);
        if (!(again.registry == expected) || !again.losses.empty()) { FAIL("appended after the cut at " << cut); }
    }
}

TEST_CASE("a damaged line is reported and set aside, and all others are kept", "[storage]") {
    Directory directory;
    auto live = busy_directory(directory, 5);
    auto text = directory.read("journal.jsonl");
    const auto second = text.find('\n') + 1;
    text[second + 10] = static_cast<char>(text[second + 10] ^ 1);
    directory.write("journal.jsonl", text);
    const auto lines = std::count(text.begin(), text.end(), '\n');
    {
        auto opened = reopen(directory);
        REQUIRE(opened.losses.size() == 1);
        CHECK(opened.losses[0].find("1 damaged lines lost") != std::string::npos);
        CHECK(opened.registry.last_seq() == live.last_seq());
        CHECK(opened.store->wants_compaction());
    }
    CHECK(directory.read("journal.jsonl.corrupt-20261121T091000Z") == text);
    const auto rewritten = directory.read("journal.jsonl");
    CHECK(std::count(rewritten.begin(), rewritten.end(), '\n') == lines - 1);
    CHECK(reopen(directory).losses.empty());
}

TEST_CASE("random flipped bits never crash it and never lose what is before them", "[storage]") {
    Directory source;
    busy_directory(source, 6);
    const auto contents = source.contents();
    std::mt19937 random(7);
    Directory directory;
    for (int round = 0; round < 150; ++round) {
        directory.replace_with(contents);
        auto entry = contents.begin();
        std::advance(entry, static_cast<long>(random() % contents.size()));
        auto text = entry->second;
        if (text.empty()) { continue; }
        const auto byte = random() % text.size();
        text[byte] = static_cast<char>(text[byte] ^ (1 << (random() % 8)));
        directory.write(entry->first, text);
        auto opened = Store::open(system_files(), options_for(directory));
        if (!opened) {
            CHECK(opened.error().code == ErrorCode::version_mismatch);
            continue;
        }
        if (entry->first != "journal.jsonl") { continue; }
        for (const auto& event : read_journal(text.substr(0, byte)).events) {
            CHECK(opened->registry.last_seq() >= event.seq);
        }
    }
}

TEST_CASE("the backup and the journal stand in for a damaged snapshot", "[storage]") {
    Directory directory;
    const auto live = busy_directory(directory, 8);
    const auto text = directory.read("ports.json");
    directory.write("ports.json", text.substr(0, text.size() / 2));
    {
        auto opened = reopen(directory);
        CHECK(opened.registry == live);
        CHECK(opened.registry.last_seq() == live.last_seq());
        REQUIRE(opened.losses.size() == 1);
        CHECK(opened.losses[0].find("ports.json.corrupt-20261121T091000Z") != std::string::npos);
        CHECK(directory.has("ports.json.corrupt-20261121T091000Z"));
        CHECK(directory.has("ports.json.bak"));
        opened.store->close(opened.registry, k_now);
    }
    CHECK(reopen(directory).registry == live);
}

TEST_CASE("without any good snapshot the sealed segments give everything back", "[storage]") {
    Directory directory;
    const auto live = busy_directory(directory, 9);
    directory.write("ports.json", "{");
    directory.write("ports.json.bak", "");
    auto opened = reopen(directory);
    CHECK(opened.registry == live);
    CHECK(opened.losses.size() == 2);
}

TEST_CASE("a registry of a newer schema or of another machine is refused and not touched", "[storage]") {
    Directory directory;
    busy_directory(directory, 10);
    auto expected = ErrorCode::version_mismatch;
    SECTION("newer snapshot") {
        auto text = directory.read("ports.json");
        text.replace(text.find("\"schema_version\": 1"), 19, "\"schema_version\": 2");
        text.erase(text.rfind("\"crc\""));
        directory.write("ports.json", text + "\"crc\": \"" + crc32_text(text) + "\"\n}\n");
    }
    SECTION("newer line") {
        const std::string before = R"({"v":2,"seq":99,)";
        const auto line = before + "\"crc\":\"" + crc32_text(before) + "\"}\n{\"torn";
        directory.write("journal.jsonl", directory.read("journal.jsonl") + line);
    }
    SECTION("another machine") {
        auto text = directory.read("ports.json");
        text.replace(text.find("\"machine\": \"machine\""), 20, "\"machine\": \"another\"");
        text.erase(text.rfind(",\n  \"crc\""));
        directory.write("ports.json", text + "\n}\n");
        expected = ErrorCode::storage_error;
    }
    const auto before = directory.contents();
    const auto opened = Store::open(system_files(), options_for(directory));
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == expected);
    CHECK(directory.contents() == before);
}

TEST_CASE("a directory that could not be made gives an empty store that refuses", "[storage]") {
    Directory directory;
    auto options = options_for(directory);
    options.directory += "/absent";
    auto opened = Store::open(system_files(), options);
    REQUIRE(opened);
    CHECK(opened->registry == Registry());
    CHECK(opened->store->degraded());
    CHECK_FALSE(change(*opened->store, opened->registry, LeaseEvent{LeaseChange::allocated, full_lease(1)}));
}

TEST_CASE("a directory that cannot be read is an error", "[storage]") {
    Directory directory;
    directory.write("file", "");
    auto options = options_for(directory);
    options.directory += "/file";
    const auto opened = Store::open(system_files(), options);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == ErrorCode::storage_error);
}

TEST_CASE("a read-only disk gives a degraded store that reads and refuses", "[storage]") {
    Directory directory;
    const auto live = busy_directory(directory, 12);
    class ReadOnly final : public Files {
    public:
        int open(const std::string& path, int flags, mode_t mode) override {
            return (flags & 3) != 0 ? -EROFS : system_files().open(path, flags, mode);
        }
        ssize_t write(int, const void*, std::size_t) override { return -EROFS; }
        ssize_t read(int fd, void* data, std::size_t size) override { return system_files().read(fd, data, size); }
        int fdatasync(int) override { return syncs ? 0 : -EROFS; }
        int fsync(int) override { return syncs ? 0 : -EROFS; }
        int truncate(int, std::uint64_t) override { return -EROFS; }
        int close(int fd) override { return system_files().close(fd); }
        int rename(const std::string&, const std::string&) override { return -EROFS; }
        int link(const std::string&, const std::string&) override { return -EROFS; }
        int unlink(const std::string&) override { return -EROFS; }
        bool is_at(int fd, const std::string& path) override { return system_files().is_at(fd, path); }
        int make_directory(const std::string&) override { return -EROFS; }
        int lock(int) override { return 0; }
        int list(const std::string& path, std::vector<std::string>& names) override {
            return system_files().list(path, names);
        }
        bool syncs = false;
    } files;
    // Made read-only by the administrator, or by the kernel after an error, which then says so at each sync.
    files.syncs = GENERATE(false, true);
    Bell bell;
    auto opened = Store::open(files, options_for(directory, &bell));
    REQUIRE(opened);
    CHECK(opened->registry == live);
    CHECK(opened->store->degraded());
    CHECK(opened->store->wants_compaction());
    REQUIRE(bell.wait([&] { return opened->store->idle(); }));
    CHECK((opened->store->sync_state().synced_seq == live.last_seq()) == files.syncs);
    CHECK(opened->store->problem().find("Read-only") != std::string::npos);
    const auto events = opened->registry.stamp({LeaseForgotten{1}}, k_now);
    const auto status = opened->store->append(events);
    REQUIRE_FALSE(status);
    CHECK(status.error().code == ErrorCode::storage_error);
    CHECK(status.error().message.find("Read-only") != std::string::npos);
    opened->store->request_sync();
    CHECK(bell.wait([&] { return opened->store->idle(); }));
    CHECK(opened->store->sync_state().failed_seq >= live.last_seq());
    opened->store->close(opened->registry, k_now);
    CHECK(opened->store->snapshot_problem().find("Read-only") != std::string::npos);
}

TEST_CASE("what is found at the start is granted to nobody before it is on the disk, be it a snapshot alone", "[storage]") {
    struct SyncedFiles : FaultyFiles {
        std::atomic<int> syncs{0};
        std::atomic<bool> broken{false};
        int fsync(int fd) override {
            ++syncs;
            return broken ? -EIO : FaultyFiles::fsync(fd);
        }
    };
    const bool broken = GENERATE(false, true);
    Directory directory;
    const auto live = busy_directory(directory, 25);
    reopen(directory).store->close(live, k_now);
    REQUIRE(directory.read("journal.jsonl").empty());
    SyncedFiles files;
    files.broken = broken;
    Bell bell;
    auto opened = Store::open(files, options_for(directory, &bell));
    REQUIRE(opened);
    REQUIRE(opened->registry.last_seq() == live.last_seq());
    CHECK(bell.wait([&] { return opened->store->idle(); }));
    CHECK(files.syncs > 0);
    CHECK(opened->store->sync_state().synced_seq == (broken ? 0 : live.last_seq()));
}

TEST_CASE("a passing error of the device while the registry is read costs nothing", "[storage]") {
    Directory source;
    const auto live = busy_directory(source, 25);
    const auto contents = source.contents();
    for (int fail_at = 1;; ++fail_at) {
        Directory directory;
        directory.replace_with(contents);
        FaultyFiles files;
        files.fail_at = fail_at;
        auto opened = Store::open(files, options_for(directory));
        INFO("operation " << fail_at);
        if (opened) {
            CHECK(opened->registry == live);
            CHECK(opened->losses.empty());
            opened->store.reset();
        }
        CHECK(reopen(directory).registry == live);
        if (!files.failed) { break; }
    }
}

TEST_CASE("old segments go when neither history nor the backup needs them", "[storage]") {
    Directory directory;
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    Changes changes(13);
    const auto later = k_now + std::chrono::days{31};
    for (int i = 0; i < 4; ++i) {
        change(*opened->store, opened->registry, changes.next(opened->registry));
        compact_and_wait(*opened->store, bell, opened->registry, i < 3 ? k_now : later);
    }
    opened->store->close(opened->registry, k_now);
    CHECK_FALSE(directory.has(segment_name(1)));
    CHECK_FALSE(directory.has(segment_name(3)));
    CHECK(directory.has(segment_name(4)));
    CHECK(opened->store->history().size() == 1);
}

TEST_CASE("after a failed write the store is degraded until a snapshot succeeds", "[storage]") {
    for (const bool short_write : {false, true}) {
        for (const bool cut_fails : {false, true}) {
            Directory directory;
            FaultyFiles files;
            Bell bell;
            files.error = ENOSPC;
            auto opened = Store::open(files, options_for(directory, &bell));
            REQUIRE(opened);
            auto& store = *opened->store;
            auto& registry = opened->registry;
            Changes changes(14);
            REQUIRE(change(store, registry, changes.next(registry)));
            files.short_writes = short_write;
            files.dead = cut_fails;
            files.fail_at = files.count + 1;
            // Refused: not applied, so its number is given again.
            const auto refused = registry.stamp({LeaseEvent{LeaseChange::allocated, full_lease(90)},
                                                 LeaseEvent{LeaseChange::allocated, full_lease(91)}}, k_now);
            const auto status = store.append(refused);
            REQUIRE_FALSE(status);
            CHECK(status.error().message.find("No space left") != std::string::npos);
            files.fail_at = 0;
            CHECK(store.degraded());
            REQUIRE(change(store, registry, LeaseEvent{LeaseChange::allocated, full_lease(92)}));
            store.request_sync();
            REQUIRE(bell.wait([&] { return sync_answered(store, registry.last_seq()); }));
            CHECK(store.sync_state().failed_seq >= registry.last_seq());
            CHECK(reopen(directory).registry == registry);
            REQUIRE(store.wants_compaction());
            compact_and_wait(store, bell, registry, k_now);
            CHECK_FALSE(store.degraded());
            CHECK(store.sync_state().synced_seq == registry.last_seq());
            CHECK(reopen(directory).registry == registry);
        }
    }
}

TEST_CASE("after a failed compaction the next one waits for 64 appends or for somebody who asks", "[storage]") {
    Directory directory;
    FaultyFiles files;
    Bell bell;
    auto opened = Store::open(files, options_for(directory, &bell));
    REQUIRE(opened);
    auto& store = *opened->store;
    Changes changes(15);
    change(store, opened->registry, changes.next(opened->registry));
    files.dead = true;
    files.fail_at = 1;
    store.compact(opened->registry, k_now);
    REQUIRE(bell.wait([&] { return store.idle(); }));
    CHECK_FALSE(store.degraded());  // the journal is sound
    files.fail_at = 0;
    for (int i = 0; i < 64; ++i) {
        CHECK_FALSE(store.wants_compaction());
        change(store, opened->registry, changes.next(opened->registry));
    }
    CHECK(bell.wait([&] { return store.wants_compaction(); }));
}

namespace {

/// What becomes of the registry's directory while the store serves.
enum class Fate { stays, moved, replaced };

/// Two lives of a store whose operation number `fail_at` fails. False when there was none with that number.
bool live_twice(FaultyFiles& files, Fate fate) {
    Directory parent;
    auto options = options_for(parent);
    options.directory = parent.file("registry");
    std::filesystem::create_directory(options.directory);
    Bell bell;
    options.notify = bell.ring();
    Registry live;
    Possible possible;
    std::uint64_t synced_seq = 0;
    Changes changes(16);
    for (int life = 0; life < 2; ++life) {
        auto opened = Store::open(files, options);
        if (!opened) { continue; }
        live = opened->registry;
        // What a dead disk does not let it read is said, and still there.
        if (!files.dead || opened->losses.empty()) { CHECK(possible.misfit(live) == ""); }
        auto& store = *opened->store;
        const auto look = [&] {
            if (store.sync_state().synced_seq < live.last_seq()) { return; }
            possible.synced(live);
            synced_seq = live.last_seq();
        };
        for (int i = 0; i < 6; ++i) {
            if (life == 0 && i == 3 && fate != Fate::stays) {
                std::filesystem::rename(options.directory, parent.file("elsewhere"));
                if (fate == Fate::replaced) { std::filesystem::create_directory(options.directory); }
                possible.lost_all();
                synced_seq = 0;
            }
            const auto what = changes.next(live);
            possible.changed(what);
            change(store, live, what);
            if (i == 2 || i == 4) { store.compact(live, k_now); }
            store.request_sync();
            // A failed append is told at once; a sync answers for those before it.
            const auto seq = live.last_seq();
            REQUIRE(bell.wait([&] { return sync_answered(store, seq) || store.degraded(); }));
            look();
        }
        if (life == 1) {
            store.close(live, k_now);
            look();
        }
    }
    auto opened = Store::open(system_files(), options);
    REQUIRE(opened);
    CHECK(possible.misfit(opened->registry) == "");
    CHECK(opened->registry.last_seq() >= synced_seq);
    // A whole registry that was appended to without a failure in between is there as a whole.
    if (!files.failed) { CHECK(opened->registry == live); }
    return files.failed;
}

}  // namespace

TEST_CASE("no single failing operation, nor a crash at any, loses what was reported synced", "[storage]") {
    for (const auto fate : {Fate::stays, Fate::moved, Fate::replaced}) {
        for (const bool dead : {false, true}) {
            for (const int error : {EIO, ENOSPC}) {
                bool failed = true;
                for (int fail_at = 1; failed; ++fail_at) {
                    FaultyFiles files;
                    files.error = error;
                    files.short_writes = error == ENOSPC;
                    files.dead = dead;
                    files.fail_at = fail_at;
                    INFO("fate " << static_cast<int>(fate) << " operation " << fail_at << " error " << error << " dead " << dead);
                    failed = live_twice(files, fate);
                }
            }
        }
    }
}

TEST_CASE("what is appended to a journal that was taken away is not called synced, and the next snapshot has it", "[storage]") {
    Directory directory;
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    auto& store = *opened->store;
    auto& registry = opened->registry;
    Changes changes(20);
    const auto sync = [&] {
        change(store, registry, changes.next(registry));
        store.request_sync();
        REQUIRE(bell.wait([&] { return sync_answered(store, registry.last_seq()); }));
        return store.sync_state().synced_seq >= registry.last_seq();
    };
    REQUIRE(sync());
    const auto journal = directory.file("journal.jsonl");
    SECTION("deleted") { std::filesystem::remove(journal); }
    SECTION("moved") { std::filesystem::rename(journal, directory.file("journal.old")); }
    SECTION("replaced by its copy") {
        std::filesystem::copy_file(journal, directory.file("copy"));
        std::filesystem::rename(directory.file("copy"), journal);
    }
    CHECK_FALSE(sync());
    CHECK(store.degraded());
    CHECK(store.problem().find("the journal was deleted, moved or replaced") != std::string::npos);
    compact_and_wait(store, bell, registry, k_now);
    CHECK_FALSE(store.degraded());
    CHECK(reopen(directory).registry == registry);
    CHECK(sync());
    CHECK(reopen(directory).registry == registry);
}

TEST_CASE("a directory that was moved is made anew, unless it is another agent's by now", "[storage]") {
    Directory parent;
    Bell bell;
    auto options = options_for(parent, &bell);
    options.directory = parent.file("registry");
    std::filesystem::create_directory(options.directory);
    auto opened = Store::open(system_files(), options);
    REQUIRE(opened);
    auto& store = *opened->store;
    auto& registry = opened->registry;
    Changes changes(21);
    change(store, registry, changes.next(registry));
    std::filesystem::rename(options.directory, parent.file("elsewhere"));
    bool others = false;
    SECTION("nothing in its place") {}
    SECTION("an empty one in its place") { std::filesystem::create_directory(options.directory); }
    SECTION("another agent's in its place") { others = true; }
    std::map<std::string, std::string> before;
    const auto contents = [&] {
        std::map<std::string, std::string> all;
        for (const auto& entry : std::filesystem::directory_iterator(options.directory)) {
            std::ifstream in(entry.path(), std::ios::binary);
            all[entry.path().filename()] = {std::istreambuf_iterator<char>(in), {}};
        }
        return all;
    };
    int fd = -1;
    if (others) {
        std::filesystem::create_directory(options.directory);
        fd = system_files().open(options.directory, O_RDONLY | O_DIRECTORY, 0);
        REQUIRE(system_files().lock(fd) == 0);
        auto second = Store::open(system_files(), options);
        REQUIRE(second);
        change(*second->store, second->registry, LeaseEvent{LeaseChange::allocated, full_lease(1)});
        second->store->close(second->registry, k_now);
        change(*second->store, second->registry, LeaseEvent{LeaseChange::allocated, full_lease(2)});
        before = contents();
    }
    change(store, registry, changes.next(registry));
    store.request_sync();
    REQUIRE(bell.wait([&] { return sync_answered(store, registry.last_seq()); }));
    CHECK(store.sync_state().failed_seq >= registry.last_seq());
    store.compact(registry, k_now);
    REQUIRE(bell.wait([&] { return store.idle(); }));
    CHECK(store.degraded() == others);
    if (others) { CHECK(store.problem().find("another agent has made it anew") != std::string::npos); }
    change(store, registry, changes.next(registry));
    store.close(registry, k_now);
    if (others) {
        CHECK(contents() == before);
        system_files().close(fd);
    } else {
        auto again = Store::open(system_files(), options);
        REQUIRE(again);
        CHECK(again->registry == registry);
    }
}

TEST_CASE("a journal that is sealed while it is synced has not been taken away", "[storage]") {
    class Waiting final : public FaultyFiles {
    public:
        std::promise<void> looking;
        std::promise<void> sealed;
        std::atomic<bool> armed{false};
        bool is_at(int fd, const std::string& path) override {
            if (path.ends_with("/journal.jsonl") && armed.exchange(false)) {
                looking.set_value();
                sealed.get_future().wait();
            }
            return FaultyFiles::is_at(fd, path);
        }
    } files;
    Directory directory;
    Bell bell;
    auto opened = Store::open(files, options_for(directory, &bell));
    REQUIRE(opened);
    Changes changes(22);
    change(*opened->store, opened->registry, changes.next(opened->registry));
    files.armed = true;
    opened->store->request_sync();
    files.looking.get_future().wait();
    opened->store->compact(opened->registry, k_now);
    files.sealed.set_value();
    CHECK(bell.wait([&] { return opened->store->idle(); }));
    CHECK_FALSE(opened->store->degraded());
    CHECK(opened->store->sync_state().failed_seq == 0);
}

TEST_CASE("why there is no new snapshot is said until there is one", "[storage]") {
    Directory directory;
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    auto& store = *opened->store;
    Changes changes(23);
    change(store, opened->registry, changes.next(opened->registry));
    std::filesystem::create_directory(directory.file("ports.json.tmp"));
    store.compact(opened->registry, k_now);
    REQUIRE(bell.wait([&] { return store.idle(); }));
    CHECK(store.snapshot_problem().find("ports.json.tmp: Is a directory") != std::string::npos);
    CHECK_FALSE(store.degraded());
    opened->store.reset();
    auto again = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(again);
    CHECK(again->registry == opened->registry);
    CHECK(again->store->wants_compaction());
    again->store->compact(again->registry, k_now);
    REQUIRE(bell.wait([&] { return again->store->idle(); }));
    CHECK(again->store->snapshot_problem() != "");
    std::filesystem::remove(directory.file("ports.json.tmp"));
    compact_and_wait(*again->store, bell, again->registry, k_now);
    REQUIRE(bell.wait([&] { return again->store->idle(); }));
    CHECK(again->store->snapshot_problem() == "");
}

TEST_CASE("a snapshot is written beside what a link or a FIFO of its temporary name leads to", "[storage]") {
    Directory directory;
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    Changes changes(24);
    change(*opened->store, opened->registry, changes.next(opened->registry));
    directory.write("letter", "mine");
    SECTION("a link") { std::filesystem::create_symlink(directory.file("letter"), directory.file("ports.json.tmp")); }
    SECTION("a FIFO") { REQUIRE(::mkfifo(directory.file("ports.json.tmp").c_str(), 0600) == 0); }
    compact_and_wait(*opened->store, bell, opened->registry, k_now);
    CHECK(opened->store->snapshot_problem() == "");
    CHECK(directory.read("letter") == "mine");
    CHECK(std::filesystem::is_regular_file(std::filesystem::symlink_status(directory.file("ports.json"))));
}

TEST_CASE("a crash between any two steps of a compaction changes nothing", "[storage]") {
    Directory source;
    const auto live = busy_directory(source, 17);
    const auto contents = source.contents();
    for (int step = 1;; ++step) {
        Directory directory;
        directory.replace_with(contents);
        FaultyFiles files;
        Bell bell;
        {
            auto opened = Store::open(files, options_for(directory, &bell));
            REQUIRE(opened);
            REQUIRE(bell.wait([&] { return opened->store->idle(); }));  // what it found is synced
            files.dead = true;
            files.fail_at = files.count + step;
            opened->store->compact(opened->registry, k_now);
            REQUIRE(bell.wait([&] { return opened->store->idle(); }));
        }
        auto opened = reopen(directory);
        INFO("step " << step);
        CHECK(opened.registry == live);
        CHECK(opened.losses.empty());
        if (!files.failed) { break; }
    }
}

TEST_CASE("one sync answers for all that was appended before", "[storage]") {
    Directory directory;
    Bell bell;
    auto opened = Store::open(system_files(), options_for(directory, &bell));
    REQUIRE(opened);
    Changes changes(18);
    for (int i = 0; i < 200; ++i) {
        REQUIRE(change(*opened->store, opened->registry, changes.next(opened->registry)));
        opened->store->request_sync();
    }
    CHECK(bell.wait([&] { return opened->store->sync_state().synced_seq == opened->registry.last_seq(); }));
    CHECK(opened->store->sync_state().failed_seq == 0);
}

TEST_CASE("a store that is dropped without closing writes nothing more", "[storage]") {
    Directory directory;
    auto opened = Store::open(system_files(), options_for(directory));
    REQUIRE(opened);
    Changes changes(19);
    change(*opened->store, opened->registry, changes.next(opened->registry));
    const auto before = directory.contents();
    opened->store.reset();
    CHECK(directory.contents() == before);
}
