// Where a connection to a loopback address goes: as the project's published table says, without a request.
#pragma once

#include <sys/socket.h>

#include "environment.hpp"
#include "rewrite.hpp"

namespace portwrap::shim {

enum class Way : std::uint8_t {
    as_asked,   ///< the call is none of ours
    elsewhere,  ///< to the changed address
    refused,    ///< ECONNREFUSED, as if nobody were there; it has been said
};

/// `changed` is good for Way::elsewhere.
[[nodiscard]] Way way_of(const Environment& where, int fd, const sockaddr* caller_address, socklen_t size,
                         Address& changed) noexcept;

}  // namespace portwrap::shim
