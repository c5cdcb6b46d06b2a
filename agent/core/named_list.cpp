// Which leases a list shows, and in which order.
#include <algorithm>
#include <tuple>

#include "core/named_rules.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

bool is_meant(const Project& project, const std::string& word) {
    return word.empty() || project.root == word || project.branch == word || project.root.substr(project.root.rfind('/') + 1) == word;
}

}  // namespace

std::vector<const Lease*> list_leases(const Registry& registry, const ListFilter& filter) {
    std::set<std::string> roots;
    if (filter.roots) { roots = *filter.roots; }
    if (filter.project && filter.worktree) {
        if (is_meant(*filter.project, *filter.worktree)) { roots.insert(filter.project->root); }
        for (const auto& [root, project] : registry.projects()) {
            if (is_sibling(project, *filter.project) && is_meant(project, *filter.worktree)) { roots.insert(root); }
        }
    } else if (filter.project) {
        roots.insert(filter.project->root);
    }
    const bool everywhere = !filter.project && !filter.roots;
    std::vector<const Lease*> chosen;
    for (const auto& [id, lease] : registry.leases()) {
        if (!everywhere && !roots.contains(lease.key.root)) { continue; }
        const bool shown = filter.states.empty() ? lease.live() || (filter.claims && lease.claimed) : filter.states.contains(lease.state);
        if (!shown || (filter.environment && lease.environment != *filter.environment) || (filter.range && lease.range != *filter.range)) { continue; }
        chosen.push_back(&lease);
    }
    std::sort(chosen.begin(), chosen.end(),
              [](const Lease* a, const Lease* b) { return std::tie(a->key.root, a->port, a->id) < std::tie(b->key.root, b->port, b->id); });
    return chosen;
}

}  // namespace portwrap
