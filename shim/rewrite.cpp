// See rewrite.hpp. Bytes are read one by one: the layouts are those of the kernel's sockaddr_in and sockaddr_in6
// (family in the machine's order at 0, port in the network's at 2, address at 4 and at 8).
#include "rewrite.hpp"

#include <sys/socket.h>

namespace portwrap::shim {

namespace {

constexpr std::size_t k_port_at = 2;
constexpr std::size_t k_inet_address_at = 4;
constexpr std::size_t k_inet6_address_at = 8;

bool are_zero(const unsigned char* bytes, std::size_t count) noexcept {
    unsigned char any = 0;
    for (std::size_t i = 0; i < count; ++i) {
        any = static_cast<unsigned char>(any | bytes[i]);
    }
    return any == 0;
}

Scope scope_of_inet(const unsigned char* address) noexcept {
    if (are_zero(address, 4)) {
        return Scope::wildcard;
    }
    return address[0] == 127 ? Scope::loopback : Scope::other;
}

Scope scope_of_inet6(const unsigned char* address) noexcept {
    if (!are_zero(address, 10)) {
        return Scope::other;
    }
    if (address[10] == 0xff && address[11] == 0xff) {
        return scope_of_inet(address + 12);
    }
    if (!are_zero(address + 10, 5)) {
        return Scope::other;
    }
    switch (address[15]) {
        case 0: return Scope::wildcard;
        case 1: return Scope::loopback;
        default: return Scope::other;
    }
}

}  // namespace

bool classify(const Address& address, Endpoint& endpoint) noexcept {
    if (address.size < k_least_inet || address.size > Address::k_capacity) {
        return false;
    }
    sa_family_t family = 0;
    static_assert(sizeof family == 2);
    auto* family_bytes = reinterpret_cast<unsigned char*>(&family);
    family_bytes[0] = address.bytes[0];
    family_bytes[1] = address.bytes[1];
    if (family == AF_INET) {
        endpoint.scope = scope_of_inet(address.bytes + k_inet_address_at);
        endpoint.is_multicast = (address.bytes[k_inet_address_at] & 0xf0) == 0xe0;
    } else if (family == AF_INET6 && address.size >= k_least_inet6) {
        endpoint.scope = scope_of_inet6(address.bytes + k_inet6_address_at);
        endpoint.is_multicast = address.bytes[k_inet6_address_at] == 0xff;
    } else {
        return false;
    }
    endpoint.family = family;
    endpoint.port = static_cast<std::uint16_t>(address.bytes[k_port_at] << 8 | address.bytes[k_port_at + 1]);
    return true;
}

Address with_port(const Address& address, std::uint16_t port) noexcept {
    Address changed = address;
    changed.bytes[k_port_at] = static_cast<unsigned char>(port >> 8);
    changed.bytes[k_port_at + 1] = static_cast<unsigned char>(port & 0xff);
    return changed;
}

}  // namespace portwrap::shim
