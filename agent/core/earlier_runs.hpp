// What earlier runs of a command teach: the ports that its servers ask for, here or in a sibling. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

/// The command of a session and the directory below the root in which it was given: what a lease remembers of the run
/// that asked for its number last (Lease::started_by), and by which the next run of the same command is recognised.
[[nodiscard]] std::string launch_name(const Session& session);

struct KnownListener {
    std::string service;
    Port requested = 0;
    std::optional<std::string> kind;  ///< "database", "cache", ...
    auto operator<=>(const KnownListener&) const = default;
};

/// The listeners that a launch of this name had, auxiliary ones and those on port 0 left out: here, else in the siblings.
[[nodiscard]] std::vector<KnownListener> earlier_listeners(const Registry& registry, const Project& project, const std::string& launch);

}  // namespace portwrap
