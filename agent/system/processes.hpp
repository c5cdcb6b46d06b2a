// What /proc says about processes (proc(5)); Linux only. Reads are bounded and touch no file system but procfs.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "core/types.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {

struct ProcessStat {
    ProcessId id;
    pid_t parent = 0;
    char state = '?';  ///< R S D T t Z ...
    Time started_at{};
    /// Where the arguments and the environment begin and end (fields 48 to 51 of proc(5)): others after an exec, and zeros where
    /// this user may not know.
    std::array<std::uint64_t, 4> image{};

    [[nodiscard]] bool runs() const { return state != 'Z' && state != 'X'; }
};

/// None when the process does not exist (any more).
[[nodiscard]] std::optional<ProcessStat> read_process(pid_t pid);
/// What read_process reads, kept open: it tells of this very process for ever, and of nobody when it has ended, whoever has the
/// number then. Invalid when there is none, or no descriptor left.
[[nodiscard]] UniqueFd open_process(pid_t pid);
[[nodiscard]] std::optional<ProcessStat> read_process(pid_t pid, const UniqueFd& file);
/// As far upwards as anybody looks for a process's session.
inline constexpr std::size_t k_max_ancestors = 64;
/// The process and its ancestors, the nearest first, k_max_ancestors at most; empty when it has gone.
[[nodiscard]] std::vector<ProcessId> lineage_of(const ProcessId& process);
/// What says nothing about what was asked for: no descriptors or no memory left (EMFILE, ENFILE, ENOMEM, ENOBUFS).
[[nodiscard]] bool is_shortage(int error);
/// True while that very process exists and is no zombie. While it cannot be looked at for a shortage: while somebody has its number.
[[nodiscard]] bool is_alive(const ProcessId& process);
/// True when nobody has this number, not even a zombie. A fifth of a microsecond, where is_alive takes ten.
[[nodiscard]] bool is_pid_free(pid_t pid);
/// The command line as one printable line of at most 256 bytes; the name in brackets where it is empty.
[[nodiscard]] std::string read_command(pid_t pid);
/// The same from its arguments, where they are known already.
[[nodiscard]] std::string command_of(pid_t pid, const std::vector<std::string>& arguments);
/// The arguments as they are, at most 4 KiB in all.
[[nodiscard]] std::vector<std::string> read_arguments(pid_t pid);
/// Name of the executable file without its directory; empty when unknown.
[[nodiscard]] std::string read_executable(pid_t pid);
/// Where a process works.
struct WorkingDirectory {
    std::string path;      ///< empty when unknown; of a directory that was removed: where it was
    bool removed = false;  ///< nothing is at that path any more, or something else
};
[[nodiscard]] WorkingDirectory read_cwd(pid_t pid);
[[nodiscard]] std::optional<uid_t> read_uid(pid_t pid);
/// Whether a child of this process began with that environment variable. Children of its main thread only; some 30 us and
/// 20 more for each child; false where the kernel does not list children (CONFIG_PROC_CHILDREN).
[[nodiscard]] bool has_child_with_variable(pid_t pid, std::string_view name);
/// What an environment variable of this process was when it began; none where it had none of that name, or this user may not look.
[[nodiscard]] std::optional<std::string> read_variable(pid_t pid, std::string_view name);
/// Has this process mapped a file of that name? It may have been replaced since.
[[nodiscard]] bool has_mapped(pid_t pid, std::string_view file_name);
/// Login name, or the number as text. Reads no NSS service: only /etc/passwd, once per uid.
[[nodiscard]] std::string user_name(uid_t uid);
/// Invalid descriptor when the process is gone or pidfds are missing.
[[nodiscard]] UniqueFd open_pidfd(pid_t pid);
/// Which process has each of these socket inodes; the lowest pid where several do. Walks all of /proc that this
/// user may read: some 25 ms for 400 processes, so call it on a pool thread. `first` are looked at before the others.
[[nodiscard]] std::map<ino_t, ProcessId> find_socket_holders(const std::vector<ino_t>& inodes, const std::vector<pid_t>& first);

/// Every process with its parent. Walks all of /proc: for a pool thread.
[[nodiscard]] std::vector<ProcessLink> list_processes();

/// A session as PORTWRAP_SESSION names it.
[[nodiscard]] std::string session_text(const ProcessId& session);
/// Of each of these sessions a living process that carries it in its environment, where there is one; nothing at all where nobody
/// can tell. Walks all of /proc: for a pool thread.
[[nodiscard]] std::optional<std::map<ProcessId, ProcessId>> find_survivors(const std::set<ProcessId>& sessions);

/// /proc/sys/kernel/random/boot_id
[[nodiscard]] std::string read_boot_id();
/// /etc/machine-id, else /var/lib/dbus/machine-id, else "unknown".
[[nodiscard]] std::string read_machine_id();

}  // namespace portwrap
