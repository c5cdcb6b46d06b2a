// Files of leases: what is written can be read back, what others wrote is understood, and each bad row is named.
#include <catch2/catch.hpp>

#include "core/import_rules.hpp"
#include "service/exchange/read_rows.hpp"
#include "service/exchange/templates.hpp"
#include "service/exchange/write_text.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

namespace {

constexpr Time k_now{1'800'000'000s};

struct World {
    Registry registry;
    Config config = default_config();

    Facts facts() const {
        Facts facts;
        facts.now = k_now;
        facts.boot_id = "boot";
        facts.user_at_host = "me@host";
        facts.in_use = [](Port, bool, bool) { return false; };
        return facts;
    }
    void apply(std::vector<Change> changes) {
        for (const auto& event : registry.stamp(std::move(changes), k_now)) { registry.apply(event); }
    }
    ImportAnswer import(const std::vector<ImportRow>& rows, bool strict = false, std::vector<RefusedRow> refused = {}) {
        auto decision = decide_import(registry, config, rows, std::move(refused), strict, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    std::vector<const Lease*> all() const {
        std::vector<const Lease*> leases;
        for (const auto& [id, lease] : registry.leases()) { leases.push_back(&lease); }
        return leases;
    }
    std::string text(ExportFormat format) const { return write_text(format, registry, config, all(), k_now); }
};

ImportRow row(int number, Port port, const std::string& service, const std::string& root = "/home/me/shop") {
    ImportRow made;
    made.row = number;
    made.project = Project{root, root.substr(root.rfind('/') + 1), std::nullopt, std::nullopt, "", ""};
    made.directory = root;
    made.name = made.project->name;
    made.port = port;
    made.service = service;
    return made;
}

RowsRead read(std::string_view text, std::optional<ImportFormat> format = std::nullopt) {
    auto rows = read_rows(text, format);
    REQUIRE(rows);
    return *rows;
}

/// A registry with everything that a file has to carry.
World furnished() {
    World world;
    auto web = row(1, 3001, "web");
    web.requested = 3000;
    web.description = "the \"shop\", with | and \\ and, commas";
    web.hostname = "shop.example.org";
    web.environment = Environment::test;
    web.kind = "web";
    web.allocated_by = "you@there";
    web.allocated_at = k_now - 1h;
    auto second = row(2, 3002, "web");
    second.requested = 3000;
    second.instance = 1;
    auto quic = row(3, 3001, "quic");
    quic.protocol = Protocol::udp;
    auto kept = row(4, 5440, "packages/db", "/home/me/my blog");
    kept.state = LeaseState::reserved;
    kept.expires_at = k_now + 2h;
    const auto answer = world.import({web, second, quic, kept});
    REQUIRE(answer.refused.empty());
    REQUIRE(answer.imported.size() == 4);
    return world;
}

/// What a file says about its rows is compared without their positions.
std::vector<ImportRow> unnumbered(std::vector<ImportRow> rows) {
    for (auto& entry : rows) {
        entry.row = 0;
        entry.project = Project{entry.directory, entry.name, std::nullopt, std::nullopt, "", ""};
    }
    return rows;
}

}  // namespace

TEST_CASE("what is exported as JSON, CSV or markdown is detected and gives the same leases when it is imported", "[exchange]") {
    const auto world = furnished();
    const auto [format, expected] = GENERATE(std::pair(ExportFormat::json, ImportFormat::json), std::pair(ExportFormat::csv, ImportFormat::csv),
                                             std::pair(ExportFormat::markdown, ImportFormat::markdown));
    const auto rows = read(world.text(format));
    CHECK(rows.format == expected);
    CHECK(rows.refused.empty());
    World other;
    CHECK(other.import(unnumbered(rows.rows)).refused.empty());
    REQUIRE(other.all().size() == world.all().size());
    for (std::size_t i = 0; i < world.all().size(); ++i) {
        auto before = *world.all()[i];
        auto after = *other.all()[i];
        if (format == ExportFormat::markdown) {  // a table for people leaves out who and when
            after.allocated_by = before.allocated_by;
            after.allocated_at = before.allocated_at;
            after.last_active_at = before.last_active_at;
            after.expires_at = before.expires_at;
        }
        CHECK(before == after);
    }
}

TEST_CASE("an import of what is there already changes nothing", "[exchange]") {
    auto world = furnished();
    const auto rows = read(world.text(ExportFormat::json));
    const auto decision = decide_import(world.registry, world.config, unnumbered(rows.rows), {}, true, world.facts());
    CHECK(decision.changes.empty());
    CHECK(decision.answer.imported.size() == 4);
    CHECK(decision.answer.refused.empty());
}

TEST_CASE("an .env file has a variable a service and reads back with the names of the services", "[exchange]") {
    World world;
    world.import({row(1, 3001, "main"), row(2, 3002, "api"), row(3, 3003, "packages/web"), row(4, 3004, "9lives")});
    const auto text = world.text(ExportFormat::env);
    CHECK(text == "PORT=3001\nAPI_PORT=3002\n# service: packages/web\nPACKAGES_WEB_PORT=3003\n# service: 9lives\n_9LIVES_PORT=3004\n");
    const auto rows = read("# mine\nSECRET=x\nexport DB_PORT='5433'\n" + text);
    CHECK(rows.format == ImportFormat::env);
    REQUIRE(rows.rows.size() == 5);
    CHECK(rows.rows[0].service == "db");
    CHECK(rows.rows[0].row == 3);
    CHECK(rows.rows[1].service == "main");
    CHECK(rows.rows[3].service == "packages/web");
    CHECK(rows.rows[4].service == "9lives");
}

TEST_CASE("a compose file overrides the ports of the file before it", "[exchange]") {
    const auto text = furnished().text(ExportFormat::compose);
    CHECK(text.find("  web:\n    ports: !override\n      - \"3001:3000\"\n") != std::string::npos);
    CHECK(text.find("  quic:\n    ports: !override\n      - \"3001:3001/udp\"\n") != std::string::npos);
    CHECK(text.find("  \"packages/db\":\n") != std::string::npos);
    CHECK(World().text(ExportFormat::compose).ends_with("services: {}\n"));
}

TEST_CASE("the registry of a worktree tool is read, and each bad row is refused by its position", "[exchange]") {
    const auto rows = read(R"({"ranges":{"web":[3000,3099]},"metadata":{"version":1},"allocations":[
        {"port":3010,"worktree":"shop-fix","service":"web","allocated_at":"2025-01-15T10:30:00Z","allocated_by":"agent-1","description":"d","process_id":77,"health_status":"healthy"},
        {"port":70000,"worktree":"shop-fix","service":"api"},
        {"port":80.9,"worktree":"shop-fix","service":"api"},
        {"port":true,"worktree":"shop-fix","service":"api"},
        {"worktree":"shop-fix","service":"api"},
        "nonsense",
        {"port":3011,"worktree":"/home/me/blog","service":"a\nb"},
        {"port":3012,"worktree":"/home/me/blog","service":"db","status":"running"}]})");
    CHECK(rows.format == ImportFormat::worktrees);
    REQUIRE(rows.rows.size() == 2);
    CHECK(rows.rows[0].name == "shop-fix");
    CHECK(rows.rows[0].service == "web");
    CHECK(rows.rows[0].allocated_by == "agent-1");
    CHECK(rows.rows[0].allocated_at == lenient_time("2025-01-15 10:30:00+00"));
    CHECK(rows.rows[1].directory == "/home/me/blog");
    CHECK(rows.rows[1].state == LeaseState::active);
    std::vector<int> refused;
    for (const auto& bad : rows.refused) { refused.push_back(bad.row); }
    CHECK(refused == std::vector{2, 3, 4, 5, 6, 7});
}

TEST_CASE("an application registry keyed by port is read; what was given back is not taken in", "[exchange]") {
    const auto rows = read(R"({"system":{"2601":{"name":"mcp"}},"history":[{"port":1}],"applications":{
        "3000":{"name":"shop","service":"web","status":"in_use","path":"/home/me/shop"},
        "3001":{"name":"blog","status":"released"},
        "99999":{"name":"blog"},
        "3002":"wiki"}})");
    CHECK(rows.format == ImportFormat::applications);
    REQUIRE(rows.rows.size() == 2);
    CHECK(rows.rows[0].port == 3000);
    CHECK(rows.rows[0].state == LeaseState::active);
    CHECK(rows.rows[0].directory == "/home/me/shop");
    CHECK(rows.rows[1].port == 3002);
    CHECK(rows.rows[1].name == "wiki");
    CHECK(rows.rows[1].service == "main");
    REQUIRE(rows.refused.size() == 2);
    CHECK(rows.refused[0].reason.find("released") != std::string::npos);
}

