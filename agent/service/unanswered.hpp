// Servers of sessions that bound while no agent answered them: found from outside, among the listeners that no lease knows. Linux only.
#pragma once

#include <set>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

/// What is looked for.
struct UnansweredQuery {
    std::set<ProcessId> sessions;
    std::set<Cookie> known;  ///< sockets that need not be looked at: of leases, and those found to be strangers' before
    PortInterval ephemeral;  ///< the kernel's choice is left alone
};
/// A listener of a session's program that has the shim in it, and would have asked.
struct UnansweredListener {
    Port port = 0;
    Cookie cookie = 0;
    ProcessId process;
    ProcessId session;  ///< above it, or as its environment says where its ancestors are gone
};
struct Unanswered {
    std::vector<UnansweredListener> listeners;  ///< a few hundred at once
    std::vector<Cookie> strangers;              ///< of the others
};
/// Blocking, and for a pool thread: where a listener is unknown it walks /proc. Nothing where the kernel lists no sockets.
[[nodiscard]] Unanswered find_unanswered(const UnansweredQuery& query);

}  // namespace portwrap
