#include <arpa/inet.h>
#include <netinet/in.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "../../shim/rewrite.hpp"

using portwrap::shim::Address;
using portwrap::shim::Endpoint;
using portwrap::shim::Scope;
using portwrap::shim::classify;
using portwrap::shim::with_port;

namespace {

Address inet(const std::string& host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    REQUIRE(inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1);
    Address result;
    std::memcpy(result.bytes, &address, sizeof address);
    result.size = sizeof address;
    return result;
}

Address inet6(const std::string& host, std::uint16_t port) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    address.sin6_scope_id = 3;
    REQUIRE(inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) == 1);
    Address result;
    std::memcpy(result.bytes, &address, sizeof address);
    result.size = sizeof address;
    return result;
}

Scope scope_of(const Address& address) {
    Endpoint endpoint;
    REQUIRE(classify(address, endpoint));
    return endpoint.scope;
}

}  // namespace

TEST_CASE("an IPv4 address is told apart as wildcard, loopback or other", "[shim]") {
    CHECK(scope_of(inet("0.0.0.0", 1)) == Scope::wildcard);
    CHECK(scope_of(inet("127.0.0.1", 1)) == Scope::loopback);
    CHECK(scope_of(inet("127.255.255.254", 1)) == Scope::loopback);
    CHECK(scope_of(inet("126.255.255.255", 1)) == Scope::other);
    CHECK(scope_of(inet("128.0.0.1", 1)) == Scope::other);
    CHECK(scope_of(inet("0.0.0.1", 1)) == Scope::other);
}

TEST_CASE("an IPv6 address is told apart as wildcard, loopback or other, mapped IPv4 included", "[shim]") {
    CHECK(scope_of(inet6("::", 1)) == Scope::wildcard);
    CHECK(scope_of(inet6("::1", 1)) == Scope::loopback);
    CHECK(scope_of(inet6("::2", 1)) == Scope::other);
    CHECK(scope_of(inet6("::100", 1)) == Scope::other);
    CHECK(scope_of(inet6("1::1", 1)) == Scope::other);
    CHECK(scope_of(inet6("fe80::1", 1)) == Scope::other);
    CHECK(scope_of(inet6("::ffff:127.3.2.1", 1)) == Scope::loopback);
    CHECK(scope_of(inet6("::ffff:0.0.0.0", 1)) == Scope::wildcard);
    CHECK(scope_of(inet6("::ffff:10.0.0.1", 1)) == Scope::other);
    CHECK(scope_of(inet6("::fffe:127.0.0.1", 1)) == Scope::other);
    CHECK(scope_of(inet6("::127.0.0.1", 1)) == Scope::other);
}

TEST_CASE("family and port are read in their byte orders", "[shim]") {
    Endpoint endpoint;
    REQUIRE(classify(inet("127.0.0.1", 3000), endpoint));
    CHECK(endpoint.family == AF_INET);
    CHECK(endpoint.port == 3000);
    REQUIRE(classify(inet6("::1", 65535), endpoint));
    CHECK(endpoint.family == AF_INET6);
    CHECK(endpoint.port == 65535);
}

TEST_CASE("another port changes the port and not one byte else", "[shim]") {
    for (const auto& asked : {inet("127.0.0.1", 3000), inet6("fe80::1", 3000)}) {
        const auto changed = with_port(asked, 54321);
        Endpoint endpoint;
        REQUIRE(classify(changed, endpoint));
        CHECK(endpoint.port == 54321);
        CHECK(changed.size == asked.size);
        const auto back = with_port(changed, 3000);
        CHECK(std::memcmp(back.bytes, asked.bytes, Address::k_capacity) == 0);
    }
}

TEST_CASE("an address of another family or of a size that the kernel refuses is none of ours", "[shim]") {
    Endpoint endpoint;
    auto address = inet("127.0.0.1", 3000);
    address.size = 15;
    CHECK_FALSE(classify(address, endpoint));
    address.size = 0;
    CHECK_FALSE(classify(address, endpoint));
    address.size = 129;
    CHECK_FALSE(classify(address, endpoint));
    address.size = 128;
    CHECK(classify(address, endpoint));
    auto six = inet6("::1", 3000);
    six.size = 23;
    CHECK_FALSE(classify(six, endpoint));
    six.size = 24;
    CHECK(classify(six, endpoint));
    for (const sa_family_t family : {sa_family_t{AF_UNIX}, sa_family_t{AF_UNSPEC}, sa_family_t{AF_NETLINK}, sa_family_t{0x0200}}) {
        std::memcpy(address.bytes, &family, sizeof family);
        CHECK_FALSE(classify(address, endpoint));
    }
}
