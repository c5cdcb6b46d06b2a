#include "core/earlier_runs.hpp"

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

bool teaches(const Lease& lease) {
    return lease.listened && !lease.started_by.empty() && lease.key.protocol == Protocol::tcp && lease.key.requested.value_or(0) != 0 &&
           !is_auxiliary_service(lease.key.service);
}

EarlierRuns earlier_runs(const Registry& registry, const Project& project, const std::string& launch) {
    EarlierRuns runs;
    const Lease* latest = nullptr;
    const auto look_at = [&](const std::string& root) {
        for (const auto* lease : registry.of_project(root)) {
            if (!teaches(*lease) || lease->started_by != launch) { continue; }
            runs.several = runs.several || lease->beside;
            if (latest == nullptr || lease->last_used() > latest->last_used()) { latest = lease; }
        }
    };
    look_at(project.root);
    if (latest == nullptr) {
        for (const auto* sibling : registry.relatives_of(project)) { look_at(sibling->root); }
    }
    if (latest != nullptr) { runs.listener = KnownListener{latest->key.service, *latest->key.requested, latest->kind}; }
    return runs;
}

}  // namespace portwrap
