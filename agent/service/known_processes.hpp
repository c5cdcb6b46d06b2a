// What was read of the processes that ask, so that a server which binds its tenth socket costs one look at /proc and not
// twenty. Owned by the agent and used on its thread. Nothing here is believed of a pid: a process is known by its start
// time, its arguments by where the kernel keeps them (another place after an exec), both read anew each time with one file.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/registry.hpp"
#include "portwrap/unique_fd.hpp"
#include "system/processes.hpp"

namespace portwrap {

struct KnownProcess {
    ProcessStat stat;
    std::string command;                 ///< read_command, as it was when the process first asked
    std::vector<std::string> arguments;
    std::string executable;
};

class KnownProcesses {
public:
    /// Null when there is no such process (any more). Good until the next call.
    [[nodiscard]] const KnownProcess* look(pid_t pid);

    /// As portwrap::is_alive, for less where the process has asked lately.
    [[nodiscard]] bool is_alive(const ProcessId& process);

    /// The innermost session of the registry among this process and its ancestors. An identity inherited through the
    /// environment proves nothing and is not looked at.
    [[nodiscard]] const Session* session_above(const ProcessStat& process, const Registry& registry);

    /// A session began or ended: who stands below which is looked up anew.
    void forget_sessions() { m_above.clear(); }

private:
    struct OpenFile {
        pid_t pid = 0;
        UniqueFd file;
    };
    [[nodiscard]] std::optional<ProcessStat> read(pid_t pid);

    std::map<pid_t, KnownProcess> m_processes;
    std::array<OpenFile, 4> m_files;  ///< of those who asked last: opening costs more than reading
    std::size_t m_oldest_file = 0;
    std::map<ProcessId, std::optional<ProcessId>> m_above;  ///< the session; none: the whole way up was seen, and there is none
};

}  // namespace portwrap
