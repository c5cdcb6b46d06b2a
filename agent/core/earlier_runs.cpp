#include "core/earlier_runs.hpp"

#include <algorithm>

#include "core/ranges.hpp"
#include "core/search.hpp"

namespace portwrap {

std::string launch_name(const Session& session) {
    std::string name = session.command;
    if (session.cwd.size() > session.root.size() + 1 && session.cwd.starts_with(session.root + "/")) {
        name += " (in " + session.cwd.substr(session.root.size() + 1) + ")";
    }
    return name;
}

std::vector<KnownListener> earlier_listeners(const Registry& registry, const Project& project, const std::string& launch) {
    std::vector<KnownListener> found;
    const auto look_at = [&](const std::string& root) {
        for (const auto* lease : registry.of_project(root)) {
            if (!lease->listened || lease->started_by != launch || lease->key.protocol != Protocol::tcp || lease->key.requested.value_or(0) == 0 ||
                is_auxiliary_service(lease->key.service)) {
                continue;
            }
            KnownListener listener{lease->key.service, *lease->key.requested, lease->kind};
            if (std::find(found.begin(), found.end(), listener) == found.end()) { found.push_back(std::move(listener)); }
        }
    };
    if (launch.empty()) { return found; }
    look_at(project.root);
    if (!found.empty()) { return found; }
    for (const auto* sibling : registry.relatives_of(project)) { look_at(sibling->root); }
    return found;
}

}  // namespace portwrap
