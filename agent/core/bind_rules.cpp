// What a program gets when it binds and listens. Order matters in decide_bind: its steps are the rows of the table in
// docs/architecture.md.
#include <algorithm>
#include <array>

#include "core/blocks.hpp"
#include "core/earlier_runs.hpp"
#include "core/frameworks.hpp"
#include "core/lease_steps.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

/// Sockets on port 0 that one session may have alive; beyond, the kernel chooses.
constexpr std::size_t k_max_port_zero = 32;

/// Sockets of one lease that are kept in mind. A server with one UDP socket for each peer has thousands: the first ones tell
/// of its life, and what is written at each of them stays small.
constexpr std::size_t k_max_sockets = 64;

/// The one with this cookie, or the end.
template <typename Sockets>
auto find_socket(Sockets& sockets, Cookie cookie) {
    return std::find_if(sockets.begin(), sockets.end(), [cookie](const Socket& socket) { return socket.cookie == cookie; });
}

/// Whether one more is kept. Of TCP the latest are, besides the first one: a program that opens and closes many at once has new ones before
/// the end of the old ones is told, and lives as long as those. One that listens gives way only to another that does.
bool make_room_for_socket(Lease& lease, bool listens) {
    if (lease.sockets.size() < k_max_sockets) { return true; }
    if (lease.key.protocol != Protocol::tcp) { return false; }
    const auto second = lease.sockets.begin() + 1;
    const auto silent = std::find_if(second, lease.sockets.end(), [](const Socket& socket) { return !socket.listening; });
    if (silent == lease.sockets.end() && !listens) { return false; }
    lease.sockets.erase(silent != lease.sockets.end() ? silent : second);
    return true;
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

RangeQuery range_query(const Caller& caller, const std::string& service) {
    RangeQuery query;
    query.service = service;
    for (const auto& entry : caller.place->config.services) {
        if (entry.name == service) {
            query.kind = entry.kind;
            query.type = entry.type.value_or("");
        }
    }
    if (caller.scope) {
        query.range = caller.scope->range;
        query.environment = caller.scope->environment;
        if (caller.scope->kind) { query.kind = caller.scope->kind; }
        if (caller.scope->type) { query.type = *caller.scope->type; }
    }
    if (!query.kind) { query.kind = kind_of_program(caller.executable); }
    // Debian's redis-server is a link to a program of another name, and writes "redis-server *:6379" over its arguments.
    if (!query.kind && !caller.arguments.empty()) {
        const auto called = std::string_view(caller.arguments.front());
        query.kind = kind_of_program(file_name(called.substr(0, called.find_first_of(" :"))));
    }
    if (query.type.empty()) { query.type = caller.place->config.type.value_or(""); }
    if (query.type.empty()) { query.type = type_of_program(caller.executable, caller.arguments); }
    if (query.type.empty()) { query.type = caller.place->type; }
    return query;
}

/// The lease as a caller has it that asked for this number. What it adopted keeps the launch that its own number is of:
/// for the caller's next run it teaches nothing.
Lease bound_by(Lease lease, const Caller& caller, Port asked, const Facts& facts) {
    const bool offered = lease.live() && lease.sockets.empty() && is_own_session(lease, caller.session, facts);
    const bool meant = lease.key.requested == asked && lease.key.service == service_of(*caller.place, caller.scope, asked);
    if (caller.scope && (meant || offered)) {
        // What `-p` said is this one run's; the number that its code asks for is not known by it.
        const bool by_user = caller.scope->port && caller.scope->port == lease.key.requested;
        auto launch = by_user || takes_port_for_more(caller.arguments) ? std::string() : launch_name(*caller.scope);
        lease.beside = lease.beside && lease.started_by == launch;
        lease.started_by = std::move(launch);
    }
    return granted_to(std::move(lease), caller, facts);
}

/// A further socket of a lease that it does not change: nothing to be written.
std::vector<Change> unless_same(const Lease& known, Lease granted) {
    if (granted == known) { return {}; }
    return {LeaseEvent{LeaseChange::allocated, std::move(granted)}};
}

/// An adopted lease keeps its environment and kind.
RangeQuery as_it_was(const Lease& lease) { return {std::nullopt, lease.environment, lease.kind, {}, false}; }

Move why_not(const Registry& registry, const Config& config, const LeaseKey& key, Port port, const std::map<Port, int>& refused,
             const Facts& facts) {
    if (const auto it = refused.find(port); it != refused.end() && it->second == 13 /* EACCES */) {
        return {MoveReason::not_permitted, std::nullopt};
    }
    if (const auto* owner = owner_of(registry, port); owner != nullptr && owner->key != key) {
        if (!owner->live()) { return {MoveReason::claimed, *owner}; }
        const bool same = owner->key.root == key.root && owner->key.service == key.service;
        return {same && owner->listening() ? MoveReason::already_running : MoveReason::held, *owner};
    }
    if (is_system_port(config, port) || is_reserved_port(config, port)) { return {MoveReason::reserved, std::nullopt}; }
    if (const auto* project = block_owner(registry, config, key.root, port)) { return {MoveReason::block, std::nullopt, project->name}; }
    const bool udp = key.protocol == Protocol::udp;
    if (refused.contains(port) || facts.in_use(port, true, udp)) { return {MoveReason::external, std::nullopt}; }
    return {MoveReason::usual, std::nullopt};
}

Decision<BindAnswer> grant(Lease lease, Port port, std::string range, const RangeQuery& query,
                           const Caller& caller, Port asked, const Facts& facts, Move move) {
    lease = moved_to(std::move(lease), port, std::move(range));
    lease.environment = query.environment;
    lease.kind = query.kind;
    if (const auto service = configured(*caller.place, lease.key.service)) { lease.shared = service->shared; }
    lease.claims = caller.place->config.claims;
    auto granted = bound_by(std::move(lease), caller, asked, facts);
    const auto id = granted.id;
    return {{LeaseEvent{LeaseChange::allocated, std::move(granted)}}, {port, id, std::move(move)}};
}

/// A silent lease becomes that of the number that the program asks for.
Decision<BindAnswer> grant_for_number(const Registry& registry, const Lease& silent, LeaseKey key, const RangeQuery& query, const Caller& caller,
                                      const Facts& facts, Move move) {
    const Port asked = key.requested.value_or(0);
    auto [meant, replaced] = numbered(registry, silent, std::move(key));
    auto decision = grant(std::move(meant), silent.port, silent.range, query, caller, asked, facts, std::move(move));
    if (replaced) { decision.changes.insert(decision.changes.begin(), *replaced); }
    return decision;
}

/// The instance that this living session had last, while nobody else has it: a server that its watcher starts anew stays
/// where it was, although a lower instance became free meanwhile.
std::optional<int> earlier_instance(const Registry& registry, const LeaseKey& key, const Caller& caller, const Facts& facts) {
    std::optional<int> lowest;
    for (const auto* lease : registry.of_service(key.root, key.service)) {
        const bool its_own = !lease->live() && lease->last_session == caller.session && lease->boot_id == facts.boot_id &&
                             lease->key.protocol == key.protocol && lease->key.requested == key.requested;
        if (its_own && (!lowest || lease->key.instance < *lowest)) { lowest = lease->key.instance; }
    }
    return lowest;
}

Decision<BindAnswer> decide_port_zero(const Registry& registry, const Config& config, const Caller& caller,
                                      const BindRequest& request, const Facts& facts) {
    Decision<BindAnswer> kernel_chooses{{}, {0, 0, {}}};
    if (is_test_runner(caller.arguments) || config.port_zero_kernel || caller.place->config.port_zero_kernel) { return kernel_chooses; }
    std::size_t alive = 0;
    bool further = false;
    LeaseKey key{caller.place->project.root, service_of(*caller.place, caller.scope, std::nullopt), Protocol::tcp, Port{0}, 0};
    for (const auto* lease : registry.of_session(caller.session)) {
        if (!lease->live() || lease->key.requested != Port{0}) { continue; }
        ++alive;
        further = further || lease->key.service == key.service;
    }
    if (alive >= k_max_port_zero) { return kernel_chooses; }
    key = lowest_instance(registry, std::move(key), is_over);
    const auto query = range_query(caller, key.service);
    const auto serving = serving_ranges(registry, config, caller.place->project, query, facts);
    auto lease = new_lease(registry, key, facts);
    const auto dropped = facts.dropped.find(lease.port);
    const bool anothers = dropped != facts.dropped.end() && dropped->second != caller.holder.process;
    const bool returns = lease.port != 0 && !further && !anothers && lease.listened && is_open_to(registry, key, lease.port) &&
                         !request.refused.contains(lease.port) && !facts.in_use(lease.port, true, true);
    if (returns) {
        const auto port = lease.port;
        auto range = lease.range;
        return grant(std::move(lease), port, std::move(range), query, caller, 0, facts, {});
    }
    Search search(registry, config, facts, *caller.place, key);
    search.exclude(request.refused);
    search.set_asker(caller.holder.process);
    if (further) { search.use_upper_half(); }
    const auto [port, range] = search.run(serving.ranges);
    if (port == 0) { return kernel_chooses; }
    return grant(std::move(lease), port, range->name, query, caller, 0, facts, {});
}

/// Two services of one launch that listen at the same time: its next run is told nothing, for no variable can mean both.
void note_others_beside(const Registry& registry, const Caller& caller, Lease& lease, std::vector<Change>& changes) {
    if (!teaches(lease)) { return; }
    for (const auto* other : registry.of_session(caller.session)) {
        const bool same_server = other->key.service == lease.key.service && other->key.requested == lease.key.requested;
        if (same_server || !teaches(*other) || !other->listening() || other->started_by != lease.started_by) { continue; }
        lease.beside = true;
        if (other->beside) { continue; }
        Lease changed = *other;
        changed.beside = true;
        changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(changed)});
    }
}

