#include "service/known_processes.hpp"

#include <algorithm>

namespace portwrap {
namespace {

/// A command line may have 4 KiB; those who ask at one time are few.
constexpr std::size_t k_remembered = 256;
constexpr std::size_t k_remembered_above = 4096;

bool is_same_image(const ProcessStat& a, const ProcessStat& b) {
    const bool told = std::any_of(a.image.begin(), a.image.end(), [](auto address) { return address != 0; });
    return told && a.id == b.id && a.image == b.image;
}

}  // namespace

std::optional<ProcessStat> KnownProcesses::read(pid_t pid) {
    for (auto& known : m_files) {
        if (known.pid != pid) { continue; }
        if (const auto stat = read_process(pid, known.file)) { return stat; }
        known = {};  // it has ended, and its number may be another's
    }
    auto& oldest = m_files[m_oldest_file];
    oldest = {pid, open_process(pid)};
    const auto stat = oldest.file.valid() ? read_process(pid, oldest.file) : std::nullopt;
    if (!stat) {
        oldest = {};
        return std::nullopt;
    }
    m_oldest_file = (m_oldest_file + 1) % m_files.size();
    return stat;
}

bool KnownProcesses::is_alive(const ProcessId& process) {
    const auto stat = read(process.pid);
    return stat ? stat->id == process && stat->runs() : portwrap::is_alive(process);
}

const KnownProcess* KnownProcesses::look(pid_t pid) {
    const auto stat = read(pid);
    if (!stat) { return nullptr; }
    if (const auto known = m_processes.find(pid); known != m_processes.end() && is_same_image(known->second.stat, *stat)) {
        known->second.stat = *stat;
        return &known->second;
    }
    if (m_processes.size() >= k_remembered) { m_processes.clear(); }
    auto& process = m_processes[pid];
    process = {*stat, {}, read_arguments(pid), read_executable(pid)};
    process.command = command_of(pid, process.arguments);
    return &process;
}

const Session* KnownProcesses::session_above(const ProcessStat& process, const Registry& registry) {
    std::vector<ProcessId> walked;
    std::optional<ProcessId> found;
    auto current = process;
    bool whole = false;
    for (std::size_t level = 0; level < k_max_ancestors; ++level) {
        if (const auto known = m_above.find(current.id); known != m_above.end()) {
            found = known->second;
            whole = true;
            break;
        }
        walked.push_back(current.id);
        if (registry.find_session(current.id) != nullptr) {
            found = current.id;
            whole = true;
            break;
        }
        if (current.parent <= 1) {
            whole = true;
            break;
        }
        const auto parent = read_process(current.parent);
        if (!parent) { break; }  // it died at this moment: next time there is another one
        current = *parent;
    }
    if (whole) {
        if (m_above.size() + walked.size() > k_remembered_above) { m_above.clear(); }
        for (const auto& id : walked) { m_above.emplace(id, found); }
    }
    return found ? registry.find_session(*found) : nullptr;
}

}  // namespace portwrap
