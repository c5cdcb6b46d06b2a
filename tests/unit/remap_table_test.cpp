// The published table: what a reader finds in it, and that a reader never sees half of a change.
#include <catch2/catch.hpp>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "portwrap/remap_table.hpp"

using namespace portwrap::remap_table;

namespace {

struct Fixture {
    std::unique_ptr<Table> table = std::make_unique<Table>();
    std::vector<std::uint64_t> directories;
    Fixture() { std::memset(static_cast<void*>(table.get()), 0, sizeof(Table)); }
    void publish(const std::vector<Row>& rows) { write(*table, rows.data(), rows.size(), 77, 88, 99); }
    Asker asker(std::uint64_t pid) {
        return {pid, 1, directories.data(), directories.size()};
    }
};

std::uint64_t hash(const std::string& text) { return hash_of(text.data(), text.size()); }

}  // namespace

TEST_CASE("a table that says nothing of a port leaves it alone", "[remap]") {
    Fixture fixture;
    CHECK_FALSE(find_connect(*fixture.table, 3000, fixture.asker(1)).known);
    fixture.publish({make_row(RowKind::live, 3001, 4001, 1, 1, 0)});
    CHECK_FALSE(find_connect(*fixture.table, 3000, fixture.asker(1)).known);
    CHECK_FALSE(find_connect(*fixture.table, 4001, fixture.asker(1)).known);
    CHECK(fixture.table->agent_pid == 77);
    CHECK(fixture.table->netns == 99);
}

TEST_CASE("the own session comes first, then the nearest package, then the first row", "[remap]") {
    Fixture fixture;
    fixture.directories = {hash("/a/api/src"), hash("/a/api"), hash("/a")};
    fixture.publish({make_row(RowKind::live, 3000, 3005, 5, 1, hash("/a/web")), make_row(RowKind::live, 3000, 3006, 6, 1, hash("/a")),
                     make_row(RowKind::live, 3000, 3007, 7, 1, hash("/a/api")), make_row(RowKind::live, 3000, 3008, 8, 1, hash("/a/web"))});
    CHECK(find_connect(*fixture.table, 3000, fixture.asker(8)).target == 3008);
    CHECK(find_connect(*fixture.table, 3000, fixture.asker(0)).target == 3007);
    fixture.directories = {hash("/elsewhere")};
    CHECK(find_connect(*fixture.table, 3000, fixture.asker(0)).target == 3005);
    const Asker later{8, 2, nullptr, 0};
    CHECK(find_connect(*fixture.table, 3000, later).target == 3005);
}

TEST_CASE("a refused port is refused unless the project has it itself", "[remap]") {
    Fixture fixture;
    fixture.publish({make_row(RowKind::refused, 3000, 0, 0, 0, 0), make_row(RowKind::sticky, 3000, 3001, 0, 0, 0)});
    const auto found = find_connect(*fixture.table, 3000, fixture.asker(1));
    CHECK(found.known);
    CHECK(found.refused);
    fixture.publish({make_row(RowKind::live, 3000, 3001, 0, 0, 0), make_row(RowKind::refused, 3000, 0, 0, 0, 0)});
    CHECK_FALSE(find_connect(*fixture.table, 3000, fixture.asker(1)).refused);
}

TEST_CASE("a bind that nobody answers gets the session's own port, else the sticky one, never another session's", "[remap]") {
    Fixture fixture;
    fixture.publish({make_row(RowKind::live, 3000, 3005, 5, 1, 0), make_row(RowKind::sticky, 3000, 3001, 0, 0, 0)});
    CHECK(find_bind(*fixture.table, 3000, fixture.asker(5)) == 3005);
    CHECK(find_bind(*fixture.table, 3000, fixture.asker(6)) == 3001);
    CHECK(find_bind(*fixture.table, 3001, fixture.asker(6)) == 0);
}