/// The same service asked for the same number with the other protocol before: one claim for both.
bool is_claimed_for_other_protocol(const Registry& registry, const LeaseKey& key, Port port) {
    const auto* owner = owner_of(registry, port);
    return owner != nullptr && !owner->live() && owner->key.root == key.root && owner->key.service == key.service &&
           owner->key.requested == key.requested && owner->key.protocol != key.protocol;
}

/// UDP numbers that mean no server of a project's: those of the kernel's ephemeral range, from which name resolvers choose
/// their own, and those on which programs meet by design (DHCP, SSDP, WS-Discovery, mDNS, LLMNR).
bool is_left_alone(Port port, const Facts& facts) {
    constexpr std::array<Port, 6> k_meeting_points{67, 68, 1900, 3702, 5353, 5355};
    return port == 0 || facts.ephemeral.contains(port) || std::find(k_meeting_points.begin(), k_meeting_points.end(), port) != k_meeting_points.end();
}

/// The lease with a socket of the caller's that listens on its port.
Decision<LeaseId> with_listener(const Registry& registry, const Caller& caller, Lease lease, Cookie cookie, const Facts& facts) {
    const bool first = lease.sockets.empty() || lease.state != LeaseState::active;
    auto socket = find_socket(lease.sockets, cookie);
    if (socket == lease.sockets.end() && cookie != 0) {
        if (!make_room_for_socket(lease, true) && lease.listening()) { return {{}, lease.id}; }
        socket = lease.sockets.insert(lease.sockets.end(), {cookie, true, false});
    }
    if (socket != lease.sockets.end()) { *socket = {cookie, true, true}; }
    if (first) { lease.holder = caller.holder; }
    lease.session = caller.session;
    lease.boot_id = facts.boot_id;
    lease.claimed = false;
    lease = listened_on(std::move(lease), facts);
    Decision<LeaseId> decision{{}, lease.id};
    unclaim_others(registry, lease, decision.changes);
    note_others_beside(registry, caller, lease, decision.changes);
    decision.changes.emplace_back(LeaseEvent{LeaseChange::activated, std::move(lease)});
    return decision;
}

