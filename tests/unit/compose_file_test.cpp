// Compose files as people write them, and the override that is written for them.
#include <catch2/catch.hpp>

#include "service/exchange/write_text.hpp"
#include "system/compose_file.hpp"

using namespace portwrap;

namespace {

std::vector<std::string> texts(const std::vector<ComposeService>& services, const std::string& name) {
    std::vector<std::string> all;
    for (const auto& service : services) {
        if (service.name != name) { continue; }
        for (const auto& port : service.ports) { all.push_back(port.text); }
    }
    return all;
}

Lease lease_of(LeaseId id, const std::string& service, Port port, std::optional<Port> requested = std::nullopt, Protocol protocol = Protocol::tcp) {
    Lease lease;
    lease.id = id;
    lease.key = {"/home/me/Shop fix", service, protocol, requested, 0};
    lease.port = port;
    lease.state = LeaseState::allocated;
    return lease;
}

std::string override_of(const std::string& file, const std::vector<Lease>& leases) {
    std::vector<const Lease*> all;
    for (const auto& lease : leases) { all.push_back(&lease); }
    const ComposeFile read{"compose.yaml", parse_compose(file)};
    const auto text = write_text(ExportFormat::compose, Registry(), default_config(), all, Time{}, &read);
    return text.substr(text.find("\nservices:") + 1);
}

}  // namespace

TEST_CASE("ports are read in the short syntax", "[compose]") {
    const auto port = [](std::string_view text) { return parse_compose_port(text).value_or(ComposePort{"none", {}, {}, 0, Protocol::tcp}); };
    CHECK(port("8000:80") == ComposePort{"8000:80", "", Port{8000}, 80, Protocol::tcp});
    CHECK(port("80") == ComposePort{"80", "", std::nullopt, 80, Protocol::tcp});
    CHECK(port("127.0.0.1:8000:80/udp") == ComposePort{"127.0.0.1:8000:80/udp", "127.0.0.1:", Port{8000}, 80, Protocol::udp});
    CHECK(port("[::1]:8000:80").published == Port{8000});
    CHECK(port("127.0.0.1::80").published == std::nullopt);
    CHECK(port("${WEB_PORT:-8000}:80").published == Port{8000});
    CHECK(port("${WEB_PORT}:80").published == std::nullopt);
    CHECK(port("$WEB_PORT:80").target == 80);
    CHECK(port("${WEB_PORT-8000}:80").published == Port{8000});
    CHECK(port("${A:-${B:-8000}}:81") == ComposePort{"${A:-${B:-8000}}:81", "", Port{8000}, 81, Protocol::tcp});
    for (const char* text : {"${WEB_PORT:?set-8000}:80", "${WEB_PORT?8000}:80", "${WEB_PORT:+8000}:80", "${A:-${B}}:80", "${A:-$B}:80"}) {
        CAPTURE(text);
        CHECK(port(text).published == std::nullopt);
        CHECK(port(text).target == 80);
    }
    CHECK(port("3000-3005:3000-3005").target == 0);
    CHECK(port("70000:80").published == std::nullopt);
    CHECK_FALSE(parse_compose_port(""));
    CHECK_FALSE(parse_compose_port("a b"));
    CHECK_FALSE(parse_compose_port("1:\"2"));
    CHECK_FALSE(parse_compose_port("1:2:3:4"));
    CHECK_FALSE(parse_compose_port(std::string(200, '1')));
}

TEST_CASE("a compose file's services are read in the styles that people write", "[compose]") {
    const auto services = parse_compose(R"(# a comment
version: "3.8"
x-common: &common
  restart: always
services:
  web: &web   # anchors
    <<: *common
    image: "nginx:alpine"
    ports:
      - "8000:80"   # the page
      - 8443:443
      - target: 9000
        published: "9001"
        host_ip: 127.0.0.1
        protocol: udp
      - name: admin
        target: 7
    environment:
      ports: "no ports of a service"
  "db":
    image: postgres
    ports: ["5432:5432", '127.0.0.1:5433:5433', 77]
  same-indent:
    ports:
    - 1:2
    image: x
  none: {}
volumes:
  web:
    ports: ["1:1"]
)");
    REQUIRE(services.size() == 4);
    CHECK(texts(services, "web") == std::vector<std::string>{"8000:80", "8443:443", "127.0.0.1:9001:9000/udp", "7"});
    CHECK(texts(services, "db") == std::vector<std::string>{"5432:5432", "127.0.0.1:5433:5433", "77"});
    CHECK(texts(services, "same-indent") == std::vector<std::string>{"1:2"});
    CHECK(texts(services, "none").empty());
}

