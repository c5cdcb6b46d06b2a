// Socket addresses as the shim sees them: what a program asks for, and the same address with another port. Pure: works on
// copies, calls nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portwrap::shim {

/// As large as the kernel takes addresses (struct sockaddr_storage); a copy of the caller's bytes, zeros behind them.
struct Address {
    static constexpr std::size_t k_capacity = 128;
    alignas(8) unsigned char bytes[k_capacity] = {};
    std::size_t size = 0;
};

/// The numbers are those of the protocol.
enum class Scope : std::uint8_t { wildcard = 0, loopback = 1, other = 2 };

struct Endpoint {
    std::uint32_t family = 0;
    std::uint16_t port = 0;
    Scope scope = Scope::other;
    bool is_multicast = false;
};

/// The least sizes that the kernel takes for the two families (ip(7); SIN6_LEN_RFC2133: without the scope id).
inline constexpr std::size_t k_least_inet = 16;
inline constexpr std::size_t k_least_inet6 = 24;

/// False unless it is an AF_INET or AF_INET6 address of a size that the kernel would take.
[[nodiscard]] bool classify(const Address& address, Endpoint& endpoint) noexcept;

/// The same address with another port. Only for what classify() accepts.
[[nodiscard]] Address with_port(const Address& address, std::uint16_t port) noexcept;

}  // namespace portwrap::shim
