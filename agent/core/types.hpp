// The words of the product as values: ports, projects, sessions, leases. Pure: no files, clock, sockets or JSON.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portwrap {

using Port = std::uint16_t;
using Time = std::chrono::sys_time<std::chrono::milliseconds>;  ///< UTC
using LeaseId = std::uint64_t;                                  ///< 0 is "none"
using Cookie = std::uint64_t;                                   ///< SO_COOKIE: unique per socket and boot; 0 is "none"

/// The first and last port, both included. Empty when start > end.
struct PortInterval {
    Port start = 1;
    Port end = 0;
    [[nodiscard]] constexpr bool contains(Port port) const { return start <= port && port <= end; }
    [[nodiscard]] constexpr int size() const { return end < start ? 0 : end - start + 1; }
    auto operator<=>(const PortInterval&) const = default;
};

/// A process that cannot be confused with a later one of the same pid within one boot.
/// `start_ticks` is field 22 of /proc/PID/stat (proc(5)).
struct ProcessId {
    std::int32_t pid = 0;
    std::uint64_t start_ticks = 0;
    [[nodiscard]] bool known() const { return pid > 0; }
    auto operator<=>(const ProcessId&) const = default;
};

/// A process and the number of the one that is its parent.
struct ProcessLink {
    ProcessId process;
    std::int32_t parent = 0;
};

enum class Protocol { tcp, udp };
enum class Environment { dev, test, production };
enum class LeaseState { reserved, allocated, active, released, conflict };
enum class Health { unknown, healthy, unhealthy, not_running };
/// Who asked: a running program through the shim (ends with its sockets), or a person or script by name;
/// `registered`: what is only recorded here and managed elsewhere, so that anybody may listen on it.
enum class LeaseOrigin { process, named, registered };

/// One table for each enumeration's words, used by every reader and writer of JSON and text.
template <typename E>
struct Words;
template <>
struct Words<Protocol> {
    static constexpr std::array<std::string_view, 2> k_words{"tcp", "udp"};
};
template <>
struct Words<Environment> {
    static constexpr std::array<std::string_view, 3> k_words{"dev", "test", "production"};
};
template <>
struct Words<LeaseState> {
    static constexpr std::array<std::string_view, 5> k_words{"reserved", "allocated", "active", "released", "conflict"};
};
template <>
struct Words<Health> {
    static constexpr std::array<std::string_view, 4> k_words{"unknown", "healthy", "unhealthy", "not_running"};
};
template <>
struct Words<LeaseOrigin> {
    static constexpr std::array<std::string_view, 3> k_words{"process", "named", "registered"};
};

template <typename E>
[[nodiscard]] constexpr std::string_view word(E value) {
    return Words<E>::k_words[static_cast<std::size_t>(value)];
}
template <typename E>
[[nodiscard]] constexpr std::optional<E> from_word(std::string_view text) {
    for (std::size_t i = 0; i < Words<E>::k_words.size(); ++i) {
        if (Words<E>::k_words[i] == text) { return static_cast<E>(i); }
    }
    return std::nullopt;
}

/// What is known of a project besides its identity, which is `root`, the canonical path.
struct Project {
    std::string root;
    std::string name;
    std::optional<std::string> branch;
    std::optional<std::string> worktree_of;  ///< root of the main worktree, for a linked one
    std::string family;  ///< equal for siblings: "git:COMMON_DIR", "manifest:HASH", or "" when there is no relation to find
    std::string root_commit;  ///< equal for clones; empty when unknown
    /// Its own block of ports, given by the agent under the preset `blocks`; the files know nothing of it.
    std::optional<PortInterval> block{};
    std::string git_dir{};  ///< the worktree's own git directory; a linked one's file "gitdir" says where the worktree is
    std::string git_id{};   ///< which git directory that is, wherever it lies by now; empty when unknown
    bool operator==(const Project&) const = default;
};

/// One service of a project's .portwrap.json.
struct ServiceConfig {
    std::string name;
    std::optional<Port> port;        ///< the port that the code asks for
    std::vector<std::string> args;   ///< appended to the command, with {port}
    std::optional<std::string> env;  ///< variable that carries the assigned port
    std::optional<std::string> dir;  ///< relative to the root
    std::optional<std::string> kind;
    std::optional<std::string> type;
    std::optional<std::string> health;  ///< HTTP path
    bool health_tls = false;            ///< it speaks TLS: asked for that instead of the path
    std::optional<std::chrono::seconds> health_timeout;  ///< to wait for an answer
    std::optional<bool> shared;
    bool sockname_requested = false;  ///< "sockname": "requested"
    bool operator==(const ServiceConfig&) const = default;
};

struct ProjectConfig {
    std::optional<std::string> name;
    std::optional<std::string> type;
    std::vector<ServiceConfig> services;  ///< in the file's order
    std::vector<std::pair<std::string, std::string>> env;  ///< templates with ${service}
    bool connect = true;            ///< false for "connect": "off"
    bool claims = true;             ///< false for "sticky": "prefer"
    bool port_zero_kernel = false;  ///< true for "port_zero": "kernel"
    bool rewrite_env = false;       ///< values of .env files that name a moved port are set with the assigned one
    bool operator==(const ProjectConfig&) const = default;
};