TEST_CASE("ports by project are read", "[exchange]") {
    const auto rows = read(R"({"ports":{"/home/me/shop":{"port":3000,"allocated_at":"2025-01-15T10:30:00.5+02:00","pid":7},"blog":{"port":-1},"wiki":3005}})");
    CHECK(rows.format == ImportFormat::ports);
    REQUIRE(rows.rows.size() == 2);
    CHECK(rows.rows[0].directory == "/home/me/shop");
    CHECK(rows.rows[0].allocated_at == lenient_time("2025-01-15T08:30:00.5Z"));
    CHECK(rows.rows[1].port == 3005);
    REQUIRE(rows.refused.size() == 1);
    CHECK(rows.refused[0].row == 2);
}

TEST_CASE("rows as PostgreSQL copies them are read, with quotes, NULLs and any of the usual separators", "[exchange]") {
    const std::string text =
        "id,port,project_name,service_name,environment,status,description,allocated_at\r\n"
        "1,3000,shop,web,development,in_use,\"two\nlines, and \"\"quotes\"\"\",2025-01-15 10:30:00.123+00\r\n"
        "2,3001,shop,api,prod,\\N,NULL,\\N\r\n"
        "3,0,shop,x,dev,,,\r\n"
        "4,3002,shop\r\n";
    const auto rows = read(text);
    CHECK(rows.format == ImportFormat::csv);
    REQUIRE(rows.rows.size() == 2);
    CHECK(rows.rows[0].state == LeaseState::active);
    CHECK(rows.rows[0].description == "twolines, and \"quotes\"");
    CHECK(rows.rows[1].environment == Environment::production);
    CHECK(rows.rows[1].state == LeaseState::allocated);
    CHECK_FALSE(rows.rows[1].description);
    REQUIRE(rows.refused.size() == 2);
    CHECK(rows.refused[0].row == 5);  // lines, of which the first record has two
    CHECK(rows.refused[1].row == 6);
    CHECK(read("port;project\n3000;shop\n").rows.size() == 1);
    CHECK(read("\xEF\xBB\xBFPort\tProject\n3000\tshop\n").rows.size() == 1);
}

