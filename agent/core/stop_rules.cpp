// See stop_rules.hpp.
#include "core/stop_rules.hpp"

#include <algorithm>
#include <set>

namespace portwrap {
namespace {

class ProcessTree {
public:
    explicit ProcessTree(const std::vector<ProcessLink>& processes) {
        for (const auto& link : processes) {
            m_links.emplace(link.process.pid, link);
            m_children.emplace(link.parent, link.process);
        }
    }

    /// The first of this process, its parent, and so on upwards, that `fits` says so of.
    template <typename Fits>
    [[nodiscard]] std::optional<ProcessId> nearest(ProcessId process, const Fits& fits) const {
        // As many steps as there are processes: what is read one by one may be a circle.
        for (std::size_t steps = 0; steps <= m_links.size(); ++steps) {
            if (fits(process)) { return process; }
            const auto link = m_links.find(process.pid);
            if (link == m_links.end() || link->second.process != process) { return std::nullopt; }
            const auto parent = m_links.find(link->second.parent);
            if (parent == m_links.end() || !may_be_child(process, parent->second.process)) { return std::nullopt; }
            process = parent->second.process;
        }
        return std::nullopt;
    }

    /// Everything below these, without themselves and without what is below a process that is not to be entered.
    [[nodiscard]] std::vector<ProcessId> below(const std::set<ProcessId>& roots, const std::set<ProcessId>& closed) const {
        auto seen = roots;
        std::vector<ProcessId> queue(roots.begin(), roots.end());
        std::vector<ProcessId> found;
        while (!queue.empty()) {
            const auto parent = queue.back();
            queue.pop_back();
            const auto [first, last] = m_children.equal_range(parent.pid);
            for (auto child = first; child != last; ++child) {
                const auto& process = child->second;
                if (!may_be_child(process, parent) || closed.contains(process) || !seen.insert(process).second) { continue; }
                found.push_back(process);
                queue.push_back(process);
            }
        }
        return found;
    }

private:
    /// A child is younger than its parent: else the parent's pid was recycled in between.
    [[nodiscard]] static bool may_be_child(const ProcessId& child, const ProcessId& parent) { return child.start_ticks >= parent.start_ticks; }

    std::map<std::int32_t, ProcessLink> m_links;
    std::multimap<std::int32_t, ProcessId> m_children;
};

}  // namespace

StopScene stop_scene(const Registry& registry, const std::string& root, const std::vector<const Lease*>& meant) {
    StopScene scene;
    for (const auto& [id, lease] : registry.leases()) {
        const bool own = lease.key.root == root;
        if (!lease.live() || !lease.holder || (own && lease.sockets.empty())) { continue; }
        const bool is_meant = std::find(meant.begin(), meant.end(), &lease) != meant.end();
        scene.programs.push_back({lease.holder->process, lease.session, own, is_meant});
    }
    for (const auto& [id, session] : registry.sessions()) { scene.runs.emplace(id, session.root == root); }
    return scene;
}

StopMembers members_to_stop(const StopScene& scene, const std::vector<ProcessLink>& processes) {
    const ProcessTree tree(processes);
    std::set<ProcessId> spared;
    std::set<ProcessId> own;
    for (const auto& [command, is_own] : scene.runs) {
        if (!is_own) { spared.insert(command); }
    }
    for (const auto& program : scene.programs) { (program.own ? own : spared).insert(program.process); }

    std::set<ProcessId> commands;
    std::set<ProcessId> holders;
    for (const auto& program : scene.programs) {
        if (!program.meant) { continue; }
        holders.insert(program.process);
        const auto above = tree.nearest(program.process, [&](const ProcessId& process) { return scene.runs.contains(process) || spared.contains(process); });
        const auto command = above ? above : program.session;
        if (command && scene.runs.contains(*command) && !spared.contains(*command)) { commands.insert(*command); }
    }
    // A lease names the outermost run: of a nested one, programs are found below its command alone.
    for (const auto& program : scene.programs) {
        if (!program.own || !program.session || !commands.contains(*program.session)) { continue; }
        const auto above = tree.nearest(program.process, [&](const ProcessId& process) { return spared.contains(process) || commands.contains(process); });
        if (!above || !spared.contains(*above)) { holders.insert(program.process); }
    }

    auto roots = commands;
    roots.insert(holders.begin(), holders.end());
    StopMembers members;
    for (const auto& process : tree.below(roots, spared)) {
        if (own.contains(process)) {
            holders.insert(process);
        } else {
            members.others.push_back(process);
        }
    }
    members.commands.assign(commands.begin(), commands.end());
    members.holders.assign(holders.begin(), holders.end());
    return members;
}

}  // namespace portwrap
