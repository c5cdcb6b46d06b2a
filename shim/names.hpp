// getsockname tells the truth, but for programs that die of it: node's cluster module compares the port that it got with
// the one that it asked for, and a service can say "sockname": "requested". They see what they asked for.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "environment.hpp"

namespace portwrap::shim {

/// From now on sockets of this process on `assigned` are said to be on `requested`.
void remember_requested(std::uint16_t assigned, std::uint16_t requested) noexcept;

/// Is there anything to hide from this process? One load.
[[nodiscard]] bool hides_names(const Environment& where) noexcept;

/// As getsockname(2), with what was asked for.
int hiding_getsockname(const Environment& where, int fd, sockaddr* address, socklen_t* size) noexcept;

}  // namespace portwrap::shim