TEST_CASE("what is nothing that can be read is an error, never an empty import", "[exchange]") {
    for (const auto* text : {"", "hello", "{", "[]", "{\"a\":1}", "{\"leases\":3}", "a,b\n1,2\n", "{\"ports\":{\"a\":1,\"a\":2}}", "\xff\xfe"}) {
        CAPTURE(text);
        CHECK_FALSE(read_rows(text, std::nullopt));
    }
    CHECK_FALSE(read_rows(std::string(100, '{'), ImportFormat::json));
    CHECK_FALSE(read_rows("{\"leases\":[]}", ImportFormat::worktrees));
}

TEST_CASE("a row never takes what somebody has, nor what an earlier row has", "[exchange]") {
    World world;
    REQUIRE(world.import({row(1, 3000, "web")}).imported.size() == 1);
    const auto answer = world.import({row(1, 3000, "web", "/home/me/blog"), row(2, 3001, "web"), row(3, 2601, "x"), row(4, 3002, "a"), row(5, 3002, "b"),
                                      row(6, 3003, "a"), row(7, 3004, "c")});
    std::vector<int> refused;
    for (const auto& bad : answer.refused) { refused.push_back(bad.row); }
    CHECK(refused == std::vector{1, 2, 3, 5, 6});
    CHECK(answer.refused[0].reason.find("shop") != std::string::npos);
    CHECK(answer.imported.size() == 2);
    CHECK(world.all().size() == 3);
}

