// bind: asks the agent, calls the real function with what it says, and tells what came of it.
#pragma once

#include "environment.hpp"
#include "rewrite.hpp"
#include "sockets.hpp"

namespace portwrap::shim {

/// Is the caller's address one whose port the agent is to choose? Then it is copied and taken apart.
[[nodiscard]] bool is_managed_bind(int fd, const sockaddr* caller_address, socklen_t size, SocketKind& kind, Address& address,
                                   Endpoint& endpoint) noexcept;

/// As bind(2); errno is as the real call leaves it.
int managed_bind(const Environment& where, int fd, const SocketKind& kind, const Address& address,
                 const Endpoint& endpoint) noexcept;

}  // namespace portwrap::shim
