// What earlier runs of a command teach: the port that its server asks for, here or in a sibling. Pure.
#pragma once

#include <optional>
#include <string>

#include "core/registry.hpp"

namespace portwrap {

/// The command of a session and the directory below the root in which it was given: what a lease remembers of the run
/// that asked for its number last (Lease::started_by), and by which the next run of the same command is recognised.
[[nodiscard]] std::string launch_name(const Session& session);

/// Does a lease say what its launch asks for? Auxiliary services, UDP and port 0 say nothing.
[[nodiscard]] bool teaches(const Lease& lease);

struct KnownListener {
    std::string service;
    Port requested = 0;
    std::optional<std::string> kind;  ///< "database", "cache", ...
    auto operator<=>(const KnownListener&) const = default;
};
struct EarlierRuns {
    std::optional<KnownListener> listener;  ///< of the latest run: a program's code may have changed its number since the others
    bool several = false;                   ///< two services of it listened at the same time
};

/// The runs of a launch of this name: here, else in the siblings.
[[nodiscard]] EarlierRuns earlier_runs(const Registry& registry, const Project& project, const std::string& launch);

}  // namespace portwrap