TEST_CASE("with strict one bad row refuses all", "[exchange]") {
    World world;
    const auto answer = world.import({row(1, 3000, "web"), row(2, 2601, "x")}, true);
    CHECK(answer.imported.empty());
    CHECK(answer.refused.size() == 1);
    CHECK(world.all().empty());
    CHECK(world.import({row(1, 3000, "web")}, true, {{7, "not a port"}}).imported.empty());
    CHECK(world.all().empty());
}

TEST_CASE("old rows get their time from now on", "[exchange]") {
    World world;
    auto old = row(1, 3000, "web");
    old.allocated_at = k_now - 24h * 400;
    world.import({old});
    CHECK(decide_expiry(world.registry, world.config, world.facts()).changes.empty());
    CHECK(world.all().front()->allocated_at == *old.allocated_at);
}

TEST_CASE("an expired reservation is refused", "[exchange]") {
    auto gone = row(1, 3000, "web");
    gone.state = LeaseState::reserved;
    gone.expires_at = k_now - 1s;
    CHECK(World().import({gone}).refused.size() == 1);
}

TEST_CASE("times are read as tools write them", "[exchange]") {
    const auto time = lenient_time("2025-01-15T10:30:00Z");
    REQUIRE(time);
    CHECK(lenient_time("2025-01-15 10:30:00") == time);
    CHECK(lenient_time("2025-01-15T12:30:00+02:00") == time);
    CHECK(lenient_time("2025-01-15T12:30:00.000+0200") == time);
    CHECK(lenient_time("2025-01-15 10:30") == time);
    for (const auto* text : {"", "yesterday", "2025-13-01", "2025-02-30", "2025-01-15T25:00:00Z", "2025-01-15T10:30:00+", "1736937000"}) {
        CAPTURE(text);
        CHECK_FALSE(lenient_time(text));
    }
}

TEST_CASE("every template has the port in it and no word left unfilled", "[exchange]") {
    for (const auto& entry : all_templates()) {
        CAPTURE(entry.kind);
        const auto text = fill_template(entry, {3007, 3000, "web", "WEB_PORT", "shop", "/home/me/shop", "shop.localhost"});
        CHECK(text.find("3007") != std::string::npos);
        for (const auto* word : {"@PORT@", "@SERVICE@", "@VARIABLE@", "@PROJECT@", "@ROOT@", "@HOST@", "@INSIDE@"}) { CHECK(text.find(word) == std::string::npos); }
        CHECK(find_template(entry.kind) == &entry);
    }
    CHECK(find_template("nothing") == nullptr);
}

TEST_CASE("under the preset blocks each imported project has a block of its own, and nobody's port lies in another's", "[exchange]") {
    World world;
    world.config = default_config(Preset::blocks);
    const auto answer = world.import({row(1, 3005, "web"), row(2, 3105, "web", "/home/me/blog"), row(3, 3006, "api", "/home/me/blog")});
    REQUIRE(answer.imported.size() == 2);
    CHECK(world.registry.find_project("/home/me/shop")->block == PortInterval{3000, 3099});
    CHECK(world.registry.find_project("/home/me/blog")->block == PortInterval{3100, 3199});
    CHECK(answer.imported[1].range == "block");
    REQUIRE(answer.refused.size() == 1);
    CHECK(answer.refused[0].reason == "port 3006 is in the block of project \"shop\"");
    // Again: nothing changes, the blocks stay.
    CHECK(decide_import(world.registry, world.config, {row(1, 3005, "web")}, {}, true, world.facts()).changes.empty());
}

TEST_CASE("an imported row that was active and that nobody runs ends with its inactivity", "[exchange]") {
    World world;
    auto running = row(1, 3005, "web");
    running.state = LeaseState::active;
    running.last_active_at = k_now - 24h * 100;
    world.import({running});
    auto later = world.facts();
    CHECK(decide_expiry(world.registry, world.config, later).changes.empty());
    later.now += 24h * 8;
    CHECK(decide_expiry(world.registry, world.config, later).changes.size() == 1);
    // A comparison with the system knows better than the file.
    Census census;
    census.is_alive = [](const ProcessId&) { return false; };
    world.apply(decide_census(world.registry, world.config, census, world.facts()));
    CHECK(world.registry.leases().begin()->second.state == LeaseState::allocated);
    CHECK(world.registry.leases().begin()->second.health == Health::not_running);
}