TEST_CASE("what was asked for is found by what was given, in the own session first", "[remap]") {
    Fixture fixture;
    fixture.publish({make_row(RowKind::live, 3000, 3005, 5, 1, 0), make_row(RowKind::live, 4000, 3005, 6, 1, 0),
                     make_row(RowKind::sticky, 5000, 3006, 0, 0, 0)});
    CHECK(find_requested(*fixture.table, 3005, fixture.asker(6)) == 4000);
    CHECK(find_requested(*fixture.table, 3005, fixture.asker(7)) == 3000);
    CHECK(find_requested(*fixture.table, 3006, fixture.asker(7)) == 0);
}

TEST_CASE("a writer that died at work leaves a table that says nothing, until the next one", "[remap]") {
    Fixture fixture;
    fixture.publish({make_row(RowKind::live, 3000, 3001, 0, 0, 0)});
    ++fixture.table->sequence;
    CHECK_FALSE(find_connect(*fixture.table, 3000, fixture.asker(1)).known);
    fixture.publish({make_row(RowKind::live, 3000, 3002, 0, 0, 0)});
    CHECK(find_connect(*fixture.table, 3000, fixture.asker(1)).target == 3002);
}

TEST_CASE("a count beyond the table's end is cut off", "[remap]") {
    Fixture fixture;
    fixture.table->count = ~std::uint64_t{0};
    CHECK_FALSE(find_connect(*fixture.table, 3000, fixture.asker(1)).known);
}

TEST_CASE("names are sixteen hexadecimal digits and nothing else", "[remap]") {
    char name[k_name_digits];
    write_name(0x0123456789abcdef, name);
    CHECK(std::string(name, sizeof name) == "0123456789abcdef");
    std::uint64_t value = 0;
    CHECK(read_name(name, sizeof name, value));
    CHECK(value == 0x0123456789abcdef);
    for (const std::string bad : {"", "0123456789abcde", "0123456789abcdeff", "0123456789ABCDEF", "0123456789abcde/", "../../../../etc/"}) {
        CHECK_FALSE(read_name(bad.data(), bad.size(), value));
    }
}

TEST_CASE("the hash of a prefix is met on the way to the whole", "[remap]") {
    std::uint64_t state = k_hash_start;
    for (const char c : std::string("/a")) { state = hash_on(state, c); }
    CHECK(state == hash("/a"));
    CHECK(hash("") == 0xcbf29ce484222325);
    CHECK(hash("a") == 0xaf63dc4c8601ec8c);
}

TEST_CASE("readers see whole changes only, while a writer writes", "[remap]") {
    // Every published state maps all ports to one number; a torn reading would show two.
    Fixture fixture;
    const auto state = [](std::uint16_t target) {
        std::vector<Row> rows;
        for (std::uint16_t port = 0; port < 64; ++port) { rows.push_back(make_row(RowKind::live, port, target, target, 1, target)); }
        return rows;
    };
    fixture.publish(state(1));
    std::atomic<bool> stop{false};
    std::atomic<int> torn{0};
    std::atomic<int> seen{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 2; ++i) {
        readers.emplace_back([&] {
            while (!stop) {
                std::uint64_t first = 0;
                bool mixed = false;
                const auto begin = [&] { first = 0; mixed = false; };
                const auto see = [&](const Row& shared) {
                    const auto row = detail::load(shared);
                    if (first == 0) { first = row.session_pid; }
                    mixed = mixed || row.session_pid != first || target_of(row) != first || row.directory != first;
                    return true;
                };
                if (read(*fixture.table, begin, see)) {
                    seen += 1;
                    torn += mixed ? 1 : 0;
                }
            }
        });
    }
    for (int round = 1; round < 20000 || seen < 100; ++round) { fixture.publish(state(static_cast<std::uint16_t>(round % 60000 + 1))); }
    stop = true;
    for (auto& reader : readers) { reader.join(); }
    CHECK(seen > 0);
    CHECK(torn == 0);
}
