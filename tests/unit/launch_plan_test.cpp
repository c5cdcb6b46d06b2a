// What a launch offers, sets and says.
#include <catch2/catch.hpp>

#include <algorithm>

#include "core_world.hpp"
#include "service/launch_plan.hpp"

using namespace portwrap;
using test::service;
using namespace std::chrono_literals;

namespace {
Facts quiet_facts() {
    Facts facts;
    facts.now = Time{1'000'000'000s};
    facts.boot_id = "boot";
    facts.ephemeral = {32768, 60999};
    facts.in_use = [](Port, bool, bool) { return false; };
    return facts;
}
LaunchRequest launch(std::vector<std::string> command) {
    LaunchRequest request;
    request.command = std::move(command);
    request.session.id = request.session.outermost = {100, 1};
    request.session.root = "/a";
    request.place.project.root = "/a";
    request.place.project.name = "a";
    request.place.type = "node";
    return request;
}
/// As session.open makes it: with what the words say.
std::variant<LaunchPlan, Refusal> planned(const Registry& registry, LaunchRequest request, bool workspace_root = false) {
    request.traits = traits_of_launch(request.command, request.script, {}, workspace_root);
    return plan_launch(registry, default_config(), request, quiet_facts());
}
LaunchPlan plan(const LaunchRequest& request) { return std::get<LaunchPlan>(planned({}, request)); }
}  // namespace

TEST_CASE("a plain command is run as it is, with nothing set", "[launch]") {
    const auto made = plan(launch({"npm", "run", "dev"}));
    CHECK(made.command == std::vector<std::string>{"npm", "run", "dev"});
    CHECK(made.set.empty());
    CHECK(made.changes.size() == 1);
}

TEST_CASE("{port} is replaced by the service's port, everywhere by the same", "[launch]") {
    const auto made = plan(launch({"serve", "-l", "{port}", "http://localhost:{port}/", "{port:api}", "{portable}", "{"}));
    CHECK(made.command == std::vector<std::string>{"serve", "-l", "3000", "http://localhost:3000/", "4000", "{portable}", "{"});
}

TEST_CASE("PORT is set only where it is known to be read, and never over the user's", "[launch]") {
    auto request = launch({"npm", "run", "dev"});
    request.script = "next dev -p $PORT";
    CHECK(plan(request).set == std::vector<std::pair<std::string, std::string>>{{"PORT", "3000"}});
    request.environment_names = {"PORT"};
    CHECK(plan(request).set.empty());
    request.environment_names.clear();
    request.script = "PORT=3005 next dev";
    CHECK(plan(request).set.empty());
}

TEST_CASE("configured variables and templates carry the assigned ports", "[launch]") {
    auto request = launch({"npm", "start"});
    auto api = service("api", 4000);
    api.env = "API_PORT";
    request.place.config.services = {api};
    request.place.config.env = {{"API_URL", "http://localhost:${api}/${other}"}};
    const auto made = plan(request);
    CHECK(made.set == std::vector<std::pair<std::string, std::string>>{{"API_PORT", "4000"}, {"API_URL", "http://localhost:4000/${other}"}});
}

TEST_CASE("-p that cannot be had is refused with suggestions", "[launch]") {
    auto request = launch({"npm", "start"});
    request.session.port = Port{2601};
    const auto refused = std::get<Refusal>(planned({}, request));
    CHECK(refused.code == ErrorCode::system_reserved);
    CHECK(refused.suggestions.size() == 3);
}

namespace {
using Set = std::vector<std::pair<std::string, std::string>>;
/// A registry in which a stranger's project has these ports, listening.
Registry with_taken(std::vector<Port> ports) {
    Registry registry;
    std::vector<Change> changes;
    LeaseId id = 1;
    for (const auto port : ports) {
        Lease lease;
        lease.id = id++;
        lease.key = {"/other", "main", Protocol::tcp, port, 0};
        lease.port = port;
        lease.state = LeaseState::active;
        lease.listened = true;
        lease.sockets = {{id, true, true}};
        lease.boot_id = "boot";
        changes.emplace_back(LeaseEvent{LeaseChange::allocated, lease});
    }
    for (const auto& event : registry.stamp(changes, quiet_facts().now)) { registry.apply(event); }
    return registry;
}
LaunchPlan plan(const Registry& registry, const LaunchRequest& request) {
    return std::get<LaunchPlan>(planned(registry, request));
}
/// What an earlier run of `launch` in `root` left behind.
void remember(Registry& registry, const std::string& root, const std::string& launch, Port asked, Port got, const std::string& service = "main",
              std::optional<std::string> kind = std::nullopt) {
    Lease lease;
    lease.id = registry.next_lease_id();
    lease.key = {root, service, Protocol::tcp, asked, 0};
    lease.port = got;
    lease.state = LeaseState::released;
    lease.listened = lease.claimed = true;
    lease.started_by = launch;
    lease.kind = std::move(kind);
    for (const auto& event : registry.stamp({LeaseEvent{LeaseChange::released, lease}}, quiet_facts().now)) { registry.apply(event); }
}
}  // namespace

TEST_CASE("the default that a script gives its PORT is what a program asks for that nothing is known of", "[launch]") {
    auto request = launch({"npm", "run", "api"});
    const auto offered = [&](const Registry& registry) {
        const auto made = plan(registry, request);
        REQUIRE(made.changes.size() == 2);
        const auto& lease = std::get<LeaseEvent>(made.changes[1]).lease;
        CHECK(made.set.front().second == std::to_string(lease.port));
        return std::pair(lease.key.requested.value_or(0), lease.port);
    };
    const auto taken = with_taken({4000});
    for (const auto* script : {"node api.js --port=${PORT:-4000}", "php -S localhost:${PORT:-4000}", "rails s -p ${PORT-4000}", "npm run x\nnode x.js ${PORT:-4000}",
                               "tsc && node x.js \"${PORT:-4000}\"", "node x.js --from ${PORT:-3000} --to ${PORT:-4000}", "FLASK_DEBUG=1 python3 run.py ${FLASK_RUN_PORT:-4000}"}) {
        CAPTURE(script);
        request.script = script;
        CHECK(offered(Registry{}) == std::pair<Port, Port>(4000, 4000));
        CHECK(offered(taken).first == 4000);
        CHECK(offered(taken).second != 4000);
    }
    const auto explained = [&](const std::string& line) {
        const auto made = plan(request);
        return std::count(made.explain.begin(), made.explain.end(), line) == 1;
    };
    request = launch({"sh", "-c", "node api.js --port=${PORT:-4000}"});
    CHECK(explained("asks for: port 4000 (the command)"));
    request.environment_names = {"PORT"};
    request.environment_ports = {{"PORT", 5050}};
    CHECK(explained("asks for: port 5050 (PORT in the environment)"));
    CHECK(plan(request).set.empty());
    request.environment_ports.clear();  // no port, but the user's
    CHECK_FALSE(explained("asks for: port 4000 (the command)"));
}

TEST_CASE("a default in a script says nothing where something better does, or where it is no port", "[launch]") {
    auto request = launch({"npm", "run", "dev"});
    const auto asked = [&] {
        const auto made = plan(request);
        const auto line = std::find_if(made.explain.begin(), made.explain.end(), [](const std::string& one) { return one.starts_with("asks for: "); });
        return line != made.explain.end() ? *line : std::string();
    };
    for (const auto* script : {"node api.js --port=$PORT", "node api.js ${PORT:-x}", "node api.js ${PORT:-localhost:4000}", "node api.js ${PORT:-70000}", "node api.js ${API_PORT:-4000}",
                               "concurrently 'node a.js ${PORT:-4000}' 'node b.js'", "node a.js ${PORT:-4000} & node b.js"}) {
        CAPTURE(script);
        request.script = script;
        CHECK(asked().empty());
    }
    request.script = "vite --open http://localhost:${PORT:-4000}";
    CHECK(asked() == "asks for: port 5173 (vite)");
    request.script = "PORT=${PORT:-4000} node x.js --peer ${PORT:-3000}";
    CHECK(asked() == "asks for: port 4000 (the command)");
    request.script = "node server.js ${PORT:-4000}";
    request.env_files = {{".env.dev", "PORT", "4100", true}};  // loaded before the script's shell runs
    CHECK(asked() == "asks for: port 4100 (.env.dev)");
    request.env_files.clear();
    request.place.config.services = {service("api", 4000)};
    CHECK(plan(request).service == "api");
    request.place.config.services = {service("web", std::nullopt)};
    CHECK(plan(request).service == "web");
    CHECK(asked() == "asks for: port 4000 (the command)");
    request.place.config.services = {service("web", 3000)};
    CHECK(plan(request).service == "main");
}

TEST_CASE("a framework's own variable is set when its natural port is somebody else's", "[launch]") {
    const auto taken = with_taken({3000, 5000, 8000, 8080});
    auto request = launch({"npm", "run", "dev"});
    request.script = "next dev";
    CHECK(plan(taken, request).set == Set{{"PORT", "3001"}});
    request.script = "react-scripts start";
    CHECK(plan(taken, request).set == Set{{"PORT", "3001"}, {"WDS_SOCKET_PORT", "0"}});
    request.script = "webpack serve";
    CHECK(plan(taken, request).set.front().first == "WEBPACK_DEV_SERVER_BASE_PORT");
    CHECK(plan(taken, launch({"flask", "--app", "x", "run"})).set.front().first == "FLASK_RUN_PORT");
    request.script = "vite";  // takes its port from no variable
    CHECK(plan(with_taken({5173}), request).set.empty());
}

TEST_CASE("where the natural port is free nothing is set, and it is kept only while the program starts", "[launch]") {
    auto request = launch({"npm", "run", "dev"});
    request.script = "next dev";
    const auto made = plan(Registry{}, request);
    CHECK(made.set.empty());
    REQUIRE(made.changes.size() == 2);
    const auto& kept = std::get<LeaseEvent>(made.changes[1]).lease;
    CHECK(kept.port == 3000);
    CHECK(kept.key.requested == Port{3000});
    CHECK(kept.expires_at.has_value());
    CHECK_FALSE(kept.sockets.size() > 0);
}

TEST_CASE("the offered port is recorded under the natural one, so that connections to that are mapped", "[launch]") {
    auto request = launch({"npm", "run", "dev"});
    request.script = "next dev";
    const auto made = plan(with_taken({3000}), request);
    REQUIRE(made.changes.size() == 2);
    const auto& offered = std::get<LeaseEvent>(made.changes[1]).lease;
    CHECK(offered.key.requested == Port{3000});
    CHECK(offered.port == 3001);
    CHECK_FALSE(offered.expires_at.has_value());
}

TEST_CASE("no variable is set for several servers, for a port in the words, or over the user's", "[launch]") {
    const auto taken = with_taken({3000});
    auto request = launch({"npm", "run", "dev"});
    for (const auto* script : {"concurrently 'next dev' 'node api.js'", "next dev -p 3000", "PORT=3000 next dev", "next build", "node api.js & next dev"}) {
        CAPTURE(script);
        request.script = script;
        CHECK(plan(taken, request).set.empty());
    }
    request.script = "next dev";
    CHECK(std::get<LaunchPlan>(planned(taken, request, true)).set.size() == 1);  // the script itself says that it runs one
    request.environment_names = {"PORT"};
    CHECK(plan(taken, request).set.empty());
    request.script = "nuxt dev";  // reads PORT, too: NUXT_PORT would overrule the user
    CHECK(plan(taken, request).set.empty());
}

TEST_CASE("what a command asked for before, here or in a sibling, is its natural port", "[launch]") {
    auto request = launch({"node", "server.js"});
    request.session.command = "node server.js";
    request.session.cwd = "/a";
    Registry registry;
    CHECK(plan(registry, request).set.empty());
    remember(registry, "/a", "node server.js", 3000, 3005);
    CHECK(plan(registry, request).set == Set{{"PORT", "3005"}});
    CHECK(plan(registry, launch({"node", "other.js"})).set.empty());

    Registry other;
    Project sibling;
    sibling.root = "/b";
    sibling.family = request.place.project.family = "git:/a/.git";
    for (const auto& event : other.stamp({ProjectSeen{sibling}}, quiet_facts().now)) { other.apply(event); }
    remember(other, "/b", "node server.js", 3000, 3000);
    CHECK(plan(other, request).set == Set{{"PORT", "3001"}});
}

TEST_CASE("two services of one launch at a time end cooperation with it, a run with another number does not", "[launch]") {
    auto request = launch({"node", "server.js"});
    request.session.command = "node server.js";
    request.session.cwd = "/a";
    auto registry = with_taken({3000, 3777});
    remember(registry, "/a", "node server.js", 3000, 3005);
    remember(registry, "/a", "node server.js", 3777, 3006);
    auto later = *registry.find({"/a", "main", Protocol::tcp, Port{3777}, 0});
    later.last_active_at = quiet_facts().now + 5s;
    for (const auto& event : registry.stamp({LeaseEvent{LeaseChange::updated, later}}, quiet_facts().now)) { registry.apply(event); }
    CHECK(plan(registry, request).set == Set{{"PORT", "3006"}});  // its code names another number by now
    later.beside = true;
    for (const auto& event : registry.stamp({LeaseEvent{LeaseChange::updated, later}}, quiet_facts().now)) { registry.apply(event); }
    CHECK(plan(registry, request).set.empty());
}

TEST_CASE("a run whose port the user said is another command than one without", "[launch]") {
    CHECK(session_command({"npm", "start"}, {}) == "npm start");
    CHECK(session_command({"npm", "start"}, {{"PORT", 3777}, {"PGPORT", 5432}}) == "PORT=3777 npm start");
}

TEST_CASE("a port of the user's environment is what the program asks for, and is said", "[launch]") {
    auto request = launch({"uvicorn", "app:app"});
    request.environment_names = {"PORT", "UVICORN_PORT"};
    request.environment_ports = {{"PORT", 8124}, {"UVICORN_PORT", 8123}};
    auto made = plan(request);
    CHECK(made.set.empty());
    CHECK(std::count(made.explain.begin(), made.explain.end(), "asks for: port 8123 (UVICORN_PORT in the environment)") == 1);
    request = launch({"node", "server.js"});
    request.environment_names = {"PORT"};
    request.environment_ports = {{"PORT", 5050}};
    made = plan(request);
    CHECK(std::count(made.explain.begin(), made.explain.end(), "asks for: port 5050 (PORT in the environment)") == 1);
    request.command = {"vite"};  // reads no variable
    made = plan(request);
    CHECK(std::count(made.explain.begin(), made.explain.end(), "asks for: port 5173 (vite)") == 1);
}

TEST_CASE("gunicorn is told nothing, for with PORT it would listen on every address", "[launch]") {
    auto request = launch({"gunicorn", "app:app"});
    request.session.command = "gunicorn app:app";
    request.session.cwd = "/a";
    auto registry = with_taken({8000});
    remember(registry, "/a", "gunicorn app:app", 8000, 5001);
    CHECK(plan(registry, request).set.empty());
    request.session.port = Port{8200};
    CHECK(plan(registry, request).set.empty());
    request.session.port.reset();
    request.command = {"sh", "-c", "gunicorn -b 127.0.0.1:$PORT app:app"};
    CHECK(plan(registry, request).set == Set{{"PORT", "5001"}});  // the command says where it goes
}

TEST_CASE("a server on a Unix socket is told of no port", "[launch]") {
    const auto taken = with_taken({8000});
    for (const std::vector<std::string>& command : {std::vector<std::string>{"uvicorn", "app:app", "--uds", "/tmp/x"}, {"uvicorn", "app:app", "--uds=/tmp/x"}}) {
        const auto made = plan(taken, launch(command));
        CHECK(made.set.empty());
        CHECK(made.changes.size() == 1);
    }
    CHECK(plan(taken, launch({"uvicorn", "app:app"})).set.size() == 1);
}

namespace {
std::string service_of_launch(std::vector<ServiceConfig> services, std::vector<std::string> command, const std::string& script = "") {
    auto request = launch(std::move(command));
    request.script = script;
    request.place.config.services = std::move(services);
    return plan(request).service;
}
}  // namespace

TEST_CASE("a command is a configured service's only where something says so", "[launch]") {
    const std::vector<ServiceConfig> api{service("api", 4000)};
    for (const auto& command : {std::vector<std::string>{"node", "web.js"}, {"true"}, {"node", "server.js"}, {"npm", "run", "dev"}, {"vim", "api.js"}, {"npm", "run", "build:api"}, {"npm", "run", "test:api"}}) {
        CAPTURE(command);
        CHECK(service_of_launch(api, command) == "main");
    }
    CHECK(service_of_launch(api, {"npm", "run", "dev"}, "vite") == "main");
    for (const auto& command : {std::vector<std::string>{"node", "api.js"}, {"node", "--watch", "src/api/index.js"}, {"npm", "run", "api"}, {"npm", "run", "dev:api"}, {"make", "api"},
                                {"./bin/api"}, {"python3", "-m", "api"}, {"uvicorn", "api:app"}, {"next", "dev", "-p", "4000"}}) {
        CAPTURE(command);
        CHECK(service_of_launch(api, command) == "api");
    }
    CHECK(service_of_launch(api, {"npm", "run", "dev"}, "node api.js") == "api");
    CHECK(service_of_launch(api, {"npm", "run", "dev"}, "PORT=4000 node x.js") == "api");
    CHECK(service_of_launch({service("api", 4000), service("web", 5173)}, {"npx", "vite"}) == "web");
    CHECK(service_of_launch({service("api", 4000), service("web", 5173)}, {"node", "api-web.js"}) == "main");
}

TEST_CASE("npm hands arguments on after a -- also behind what only runs it", "[launch]") {
    auto request = launch({"timeout", "60", "npm", "start"});
    request.script = "vite";
    request.place.config.services = {service("web", 5173)};
    request.place.config.services.front().args = {"--port", "{port}"};
    CHECK(plan(request).command == std::vector<std::string>{"timeout", "60", "npm", "start", "--", "--port", "5173"});
}

TEST_CASE("what is done before a server starts does not say which it is", "[launch]") {
    std::vector<ServiceConfig> services{service("web", 3000), service("api", 4100), service("db", 5432)};
    services.back().kind = "database";
    for (const auto* script : {"npm run build:api && serve public", "npm run db:start && serve public", "npm run db:start && serve public\npg_ctl start",
                               "npm run build:api && next dev\nnode api.js", "node api.js --migrate && next dev", "next dev"}) {
        CAPTURE(script);
        CHECK(service_of_launch(services, {"npm", "run", "dev"}, script) == "web");
    }
    CHECK(service_of_launch(services, {"npm", "run", "dev"}, "npm run release:api && node server.js") == "main");
    CHECK(service_of_launch(services, {"npm", "run", "dev"}, "npm run prepare && node api.js") == "api");
    CHECK(service_of_launch(services, {"npm", "run", "dev"}, "npm run dev:api\nnode index.js") == "api");
    CHECK(service_of_launch(services, {"npm", "run", "dev"}, "npm run main\nnpm run x && node api.js\nnode web.js") == "api");
    CHECK(service_of_launch(services, {"npm", "run", "dev:api"}, "npm run build && next dev") == "api");
    CHECK(service_of_launch(services, {"npm", "run", "db"}, "vite") == "main");
    CHECK(service_of_launch(services, {"npm", "run", "db"}, "node x.js") == "db");
}

TEST_CASE("a container that is started on the way does not keep a known server from its port", "[launch]") {
    const auto taken = with_taken({3000});
    auto request = launch({"npm", "start"});
    request.script = "docker compose up -d db && react-scripts start";
    CHECK(plan(taken, request).set == Set{{"PORT", "3001"}, {"WDS_SOCKET_PORT", "0"}});
    request.place.config.services = {service("web", 3000)};
    request.script = "docker compose up -d db && node server.js";
    CHECK(plan(taken, request).set.empty());
}

TEST_CASE("a service that is what one sees of the project is what a plain start runs", "[launch]") {
    for (const auto port : {std::optional<Port>(), std::optional<Port>(3000)}) {
        const std::vector<ServiceConfig> web{service("web", port)};
        CHECK(service_of_launch(web, {"npm", "run", "dev"}) == "web");
        CHECK(service_of_launch(web, {"npm", "start"}, "tsc && node dist/server.js") == "web");
        CHECK(service_of_launch(web, {"node", "server.js"}) == "web");
        CHECK(service_of_launch(web, {"node", "seed.js"}) == "main");
        CHECK(service_of_launch(web, {"make", "dev"}) == "main");
        CHECK(service_of_launch(web, {"./dev.sh"}) == "main");
        CHECK(service_of_launch(web, {"npm", "run", "worker"}) == "main");
        CHECK(service_of_launch(web, {"true"}) == "main");
    }
    CHECK(service_of_launch({service("web", 4000)}, {"vite"}) == "main");
    CHECK(service_of_launch({service("a", std::nullopt)}, {"npm", "start"}) == "a");  // the project's own name
}

TEST_CASE("arguments that are meant for one program make no other one the configured service", "[launch]") {
    auto web = service("web", 5173);
    web.args = {"--port", "{port}"};
    CHECK(service_of_launch({web}, {"vite"}) == "web");
    CHECK(service_of_launch({web}, {"npm", "run", "dev"}, "vite") == "web");
    for (const auto& command : {std::vector<std::string>{"uvicorn", "app:app"}, {"flask", "run"}, {"gunicorn", "app:app"}, {"next", "dev"}}) {
        CAPTURE(command);
        CHECK(service_of_launch({web}, command) == "main");
    }
    web.port = 3000;  // where its arguments move it to
    CHECK(service_of_launch({web}, {"npm", "run", "dev"}, "vite") == "web");
    CHECK(service_of_launch({web}, {"uvicorn", "app:app"}) == "main");
    web.port.reset();
    CHECK(service_of_launch({web}, {"vite"}) == "web");
    CHECK(service_of_launch({web}, {"gunicorn", "app:app"}) == "main");  // takes no --port
}

TEST_CASE("another package's server is not the project's own", "[launch]") {
    auto request = launch({"npm", "start"});
    request.place.config.services = {service("web", 3000)};
    request.place.package_dir = "api";
    CHECK(plan(request).service == "api");
    auto api = service("api", 4000);
    api.dir = "api";
    request = launch({"node", "x.js", "--port", "4000"});
    request.script = "PORT=4000 node x.js";
    request.place.config.services = {api};
    CHECK(plan(request).service == "api");
    request.place.package_dir = "docs";
    CHECK(plan(request).service == "docs");
}

TEST_CASE("-p for several servers is no variable, which all of them would take", "[launch]") {
    auto request = launch({"concurrently", "node web.js", "node api.js"});
    request.session.port = Port{3055};
    const auto made = plan(request);
    CHECK(made.set.empty());
    CHECK(made.changes.size() == 2);
    request.command = {"node", "web.js"};
    CHECK(plan(request).set == Set{{"PORT", "3055"}});
}

TEST_CASE("configured arguments are not given to what does not hand them on", "[launch]") {
    auto web = service("web", 5173);
    web.args = {"--port", "{port}"};
    for (const auto& command : {std::vector<std::string>{"make", "dev"}, {"just", "dev"}, {"sh", "-c", "vite"}}) {
        CAPTURE(command);
        auto request = launch(command);
        request.session.service = "web";
        request.place.config.services = {web};
        const auto made = plan(request);
        CHECK(made.command == command);
        REQUIRE(made.notices.size() == 1);
        CHECK(made.notices.front().find("does not hand them on") != std::string::npos);
    }
}

TEST_CASE("the port of another service is the one that it has, whoever runs it", "[launch]") {
    auto request = launch({"node", "web.js"});
    request.session.command = "node web.js";
    request.place.config.services = {service("api", 4000)};
    request.place.config.services.front().env = "API_PORT";
    request.place.config.env = {{"API_URL", "http://localhost:${api}"}};
    Registry registry;
    Lease lease;
    lease.id = registry.next_lease_id();
    lease.key = {"/a", "api", Protocol::tcp, Port{4000}, 0};
    lease.port = 4005;
    lease.state = LeaseState::active;
    lease.listened = true;
    lease.sockets = {{7, true, true}};
    lease.session = ProcessId{55, 1};
    lease.boot_id = "boot";
    lease.started_by = "node api.js";
    for (const auto& event : registry.stamp({LeaseEvent{LeaseChange::activated, lease}}, quiet_facts().now)) { registry.apply(event); }
    const auto made = plan(registry, request);
    CHECK(made.set == Set{{"API_PORT", "4005"}, {"API_URL", "http://localhost:4005"}});
    CHECK(made.changes.size() == 1);
    request.session.command = "node api.js";  // a second copy of what runs there
    CHECK(plan(registry, request).set.front() != std::pair<std::string, std::string>("API_PORT", "4005"));
    request.session.command = "node web.js";
    const auto first = plan(Registry{}, request);
    CHECK(first.set.front() == std::pair<std::string, std::string>("API_PORT", "4000"));
    CHECK(std::get<LeaseEvent>(first.changes[1]).lease.announced);
}

TEST_CASE("docker that cannot be intercepted gets no port unasked, and takes none", "[launch]") {
    for (const auto& command : {std::vector<std::string>{"docker", "compose", "up"}, {"docker", "ps"}, {"podman", "run", "x"}}) {
        auto request = launch(command);
        request.intercepted = false;
        const auto made = plan(request);
        CHECK(made.set.empty());
        CHECK(made.changes.size() == 1);
        CHECK(made.container_client);
    }
}

TEST_CASE("a database or cache is told nothing: it reads no PORT and has a range of its own", "[launch]") {
    auto request = launch({"redis-server"});
    request.session.command = "redis-server";
    request.session.cwd = "/a";
    Registry registry = with_taken({6379});
    remember(registry, "/a", "redis-server", 6379, 6380, "main", "cache");
    const auto made = plan(registry, request);
    CHECK(made.set.empty());
    CHECK(made.changes.size() == 1);
}

TEST_CASE("the type of what a script runs decides the range of its port", "[launch]") {
    auto request = launch({"npm", "run", "api"});
    request.script = "FLASK_DEBUG=1 python3 app.py --port $PORT";
    CHECK(plan(request).set == Set{{"PORT", "5000"}});
}

TEST_CASE("the configured service of a launch is found by its port, or because it is the only one", "[launch]") {
    auto request = launch({"npm", "run", "dev"});
    request.script = "vite";
    auto web = service("web", 5173);
    web.args = {"--port", "{port}"};
    auto api = service("api", 4000);
    api.dir = "api";
    request.place.config.services = {web, api};
    const auto made = plan(with_taken({5173}), request);
    CHECK(made.service == "web");
    CHECK(made.command == std::vector<std::string>{"npm", "run", "dev", "--", "--port", "3000"});
    request.command = {"vite", "--port", "5173"};
    request.script.clear();
    CHECK(plan(with_taken({5173}), request).command == request.command);
    request.command = {"npm", "run", "build"};
    request.script = "vite build";
    CHECK(plan(with_taken({5173}), request).command == request.command);
    request.command = {"pnpm", "dev"};
    request.script = "vite";
    CHECK(plan(with_taken({5173}), request).command == std::vector<std::string>{"pnpm", "dev", "--port", "3000"});
}

TEST_CASE("a framework that insists on a port of its script's that is taken is told of at launch", "[launch]") {
    auto request = launch({"npm", "start"});
    request.script = "PORT=3005 react-scripts start";
    CHECK(plan(Registry{}, request).notices.empty());
    const auto made = plan(with_taken({3005}), request);
    REQUIRE(made.notices.size() == 1);
    CHECK(made.notices.front() == "portwrap: react-scripts runs on no other port than the 3005 that its script sets, and that is taken; write PORT=${PORT:-3005} there");
    CHECK(made.set.empty());
    request.script = "PORT=${PORT:-3005} react-scripts start";
    CHECK(plan(Registry{}, request).set.front() == std::pair<std::string, std::string>("PORT", "3005"));
    CHECK(plan(with_taken({3005}), request).set.front() == std::pair<std::string, std::string>("PORT", "3000"));
}

TEST_CASE("a program that cannot be intercepted is told its port, whatever it asks for", "[launch]") {
    auto request = launch({"./server"});
    request.intercepted = false;
    CHECK(plan(request).set == Set{{"PORT", "3000"}});
    request.environment_names = {"PORT"};
    CHECK(plan(request).set.empty());
}

TEST_CASE("moved ports in .env files are reported, and set where the project says so", "[launch]") {
    Registry registry;
    remember(registry, "/a", "node api.js", 4000, 4003, "api");
    auto request = launch({"npx", "vite"});
    request.env_files = {{".env", "VITE_API_URL", "http://localhost:4000"}, {".env", "OTHER", "http://localhost:9"}};
    const auto made = plan(registry, request);
    REQUIRE(made.notices.size() == 1);
    CHECK(made.notices.front() == "portwrap: .env: VITE_API_URL names port 4000, which is 4003 here; \"rewrite_env\": true in .portwrap.json sets it");
    request.place.config.rewrite_env = true;
    CHECK(plan(registry, request).set == Set{{"VITE_API_URL", "http://localhost:4003"}});
    CHECK(plan(registry, request).notices.empty());
    request.environment_names = {"VITE_API_URL"};
    CHECK(plan(registry, request).set.empty());
    request.env_files = {{".env", "HTTPS_PROXY", "http://localhost:4000"}};
    CHECK(plan(registry, request).set.empty());  // what a repository may not set it may not have set either
}

TEST_CASE("container commands get the configured variables and a hint, never PORT", "[launch]") {
    auto request = launch({"docker", "compose", "up"});
    auto web = service("web", 3000);
    web.env = "WEB_PORT";
    request.place.config.services = {web};
    const auto made = plan(with_taken({3000}), request);
    CHECK(made.set == Set{{"WEB_PORT", "3001"}});
    REQUIRE(made.notices.size() == 1);
    CHECK(made.notices.front().find("${WEB_PORT:-3000}:3000") != std::string::npos);
}

TEST_CASE("what counts as a mention of a variable", "[launch]") {
    for (const auto* text : {"node x --port $PORT", "x ${PORT:-3000}", "listen(process.env.PORT || 4000)", "os.environ['PORT']", "getenv(\"PORT\")",
                             "os.environ.get(\"PORT\")"}) {
        CHECK(mentions_variable(text, "PORT"));
    }
    for (const auto* text : {"", "PORT", "PORT=3000 x", "$PORTAL", "$REPORT", "export PORT", "API_PORT"}) { CHECK_FALSE(mentions_variable(text, "PORT")); }
}
