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
    made.project = std::make_shared<const Project>(Project{root, root.substr(root.rfind('/') + 1), std::nullopt, std::nullopt, "", ""});
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
    auto database = row(5, 5433, "NULL");
    database.kind = "database";
    database.description = "\\N";
    auto tested = row(6, 7003, "tested");
    tested.environment = Environment::test;
    auto api = row(7, 3050, "api");
    api.range = "api";
    auto other = row(8, 3051, "other");
    other.range = "default";
    const std::vector rows{web, second, quic, kept, database, tested, api, other};
    const auto answer = world.import(rows);
    REQUIRE(answer.refused.empty());
    REQUIRE(answer.imported.size() == rows.size());
    std::vector<std::string> ranges;
    for (const auto& lease : answer.imported) { ranges.push_back(lease.range); }
    REQUIRE(ranges == std::vector<std::string>{"node", "node", "node", "python", "database", "test", "api", "default"});
    return world;
}

/// What a file says about its rows is compared without their positions.
std::vector<ImportRow> unnumbered(std::vector<ImportRow> rows) {
    for (auto& entry : rows) {
        entry.row = 0;
        entry.project = std::make_shared<const Project>(Project{entry.directory, entry.name, std::nullopt, std::nullopt, "", ""});
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
        if (format == ExportFormat::markdown) {  // a table for people leaves out by whom, and when it was used last
            after.allocated_by = before.allocated_by;
            after.last_active_at = before.last_active_at;
        }
        CHECK(before == after);
    }
}

