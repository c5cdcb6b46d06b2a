// The rules: what a request means for the registry. Every function is pure: registry, config, request and facts in,
// changes and an answer out. Nothing here knows a socket, a file or a clock.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/ranges.hpp"
#include "core/registry.hpp"
#include "portwrap/error_code.hpp"

namespace portwrap {

/// What the outside world looks like, gathered for one decision.
struct Facts {
    Time now{};
    std::string boot_id;
    std::string user_at_host;  ///< "me@host", of allocated_by
    PortInterval ephemeral;  ///< the kernel's own
    std::vector<PortInterval> kernel_reserved;
    /// Does anybody in the system have this port? Asked only for ports that the registry would give.
    std::function<bool(Port port, bool tcp, bool udp)> in_use;
    /// The sockets that receive datagrams on this port, all of the system's. May be empty: nobody knows.
    std::function<std::vector<Cookie>(Port)> receivers;
    /// Has this socket stopped being a listener or a future one (closed unheard, or connected)? Asked when a bound socket
    /// has not listened for a while; may be empty: nobody knows.
    std::function<bool(const Socket&, const Lease&)> is_gone;
    /// Was this lease granted in an exchange that has not ended? Then a socket of it may be there any moment. May be empty.
    std::function<bool(LeaseId)> is_granted;
    /// Does this process live? May be empty: then it is taken to.
    std::function<bool(const ProcessId&)> is_alive;
    /// Is the second process an ancestor of the first? May be empty: nobody knows.
    std::function<bool(const ProcessId&, const ProcessId&)> is_descendant;
    /// Ports that a program got for port 0 and closed again a moment ago; only it may have them back.
    std::map<Port, ProcessId> dropped;
    std::uint64_t random = 0;  ///< for the strategy `random`: another number for each decision
    /// Where the round robin of further port 0 listeners goes on; any number.
    unsigned rotation = 0;
    /// The lowest port that this user may bind (ip_unprivileged_port_start).
    Port first_permitted = 1;
};

template <typename Answer>
struct Decision {
    std::vector<Change> changes;
    Answer answer;
};

/// Who asks through the shim.
struct Caller {
    Holder holder;
    std::vector<std::string> arguments;
    std::string executable;
    ProcessId session;            ///< the outermost portwrap run; the process itself where there is none
    std::optional<Session> scope; ///< the innermost portwrap run above the process
    std::shared_ptr<const Place> place;  ///< never null; one for all that ask from the same directory
};

/// Why a program did not get the port that it asked for.
enum class MoveReason {
    none,
    held,             ///< by a live lease
    already_running,  ///< by another session of the same service here
    claimed,          ///< kept for somebody who is not running
    external,         ///< a program outside of portwrap
    reserved,         ///< by the config or for portwrap itself
    block,            ///< in another project's block
    not_permitted,    ///< below 1024
    usual,            ///< it has a port of its own since an earlier conflict
    asked,            ///< the user said -p
};
struct Move {
    MoveReason reason = MoveReason::none;
    std::optional<Lease> other;  ///< whose port it is, where somebody has it
    std::string project = {};    ///< in whose block it lies
};

struct BindRequest {
    Port port = 0;
    Protocol protocol = Protocol::tcp;
    Cookie cookie = 0;
    /// What the kernel refused already in this exchange: errno by port.
    std::map<Port, int> refused;
    bool reuse_port = false;  ///< SO_REUSEPORT, for UDP also SO_REUSEADDR: it means to share
};
struct BindAnswer {
    Port port = 0;      ///< to bind
    LeaseId lease = 0;  ///< 0: unmanaged
    Move move;
};
[[nodiscard]] Decision<BindAnswer> decide_bind(const Registry& registry, const Config& config, const Caller& caller,
                                               const BindRequest& request, const Facts& facts);

/// Why this lease is not, or will not be, on the port that it asks for, as things are now.
[[nodiscard]] Move why_moved(const Registry& registry, const Config& config, const Lease& lease, const Facts& facts);

/// The real bind worked. Nothing changes when the lease has gone or changed its port by now.
[[nodiscard]] std::vector<Change> decide_bound(const Registry& registry, const Caller& caller, LeaseId lease, Port port,
                                               Cookie cookie, const Facts& facts);

/// The exchange ended without a bound socket: a lease that nobody uses ends now (`gone`: the process is dead) or soon.
[[nodiscard]] std::vector<Change> decide_unbound(const Registry& registry, const Config& config, LeaseId lease, bool gone,
                                                 const Facts& facts);

/// listen() worked, perhaps in another process than bind; or a UDP socket, which needs no listen, was bound. The answer is
/// the lease, 0 when it is unmanaged.
[[nodiscard]] Decision<LeaseId> decide_listening(const Registry& registry, const Config& config, const Caller& caller, Port port,
                                                 Cookie cookie, const Facts& facts, Protocol protocol = Protocol::tcp);

/// A program of a session listens on a port that it bound without an answer (no agent was there): the lease that its project
/// remembers there revives, else the port is recorded as decide_listening does. Nothing changes where somebody's live lease or another
/// project's claim is on it, or where the kernel chose it. The answer is the lease, 0 when it stays unmanaged.
[[nodiscard]] Decision<LeaseId> decide_unanswered(const Registry& registry, const Config& config, const Caller& caller, Port port,
                                                  Cookie cookie, const Facts& facts);

/// The last reference to a socket is gone.
[[nodiscard]] std::vector<Change> decide_destroyed(const Registry& registry, const Config& config, Cookie cookie,
                                                   const Facts& facts);

/// What the system says when the agent starts, or after lost notifications.
struct Census {
    std::set<Cookie> sockets;    ///< that exist
    std::set<Cookie> listening;  ///< those of them that listen
    /// Listening sockets that no lease knows, by the process that has them (the session, for one that was offered its
    /// port) and their port: a program bound while nobody took its word (the agent was killed between its answer and the
    /// confirmation).
    std::map<std::pair<ProcessId, Port>, Cookie> unknown;
    bool blind = false;          ///< the system could not be asked: only boot, living holders and ports in use count
    bool sees_bound = true;    ///< false: sockets that do not listen are missing from `sockets` (Linux before 6.8)
    std::function<bool(const ProcessId&)> is_alive;
};
[[nodiscard]] std::vector<Change> decide_census(const Registry& registry, const Config& config, const Census& census,
                                                const Facts& facts);

/// A listening socket of the system with the process that has it: what can be seen from outside, without the shim's word.
struct HeardSocket {
    Port port = 0;
    Protocol protocol = Protocol::tcp;
    Cookie cookie = 0;  ///< 0: unknown
    Holder holder;      ///< of no known process where this user may not look
    std::optional<ProcessId> session;  ///< the outermost portwrap run above it
};
/// Is this the lease's own listener: its socket, a program of its session, or one that runs in its project without portwrap?
[[nodiscard]] bool may_listen(const Lease& lease, const HeardSocket& heard);
/// What was heard about leases that know no listener, or whose holder is dead: `looked_at` as they were then (one that has
/// changed since is passed over), and every listener on their ports. A listener that may have the lease becomes its holder;
/// a stranger makes it a conflict until it goes.
[[nodiscard]] std::vector<Change> decide_heard(const Registry& registry, const std::vector<Lease>& looked_at,
                                               const std::vector<HeardSocket>& heard, const Facts& facts);

/// Was this offered to a session, and nobody has asked for it yet? Then a program of the session that outlives the session's
/// own process may still be about to.
[[nodiscard]] bool waits_for_survivor(const Lease& lease);
/// May a process of a session live that has ended: that is unknown until somebody has looked.
enum class Survivors { possible, none };
/// A session's process has ended: what it left unused ends, at once where none of its processes is left; the session goes when no
/// socket of it is left.
[[nodiscard]] std::vector<Change> decide_session_ended(const Registry& registry, const Config& config, const ProcessId& session,
                                                       const Facts& facts, Survivors survivors = Survivors::possible);

/// Everything that is over by now; and when to ask again (none: nothing will expire).
[[nodiscard]] Decision<std::optional<Time>> decide_expiry(const Registry& registry, const Config& config, const Facts& facts);

/// Why a range has nothing left.
struct Exhaustion {
    struct Holder {
        std::string root;
        std::string name;
        int ports = 0;
    };
    std::vector<std::string> ranges;  ///< that were searched, in order
    int total = 0;                    ///< their ports
    int allocated = 0;                ///< of these: with a live lease
    std::vector<Holder> holders;      ///< the projects that hold most, most first
    int cleanup_frees = 0;            ///< ports that a cleanup would free
};

/// A refusal, as people and programs read it.
struct Refusal {
    ErrorCode code = ErrorCode::invalid_request;
    std::string message;
    std::optional<Lease> conflict;   ///< whose port it is
    std::vector<Port> suggestions{};
    Port port = 0;      ///< that cannot be had, where it was asked for by number
    std::string range{};  ///< that serves the request
    std::optional<Exhaustion> exhausted{};  ///< with RANGE_EXHAUSTED
    std::string remedy{};  ///< the option of portctl's that grants it all the same: nothing for who cannot give one
};
template <typename T>
using Outcome = std::variant<T, Refusal>;

struct GetRequest {
    Place place;
    std::string service;
    std::optional<std::string> type;
    std::optional<std::string> kind;
    std::optional<std::string> range;
    Environment environment = Environment::dev;
    std::optional<std::string> description;
    std::optional<std::string> hostname;
    std::string allocated_by;
    Protocol protocol = Protocol::tcp;
};
/// Get-or-allocate by name.
[[nodiscard]] Decision<Outcome<LeaseId>> decide_get(const Registry& registry, const Config& config, const GetRequest& request,
                                                    const Facts& facts);

struct OfferRequest {
    Session session;
    Place place;
    std::string service;
    std::string type;
    std::optional<Port> natural;   ///< the port that the code asks for, where it is known
    std::optional<Port> wanted;    ///< -p: this one or none
    std::string allocated_by;
    bool unseen = false;           ///< the program cannot be intercepted (Lease::unseen)
    bool brief = false;            ///< where it is the natural port: kept only for the moment that the program needs to start
    /// The service is another one than the session's own: its port as it is, whoever runs it; else one that is announced.
    bool another = false;
};
/// A port for a session before its program runs (-p, {port}, env). The answer's lease is live, or a refusal.
[[nodiscard]] Decision<Outcome<LeaseId>> decide_offer(const Registry& registry, const Config& config, const OfferRequest& request,
                                                      const Facts& facts);

struct ReleaseRequest {
    std::string root;
    std::optional<Port> port;
    std::optional<std::string> service;
    bool everything = false;
    bool force = false;
    std::optional<Protocol> protocol{};  ///< of a number or service that both have; none: both
};
[[nodiscard]] Decision<Outcome<std::vector<LeaseId>>> decide_release(const Registry& registry, const Config& config,
                                                                     const ReleaseRequest& request, const Facts& facts);

/// The service of a listening role: what the config says for the requested port or the directory, else the package.
[[nodiscard]] std::string service_of(const Place& place, const std::optional<Session>& scope, std::optional<Port> requested);

/// "The" port of a project or service: active before assigned, never released; the service configured first, else the
/// lowest port that is not auxiliary. Null when there is none.
[[nodiscard]] const Lease* current_lease(const Registry& registry, const Place& place, const std::optional<std::string>& service,
                                         std::optional<Port> requested, std::optional<Protocol> protocol = std::nullopt);

/// Free ports that a person would take instead: the project's own earlier ones, then the next ones up, then the same
/// ending in the range. At most `count`, all checked to be free; only of the range `within` where one is given.
[[nodiscard]] std::vector<Port> suggest_ports(const Registry& registry, const Config& config, const std::string& root, Port port,
                                              std::size_t count, const Facts& facts, const Range* within = nullptr);

/// The live lease of a port, else the one that claims it, else null.
[[nodiscard]] const Lease* owner_of(const Registry& registry, Port port);
/// The same for who asks with this key: where its project has the number with both protocols, what it has with the key's.
[[nodiscard]] const Lease* owner_of(const Registry& registry, Port port, const LeaseKey& asker);

}  // namespace portwrap
