#include "core/move_rules.hpp"

#include <set>
#include <utility>

#include "core/lease_steps.hpp"

namespace portwrap {
namespace {

/// The path as it is after `from` has become `to`; others stay.
std::string moved_path(const std::string& path, const std::string& from, const std::string& to) {
    return is_below(path, from) ? to + path.substr(from.size()) : path;
}

}  // namespace

const Project* earlier_self(const Registry& registry, const Project& project) {
    if (project.git_id.empty()) { return nullptr; }
    const auto* known = registry.find_project(project.root);
    if (known != nullptr && known->git_id == project.git_id) { return nullptr; }
    for (const auto& [root, other] : registry.projects()) {
        if (other.git_id == project.git_id && root != project.root) { return &other; }
    }
    return nullptr;
}

std::vector<Change> decide_moved(const Registry& registry, const std::string& from, const Project& to) {
    const auto* old = registry.find_project(from);
    if (old == nullptr || from == to.root) { return {}; }
    std::vector<Change> changes;
    Project project = to;
    project.block = old->block;
    changes.emplace_back(ProjectSeen{std::move(project)});
    std::set<LeaseKey> taken;
    for (const auto* lease : registry.of_project(from)) {
        Lease moved = *lease;
        moved.key.root = to.root;
        if (moved.holder) { moved.holder->cwd = moved_path(moved.holder->cwd, from, to.root); }
        // What is live beats what is remembered, and the older of two live ones its instance.
        const auto* there = registry.find(moved.key);
        if (!moved.live() && there != nullptr) {
            changes.emplace_back(LeaseForgotten{lease->id});
            continue;
        }
        while (moved.live() && (taken.contains(moved.key) || (there != nullptr && there->live()))) {
            ++moved.key.instance;
            there = registry.find(moved.key);
        }
        if (there != nullptr) { changes.emplace_back(LeaseForgotten{there->id}); }
        if (moved.live()) { taken.insert(moved.key); }
        changes.emplace_back(LeaseEvent{LeaseChange::moved, std::move(moved)});
    }
    for (const auto& [id, session] : registry.sessions()) {
        if (session.root != from && !is_below(session.cwd, from)) { continue; }
        Session moved = session;
        if (moved.root == from) { moved.root = to.root; }
        moved.cwd = moved_path(moved.cwd, from, to.root);
        changes.emplace_back(SessionOpened{std::move(moved)});
    }
    changes.emplace_back(ProjectForgotten{from});
    return changes;
}

}  // namespace portwrap
