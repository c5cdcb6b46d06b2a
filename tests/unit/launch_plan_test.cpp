// What a launch offers, sets and says.
#include <catch2/catch.hpp>

#include "service/launch_plan.hpp"

using namespace portwrap;
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
LaunchPlan plan(const LaunchRequest& request) { return std::get<LaunchPlan>(plan_launch({}, default_config(), request, quiet_facts())); }
}  // namespace

TEST_CASE("a plain command is run as it is, with nothing set", "[launch]") {
    const auto made = plan(launch({"npm", "run", "dev"}));
    CHECK(made.command == std::vector<std::string>{"npm", "run", "dev"});
    CHECK(made.set.empty());
    CHECK(made.changes.size() == 1);
}

TEST_CASE("{port} is replaced by the service's port, everywhere by the same", "[launch]") {
    const auto made = plan(launch({"serve", "-l", "{port}", "http://localhost:{port}/", "{port:api}", "{portable}", "{"}));
    CHECK(made.command == std::vector<std::string>{"serve", "-l", "3000", "http://localhost:3000/", "3001", "{portable}", "{"});
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
    ServiceConfig api;
    api.name = "api";
    api.port = 4000;
    api.env = "API_PORT";
    request.place.config.services = {api};
    request.place.config.env = {{"API_URL", "http://localhost:${api}/${other}"}};
    const auto made = plan(request);
    CHECK(made.set == std::vector<std::pair<std::string, std::string>>{{"API_PORT", "4000"}, {"API_URL", "http://localhost:4000/${other}"}});
}

TEST_CASE("-p that cannot be had is refused with suggestions", "[launch]") {
    auto request = launch({"npm", "start"});
    request.session.port = Port{2601};
    const auto refused = std::get<Refusal>(plan_launch({}, default_config(), request, quiet_facts()));
    CHECK(refused.code == ErrorCode::system_reserved);
    CHECK(refused.suggestions.size() == 3);
}

TEST_CASE("what counts as a mention of a variable", "[launch]") {
    for (const auto* text : {"node x --port $PORT", "x ${PORT:-3000}", "listen(process.env.PORT || 4000)", "os.environ['PORT']", "getenv(\"PORT\")",
                             "os.environ.get(\"PORT\")"}) {
        CHECK(mentions_variable(text, "PORT"));
    }
    for (const auto* text : {"", "PORT", "PORT=3000 x", "$PORTAL", "$REPORT", "export PORT", "API_PORT"}) { CHECK_FALSE(mentions_variable(text, "PORT")); }
}
