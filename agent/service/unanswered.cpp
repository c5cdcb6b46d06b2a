#include "service/unanswered.hpp"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>

#include "portwrap/protocol.hpp"
#include "system/containers.hpp"
#include "system/listeners.hpp"
#include "system/processes.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_at_once = 256;

std::optional<ProcessId> session_of(const std::vector<ProcessId>& line, const std::set<ProcessId>& sessions) {
    for (const auto& process : line) {
        if (sessions.contains(process)) { return process; }
    }
    const auto said = line.empty() ? std::nullopt : read_variable(line.front().pid, k_env_session);
    const auto named = std::find_if(sessions.begin(), sessions.end(), [&](const ProcessId& session) { return said == session_text(session); });
    return named != sessions.end() ? std::optional(*named) : std::nullopt;
}

/// A program that cannot be intercepted, has switched that off, or carries a container's traffic was never to be answered.
bool would_have_asked(const std::vector<ProcessId>& line, const Listener& listener) {
    const auto pid = line.front().pid;
    if (!has_mapped(pid, k_shim_name) || read_variable(pid, k_env_disable) == "1") { return false; }
    ContainerClue clue{listener.port, listener.protocol, {}};
    for (const auto& process : line) { clue.pids.push_back(process.pid); }
    return !find_containers({clue}, {}).front();
}

}  // namespace

Unanswered find_unanswered(const UnansweredQuery& query) {
    Unanswered found;
    auto listeners = list_listeners();
    if (!listeners) { return found; }
    std::erase_if(*listeners, [&, own = ::geteuid()](const Listener& listener) {
        return listener.cookie == 0 || listener.uid != own || query.ephemeral.contains(listener.port) || query.known.contains(listener.cookie);
    });
    if (listeners->empty()) { return found; }
    std::vector<ino_t> inodes;
    for (const auto& listener : *listeners) { inodes.push_back(listener.inode); }
    std::vector<pid_t> likely;
    for (const auto& session : query.sessions) { likely.push_back(session.pid); }
    const auto holders = find_socket_holders(inodes, likely);
    for (const auto& listener : *listeners) {
        const auto holder = holders.find(listener.inode);
        const auto line = holder != holders.end() ? lineage_of(holder->second) : std::vector<ProcessId>();
        const auto session = session_of(line, query.sessions);
        if (!session || !would_have_asked(line, listener)) {
            found.strangers.push_back(listener.cookie);
        } else if (found.listeners.size() < k_at_once) {
            found.listeners.push_back({listener.port, listener.cookie, holder->second, *session});
        }
    }
    return found;
}

}  // namespace portwrap