TEST_CASE("an import of what is there already changes nothing", "[exchange]") {
    auto world = furnished();
    const auto rows = read(world.text(ExportFormat::json));
    const auto decision = decide_import(world.registry, world.config, unnumbered(rows.rows), {}, true, world.facts());
    CHECK(decision.changes.empty());
    CHECK(decision.answer.imported.size() == world.all().size());
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

TEST_CASE("an .env file loses no service whose variable another one has, and says what it cannot write", "[exchange]") {
    World world;
    world.import({row(1, 3001, "my-api"), row(2, 3002, "my_api"), row(3, 3003, "a|b"), row(4, 3004, "a,b"), row(5, 3005, "my-api-2"), row(6, 3006, "main")});
    auto second = row(7, 3007, "my_api");
    second.instance = 1;
    auto third = row(8, 3008, "a|b");
    third.instance = 2;
    world.import({second, third});
    const auto text = world.text(ExportFormat::env);
    CHECK(text == "# service: my-api\nMY_API_PORT=3001\n# service: my_api\nMY_API_3_PORT=3002\n# service: a|b\nA_B_PORT=3003\n# service: a,b\nA_B_2_PORT=3004\n"
                  "# service: my-api-2\nMY_API_2_PORT=3005\nPORT=3006\nMY_API_PORT_2=3007\n# service: a|b\nA_B_PORT_3=3008\n");
    World other;
    const auto rows = read(text);
    CHECK(rows.format == ImportFormat::env);
    auto given = rows.rows;
    for (auto& entry : given) { entry.project = row(0, 1, "x").project; }
    CHECK(other.import(given, true, rows.refused).refused.empty());
    REQUIRE(other.all().size() == world.all().size());
    for (std::size_t i = 0; i < world.all().size(); ++i) { CHECK(*world.all()[i] == *other.all()[i]); }

    auto quic = row(1, 3001, "my-api");
    quic.protocol = Protocol::udp;
    world.import({quic, row(2, 3010, "main", "/home/me/blog")});
    const auto more = world.text(ExportFormat::env);
    CHECK(more.find("\n# not written: my-api 3001/udp; MY_API_PORT is 3001\n") != std::string::npos);
    CHECK(more.find("\n# not written: main 3010 of project \"blog\"; PORT is 3006 of project \"shop\"\n") != std::string::npos);
    CHECK(read(more).rows.size() == given.size());
}

TEST_CASE("the range of a row is the file's where it is one here, else the one that would have served it", "[exchange]") {
    const auto range_of = [](Port port, const std::string& range, std::optional<std::string> kind = std::nullopt, Environment environment = Environment::dev) {
        auto made = row(1, port, "web");
        made.range = range;
        made.kind = std::move(kind);
        made.environment = environment;
        World world;
        return world.import({made}).imported.at(0).range;
    };
    CHECK(range_of(3050, "api") == "api");
    CHECK(range_of(3050, "default") == "default");
    CHECK(range_of(3050, "nobody's") == "node");
    CHECK(range_of(3050, "database") == "node");  // which has not this port
    CHECK(range_of(5433, "", "database") == "database");
    CHECK(range_of(7001, "", std::nullopt, Environment::test) == "test");
    CHECK(range_of(3001, "", std::nullopt, Environment::test) == "node");
    CHECK(range_of(6800, "") == "default");
    CHECK(range_of(20000, "").empty());

    World world;
    auto first = row(1, 3050, "web");
    first.range = "api";
    world.import({first});
    first.range.clear();
    CHECK(world.import({first}).imported.at(0).range == "api");
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
    const auto named = read(R"({"applications":{"abc":{"name":"shop"},"abd":"wiki","blog":{"port":3000},"wiki":3001,"x":[3002,{"name":"y"}]}})");
    REQUIRE(named.rows.size() == 3);
    CHECK(named.rows[0].name == "blog");
    CHECK(named.rows[1].name == "wiki");
    CHECK(named.rows[2].name == "x");
    REQUIRE(named.refused.size() == 3);
    CHECK(named.refused[0].reason.starts_with("\"abc\" is not a port"));
    CHECK(named.refused[1].reason.starts_with("\"abd\" is not a port"));
    CHECK(named.refused[2].reason.starts_with("\"x\" is not a port"));
}

TEST_CASE("the row of an object is its position in the file, whatever its key", "[exchange]") {
    const auto rows = read(R"({"ports":{"zoo":{"port":0},"shop":3001,"blog":{"port":"x"},"alpha":{"port":3002},"mid":{}},"other":{"a":1}})");
    REQUIRE(rows.rows.size() == 2);
    CHECK(std::pair(rows.rows[0].row, rows.rows[0].name) == std::pair(2, std::string("shop")));
    CHECK(std::pair(rows.rows[1].row, rows.rows[1].name) == std::pair(4, std::string("alpha")));
    REQUIRE(rows.refused.size() == 3);
    CHECK(rows.refused[0].row == 1);
    CHECK(rows.refused[1].row == 3);
    CHECK(rows.refused[2].row == 5);
    const auto applications = read(R"({"applications":{"9000":{"name":"a"},"10":{"name":"b","status":"released"},"8000":{"name":"c"}}})");
    REQUIRE(applications.refused.size() == 1);
    CHECK(applications.refused[0].row == 2);
    REQUIRE(applications.rows.size() == 2);
    CHECK(applications.rows[0].port == 9000);
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

TEST_CASE("what psql prints is read without its frame", "[exchange]") {
    const auto aligned = read(" port | project_name \n------+--------------\n 3000 | shop\n 3001 | \n(2 rows)\n\n");
    CHECK(aligned.format == ImportFormat::csv);
    CHECK(aligned.refused.empty());
    REQUIRE(aligned.rows.size() == 2);
    CHECK(aligned.rows[0].name == "shop");
    CHECK(aligned.rows[0].row == 3);
    const auto one = read(" port \n------\n 3000\n(1 row)\n");
    CHECK(one.refused.empty());
    CHECK(one.rows.size() == 1);
    const auto framed = read("+------+------+\n| port | name |\n+------+------+\n| 3000 | x    |\n+------+------+\n(1 row)\n");
    CHECK(framed.refused.empty());
    CHECK(framed.rows.size() == 1);
    CHECK(read("| port | name |\n|------+------|\n| 3000 | x    |\n(1 row)\n").rows.size() == 1);
    CHECK(read("| port |\n| 3000 |\n| 3001 |\n").rows.size() == 2);
    CHECK(read("port,project\n---,shop\n").refused.size() == 1);
}

TEST_CASE("rows without titles are refused with what is missing", "[exchange]") {
    for (const auto* text : {"3000,web", "\nweb;3000\napi;3001\n", "| web | 3000 |\n", "3000\n"}) {
        CAPTURE(text);
        const auto rows = read_rows(text, std::nullopt);
        REQUIRE_FALSE(rows);
        CHECK(rows.error().message.find("the first line must name the columns") != std::string::npos);
        CHECK(read_rows(text, ImportFormat::csv).error().message == rows.error().message);
    }
}

TEST_CASE("a host's name and a reservation's end are checked", "[exchange]") {
    const auto rows = read("port,hostname,state,expires_at\n3000,*.shop_1.example-2.org,,\n3001,a b,,\n3002,\"x\ny\",,\n3003," + std::string(254, 'a') +
                           ",,\n3004,http://x/,,\n3005,,reserved,soon\n3006,,allocated,soon\n");
    REQUIRE(rows.rows.size() == 2);
    CHECK(rows.rows[0].hostname == "*.shop_1.example-2.org");
    CHECK(rows.rows[1].port == 3006);
    REQUIRE(rows.refused.size() == 5);
    CHECK(rows.refused[0].reason.starts_with("\"a b\" is not a host's name"));
    CHECK(rows.refused[4].reason.find("\"soon\"") != std::string::npos);
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

TEST_CASE("a row is about the record of its role: a living one first, with its number or with none", "[exchange]") {
    World world;
    auto numbered = row(1, 3001, "web");
    numbered.requested = 3000;
    auto other = row(2, 3002, "web");
    other.requested = 4000;
    auto third = row(3, 3003, "web");
    third.instance = 1;
    auto udp = row(4, 3004, "web");
    udp.protocol = Protocol::udp;
    const auto first = world.import({numbered, other, third, udp, row(5, 3005, "api")});
    REQUIRE(first.imported.size() == 5);
    const auto id_of = [&](ImportRow asked, std::optional<Port> number, int instance = 0) {
        asked.requested = number;
        asked.instance = instance;
        const auto decision = decide_import(world.registry, world.config, {asked}, {}, false, world.facts());
        return decision.answer.imported.empty() ? LeaseId{0} : decision.answer.imported.front().id;
    };
    const auto next = world.registry.next_lease_id();
    CHECK(id_of(row(1, 3001, "web"), 3000) == first.imported[0].id);
    CHECK(id_of(row(1, 3002, "web"), 4000) == first.imported[1].id);
    CHECK(id_of(row(1, 3001, "web"), std::nullopt) == first.imported[0].id);
    CHECK(id_of(row(1, 3002, "web"), std::nullopt) == 0);  // the first has another port
    CHECK(id_of(row(1, 3010, "web"), 5000) == next);
    CHECK(id_of(row(1, 3003, "web"), 5000, 1) == first.imported[2].id);
    CHECK(id_of(row(1, 3005, "api"), 7000) == first.imported[4].id);
    CHECK(id_of(row(1, 3010, "web", "/home/me/blog"), std::nullopt) == next);
    auto released = first.imported[0];
    released.state = LeaseState::released;
    world.apply({LeaseEvent{LeaseChange::released, released}});
    CHECK(id_of(row(1, 3002, "web"), std::nullopt) == first.imported[1].id);  // the living one
    CHECK(id_of(row(1, 3011, "web"), 3000) == first.imported[0].id);          // remembered: it may have another port now
}

TEST_CASE("an import's changes take no more memory than one import may, however deep its projects lie", "[exchange]") {
    const auto rows_of = [](const std::string& root) {
        std::vector<ImportRow> rows;
        for (int i = 0; i < static_cast<int>(k_import_rows); ++i) {
            auto made = row(i, static_cast<Port>(10'000 + i), "web", root);
            if (i > 0) { made.project = rows.front().project; }
            made.instance = i;
            made.description = std::string(1024, 'd');
            rows.push_back(std::move(made));
        }
        return rows;
    };
    World world;
    CHECK(world.import(rows_of("/home/me/projects/with/a/usual/name")).imported.size() == k_import_rows);
    const auto refused = decide_import(World().registry, world.config, rows_of("/" + std::string(3700, 'd')), {}, false, world.facts());
    CHECK(refused.answer.too_much);
    CHECK(refused.answer.imported.empty());
    CHECK(refused.changes.empty());
    // What is there already takes nothing.
    const auto again = decide_import(world.registry, world.config, rows_of("/home/me/projects/with/a/usual/name"), {}, false, world.facts());
    CHECK(again.answer.imported.size() == k_import_rows);
    CHECK(again.changes.empty());
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

TEST_CASE("of a file no more is kept than an import may have", "[exchange]") {
    const auto problem_of = [](const std::string& text) {
        const auto read = read_rows(text, std::nullopt);
        return read ? "rows: " + std::to_string(read->rows.size()) : read.error().message;
    };
    const auto repeated = [](std::size_t count, const auto& text_of) {
        std::string text;
        for (std::size_t i = 0; i < count; ++i) { text += (i == 0 ? "" : ",") + text_of(i); }
        return text;
    };
    const std::string too_many = "it has more than 4000 rows; import it in parts";
    std::string csv = "port,service\n";
    for (std::size_t i = 0; i < k_import_rows; ++i) { csv += "3000,web\n"; }
    CHECK(problem_of(csv) == "rows: 4000");
    CHECK(problem_of(csv + "3000,web\n") == too_many);
    CHECK(problem_of("a,port\n1,3000," + std::string(100'000, ',')) == "rows: 0");
    CHECK(problem_of("port" + std::string(300, ',') + "\n") == "it has more than 256 columns");
    std::string env;
    for (std::size_t i = 0; i <= k_import_rows; ++i) { env += "A" + std::to_string(i) + "_PORT=3000\n"; }
    CHECK(problem_of(env) == too_many);
    const auto row = [](std::size_t) { return std::string(R"({"port":3000,"service":"web"})"); };
    CHECK(problem_of("{\"leases\":[" + repeated(k_import_rows, row) + "]}") == "rows: 4000");
    CHECK(problem_of("{\"leases\":[" + repeated(k_import_rows + 1, row) + "]}") == too_many);
    CHECK(problem_of("{\"leases\":[" + repeated(k_import_rows + 1, [](std::size_t) { return std::string("0"); }) + "]}") == too_many);
    CHECK(problem_of("{\"ports\":{" + repeated(k_import_rows + 1, [](std::size_t i) { return "\"p" + std::to_string(i) + "\":[]"; }) + "}}") == too_many);
    CHECK(problem_of("{\"ports\":{\"shop\":[" + repeated(k_import_rows + 1, row) + "]}}") == too_many);
    const auto nested = [](std::size_t) { return R"({"port":3000,"project":{"name":")" + std::string(2000, 'x') + "\"}}"; };
    CHECK(problem_of("{\"leases\":[" + repeated(3000, nested) + "]}") == "there is too much in it; import it in parts");
}

TEST_CASE("what a file has beside its rows, and in them beside their fields, is left out", "[exchange]") {
    const auto rows = read(R"({"history":[[1,{"port":1,"port":2}],{"leases":[{"port":4000}]}],"leases":[
        {"port":3010,"service":"web","holder":{"pid":1,"port":77},"sockets":[{"port":78},[79]],"project":{"name":"shop","more":{"name":"no"}}},
        {"service":"api","tags":["port",{"port":80}],"port":3011,"port_of":[3012]},
        [3013],[{"port":3014}],
        {"port":[3015]},
        {"port":3016,"service":"db"}],"also":{"leases":[{"port":4001}]}})");
    REQUIRE(rows.rows.size() == 3);
    CHECK(rows.rows[0].name == "shop");
    CHECK(rows.rows[0].port == 3010);
    CHECK(rows.rows[1].port == 3011);
    CHECK(rows.rows[1].service == "api");
    CHECK(rows.rows[2].port == 3016);
    CHECK(rows.rows[2].row == 6);
    REQUIRE(rows.refused.size() == 3);
    CHECK(rows.refused[0].row == 3);
    CHECK(rows.refused[2] == RefusedRow{5, "there is no port"});
}

TEST_CASE("of several names for one field of a row the last in the order of their bytes counts, and what is an object or a list is none", "[exchange]") {
    const auto rows = read(R"({"leases":[
        {"port":3010,"PORT":3011,"Port":{"port":1},"service":[],"SERVICE":"api","Service":"web","sErvice":{}},
        {"port":3012,"Project":"no","project":{"name":"shop","root":"/home/me/shop","NAME":"no"},"ROOT":"/no"},
        {"port":3013,"project":{"name":"no","root":"/no"},"root":"/home/me/blog","project ":"blog","service":null}]})");
    CHECK(rows.refused.empty());
    REQUIRE(rows.rows.size() == 3);
    CHECK(std::pair(rows.rows[0].port, rows.rows[0].service) == std::pair(Port{3010}, std::string("web")));
    CHECK(std::pair(rows.rows[1].name, rows.rows[1].directory) == std::pair(std::string("shop"), std::string("/home/me/shop")));
    CHECK(std::pair(rows.rows[2].name, rows.rows[2].directory) == std::pair(std::string("blog"), std::string("/home/me/blog")));
    CHECK(rows.rows[2].service == "main");
    const auto applications = read(R"({"applications":{"3000":{"Project":"no","name":"shop"},"3001":{"name":"no","project":"blog"},"3002":{"name":"no","project":[]}}})");
    REQUIRE(applications.rows.size() == 3);
    CHECK(applications.rows[0].name == "shop");
    CHECK(applications.rows[1].name == "blog");
    CHECK(applications.rows[2].name.empty());
}

TEST_CASE("a row with a hundred thousand names for one field is read like any other", "[exchange]") {
    std::string text = R"({"leases":[{"port":3000)";
    for (unsigned spelling = 0; spelling < 100'000; ++spelling) {
        std::string name = "cloudflare_hostname";
        for (unsigned letter = 0; letter < 17; ++letter) {
            const auto at = letter < 10 ? letter : letter + 1;  // not the underline
            if ((spelling >> letter & 1) != 0) { name[at] = static_cast<char>(name[at] - ('a' - 'A')); }
        }
        text += ",\"" + name + "\":{}";
    }
    const auto rows = read(text + "}]}");
    CHECK(rows.refused.empty());
    CHECK(rows.rows.size() == 1);
}

TEST_CASE("a file is read no further than to the first thing that is wrong", "[exchange]") {
    for (const auto* begins : {R"({"x":)", R"({"leases":)", R"({"leases":[{"port":)"}) {
        CAPTURE(begins);
        for (const auto* level : {"[", R"({"a":)"}) {
            std::string text = begins;
            for (int i = 0; i < 100; ++i) { text += level; }
            CHECK(read_rows(text, std::nullopt).error().message == "it is nested deeper than 16 levels");
        }
    }
    CHECK(read_rows(R"({"leases":[{"port":1,"port":2}],)", std::nullopt).error().message == "the key \"port\" stands twice");
    CHECK(read_rows(R"({"leases":[{"port":1}],"leases":[[[[[[[[[[[[[[[[[[[)", std::nullopt).error().message == "the key \"leases\" stands twice");
    CHECK(read_rows(R"({"leases":[{"port":1e999}]})", std::nullopt).error().message == "it is not JSON");
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

TEST_CASE("a project's name says nothing in a snippet but itself", "[exchange]") {
    CHECK(host_of("My Shop") == "my-shop.localhost");
    CHECK(host_of("shop; location /api { root /; } #") == "shop-location-api-root.localhost");
    CHECK(host_of("..a..b.") == "a.b.localhost");
    CHECK(host_of("\xc3\xa9") == "project.localhost");
    CHECK(plain_name("caf\xc3\xa9/web-1 @x") == "caf\xc3\xa9/web-1 @x");
    CHECK(plain_name("a\"b`c${d}\ne") == "a-b-c--d--e");
    const auto unit = fill_template(*find_template("systemd"), {3007, 3000, "web", "WEB_PORT", "100%h", "/home/me/100%h", "shop.localhost"});
    CHECK(unit.find("WorkingDirectory=/home/me/100%%h\n") != std::string::npos);
    CHECK(unit.find("Description=100%%h web") != std::string::npos);
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

TEST_CASE("tables that people show on a terminal have no control characters, whatever names they hold", "[exchange]") {
    World world;
    auto evil = row(1, 3001, "web", "/home/me/\x1b[2Jevil\n\xc2\x9b" "31m");
    evil.description = "bell \x07 and\nline";
    world.import({evil});
    for (const auto format : {ExportFormat::csv, ExportFormat::markdown}) {
        const auto text = world.text(format);
        CHECK(text.find("evil") != std::string::npos);
        CHECK(std::none_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ' && c != '\n') || c == '\x7f'; }));
        CHECK(text.find("\xc2\x9b") == std::string::npos);
        CHECK(std::count(text.begin(), text.end(), '\n') == (format == ExportFormat::csv ? 2 : 3));
    }
    const auto own = read(world.text(ExportFormat::json));
    REQUIRE(own.rows.size() == 1);
    CHECK(own.rows[0].directory == evil.directory);
}