/// What the project is used to have on this port: what a program that gets no answer takes for its number. What claims the port
/// comes first, then what was used last. Null when there is nothing of the kind.
const Lease* remembered_on(const Registry& registry, const std::string& root, Port port) {
    const Lease* found = nullptr;
    for (const auto* lease : registry.on_port(port)) {
        if (lease->live() || !lease->listened || lease->key.root != root || lease->key.protocol != Protocol::tcp) { continue; }
        // Where several are remembered under one key, another of them may be the live one.
        if (const auto* meant = registry.find(lease->key); meant != lease) { continue; }
        const auto rank = [](const Lease& one) { return std::pair(one.claimed, one.last_used()); };
        if (found == nullptr || rank(*found) < rank(*lease)) { found = lease; }
    }
    return found;
}

/// A program listens on a port that nobody's live lease has, and nobody granted it.
Decision<LeaseId> listening_unanswered(const Registry& registry, const Config& config, const Caller& caller, Port port, Cookie cookie,
                                       const Facts& facts) {
    if (facts.ephemeral.contains(port) || !facts.in_use(port, true, false)) { return {{}, 0}; }  // the last: gone already, or never was
    LeaseKey key{caller.place->project.root, service_of(*caller.place, caller.scope, port), Protocol::tcp, port, 0};
    Decision<BindAnswer> granted;
    if (const auto* known = remembered_on(registry, key.root, port); known != nullptr && known->key.requested) {
        granted = grant(*known, port, known->range, as_it_was(*known), caller, *known->key.requested, facts, {});
    } else if (known != nullptr) {
        key.service = known->key.service;
        granted = grant_for_number(registry, *known, std::move(key), as_it_was(*known), caller, facts, {});
    } else {
        key = lowest_instance(registry, std::move(key), is_over);
        const auto query = range_query(caller, key.service);
        auto range = range_name_at(config, port, serving_ranges(registry, config, caller.place->project, query, facts).ranges);
        granted = grant(new_lease(registry, key, facts), port, std::move(range), query, caller, port, facts, {});
    }
    auto lease = std::get<LeaseEvent>(granted.changes.back()).lease;
    granted.changes.pop_back();
    auto decision = with_listener(registry, caller, std::move(lease), cookie, facts);
    decision.changes.insert(decision.changes.begin(), granted.changes.begin(), granted.changes.end());
    return decision;
}

}  // namespace

