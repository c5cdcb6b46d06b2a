// One line on descriptor 2, as the agent words it: only if that can be had without waiting and without a signal, and only if the
// descriptor is still the file that it was when the agent was asked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "environment.hpp"
#include "portwrap/shim_frame.hpp"

namespace portwrap::shim {

/// Tells the agent that listen() returned with `error` on this socket (errno, 0 for success), or that a UDP socket was
/// bound; writes the notice if there is one.
void tell_listening(const Environment& where, int fd, int error) noexcept;

/// A connection to `port` was refused: says so, at most once a process and port here and once a session there.
void tell_refused(const Environment& where, std::uint16_t port) noexcept;

}  // namespace portwrap::shim