/// Everything that the files say about a working directory.
struct Place {
    Project project;
    ProjectConfig config;
    std::string type;         ///< "node", "python", ...: of the nearest manifest; empty when there is none
    std::string package_dir;  ///< directory of the nearest manifest up to the root, relative to the root; "" is the root
    std::string problem;      ///< what is wrong with .portwrap.json, one line with file and line; empty when nothing is
    bool operator==(const Place&) const = default;
};

/// Two services of one name in two projects, two requested ports of one service: each its own key.
struct LeaseKey {
    std::string root;
    std::string service;
    Protocol protocol = Protocol::tcp;
    std::optional<Port> requested;  ///< none: asked for by name; 0: the program bound port 0
    int instance = 0;
    auto operator<=>(const LeaseKey&) const = default;
};

/// The process that has the socket, with what a person wants to know about it.
struct Holder {
    ProcessId process;
    std::string command;
    std::string cwd;
    Time started_at{};
    bool operator==(const Holder&) const = default;
};

struct Socket {
    Cookie cookie = 0;
    bool bound = false;      ///< bind succeeded
    bool listening = false;  ///< listen succeeded
    bool operator==(const Socket&) const = default;
};

struct Lease {
    LeaseId id = 0;
    LeaseKey key;
    Port port = 0;
    LeaseOrigin origin = LeaseOrigin::process;
    LeaseState state = LeaseState::allocated;
    Health health = Health::unknown;
    std::string range;  ///< name of the range that served it; empty for a port outside of all
    Environment environment = Environment::dev;
    std::optional<std::string> kind;
    std::optional<bool> shared;  ///< may siblings connect: as its project's config says, none where that says nothing
    bool claimed = false;   ///< still the key's own although released
    bool claims = true;     ///< false where the project's config says "sticky": "prefer": it will not be claimed
    bool listened = false;  ///< a listener was seen at least once
    /// Where it listened last, while it has been granted another port on which nobody has listened yet: its stickiness.
    std::optional<Port> kept_port;
    /// Offered to a program that cannot be intercepted: it is taken to listen there, nobody will hear of it.
    bool unseen = false;
    /// Offered to a session as the port of another service than its own (`env`, ${api}, {port:api}): whoever of the project
    /// runs that service takes it.
    bool announced = false;
    bool beside = false;  ///< another service of the same launch listened at the same time
    std::optional<ProcessId> session;
    std::optional<ProcessId> last_session;  ///< of a released lease: whose it was; its boot_id counts
    std::optional<Holder> holder;
    std::vector<Socket> sockets;  ///< of running processes; empty for a silent lease
    std::string boot_id;          ///< of holder, session and sockets
    std::optional<std::string> description;
    std::optional<std::string> hostname;
    std::string allocated_by;
    /// launch_name of the session that asked for its number last; "" when there was none, or nothing is to be learnt from it
    std::string started_by;
    Time allocated_at{};
    std::optional<Time> last_active_at;
    std::optional<Time> released_at;
    std::optional<Time> expires_at;  ///< ttl of a reservation; of a process lease without a socket: when it ends
    [[nodiscard]] bool live() const {
        return state == LeaseState::reserved || state == LeaseState::allocated || state == LeaseState::active ||
               state == LeaseState::conflict;
    }
    /// From here its claim, its inactivity and its memory are counted.
    [[nodiscard]] Time last_used() const { return last_active_at ? std::max(*last_active_at, allocated_at) : allocated_at; }
    /// Got by name, released, and claimed by nobody: of these a limited number is remembered.
    [[nodiscard]] bool only_remembered() const { return !live() && !claimed && by_name(); }
    [[nodiscard]] bool by_name() const { return origin != LeaseOrigin::process; }
    [[nodiscard]] bool listening() const {
        for (const auto& socket : sockets) {
            if (socket.listening) { return true; }
        }
        return false;
    }
    bool operator==(const Lease&) const = default;
};

/// One `portwrap` run. A nested one names its outermost run, and that is the session of all leases below it.
struct Session {
    ProcessId id;
    ProcessId outermost;  ///< == id for the outermost
    std::string root;     ///< the project it was started in
    std::string cwd;
    std::string command;
    std::string boot_id;
    // what the user said on the command line
    std::optional<Port> port;
    std::optional<std::string> service;
    std::optional<std::string> type;
    std::optional<std::string> range;
    std::optional<std::string> kind;
    Environment environment = Environment::dev;
    bool quiet = false;
    bool connect = true;
    std::uint64_t stderr_device = 0;  ///< st_dev and st_ino of descriptor 2 when it began
    std::uint64_t stderr_inode = 0;
    Time started_at{};
    bool operator==(const Session&) const = default;
};

}  // namespace portwrap
