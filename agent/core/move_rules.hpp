// A worktree that was moved (git worktree move, git worktree repair, or a whole repository that was renamed): what is
// remembered under its old root belongs to the new one. Pure.
#pragma once

#include <string>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

/// The project that may have been at another root before: it has the same git directory, which says nothing yet of whether the
/// old root is gone. Null when there is none, or when the project is known where it is.
[[nodiscard]] const Project* earlier_self(const Registry& registry, const Project& project);

/// Leases, stickiness, sessions and block go from the project `from` to the one at `to`; `from` is forgotten. What the new root
/// has under a key already keeps it: a live lease that comes moves on to the next instance, a remembered one ends.
[[nodiscard]] std::vector<Change> decide_moved(const Registry& registry, const std::string& from, const Project& to);

}  // namespace portwrap