TEST_CASE("what is no compose file in block style has no services", "[compose]") {
    for (const char* text : {"", "services:", "services: {web: {ports: [\"1:1\"]}}", "services:\nweb:\n  ports: []", "\tservices:\n", "[]", "- services:\n    web:\n", "services:\n  - web\n  - db\n"}) {
        CAPTURE(text);
        CHECK(parse_compose(text).empty());
    }
    CHECK(parse_compose("services:\n  web:\n    ports:\n      -\n      - \n").size() == 1);
}

TEST_CASE("what a service merges counts where it says nothing itself", "[compose]") {
    const std::string bases =
        "x-base: &base\n  image: x\n  ports:\n    - \"8000:80\"\nx-plain: &plain\n  image: x\nx-more: &more\n  <<: [*plain, *base]\nx-flow: &flow {ports: [\"1:1\"]}\n";
    const auto web = [&](const std::string& lines) { return texts(parse_compose(bases + "services:\n  web:\n" + lines + "  db:\n    ports: [\"5:5\"]\n"), "web"); };
    using Texts = std::vector<std::string>;
    CHECK(web("    <<: *base\n    image: y\n") == Texts{"8000:80"});
    CHECK(web("    image: y\n    <<: *more\n") == Texts{"8000:80"});
    CHECK(web("    <<: *base\n    ports: [\"2:2\"]\n") == Texts{"2:2"});
    CHECK(web("    <<: *base\n    ports: []\n").empty());
    CHECK(texts(parse_compose(bases + "services:\n  web: &web\n    <<: *plain\n    ports: [\"3:3\"]\n  copy:\n    <<: *web\n"), "copy") == Texts{"3:3"});
    // Nothing is made up for what is not seen: the whole file counts as not understood.
    for (const char* lines : {"    <<: *flow\n", "    <<: *nobody\n", "    <<: {ports: []}\n", "    extends: {file: base.yaml, service: base}\n    ports: [\"2:2\"]\n",
                              "    extends:\n      service: db\n"}) {
        CAPTURE(lines);
        CHECK(parse_compose(bases + "services:\n  web:\n" + lines).empty());
    }
    CHECK(parse_compose("x: &x\n  <<: *x\nservices:\n  web:\n    <<: *x\n").empty());
    std::string laughs = "a0: &a0\n  image: x\n";
    for (int i = 1; i < 30; ++i) {
        const auto before = "*a" + std::to_string(i - 1);
        laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + "\n  <<: [" + before + ", " + before + ", " + before + "]\n";
    }
    CHECK(parse_compose(laughs + "services:\n  web:\n    <<: *a29\n").empty());
}

TEST_CASE("the long syntax has addresses of both families", "[compose]") {
    const auto services = parse_compose("services:\n  db:\n    ports:\n      - host_ip: '::1'\n        target: 5432\n        published: \"5432\"\n      - {host_ip: \"[::1]\", target: 1}\n");
    CHECK(texts(services, "db") == std::vector<std::string>{"[::1]:5432:5432", "[::1]:1"});
    REQUIRE(services.size() == 1);
    CHECK(services[0].ports[0] == ComposePort{"[::1]:5432:5432", "[::1]:", Port{5432}, 5432, Protocol::tcp});
}

