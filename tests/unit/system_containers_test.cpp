// Which container: the parts that read what others wrote.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "portwrap/unique_fd.hpp"
#include "scratch.hpp"
#include "system/containers.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

TEST_CASE("docker-proxy's command line says what it publishes and where it leads", "[containers]") {
    const auto proxy = parse_proxy_command({"/usr/bin/docker-proxy", "-proto", "tcp", "-host-ip", "0.0.0.0", "-host-port", "8080", "-container-ip", "172.17.0.2",
                                            "-container-port", "80", "-use-listen-fd"});
    REQUIRE(proxy);
    CHECK(proxy->published == PublishedPort{8080, Protocol::tcp});
    CHECK(proxy->target == "172.17.0.2:80");
    const auto six = parse_proxy_command({"docker-proxy", "-proto=udp", "-host-port=53", "-container-ip=fd00::2", "-container-port=53"});
    REQUIRE(six);
    CHECK(six->published == PublishedPort{53, Protocol::udp});
    CHECK(six->target == "[fd00::2]:53");
    CHECK_FALSE(parse_proxy_command({"docker-proxy", "-host-port", "70000"}));
    CHECK_FALSE(parse_proxy_command({"docker-proxy", "-host-port"}));
    CHECK_FALSE(parse_proxy_command({"vim", "-host-port", "8080"}));
    CHECK_FALSE(parse_proxy_command({}));
}

TEST_CASE("a control group's path names its container", "[containers]") {
    const std::string id(64, 'a');
    CHECK(container_id_in("0::/system.slice/docker-" + id + ".scope\n") == id);
    CHECK(container_id_in("9:name=systemd:/libpod_parent/libpod-" + id + "\n") == id);
    CHECK(container_id_in("0::/docker/" + id) == id);
    CHECK(container_id_in("0::/user.slice/" + id + "0").empty());
    CHECK(container_id_in("0::/init.scope\n").empty());
    CHECK(container_id_in("").empty());
}

TEST_CASE("an engine's list is believed as far as it is one", "[containers]") {
    const auto containers = parse_containers(R"([{"Id":"abc","Names":["/web"],"Ports":[{"PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":81},
        {"PublicPort":70000},{"PublicPort":"80"},7]},{"Id":3,"Names":[],"Ports":{}},{"Names":["\u001bx"]},9])");
    REQUIRE(containers.size() == 3);
    CHECK(containers[0].name == "web");
    CHECK(containers[0].ports == std::vector{PublishedPort{8080, Protocol::tcp}});
    CHECK(containers[1].id.empty());
    CHECK(containers[2].name == "x");
    CHECK(parse_containers("{}").empty());
    CHECK(parse_containers("nonsense").empty());
}

TEST_CASE("an engine that is not there, or does not answer, says nothing", "[containers]") {
    const test::Scratch scratch;
    const auto path = scratch.at("api.sock");
    CHECK(ask_engine(path, 50ms).empty());
    CHECK(ask_engine(std::string(200, 'x'), 50ms).empty());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
    CHECK(ask_engine(path, 50ms).empty());
}

TEST_CASE("the directory of a container's compose file is an absolute path or none", "[containers]") {
    const auto directory = [](const std::string& labels) {
        const auto containers = parse_containers("[{\"Id\":\"a\",\"Labels\":" + labels + "}]");
        REQUIRE(containers.size() == 1);
        return containers.front().directory;
    };
    CHECK(directory(R"({"com.docker.compose.project.working_dir":"/home/me/shop"})") == "/home/me/shop");
    for (const char* labels : {R"({"com.docker.compose.project.working_dir":"shop"})", R"({"com.docker.compose.project.working_dir":["/"]})", R"(["x"])", "null", "{}",
                               R"({"com.docker.compose.project.working_dir":"/a\u0000b"})"}) {
        CHECK(directory(labels).empty());
    }
}
