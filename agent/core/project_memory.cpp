// See project_memory.hpp.
#include "core/project_memory.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace portwrap {

std::size_t ProjectMemory::bytes_of(const Project& project) {
    // Its root stands in the project, as its key, here, among its relatives, and beside its table; its family there, too.
    return 2 * sizeof(Project) + 6 * project.root.size() + 4 * (project.family.size() + project.root_commit.size()) + project.name.size() +
           project.branch.value_or("").size() + project.worktree_of.value_or("").size() + project.git_dir.size() + project.git_id.size();
}

std::size_t ProjectMemory::more_for(const Project& project) const {
    const auto known = m_known.find(project.root);
    const auto had = known != m_known.end() ? known->second.bytes : 0;
    return bytes_of(project) - std::min(had, bytes_of(project));
}

void ProjectMemory::note(const Project& project) {
    auto& known = m_known[project.root];
    m_bytes -= known.bytes;
    known = {++m_uses, bytes_of(project)};
    m_bytes += known.bytes;
}

void ProjectMemory::start(const Registry& registry) {
    for (const auto& [root, project] : registry.projects()) { note(project); }
}

void ProjectMemory::on_event(const Event& event) {
    if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        note(seen->project);
    } else if (const auto* opened = std::get_if<SessionOpened>(&event.change)) {
        if (const auto known = m_known.find(opened->session.root); known != m_known.end()) { known->second.used = ++m_uses; }
    } else if (const auto* gone = std::get_if<ProjectForgotten>(&event.change)) {
        if (const auto known = m_known.extract(gone->root)) { m_bytes -= known.mapped().bytes; }
    }
}

std::vector<Change> ProjectMemory::surplus(const Registry& registry) {
    std::vector<Change> changes;
    if (m_bytes <= m_allowed) { return changes; }
    std::set<std::string> in_use;
    for (const auto& [id, session] : registry.sessions()) { in_use.insert(session.root); }
    std::vector<std::pair<std::uint64_t, const Project*>> unused;
    std::size_t bytes = 0;
    for (const auto& [root, project] : registry.projects()) {
        if (project.block || in_use.contains(root) || !registry.of_project(root).empty()) { continue; }
        const auto known = m_known.find(root);
        unused.emplace_back(known != m_known.end() ? known->second.used : 0, &project);
        bytes += bytes_of(project);
    }
    m_allowed = m_bytes - std::min(bytes, m_bytes) + k_most_bytes;
    if (bytes <= k_most_bytes) { return changes; }
    std::sort(unused.begin(), unused.end());
    for (const auto& entry : unused) {
        if (bytes <= k_most_bytes * 3 / 4) { break; }
        bytes -= bytes_of(*entry.second);
        changes.emplace_back(ProjectForgotten{entry.second->root});
    }
    return changes;
}

}  // namespace portwrap
