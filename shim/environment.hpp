// What the shim knows about where it runs: the agent's socket, the session and its table. Read once, in the constructor, into memory
// of its own: programs overwrite and delete their environment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "portwrap/shim_frame.hpp"

namespace portwrap::shim {

inline constexpr std::size_t k_socket_path_capacity = 108;  ///< sun_path, its NUL included (unix(7))

struct Environment {
    char socket_path[k_socket_path_capacity] = {};
    std::size_t socket_path_size = 0;  ///< without the NUL
    shim_frame::Session session;
    std::uint64_t table = 0;  ///< name of the session's remap table; 0: unknown
    bool connect = true;      ///< false: connections are not looked up in it
    bool is_cluster_worker = false;  ///< of node, which checks the port that it got
};

/// To be called by the constructor only.
void read_environment() noexcept;

/// Where the environment's table lies at start: on the first thread's stack, above every frame; 0 if there is none.
[[nodiscard]] std::uintptr_t first_environment() noexcept;

/// Null until the constructor has run, and for good if the shim is turned off or no socket's path fits.
[[nodiscard]] const Environment* environment() noexcept;

}  // namespace portwrap::shim
