// The JSON shapes of results, one function for each; docs/protocol.md shows them.
#pragma once

#include <map>
#include <set>

#include "core/policy.hpp"
#include "service/wire.hpp"
#include "system/listeners.hpp"
#include "system/processes.hpp"

namespace portwrap {

[[nodiscard]] Json project_shape(const Registry& registry, const std::string& root);
[[nodiscard]] Json lease_shape(const Registry& registry, const Lease& lease);
/// {"schema":1,"ok":true} and what follows.
[[nodiscard]] Json ok_shape();
/// A listener with the process that has it, gathered on a pool thread.
struct SeenListener {
    Listener listener;
    std::optional<ProcessId> process;
    std::string user;
    std::string command;
    std::string cwd;
    std::optional<Time> started_at;
    std::vector<std::pair<pid_t, std::string>> parents{};  ///< pid and command, the nearest first
    std::optional<std::string> container{};  ///< by name: it runs in one, or carries one's traffic
};
/// Everything about the listeners of these ports, TCP's and UDP's. Blocking: walks /proc.
[[nodiscard]] std::vector<SeenListener> look_at_listeners(const std::set<Port>& ports);
[[nodiscard]] Json listener_shape(const Registry& registry, const SeenListener& seen);

/// The `data` of a refusal; `stranger` is who listens where no lease says so.
[[nodiscard]] Json refusal_shape(const Registry& registry, const Refusal& refusal, const SeenListener* stranger = nullptr);
/// " (pid 4242, node server.js, since 10:02)", as far as it is known.
[[nodiscard]] std::string stranger_words(const SeenListener& seen);
/// "http://localhost:3001", or "https:" of a server that speaks TLS; no web address for databases, caches and datagrams.
[[nodiscard]] std::string url_of(const Lease& lease, bool tls);

/// "Port 3000 is already used by project "my-api" (pid 4242, since 10:02)"
[[nodiscard]] std::string taken_message(const Registry& registry, Port port, const Lease* owner, bool listens);
/// "portwrap: shop/web listens on http://localhost:3001 (asked for 3000: ...)"
[[nodiscard]] std::string moved_notice(const Registry& registry, const Lease& lease, const Move& move, Time now);
/// "portwrap: shop/main was refused localhost:3000, which is ...", for a connection of `asker`'s (a project's root).
[[nodiscard]] std::string refused_notice(const Registry& registry, const std::string& asker, const Lease& theirs);

}  // namespace portwrap
