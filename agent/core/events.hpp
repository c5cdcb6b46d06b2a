// The only way in which the registry changes. An event carries the whole new value of what it changes, so that
// applying is trivial, applying twice is harmless, and an event lost on a full disk cannot garble later ones.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

/// The word of a lease event, shown by history and watch.
enum class LeaseChange {
    allocated,   ///< granted
    bound,       ///< a process bound it, or another socket joined
    activated,   ///< listens
    held,        ///< has a new holder, nothing else changed
    silenced,    ///< its listener went away, the lease stays
    updated,     ///< its description and the like changed
    released,    ///< ended; remembered
    conflicted,  ///< a stranger listens on it
    expired,     ///< ended by time
    moved,       ///< its worktree lies elsewhere now
};
template <>
struct Words<LeaseChange> {
    static constexpr std::array<std::string_view, 10> k_words{"allocated", "bound",    "activated",  "held",    "silenced",
                                                              "updated",   "released", "conflicted", "expired", "moved"};
};

struct LeaseEvent {
    LeaseChange change = LeaseChange::allocated;
    Lease lease;  ///< as it is after the change
    bool operator==(const LeaseEvent&) const = default;
};
struct LeaseForgotten {
    LeaseId id = 0;
    bool operator==(const LeaseForgotten&) const = default;
};
struct ProjectSeen {
    Project project;
    bool operator==(const ProjectSeen&) const = default;
};
/// Its directory is elsewhere now, or gone, and nothing of it is remembered any more.
struct ProjectForgotten {
    std::string root;
    bool operator==(const ProjectForgotten&) const = default;
};
struct SessionOpened {
    Session session;
    bool operator==(const SessionOpened&) const = default;
};
struct SessionClosed {
    ProcessId id;
    bool operator==(const SessionClosed&) const = default;
};

using Change = std::variant<LeaseEvent, LeaseForgotten, ProjectSeen, ProjectForgotten, SessionOpened, SessionClosed>;

struct Event {
    std::uint64_t seq = 0;  ///< 1, 2, 3...; given by Registry::stamp
    Time at{};
    Change change;
    bool operator==(const Event&) const = default;
};

}  // namespace portwrap
