// Where portwrap keeps its files: the one function for all programs (XDG Base Directory Specification).
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "portwrap/result.hpp"

namespace portwrap {

namespace detail {
inline std::string environment_path(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? std::string(value) : std::string();
}
inline bool is_anothers(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 && st.st_uid != ::geteuid();
}
inline bool is_private_directory(const std::string& path) {
    struct stat st {};
    return ::lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == ::geteuid() && (st.st_mode & 0777) == 0700;
}
}  // namespace detail

/// $HOME, or empty.
inline std::string home_directory() { return detail::environment_path("HOME"); }

/// $XDG_RUNTIME_DIR/portwrap, unless that directory is another user's (su and sudo may leave the variable as it was); else /run/user/UID/portwrap if /run/user/UID is ours with mode 0700; else /tmp/portwrap-UID.
/// Says only where it is; ensure_private_directory() makes and checks it.
inline std::string runtime_directory() {
    if (auto dir = detail::environment_path("XDG_RUNTIME_DIR"); !dir.empty() && !detail::is_anothers(dir)) { return dir + "/portwrap"; }
    const auto uid = std::to_string(::geteuid());
    if (const auto run = "/run/user/" + uid; detail::is_private_directory(run)) { return run + "/portwrap"; }
    return "/tmp/portwrap-" + uid;
}

/// $XDG_STATE_HOME/portwrap, else ~/.local/state/portwrap.
inline std::string state_directory() {
    auto dir = detail::environment_path("XDG_STATE_HOME");
    return (dir.empty() ? home_directory() + "/.local/state" : dir) + "/portwrap";
}

/// $XDG_CONFIG_HOME/portwrap, else ~/.config/portwrap.
inline std::string config_directory() {
    auto dir = detail::environment_path("XDG_CONFIG_HOME");
    return (dir.empty() ? home_directory() + "/.config" : dir) + "/portwrap";
}

/// Makes the directory (0700, parents as needed) and checks that it is a real directory, ours, and open to nobody else,
/// as tmux does with its socket directory.
inline Status ensure_private_directory(const std::string& path) {
    for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        ::mkdir(path.substr(0, slash).c_str(), 0700);
    }
    ::mkdir(path.c_str(), 0700);
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) { return Error{ErrorCode::permission_denied, "cannot make the directory " + path}; }
    if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid()) {
        return Error{ErrorCode::permission_denied, path + " is not a directory of your own"};
    }
    if ((st.st_mode & 0077) != 0) { return Error{ErrorCode::permission_denied, path + " is open to other users (mode must be 0700)"}; }
    return ok_status();
}

/// An error when the path does not fit into sun_path (108 bytes with its NUL, unix(7)).
inline Result<std::string> socket_path(const std::string& runtime) {
    auto path = runtime + "/agent.sock";
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
        return Error{ErrorCode::agent_unavailable, "the socket's path is longer than 107 bytes: " + path + " (set a shorter XDG_RUNTIME_DIR)"};
    }
    return path;
}

/// Where the agent publishes the remap tables (remap_table.hpp).
inline std::string tables_directory(const std::string& runtime) { return runtime + "/tables"; }

/// Where the agent publishes the segments that prompts show.
inline std::string prompts_directory(const std::string& runtime) { return runtime + "/prompt"; }

/// The segment of the project with this root (canonical): the root's path again, each component with a "@" before it, so
/// that no project's directory can be another one's file. Two lines: the segment, and the pid of the agent that wrote it.
inline std::string prompt_file(const std::string& prompts, const std::string& root) {
    std::string path = prompts;
    for (const char c : root == "/" ? std::string() : root) {
        path += c;
        if (c == '/') { path += '@'; }
    }
    return path + "/segment";
}

/// Names the machine whose registry lies in `state` itself. In a home that several hosts share, the first one comes first.
inline std::string machine_path(const std::string& state) { return state + "/machine"; }

/// A machine without an id calls itself so, until it gets one.
inline constexpr const char* k_unknown_machine = "unknown";

/// machine-id(5): 32 lower-case hexadecimal digits. What is none names no other machine.
inline bool is_machine_id(std::string_view text) {
    return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// The registry's directory: `state`, or where that is another machine's (`owner`; empty: nobody's yet) one of our own in it.
inline std::string registry_directory(const std::string& state, const std::string& owner, const std::string& machine) {
    return owner == machine || !is_machine_id(owner) ? state : state + "/machine-" + machine;
}

/// The text of `agent.lock` in the registry's directory is the socket's path of the agent that holds it.
inline std::string lock_path(const std::string& state) { return state + "/agent.lock"; }

}  // namespace portwrap