Move why_moved(const Registry& registry, const Config& config, const Lease& lease, const Facts& facts) {
    return why_not(registry, config, lease.key, lease.key.requested.value_or(0), {}, facts);
}

std::string service_of(const Place& place, const std::optional<Session>& scope, std::optional<Port> requested) {
    if (requested.value_or(0) != 0) {
        for (const auto& service : place.config.services) {
            if (is_meant_by_port(service, place, *requested)) { return service.name; }
        }
    }
    std::string base = scope && scope->service ? *scope->service : std::string();
    if (base.empty()) {
        std::size_t best = 0;
        for (const auto& service : place.config.services) {
            if (service.dir && is_below(place.package_dir, *service.dir) && service.dir->size() > best) {
                best = service.dir->size();
                base = service.name;
            }
        }
    }
    if (base.empty()) { base = place.package_dir.empty() ? "main" : place.package_dir; }
    const auto role = requested ? auxiliary_role(*requested) : std::string_view();
    return role.empty() ? base : base + "." + std::string(role);
}

Decision<BindAnswer> decide_bind(const Registry& registry, const Config& config, const Caller& caller, const BindRequest& request,
                                 const Facts& facts) {
    const bool udp = request.protocol == Protocol::udp;
    if (udp && is_left_alone(request.port, facts)) { return {{}, {request.port, 0, {}}}; }
    if (request.port == 0) { return decide_port_zero(registry, config, caller, request, facts); }
    // UDP sockets that mean to share a number (receivers of a multicast group) do so: the kernel decides.
    if (udp && request.reuse_port) {
        const auto* owner = owner_of(registry, request.port);
        const bool anothers = owner != nullptr && (owner->key.root != caller.place->project.root ||
                                                   (owner->live() && !is_own_session(*owner, caller.session, facts)));
        if (anothers || (owner == nullptr && facts.in_use(request.port, false, true))) { return {{}, {request.port, 0, {}}}; }
    }
    const auto& root = caller.place->project.root;
    const Port asked = request.port;
    const auto own = registry.of_session(caller.session);

    const auto has_other_holder = [&](const Lease& lease) {
        return lease.holder && lease.holder->process != caller.holder.process && facts.is_alive && facts.is_alive(lease.holder->process);
    };
    // Granted to another living process of the session, which binds it this very moment.
    const auto is_awaited = [&](const Lease& lease) {
        return lease.sockets.empty() && facts.is_granted && facts.is_granted(lease.id) && has_other_holder(lease);
    };
    // Another living server of the session was moved to this very number: to share it would be to fail. With SO_REUSEPORT it would not; its
    // workers have learnt the number, and so may have a program that was started by one that only keeps it.
    const auto is_other_server_s = [&](const Lease& lease) {
        if (request.reuse_port || !lease.key.requested || *lease.key.requested == asked || !has_other_holder(lease)) { return false; }
        if (lease.listening() || is_awaited(lease)) { return true; }
        if (*lease.key.requested == 0 || lease.sockets.empty()) { return false; }
        return !facts.is_descendant || !facts.is_descendant(caller.holder.process, lease.holder->process);
    };
    // Its own assigned port, read back, given to it, or bound for the second address family. Another service of the
    // session that happens to have this number in its code is not meant.
    const auto is_its_own = [&](const Lease& lease) {
        if (is_other_server_s(lease)) { return false; }
        const bool same_process = lease.holder && (lease.holder->process == caller.holder.process || lease.holder->cwd == caller.holder.cwd);
        return lease.sockets.empty() || same_process || lease.key.service == service_of(*caller.place, caller.scope, lease.key.requested);
    };
    // UDP sockets that mean to share their number, and are all this lease's.
    const auto shares_with_its_own = [&](const Lease& lease) {
        if (!udp || !request.reuse_port || !facts.receivers) { return false; }
        const auto receivers = facts.receivers(lease.port);
        return !receivers.empty() && std::all_of(receivers.begin(), receivers.end(), [&](Cookie cookie) {
            return cookie != 0 && find_socket(lease.sockets, cookie) != lease.sockets.end();
        });
    };
    // Services that use TCP and UDP of one number share it, and its lease; unless a stranger has it with the other protocol.
    const auto can_join = [&](const Lease& lease) {
        if (lease.key.protocol == request.protocol) { return true; }
        return !request.refused.contains(lease.port) && (!facts.in_use(lease.port, !udp, udp) || shares_with_its_own(lease));
    };
    for (const auto* lease : own) {
        if (lease->live() && lease->port == asked && lease->key.root == root && is_own_session(*lease, caller.session, facts) && is_its_own(*lease) &&
            can_join(*lease)) {
            if (request.refused.contains(asked)) {
                if (lease->sockets.empty()) { continue; }  // granted in this very exchange, and the kernel refused it
                return {{}, {asked, lease->id, {}}};       // somebody of the session has it: the kernel's word is final
            }
            return {unless_same(*lease, bound_by(*lease, caller, asked, facts)), {asked, lease->id, {}}};
        }
    }

    LeaseKey key{root, service_of(*caller.place, caller.scope, asked), request.protocol, asked, 0};
    const auto query = range_query(caller, key.service);
    const auto serving = serving_ranges(registry, config, caller.place->project, query, facts);
    const auto& ranges = serving.ranges;

    // Asked for before in this session: the same answer, whoever listens.
    for (const auto* lease : own) {
        const bool same = lease->live() && lease->key.root == root && lease->key.service == key.service && lease->key.requested == key.requested;
        if (same && is_own_session(*lease, caller.session, facts) && can_join(*lease)) {
            if (request.refused.contains(lease->port) && lease->sockets.empty()) { continue; }
            return {unless_same(*lease, bound_by(*lease, caller, asked, facts)),
                    {lease->port, lease->id, lease->port == asked ? Move{} : why_not(registry, config, lease->key, asked, request.refused, facts)}};
        }
    }

    // Beside the project's own TCP server there is room for what it does with UDP.
    const auto is_own_tcp = [&](Port port) {
        const auto leases = registry.on_port(port);
        return std::any_of(leases.begin(), leases.end(), [&](const Lease* lease) { return lease->listening() && lease->key.root == root && lease->key.protocol == Protocol::tcp; });
    };
    const auto free_for = [&](const LeaseKey& owner, Port port) {
        return (is_open_to(registry, owner, port) || is_claimed_for_other_protocol(registry, owner, port)) && !request.refused.contains(port) &&
               !facts.in_use(port, !udp || !is_own_tcp(port), udp);
    };

    // -p: the first listener that is not auxiliary gets the port that the user named.
    if (auxiliary_role(asked).empty()) {
        for (const auto* lease : own) {
            const bool offered = is_silent(*lease) && lease->key.root == root && caller.scope && caller.scope->port == lease->port &&
                                 is_own_session(*lease, caller.session, facts) && !is_awaited(*lease);
            // What somebody got by name keeps its protocol.
            if (lease->by_name() && lease->key.protocol != key.protocol) { continue; }
            if (!offered || !free_for(lease->key, lease->port)) { continue; }
            auto meant = key;
            if (lease->by_name()) { meant.service = lease->key.service; }
            return grant_for_number(registry, *lease, std::move(meant), lease->by_name() ? as_it_was(*lease) : query, caller, facts,
                                    {MoveReason::asked, std::nullopt});
        }
    }

    // A silent lease or claim of its own project under another key.
    if (const auto* owner = owner_of(registry, asked, key); owner != nullptr && owner->key.root == root && owner->key.protocol == key.protocol) {
        const bool same_base = owner->key.service == key.service && owner->key.requested == key.requested;
        // What another number was moved to stays that server's own, where this one is used to a port of its own.
        const auto* used_to = registry.find(key);
        const bool moved_here = !owner->live() && owner->origin == LeaseOrigin::process && owner->key.requested != key.requested &&
                                used_to != nullptr && !used_to->live() && free_for(key, used_to->port);
        const bool adoptable = !owner->live() || (is_adoptable(*owner, caller.session, facts) && !is_awaited(*owner));
        if (!same_base && !moved_here && adoptable && free_for(owner->key, asked)) {
            // Without a number it is now that of this one. Who was told of an announced port asks for it, not for its own.
            if (!owner->key.requested && !owner->announced) {
                return grant_for_number(registry, *owner, {root, owner->key.service, key.protocol, asked, 0}, as_it_was(*owner), caller, facts, {});
            }
            return grant(*owner, asked, owner->range, as_it_was(*owner), caller, asked, facts, {});
        }
    }

    // The lowest instance that no other session has; what it had before is its own again.
    if (const auto own_instance = earlier_instance(registry, key, caller, facts)) {
        key.instance = *own_instance;
    } else {
        key = lowest_instance(registry, std::move(key), [&](const Lease& known) { return is_over(known) || is_adoptable(known, caller.session, facts); });
    }
    auto lease = new_lease(registry, key, facts);
    const auto may_have = [&](Port port) {
        return free_for(key, port) && !is_system_port(config, port) && !is_reserved_port(config, port) && block_owner(registry, config, root, port) == nullptr;
    };
    if (lease.port != 0 && may_have(lease.port)) {
        const auto port = lease.port;
        auto range = lease.range;
        auto move = port == asked ? Move{} : why_not(registry, config, key, asked, request.refused, facts);
        return grant(std::move(lease), port, std::move(range), query, caller, asked, facts, std::move(move));
    }

    // The port itself, when it is nobody's.
    if (may_have(asked)) {
        return grant(std::move(lease), asked, range_name_at(config, asked, ranges), query, caller, asked, facts, {});
    }
    auto move = why_not(registry, config, key, asked, request.refused, facts);

    // A port that this service got by name or was offered, without a number of its own.
    const auto is_free = [&](const Lease& named) { return free_for(named.key, named.port); };
    if (const auto* named = without_number(registry, key, query.environment, caller.session, facts, is_free)) {
        return grant_for_number(registry, *named, key, as_it_was(*named), caller, facts, std::move(move));
    }

    Search search(registry, config, facts, *caller.place, key);
    search.exclude(request.refused);
    search.set_asker(caller.holder.process);
    const auto [port, range] = search.run(ranges);
    if (port == 0) { return {{}, {asked, 0, std::move(move)}}; }
    return grant(std::move(lease), port, range->name, query, caller, asked, facts, std::move(move));
}

