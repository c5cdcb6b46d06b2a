// What the shim must know of a caller's socket and address before it meddles. Uses no errno; asks the kernel as little
// as it can: most calls of a process are none of the shim's business.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "rewrite.hpp"

namespace portwrap::shim {

inline constexpr int k_protocol_mptcp = 262;  ///< Linux 5.6; newer than the headers of some distributions

struct SocketKind {
    int domain = 0;    ///< AF_INET or AF_INET6
    int protocol = 0;  ///< TCP, MPTCP or UDP
    [[nodiscard]] bool is_udp() const noexcept;
};

/// A stream or datagram socket of these protocols; one cheap call for most others. False for anything else.
[[nodiscard]] bool read_kind(int fd, SocketKind& kind) noexcept;

/// TCP or MPTCP, of whatever family: one call.
[[nodiscard]] bool is_tcp(int fd) noexcept;

/// SO_COOKIE (Linux 4.12) and SO_NETNS_COOKIE (5.14); 0: unknown.
[[nodiscard]] std::uint64_t cookie_of(int fd) noexcept;
[[nodiscard]] std::uint64_t netns_of(int fd) noexcept;

/// A TCP socket that is neither connected nor connecting nor listening.
[[nodiscard]] bool is_closed(int fd) noexcept;

/// To be called by the constructor, with the frame's address: finds how far up the first thread's stack can be read.
void find_stack_top(const void* frame) noexcept;

/// Whether `size` bytes can be read, 8 at least and no more than a page: a bad pointer must give EFAULT as from the kernel.
[[nodiscard]] bool is_readable(const void* bytes, std::size_t size) noexcept;

/// Copies the caller's address (16 bytes at least, no more than fit). False for a bad pointer.
[[nodiscard]] bool copy_in(const sockaddr* address, std::size_t size, Address& copy) noexcept;

/// True where it can be seen without asking the kernel that the address is no internet address.
[[nodiscard]] bool is_another_family(const sockaddr* address) noexcept;

}  // namespace portwrap::shim
