// The kernel's sockets, with real ones on ports that the kernel chose.
#include <catch2/catch.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <csignal>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system/listeners.hpp"

using namespace portwrap;

namespace {

struct Bound {
    UniqueFd fd;
    Port port = 0;
    Cookie cookie = 0;
    ino_t inode = 0;
};

Bound bind_to(const char* text, int type, bool v6only = false, Port port = 0) {
    const bool six = std::string_view(text).find(':') != std::string_view::npos;
    Bound bound;
    bound.fd.reset(::socket(six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0));
    REQUIRE(bound.fd.valid());
    const int on = 1;
    ::setsockopt(bound.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage storage{};
    socklen_t size = 0;
    if (six) {
        const int only = v6only ? 1 : 0;
        ::setsockopt(bound.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
        auto* address = reinterpret_cast<sockaddr_in6*>(&storage);
        address->sin6_family = AF_INET6;
        address->sin6_port = htons(port);
        REQUIRE(::inet_pton(AF_INET6, text, &address->sin6_addr) == 1);
        size = sizeof *address;
    } else {
        auto* address = reinterpret_cast<sockaddr_in*>(&storage);
        address->sin_family = AF_INET;
        address->sin_port = htons(port);
        REQUIRE(::inet_pton(AF_INET, text, &address->sin_addr) == 1);
        size = sizeof *address;
    }
    REQUIRE(::bind(bound.fd.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0);
    REQUIRE(::getsockname(bound.fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) == 0);
    bound.port = ntohs(six ? reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port : reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
    socklen_t length = sizeof bound.cookie;
    REQUIRE(::getsockopt(bound.fd.get(), SOL_SOCKET, SO_COOKIE, &bound.cookie, &length) == 0);
    struct stat status {};
    REQUIRE(::fstat(bound.fd.get(), &status) == 0);
    bound.inode = status.st_ino;
    return bound;
}

Bound listen_on(const char* address, bool v6only = false) {
    Bound bound = bind_to(address, SOCK_STREAM, v6only);
    REQUIRE(::listen(bound.fd.get(), 8) == 0);
    return bound;
}

bool readable(int fd, int timeout) {
    pollfd waiting{fd, POLLIN, 0};
    return ::poll(&waiting, 1, timeout) == 1;
}

/// Waits for the destruction of one socket; others on the machine may come and go meanwhile.
bool see_destroyed(DestroyWatch& watch, Cookie cookie, Port port) {
    while (readable(watch.fd(), 10'000)) {
        for (const auto& one : watch.drain().destroyed) {
            if (one.cookie == cookie) { return one.port == port; }
        }
    }
    return false;
}

}  // namespace

TEST_CASE("a listener on any address of either family is listed and makes its port taken", "[listeners]") {
    struct Row {
        const char* address;
        bool v6only;
    };
    for (const Row row : {Row{"::", false}, Row{"::", true}, Row{"0.0.0.0", false}, Row{"127.0.0.1", false}, Row{"::1", false}, Row{"127.0.0.2", false}}) {
        INFO(row.address << (row.v6only ? " v6only" : ""));
        Bound bound = listen_on(row.address, row.v6only);
        const auto here = list_listeners(bound.port);
        REQUIRE(here);
        REQUIRE(here->size() == 1);
        const Listener& listener = here->front();
        CHECK(listener.address == row.address);
        CHECK(listener.port == bound.port);
        CHECK(listener.cookie == bound.cookie);
        CHECK(listener.inode == bound.inode);
        CHECK(listener.uid == ::geteuid());
        const auto all = list_listeners();
        REQUIRE(all);
        CHECK(std::any_of(all->begin(), all->end(), [&bound](const Listener& one) { return one.cookie == bound.cookie; }));
        CHECK(is_port_in_use(bound.port, true, false));
        bound.fd.reset();
        CHECK(list_listeners(bound.port)->empty());
        CHECK_FALSE(is_port_in_use(bound.port, true, false));
    }
}

TEST_CASE("several listeners on one port are all listed, those on its neighbours are not", "[listeners]") {
    const Bound first = listen_on("127.0.0.1");
    const Bound second = bind_to("::1", SOCK_STREAM, true, first.port);
    REQUIRE(::listen(second.fd.get(), 1) == 0);
    const auto here = list_listeners(first.port);
    REQUIRE(here);
    CHECK(here->size() == 2);
}

TEST_CASE("many listeners come in several messages and none is lost", "[listeners]") {
    std::vector<Bound> many;
    for (int i = 0; i < 500; ++i) { many.push_back(listen_on("127.0.0.1")); }
    const auto all = list_listeners();
    REQUIRE(all);
    for (const auto& bound : many) {
        REQUIRE(std::any_of(all->begin(), all->end(), [&bound](const Listener& one) { return one.cookie == bound.cookie; }));
    }
}

TEST_CASE("a socket that is only bound is no listener, but it exists", "[listeners]") {
    Bound bound = bind_to("127.0.0.1", SOCK_STREAM);
    Bound listening = listen_on("::1");
    CHECK(list_listeners(bound.port)->empty());
    const auto has = [](Cookie cookie) {
        const auto cookies = existing_sockets();
        REQUIRE(cookies);
        return std::find(cookies->begin(), cookies->end(), cookie) != cookies->end();
    };
    CHECK(has(listening.cookie));
    // BOUND_INACTIVE is there since Linux 6.8; this is the check for kernels that have it.
    if (!has(bound.cookie)) { WARN("this kernel does not show bound sockets"); }
    bound.fd.reset();
    listening.fd.reset();
    CHECK_FALSE(has(bound.cookie));
    CHECK_FALSE(has(listening.cookie));
}

TEST_CASE("TCP and UDP of one number are separate", "[listeners]") {
    const Bound tcp = listen_on("0.0.0.0");
    CHECK(is_port_in_use(tcp.port, true, true));
    CHECK_FALSE(is_port_in_use(tcp.port, false, true));
    CHECK_FALSE(is_port_in_use(tcp.port, false, false));
    // A UDP socket without SO_REUSEADDR, as most are.
    Bound udp = bind_to("0.0.0.0", SOCK_DGRAM);
    const int off = 0;
    ::setsockopt(udp.fd.get(), SOL_SOCKET, SO_REUSEADDR, &off, sizeof off);
    CHECK(is_port_in_use(udp.port, false, true));
}

TEST_CASE("asking whether a port is taken leaves it free", "[listeners]") {
    Bound bound = listen_on("::");
    const Port port = bound.port;
    bound.fd.reset();
    for (int i = 0; i < 100; ++i) { CHECK_FALSE(is_port_in_use(port, true, true)); }
    const Bound again = bind_to("::", SOCK_STREAM, false, port);
    CHECK(::listen(again.fd.get(), 1) == 0);
}

TEST_CASE("the kernel's own ranges are read", "[listeners]") {
    const PortInterval range = read_ephemeral_range();
    CHECK(range.start > 0);
    CHECK(range.start < range.end);
    for (const auto& reserved : read_kernel_reserved_ports()) { CHECK(reserved.size() > 0); }
}

TEST_CASE("the end of a listener is told with its cookie and port", "[listeners]") {
    auto opened = DestroyWatch::open();
    REQUIRE(opened);
    DestroyWatch watch = std::move(opened).value();
    for (const char* address : {"127.0.0.1", "::", "::1"}) {
        Bound bound = listen_on(address);
        const Cookie cookie = bound.cookie;
        bound.fd.reset();
        INFO(address);
        CHECK(see_destroyed(watch, cookie, bound.port));
    }
    Bound only_bound = bind_to("127.0.0.1", SOCK_STREAM);
    only_bound.fd.reset();
    CHECK(see_destroyed(watch, only_bound.cookie, only_bound.port));
}

TEST_CASE("the end of a UDP server is told though it is connected, that of a client is not", "[listeners]") {
    auto opened = DestroyWatch::open();
    REQUIRE(opened);
    DestroyWatch watch = std::move(opened).value();
    // A number below the kernel's own that nobody has.
    Port free = 2000;
    while (is_port_in_use(free, true, true)) { ++free; }
    Bound server = bind_to("127.0.0.1", SOCK_DGRAM, false, free);
    Bound client = bind_to("127.0.0.1", SOCK_DGRAM);
    REQUIRE(read_ephemeral_range().contains(client.port));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (const auto* one : {&client, &server}) {
        REQUIRE(::connect(one->fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    }
    client.fd.reset();
    server.fd.reset();
    bool server_seen = false;
    bool client_seen = false;
    while (!server_seen && readable(watch.fd(), 10'000)) {
        for (const auto& one : watch.drain().destroyed) {
            server_seen = server_seen || (one.cookie == server.cookie && one.port == server.port);
            client_seen = client_seen || one.cookie == client.cookie;
        }
    }
    CHECK(server_seen);
    CHECK_FALSE(client_seen);
}

TEST_CASE("lost notifications are told as an overrun", "[listeners]") {
    auto opened = DestroyWatch::open();
    auto witness = DestroyWatch::open();
    REQUIRE(opened);
    REQUIRE(witness);
    DestroyWatch watch = std::move(opened).value();
    const int smallest = 0;
    REQUIRE(::setsockopt(watch.fd(), SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest) == 0);
    Bound last;
    for (int i = 0; i < 100; ++i) { last = listen_on("127.0.0.1"); }
    const auto cookie = last.cookie;
    const auto port = last.port;
    last.fd.reset();
    // Once somebody with room for all of them has the last one, all were offered to the one without.
    CHECK(see_destroyed(*witness, cookie, port));
    CHECK(watch.drain().overrun);
}

TEST_CASE("a listener that a child inherited ends with the child", "[listeners]") {
    auto opened = DestroyWatch::open();
    REQUIRE(opened);
    DestroyWatch watch = std::move(opened).value();
    Bound bound = listen_on("127.0.0.1");
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (;;) { ::pause(); }
    }
    bound.fd.reset();
    // A later socket is told of; the inherited one is not among what was told until then.
    Bound marker = listen_on("127.0.0.1");
    marker.fd.reset();
    bool inherited_seen = false;
    bool marker_seen = false;
    while (!marker_seen && readable(watch.fd(), 10'000)) {
        for (const auto& one : watch.drain().destroyed) {
            inherited_seen = inherited_seen || one.cookie == bound.cookie;
            marker_seen = marker_seen || one.cookie == marker.cookie;
        }
    }
    CHECK(marker_seen);
    CHECK_FALSE(inherited_seen);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    CHECK(see_destroyed(watch, bound.cookie, bound.port));
}

TEST_CASE("the end of a connection is not told", "[listeners]") {
    auto opened = DestroyWatch::open();
    REQUIRE(opened);
    DestroyWatch watch = std::move(opened).value();
    Bound server = listen_on("127.0.0.1");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    UniqueFd accepted(::accept4(server.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(accepted.valid());
    Cookie connection = 0;
    socklen_t length = sizeof connection;
    REQUIRE(::getsockopt(accepted.get(), SOL_SOCKET, SO_COOKIE, &connection, &length) == 0);
    accepted.reset();
    client.reset();
    server.fd.reset();
    bool server_seen = false;
    bool connection_seen = false;
    while (!server_seen && readable(watch.fd(), 10'000)) {
        for (const auto& one : watch.drain().destroyed) {
            server_seen = server_seen || one.cookie == server.cookie;
            connection_seen = connection_seen || one.cookie == connection;
        }
    }
    CHECK(server_seen);
    CHECK_FALSE(connection_seen);
}