TEST_CASE("an override publishes what the file publishes, on the leases' ports", "[compose]") {
    const std::string file = "services:\n  web:\n    ports:\n      - \"127.0.0.1:8000:80\"\n      - \"8443:443\"\n      - \"9000-9010:9000-9010\"\n  quic:\n    ports: [443:443/udp]\n  plain:\n    image: x\n";
    // By the number on the host, by the one in the container, by being the only one; what nobody has stays.
    CHECK(override_of(file, {lease_of(1, "web", 3001, 8000)}) ==
          "services:\n  web:\n    ports: !override\n      - \"127.0.0.1:3001:80\"\n      - \"8443:443\"\n      - \"9000-9010:9000-9010\"\n");
    CHECK(override_of(file, {lease_of(1, "web", 3001, 443)}).find("- \"127.0.0.1:8000:80\"\n      - \"3001:443\"\n") != std::string::npos);
    CHECK(override_of(file, {lease_of(1, "web", 3001), lease_of(2, "web", 3002, 8443)}).find("- \"127.0.0.1:3001:80\"\n      - \"3002:443\"\n") != std::string::npos);
    CHECK(override_of(file, {lease_of(1, "quic", 3001, std::nullopt, Protocol::udp)}) == "services:\n  quic:\n    ports: !override\n      - \"3001:443/udp\"\n");
    CHECK(override_of(file, {lease_of(1, "plain", 3001, 8080)}) == "services:\n  plain:\n    ports: !override\n      - \"3001:8080\"\n");
}

TEST_CASE("one number on several addresses stays one number", "[compose]") {
    const std::string file = "services:\n  web:\n    ports: [\"127.0.0.1:8000:80\", \"[::1]:8000:80\", \"8000:80/udp\", \"8001:80\"]\n";
    const std::string head = "services:\n  web:\n    ports: !override\n";
    CHECK(override_of(file, {lease_of(1, "web", 3001, 8000)}) == head + "      - \"127.0.0.1:3001:80\"\n      - \"[::1]:3001:80\"\n      - \"3001:80/udp\"\n      - \"8001:80\"\n");
    // Datagrams with a lease of their own have its port.
    CHECK(override_of(file, {lease_of(1, "web", 3001, 8000), lease_of(2, "web", 3007, 8000, Protocol::udp)}) ==
          head + "      - \"127.0.0.1:3001:80\"\n      - \"[::1]:3001:80\"\n      - \"3007:80/udp\"\n      - \"8001:80\"\n");
}

TEST_CASE("a container on the host's network publishes nothing", "[compose]") {
    const auto lease = lease_of(1, "web", 3001, 8000);
    const auto text = [&](const std::string& lines) {
        const ComposeFile file{"compose.yaml", parse_compose("\xEF\xBB\xBFx: &host\n  network_mode: host\nservices:\n  web:\n    image: x\n" + lines)};
        return write_text(ExportFormat::compose, Registry(), default_config(), {&lease}, Time{}, &file);
    };
    for (const char* lines : {"    network_mode: host\n", "    network_mode: \"service:vpn\"\n", "    <<: *host\n"}) {
        CAPTURE(lines);
        CHECK(text(lines).find("# not published: web 3001; it has no network of its own in compose.yaml\n") != std::string::npos);
        CHECK(text(lines).ends_with("services: {}\n"));
    }
    CHECK(text("    network_mode: bridge\n").ends_with("      - \"3001:8000\"\n"));
}

TEST_CASE("a number that a range or a variable may have is not published a second time", "[compose]") {
    for (const char* entry : {"8000-8002:8000-8002", "${WEB_PORT:?set-it}:80", "80"}) {
        CAPTURE(entry);
        const auto text = override_of(std::string("services:\n  web:\n    ports: [\"") + entry + "\", \"9443:443\"]\n", {lease_of(1, "web", 3001, 8000)});
        CHECK(text == std::string("services:\n  web:\n    ports: !override\n      - \"") + entry + "\"\n      - \"9443:443\"\n");
    }
    CHECK(override_of("services:\n  web:\n    ports: [\"9443:443\"]\n", {lease_of(1, "web", 3001, 8000)}).ends_with("- \"9443:443\"\n      - \"3001:8000\"\n"));
}

TEST_CASE("a service that the compose file does not have would be one without an image", "[compose]") {
    const auto lease = lease_of(1, "api", 3001);
    const ComposeFile file{"compose.yml", parse_compose("services:\n  web:\n    image: x\n")};
    const auto text = write_text(ExportFormat::compose, Registry(), default_config(), {&lease}, Time{}, &file);
    CHECK(text.find("# not in compose.yml: api 3001\n") != std::string::npos);
    CHECK(text.ends_with("services: {}\n"));
    CHECK(text.find("COMPOSE_PROJECT_NAME=shopfix docker compose -f compose.yml ") != std::string::npos);
}
