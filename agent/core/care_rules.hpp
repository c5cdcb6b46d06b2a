// Looking after the registry: what is wrong with it (audit), what is over (cleanup), what a worktree gets in advance
// (provision). Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

enum class FindingKind { duplicate, conflict, not_running };
template <>
struct Words<FindingKind> {
    static constexpr std::array<std::string_view, 3> k_words{"duplicate", "conflict", "not_running"};
};
struct Finding {
    FindingKind kind = FindingKind::not_running;
    LeaseId lease = 0;
    std::size_t listener = 0;  ///< of a conflict: its place in the list that was given
    std::string fix;           ///< a command
};
struct Audit {
    std::vector<Finding> findings;  ///< by port
    int allocated = 0;              ///< live leases
    int active = 0;                 ///< that somebody who may listens on
    int not_running = 0;
    int conflicts = 0;
};
/// Of one project, or of all without `root`.
[[nodiscard]] Audit audit_leases(const Registry& registry, const Config& config, const std::optional<std::string>& root, const std::vector<HeardSocket>& heard);

enum class CleanupReason { worktree_gone, expired, inactive, holder_dead, forgotten };
template <>
struct Words<CleanupReason> {
    static constexpr std::array<std::string_view, 5> k_words{"worktree_gone", "expired", "inactive", "holder_dead", "forgotten"};
};
struct Cleaned {
    Lease lease;  ///< as it was
    CleanupReason reason = CleanupReason::expired;
};
/// Everything that is over by now in the projects that `concerns` says; what has a listening socket stays. `gone` are the
/// roots that do not exist any more.
[[nodiscard]] Decision<std::vector<Cleaned>> decide_cleanup(const Registry& registry, const Config& config, const std::set<std::string>& gone,
                                                            const std::function<bool(const std::string& root)>& concerns, const Facts& facts);

/// Ports in advance for the services of .portwrap.json, else for those that the main worktree has, or, in a repository without
/// one, another worktree. The answer is every
/// service with its port; no changes where all had theirs.
struct Provided {
    std::string service;
    Port port = 0;
};
[[nodiscard]] Decision<std::vector<Provided>> decide_provision(const Registry& registry, const Config& config, const Place& place,
                                                               const std::string& allocated_by, const Facts& facts);

}  // namespace portwrap