std::vector<Change> decide_bound(const Registry& registry, const Caller& caller, LeaseId id, Port port, Cookie cookie, const Facts& facts) {
    const auto* known = registry.find(id);
    if (known == nullptr || !known->live() || known->port != port || cookie == 0) { return {}; }
    Lease lease = *known;
    const auto socket = find_socket(lease.sockets, cookie);
    if (socket == lease.sockets.end()) {
        if (!make_room_for_socket(lease, false)) { return {}; }
        if (lease.sockets.empty()) { lease.holder = caller.holder; }
        lease.sockets.push_back({cookie, true, false});
    } else {
        socket->bound = true;
    }
    lease.session = caller.session;
    lease.boot_id = facts.boot_id;
    // It may close unheard (a connected socket gives no notice that we would see): looked at again.
    if (lease.origin == LeaseOrigin::process && !lease.listening()) { lease.expires_at = facts.now + k_linger; }
    if (lease == *known) { return {}; }
    return {LeaseEvent{LeaseChange::bound, std::move(lease)}};
}

Decision<LeaseId> decide_listening(const Registry& registry, const Config& config, const Caller& caller, Port port, Cookie cookie,
                                   const Facts& facts, Protocol protocol) {
    const Lease* known = registry.find_by_cookie(cookie);
    if (known != nullptr && (!known->live() || known->port != port)) { known = nullptr; }
    if (known == nullptr) {
        for (const auto* lease : registry.on_port(port)) {
            const bool ours = lease->live() && (lease->key.root == caller.place->project.root || is_own_session(*lease, caller.session, facts));
            if (ours) { known = lease; }
        }
    }
    if (known == nullptr) {
        // Bound while the agent was away: recorded as what it is, unless the port is the kernel's choice or another's.
        if (protocol == Protocol::udp || registry.is_live(port)) { return {{}, 0}; }
        return listening_unanswered(registry, config, caller, port, cookie, facts);
    }
    Lease lease = *known;
    // A number that is used with both protocols is listed as TCP's.
    if (protocol == Protocol::tcp && lease.key.protocol == Protocol::udp) {
        const auto beside = registry.on_port(port);
        const bool is_listed = std::any_of(beside.begin(), beside.end(), [&](const Lease* other) { return other->live() && other->id != lease.id; });
        lease.key.protocol = Protocol::tcp;
        if (is_listed || registry.find(lease.key) != nullptr) { lease.key.protocol = Protocol::udp; }
    }
    return with_listener(registry, caller, std::move(lease), cookie, facts);
}

Decision<LeaseId> decide_unanswered(const Registry& registry, const Config& config, const Caller& caller, Port port, Cookie cookie,
                                    const Facts& facts) {
    if (!caller.scope || cookie == 0 || registry.find_by_cookie(cookie) != nullptr) { return {{}, 0}; }
    const auto* owner = owner_of(registry, port);
    if (owner != nullptr && (owner->live() || owner->key.root != caller.place->project.root)) { return {{}, 0}; }
    return listening_unanswered(registry, config, caller, port, cookie, facts);
}

}  // namespace portwrap
