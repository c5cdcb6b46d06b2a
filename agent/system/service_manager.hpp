// What a service manager does for the agent, by its environment variables alone (no library of systemd's): it listens on
// the agent's socket before the agent runs (sd_listen_fds(3)) and wants to hear when it serves (sd_notify(3)). The same
// protocol hands the socket to the agent's own next image when the program is replaced while it runs.
#pragma once

#include <string>

#include "portwrap/unique_fd.hpp"

namespace portwrap {

/// A socket that listened before this program began.
struct PassedSocket {
    UniqueFd socket;           ///< invalid: none was passed, or it is another than the one that clients know
    bool is_managers = false;  ///< the manager listens on before and after us, and its file is not ours to remove
};

/// Takes what LISTEN_FDS says, if it is a socket bound to `path`; the variables are gone afterwards.
[[nodiscard]] PassedSocket take_passed_socket(const std::string& path);

/// Puts the socket where the program that this process executes next takes it from. False: it could not be put there.
[[nodiscard]] bool pass_on(UniqueFd socket, bool is_managers);

/// Sends a state like "READY=1" where a manager waits for it.
void tell_manager(const std::string& state);

}  // namespace portwrap
