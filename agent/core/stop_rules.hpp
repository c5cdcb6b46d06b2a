// What `portctl stop` ends: the portwrap run that a server belongs to, and nothing that is another project's. Pure: what the
// registry knows is taken out of it first, and means something with the processes as they are, which are read on another thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

/// What the registry knows of runs and programs, as one project sees it.
struct StopScene {
    struct Program {
        ProcessId process;
        std::optional<ProcessId> session;  ///< of its lease: the outermost run
        bool own = false;                  ///< the lease is the project's
        bool meant = false;                ///< it is to be stopped
    };
    std::vector<Program> programs;   ///< that have live leases
    std::map<ProcessId, bool> runs;  ///< every run's command, also of nested ones; true: the project's
};
[[nodiscard]] StopScene stop_scene(const Registry& registry, const std::string& root, const std::vector<const Lease*>& meant);

struct StopMembers {
    std::vector<ProcessId> commands;  ///< of the runs
    std::vector<ProcessId> holders;   ///< that have the sockets
    std::vector<ProcessId> others;    ///< below them
};
/// A program belongs to the innermost run above it; one whose ancestors are gone, to its outermost run. Where that run is another
/// project's, the program is stopped alone. A nested run is its command and what is below it; an outermost one also those of its
/// programs that are orphans by now. What is another project's, be it a run or a program with a lease, is spared with everything
/// below it.
[[nodiscard]] StopMembers members_to_stop(const StopScene& scene, const std::vector<ProcessLink>& processes);

}  // namespace portwrap
