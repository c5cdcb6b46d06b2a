// The rules themselves. Order matters in decide_bind: its steps are the rows of the table in docs/architecture.md.
#include "core/policy.hpp"

#include <algorithm>

namespace portwrap {
namespace {

using namespace std::chrono_literals;

/// A lease without a socket ends this long after its last socket closed (or after it was granted).
constexpr auto k_linger = 10s;
/// What was offered to a session (PORT, {port}) waits this long for a program that outlives the session's own process.
constexpr auto k_offer_grace = 60s;
/// How often a socket that is bound and does not listen is looked at again.
constexpr auto k_look_again = 60s;
/// Sockets on port 0 that one session may have alive; beyond, the kernel chooses.
constexpr std::size_t k_max_port_zero = 32;

/// "P never means two things inside a project": the numbers that it, its siblings or its config ask for.
std::set<Port> numbers_asked_for(const Registry& registry, const Place& place) {
    std::set<Port> numbers;
    for (const auto& service : place.config.services) {
        if (service.port) { numbers.insert(*service.port); }
    }
    const auto add = [&](const std::string& root) {
        for (const auto* lease : registry.of_project(root)) {
            if (lease->key.requested.value_or(0) != 0) { numbers.insert(*lease->key.requested); }
        }
    };
    add(place.project.root);
    for (const auto& [root, project] : registry.projects()) {
        const bool sibling = (!project.family.empty() && project.family == place.project.family) ||
                             (!project.root_commit.empty() && project.root_commit == place.project.root_commit);
        if (sibling && root != place.project.root) { add(root); }
    }
    return numbers;
}

bool in_any(const std::vector<PortInterval>& intervals, Port port) {
    return std::any_of(intervals.begin(), intervals.end(), [port](const auto& part) { return part.contains(port); });
}

/// One search for a free port: everything that must be known of the asker, gathered once.
class Search {
public:
    Search(const Registry& registry, const Config& config, const Facts& facts, const Place& place, const LeaseKey& key)
        : m_registry(registry), m_config(config), m_facts(facts), m_key(key), m_asked(numbers_asked_for(registry, place)) {}

    /// Ports that the kernel refused in this exchange.
    void exclude(const std::map<Port, int>& refused) { m_refused = &refused; }
    void set_asker(ProcessId asker) { m_asker = asker; }
    /// Only the upper half, going round: for further listeners on port 0.
    void use_upper_half() { m_upper_half = true; }

    /// The port and the range that it comes from; 0 when all are full.
    std::pair<Port, const Range*> run(const std::vector<const Range*>& ranges) {
        struct Claimed {
            Time used;
            Port port;
            const Range* range;
        };
        std::vector<Claimed> claimed;
        for (const auto* range : ranges) {
            for (const auto& part : range->intervals) {
                const int half = m_upper_half ? part.size() / 2 : 0;
                const int count = part.size() - half;
                for (int i = 0; i < count; ++i) {
                    const int step = m_upper_half ? (i + static_cast<int>(m_facts.rotation % static_cast<unsigned>(count))) % count : i;
                    const auto port = static_cast<Port>(part.start + half + step);
                    if (!may_choose(port, range)) { continue; }
                    const Lease* owner = owner_of(m_registry, port);
                    if (owner != nullptr && owner->live()) { continue; }
                    if (owner != nullptr && owner->key != m_key) {
                        claimed.push_back({owner->last_active_at.value_or(owner->allocated_at), port, range});
                        continue;
                    }
                    if (m_facts.in_use(port, true, true)) { continue; }
                    return {port, range};
                }
            }
        }
        // Only now the claims of others, the oldest first.
        std::stable_sort(claimed.begin(), claimed.end(), [](const Claimed& a, const Claimed& b) { return a.used < b.used; });
        for (const auto& candidate : claimed) {
            if (!m_facts.in_use(candidate.port, true, true)) { return {candidate.port, candidate.range}; }
        }
        return {0, nullptr};
    }

private:
    bool may_choose(Port port, const Range* range) const {
        if (port < 1024 || is_bad_port(port) || is_reserved_port(m_config, port)) { return false; }
        if (range->kind != RangeKind::system && is_system_port(m_config, port)) { return false; }
        if (m_facts.ephemeral.contains(port) || in_any(m_facts.kernel_reserved, port)) { return false; }
        if (m_asked.contains(port) && m_key.requested != port) { return false; }
        if (m_refused != nullptr && m_refused->contains(port)) { return false; }
        if (const auto it = m_facts.dropped.find(port); it != m_facts.dropped.end() && it->second != m_asker) { return false; }
        return std::none_of(m_config.ranges.begin(), m_config.ranges.end(),
                            [&](const Range& other) { return other.exclusive && &other != range && other.contains(port); });
    }

    const Registry& m_registry;
    const Config& m_config;
    const Facts& m_facts;
    LeaseKey m_key;
    std::set<Port> m_asked;
    const std::map<Port, int>* m_refused = nullptr;
    ProcessId m_asker;
    bool m_upper_half = false;
};

/// A lease that nobody uses: got by name, reserved, or offered, and no process has a socket of it.
bool is_silent(const Lease& lease) { return lease.live() && lease.sockets.empty(); }

bool is_own_session(const Lease& lease, const ProcessId& session, const Facts& facts) {
    return lease.session && *lease.session == session && lease.boot_id == facts.boot_id;
}

/// May this session take over a silent lease: one got by name, or one of its own. Another session's offer is not free.
bool is_adoptable(const Lease& lease, const ProcessId& session, const Facts& facts) {
    if (!is_silent(lease)) { return false; }
    return is_own_session(lease, session, facts) || (lease.origin == LeaseOrigin::named && !lease.session);
}

std::string range_name_at(const Config& config, Port port, const std::vector<const Range*>& preferred) {
    for (const auto* range : preferred) {
        if (range->contains(port)) { return range->name; }
    }
    for (const auto& range : config.ranges) {
        if (range.kind == RangeKind::type && range.contains(port)) { return range.name; }
    }
    return {};
}

RangeQuery range_query(const Caller& caller, const std::string& service) {
    RangeQuery query;
    for (const auto& entry : caller.place.config.services) {
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
    if (query.type.empty()) { query.type = caller.place.config.type.value_or(""); }
    if (query.type.empty()) { query.type = type_of_program(caller.executable, caller.arguments); }
    if (query.type.empty()) { query.type = caller.place.type; }
    return query;
}

/// An adopted lease keeps its environment and kind.
RangeQuery as_it_was(const Lease& lease) { return {std::nullopt, lease.environment, lease.kind, {}, false}; }

/// The lease as the caller has it while it binds: allocated, until its socket is known no longer than k_linger.
Lease granted_to(Lease lease, const Caller& caller, const Facts& facts) {
    if (!lease.live()) {
        lease.allocated_at = facts.now;
        lease.origin = LeaseOrigin::process;
        lease.released_at.reset();
    }
    if (lease.state != LeaseState::active) { lease.state = LeaseState::allocated; }
    lease.claimed = false;
    lease.session = caller.session;
    lease.boot_id = facts.boot_id;
    if (lease.allocated_by.empty()) { lease.allocated_by = facts.user_at_host; }
    if (lease.sockets.empty()) {
        lease.holder = caller.holder;
        if (lease.origin == LeaseOrigin::process) { lease.expires_at = facts.now + k_linger; }
    }
    return lease;
}

/// Who takes a port ends the claims of others on it.
void unclaim_others(const Registry& registry, const Lease& taken, std::vector<Change>& changes) {
    for (const auto* other : registry.on_port(taken.port)) {
        if (other->id == taken.id || other->live() || !other->claimed) { continue; }
        Lease changed = *other;
        changed.claimed = false;
        changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(changed)});
    }
}

Lease new_lease(const Registry& registry, const LeaseKey& key, const Facts& facts) {
    Lease lease;
    if (const auto* known = registry.find(key)) {
        lease = *known;
    } else {
        lease.id = registry.next_lease_id();
        lease.key = key;
        lease.allocated_at = facts.now;
        lease.state = LeaseState::released;
    }
    return lease;
}

/// The lease after its use has ended. Process leases that never listened leave nothing behind.
Change ended(Lease lease, LeaseChange change, bool keeps_claim, const Config& config, const Facts& facts) {
    const bool further_zero = lease.key.requested == Port{0} && lease.key.instance > 0;
    const bool remembered = (lease.listened && !further_zero) || lease.origin == LeaseOrigin::named;
    if (!remembered) { return LeaseForgotten{lease.id}; }
    lease.state = LeaseState::released;
    lease.health = Health::unknown;
    lease.claimed = keeps_claim && lease.listened && config.claims;
    lease.holder.reset();
    lease.session.reset();
    lease.sockets.clear();
    lease.expires_at.reset();
    lease.released_at = facts.now;
    return LeaseEvent{change, std::move(lease)};
}

/// What becomes of a lease whose sockets have changed (some or all gone).
Change after_sockets_changed(Lease lease, const Config& config, const Facts& facts) {
    if (!lease.sockets.empty()) {
        if (!lease.listening() && lease.state == LeaseState::active) { lease.state = LeaseState::allocated; }
        return LeaseEvent{LeaseChange::held, std::move(lease)};
    }
    if (lease.state == LeaseState::active) { lease.last_active_at = facts.now; }
    if (lease.origin == LeaseOrigin::named) {
        lease.state = LeaseState::allocated;
        lease.health = Health::unknown;
        lease.holder.reset();
        lease.session.reset();
        return LeaseEvent{LeaseChange::silenced, std::move(lease)};
    }
    if (lease.listened) { return ended(std::move(lease), LeaseChange::released, true, config, facts); }
    lease.state = LeaseState::allocated;
    lease.expires_at = facts.now + k_linger;
    return LeaseEvent{LeaseChange::silenced, std::move(lease)};
}

Move why_not(const Registry& registry, const Config& config, const LeaseKey& key, Port port, const std::map<Port, int>& refused,
             const Facts& facts) {
    if (const auto it = refused.find(port); it != refused.end() && it->second == 13 /* EACCES */) {
        return {MoveReason::not_permitted, std::nullopt};
    }
    if (const auto* owner = owner_of(registry, port); owner != nullptr && owner->key != key) {
        if (!owner->live()) { return {MoveReason::claimed, *owner}; }
        const bool same = owner->key.root == key.root && owner->key.service == key.service;
        return {same ? MoveReason::already_running : MoveReason::held, *owner};
    }
    if (is_system_port(config, port) || is_reserved_port(config, port)) { return {MoveReason::reserved, std::nullopt}; }
    if (refused.contains(port) || facts.in_use(port, true, false)) { return {MoveReason::external, std::nullopt}; }
    return {MoveReason::usual, std::nullopt};
}

/// A port that a program may have without moving anybody: nobody's lease or claim but (perhaps) the key's own.
bool is_open_to(const Registry& registry, const LeaseKey& key, Port port) {
    const auto* owner = owner_of(registry, port);
    return owner == nullptr || owner->key == key;
}

Decision<BindAnswer> grant(const Registry& registry, Lease lease, Port port, std::string range, const RangeQuery& query,
                           const Caller& caller, const Facts& facts, Move move) {
    lease.port = port;
    lease.range = std::move(range);
    lease.environment = query.environment;
    lease.kind = query.kind;
    auto granted = granted_to(std::move(lease), caller, facts);
    Decision<BindAnswer> decision{{}, {port, granted.id, std::move(move)}};
    unclaim_others(registry, granted, decision.changes);
    decision.changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(granted)});
    return decision;
}

Decision<BindAnswer> decide_port_zero(const Registry& registry, const Config& config, const Caller& caller,
                                      const BindRequest& request, const Facts& facts) {
    const Decision<BindAnswer> kernel_chooses{{}, {0, 0, {}}};
    if (is_test_runner(caller.arguments)) { return kernel_chooses; }
    std::size_t alive = 0;
    bool further = false;
    LeaseKey key{caller.place.project.root, service_of(caller.place, caller.scope, std::nullopt), Protocol::tcp, Port{0}, 0};
    for (const auto* lease : registry.of_session(caller.session)) {
        if (!lease->live() || lease->key.requested != Port{0}) { continue; }
        ++alive;
        further = further || lease->key.service == key.service;
    }
    if (alive >= k_max_port_zero) { return kernel_chooses; }
    while (true) {
        const auto* known = registry.find(key);
        if (known == nullptr || !known->live()) { break; }
        ++key.instance;
    }
    const auto query = range_query(caller, key.service);
    const auto ranges = ranges_that_serve(config, query);
    auto lease = new_lease(registry, key, facts);
    const bool returns = lease.port != 0 && !further && lease.listened && is_open_to(registry, key, lease.port) &&
                         !request.refused.contains(lease.port) && !facts.in_use(lease.port, true, true);
    if (returns) {
        const auto port = lease.port;
        auto range = lease.range;
        return grant(registry, std::move(lease), port, std::move(range), query, caller, facts, {});
    }
    Search search(registry, config, facts, caller.place, key);
    search.exclude(request.refused);
    search.set_asker(caller.holder.process);
    if (further) { search.use_upper_half(); }
    const auto [port, range] = search.run(ranges);
    if (port == 0) { return kernel_chooses; }
    return grant(registry, std::move(lease), port, range->name, query, caller, facts, {});
}

std::optional<ServiceConfig> configured(const Place& place, const std::string& service) {
    for (const auto& entry : place.config.services) {
        if (entry.name == service) { return entry; }
    }
    return std::nullopt;
}

bool is_below(const std::string& directory, const std::string& parent) {
    return directory == parent || directory.starts_with(parent + "/");
}


}  // namespace

const Lease* owner_of(const Registry& registry, Port port) {
    const Lease* claim = nullptr;
    for (const auto* lease : registry.on_port(port)) {
        if (lease->live()) { return lease; }
        if (lease->claimed) { claim = lease; }
    }
    return claim;
}

std::string service_of(const Place& place, const std::optional<Session>& scope, std::optional<Port> requested) {
    if (requested.value_or(0) != 0) {
        for (const auto& service : place.config.services) {
            if (service.port == requested) { return service.name; }
        }
    }
    std::string base = scope && scope->service ? *scope->service : std::string();
    if (base.empty()) {
        std::size_t best = 0;
        for (const auto& service : place.config.services) {
            if (service.dir && !service.dir->empty() && is_below(place.package_dir, *service.dir) && service.dir->size() > best) {
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
    if (request.port == 0) { return decide_port_zero(registry, config, caller, request, facts); }
    const auto& root = caller.place.project.root;
    const Port asked = request.port;
    const auto own = registry.of_session(caller.session);

    // Its own assigned port, read back, given to it, or bound for the second address family. Another service of the
    // session that happens to have this number in its code is not meant.
    const auto is_its_own = [&](const Lease& lease) {
        const bool same_process = lease.holder && (lease.holder->process == caller.holder.process || lease.holder->cwd == caller.holder.cwd);
        return lease.sockets.empty() || same_process || lease.key.service == service_of(caller.place, caller.scope, lease.key.requested);
    };
    for (const auto* lease : own) {
        if (lease->live() && lease->port == asked && lease->key.root == root && is_own_session(*lease, caller.session, facts) && is_its_own(*lease)) {
            if (request.refused.contains(asked)) {
                if (lease->sockets.empty()) { continue; }  // granted in this very exchange, and the kernel refused it
                return {{}, {asked, lease->id, {}}};       // somebody of the session has it: the kernel's word is final
            }
            return {{LeaseEvent{LeaseChange::allocated, granted_to(*lease, caller, facts)}}, {asked, lease->id, {}}};
        }
    }

    LeaseKey key{root, service_of(caller.place, caller.scope, asked), request.protocol, asked, 0};
    const auto query = range_query(caller, key.service);
    const auto ranges = ranges_that_serve(config, query);

    // Asked for before in this session: the same answer, whoever listens.
    for (const auto* lease : own) {
        const bool same = lease->live() && lease->key.root == root && lease->key.service == key.service &&
                          lease->key.protocol == key.protocol && lease->key.requested == key.requested;
        if (same && is_own_session(*lease, caller.session, facts)) {
            if (request.refused.contains(lease->port) && lease->sockets.empty()) { continue; }
            return {{LeaseEvent{LeaseChange::allocated, granted_to(*lease, caller, facts)}},
                    {lease->port, lease->id, lease->port == asked ? Move{} : why_not(registry, config, lease->key, asked, request.refused, facts)}};
        }
    }

    const auto free_for = [&](const LeaseKey& owner, Port port) {
        return is_open_to(registry, owner, port) && !request.refused.contains(port) && !facts.in_use(port, true, request.protocol == Protocol::udp);
    };

    // -p: the first listener that is not auxiliary gets the port that the user named.
    if (auxiliary_role(asked).empty()) {
        for (const auto* lease : own) {
            const bool offered = is_silent(*lease) && lease->key.root == root && lease->origin == LeaseOrigin::process &&
                                 caller.scope && caller.scope->port == lease->port && is_own_session(*lease, caller.session, facts);
            if (!offered || !free_for(lease->key, lease->port)) { continue; }
            // From now on the program's own number finds it: the key is what the program asks for.
            Lease meant = *lease;
            meant.key.requested = asked;
            meant.key.service = key.service;
            meant.key.instance = 0;
            const Lease* other = nullptr;
            while ((other = registry.find(meant.key)) != nullptr && other->live() && other->id != lease->id) { ++meant.key.instance; }
            auto decision = grant(registry, std::move(meant), lease->port, lease->range, query, caller, facts, {MoveReason::asked, std::nullopt});
            if (other != nullptr && other->id != lease->id) { decision.changes.insert(decision.changes.begin(), LeaseForgotten{other->id}); }
            return decision;
        }
    }

    // A silent lease or claim of its own project under another key.
    if (const auto* owner = owner_of(registry, asked); owner != nullptr && owner->key.root == root && owner->key.protocol == key.protocol) {
        const bool same_base = owner->key.service == key.service && owner->key.requested == key.requested;
        if (!same_base && (is_adoptable(*owner, caller.session, facts) || !owner->live()) && free_for(owner->key, asked)) {
            return grant(registry, *owner, asked, owner->range, as_it_was(*owner), caller, facts, {});
        }
    }

    // The lowest instance that no other session has; what it had before is its own again.
    const Lease* known = nullptr;
    while ((known = registry.find(key)) != nullptr && known->live() && !is_adoptable(*known, caller.session, facts)) { ++key.instance; }
    auto lease = new_lease(registry, key, facts);
    if (lease.port != 0 && free_for(key, lease.port) && !is_system_port(config, lease.port) && !is_reserved_port(config, lease.port)) {
        const auto port = lease.port;
        auto range = lease.range;
        auto move = port == asked ? Move{} : why_not(registry, config, key, asked, request.refused, facts);
        return grant(registry, std::move(lease), port, std::move(range), query, caller, facts, std::move(move));
    }

    // The port itself, when it is nobody's.
    if (free_for(key, asked) && !is_system_port(config, asked) && !is_reserved_port(config, asked)) {
        return grant(registry, std::move(lease), asked, range_name_at(config, asked, ranges), query, caller, facts, {});
    }
    auto move = why_not(registry, config, key, asked, request.refused, facts);

    // A port that this service got by name or was offered, without a number of its own.
    for (const auto* named : registry.of_project(root)) {
        const bool fits = named->key.service == key.service && named->key.protocol == key.protocol && !named->key.requested;
        if (fits && is_adoptable(*named, caller.session, facts) && free_for(named->key, named->port)) {
            return grant(registry, *named, named->port, named->range, as_it_was(*named), caller, facts, std::move(move));
        }
    }

    Search search(registry, config, facts, caller.place, key);
    search.exclude(request.refused);
    search.set_asker(caller.holder.process);
    const auto [port, range] = search.run(ranges);
    if (port == 0) { return {{}, {asked, 0, std::move(move)}}; }
    return grant(registry, std::move(lease), port, range->name, query, caller, facts, std::move(move));
}

std::vector<Change> decide_bound(const Registry& registry, const Caller& caller, LeaseId id, Port port, Cookie cookie, const Facts& facts) {
    const auto* known = registry.find(id);
    if (known == nullptr || !known->live() || known->port != port || cookie == 0) { return {}; }
    Lease lease = *known;
    const auto socket = std::find_if(lease.sockets.begin(), lease.sockets.end(), [&](const Socket& s) { return s.cookie == cookie; });
    if (socket == lease.sockets.end()) {
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

std::vector<Change> decide_unbound(const Registry& registry, const Config& config, LeaseId id, bool gone, const Facts& facts) {
    const auto* known = registry.find(id);
    if (known == nullptr || !known->live() || !known->sockets.empty()) { return {}; }
    Lease lease = *known;
    if (lease.origin == LeaseOrigin::named) {
        lease.holder.reset();
        lease.session.reset();
        return {LeaseEvent{LeaseChange::silenced, std::move(lease)}};
    }
    if (gone) { return {ended(std::move(lease), LeaseChange::released, true, config, facts)}; }
    lease.expires_at = facts.now + k_linger;
    return {LeaseEvent{LeaseChange::silenced, std::move(lease)}};
}

Decision<LeaseId> decide_listening(const Registry& registry, const Config& config, const Caller& caller, Port port, Cookie cookie,
                                   const Facts& facts) {
    const Lease* known = registry.find_by_cookie(cookie);
    if (known != nullptr && (!known->live() || known->port != port)) { known = nullptr; }
    if (known == nullptr) {
        for (const auto* lease : registry.on_port(port)) {
            const bool ours = lease->live() && (lease->key.root == caller.place.project.root || is_own_session(*lease, caller.session, facts));
            if (ours) { known = lease; }
        }
    }
    Lease lease;
    if (known != nullptr) {
        lease = *known;
    } else {
        // Bound while the agent was away: recorded as what it is, unless the port is the kernel's choice or another's.
        const auto* owner = owner_of(registry, port);
        if (!facts.in_use(port, true, false)) { return {{}, 0}; }  // gone already, or never was
        if (facts.ephemeral.contains(port) || (owner != nullptr && owner->live())) { return {{}, 0}; }
        LeaseKey key{caller.place.project.root, service_of(caller.place, caller.scope, port), Protocol::tcp, port, 0};
        while (const auto* other = registry.find(key)) {
            if (!other->live()) { break; }
            ++key.instance;
        }
        const auto query = range_query(caller, key.service);
        lease = new_lease(registry, key, facts);
        lease.port = port;
        lease.range = range_name_at(config, port, ranges_that_serve(config, query));
        lease = granted_to(std::move(lease), caller, facts);
    }
    const bool first = lease.sockets.empty() || lease.state != LeaseState::active;
    auto socket = std::find_if(lease.sockets.begin(), lease.sockets.end(), [&](const Socket& s) { return s.cookie == cookie; });
    if (socket == lease.sockets.end() && cookie != 0) { socket = lease.sockets.insert(lease.sockets.end(), {cookie, true, false}); }
    if (socket != lease.sockets.end()) { *socket = {cookie, true, true}; }
    if (first) { lease.holder = caller.holder; }
    lease.session = caller.session;
    lease.boot_id = facts.boot_id;
    lease.state = LeaseState::active;
    lease.listened = true;
    lease.claimed = false;
    lease.last_active_at = facts.now;
    if (lease.origin == LeaseOrigin::process) { lease.expires_at.reset(); }
    const auto id = lease.id;
    return {{LeaseEvent{LeaseChange::activated, std::move(lease)}}, id};
}

std::vector<Change> decide_destroyed(const Registry& registry, const Config& config, Cookie cookie, const Facts& facts) {
    const auto* known = registry.find_by_cookie(cookie);
    if (known == nullptr || !known->live()) { return {}; }
    Lease lease = *known;
    std::erase_if(lease.sockets, [cookie](const Socket& socket) { return socket.cookie == cookie; });
    return {after_sockets_changed(std::move(lease), config, facts)};
}

std::vector<Change> decide_census(const Registry& registry, const Config& config, const Census& census, const Facts& facts) {
    std::vector<Change> changes;
    std::set<ProcessId> used;
    for (const auto& [id, known] : registry.leases()) {
        if (!known.live()) { continue; }
        Lease lease = known;
        const bool rebooted = !lease.boot_id.empty() && lease.boot_id != facts.boot_id;
        const bool holder_lives = !rebooted && lease.holder && census.is_alive(lease.holder->process);
        std::erase_if(lease.sockets, [&](const Socket& socket) {
            if (rebooted) { return true; }
            if (census.blind) { return !holder_lives; }
            if (census.sockets.contains(socket.cookie)) { return false; }
            return census.sees_bound || socket.listening || !holder_lives;
        });
        bool heard = false;
        for (auto& socket : lease.sockets) {
            if (!socket.listening && census.listening.contains(socket.cookie)) { socket.listening = heard = true; }
        }
        if (lease.sockets.empty() && holder_lives) {
            const auto found = census.unknown.find({lease.holder->process, lease.port});
            if (found != census.unknown.end()) {
                lease.sockets.push_back({found->second, true, true});
                heard = true;
            }
        }
        if (heard) {
            lease.state = LeaseState::active;
            lease.listened = true;
            lease.last_active_at = facts.now;
            if (lease.origin == LeaseOrigin::process) { lease.expires_at.reset(); }
            if (lease.session) { used.insert(*lease.session); }
            changes.emplace_back(LeaseEvent{LeaseChange::activated, std::move(lease)});
            continue;
        }
        const bool session_lives = !rebooted && lease.session && census.is_alive(*lease.session);
        if (lease.sockets.size() != known.sockets.size()) {
            changes.push_back(after_sockets_changed(lease, config, facts));
        } else if (lease.origin == LeaseOrigin::process && lease.sockets.empty() && !holder_lives && !session_lives) {
            changes.push_back(ended(lease, LeaseChange::released, true, config, facts));
        } else if (lease.origin == LeaseOrigin::named && lease.sockets.empty() && lease.session && !session_lives) {
            lease.session.reset();
            lease.holder.reset();
            changes.push_back(LeaseEvent{LeaseChange::silenced, lease});
        }
        if (!lease.sockets.empty() && lease.session) { used.insert(*lease.session); }
    }
    for (const auto& [id, session] : registry.sessions()) {
        const bool lives = session.boot_id == facts.boot_id && census.is_alive(id);
        if (!lives && !used.contains(id)) { changes.push_back(SessionClosed{id}); }
    }
    return changes;
}

std::vector<Change> decide_session_ended(const Registry& registry, const Config& config, const ProcessId& session, const Facts& facts) {
    const auto* known = registry.find_session(session);
    if (known == nullptr) { return {}; }
    std::vector<Change> changes;
    bool used = false;
    for (const auto* lease : registry.of_session(session)) {
        if (!lease->live()) { continue; }
        if (!lease->sockets.empty()) {
            used = true;
        } else if (lease->origin == LeaseOrigin::named) {
            Lease free = *lease;
            free.session.reset();
            free.holder.reset();
            changes.emplace_back(LeaseEvent{LeaseChange::silenced, std::move(free)});
        } else if (lease->expires_at && *lease->expires_at <= facts.now) {
            changes.push_back(ended(*lease, LeaseChange::released, true, config, facts));
        } else {
            // A child may be about to bind: `portwrap sh -c 'server &'`.
            used = true;
            if (!lease->expires_at) {
                Lease lingering = *lease;
                lingering.expires_at = facts.now + k_offer_grace;
                changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lingering)});
            }
        }
    }
    if (!used) { changes.push_back(SessionClosed{session}); }
    return changes;
}

Decision<std::optional<Time>> decide_expiry(const Registry& registry, const Config& config, const Facts& facts) {
    Decision<std::optional<Time>> decision;
    const auto later = [&](Time time) {
        if (!decision.answer || time < *decision.answer) { decision.answer = time; }
    };
    for (const auto& [id, lease] : registry.leases()) {
        if (lease.live()) {
            if (lease.expires_at && !lease.sockets.empty()) {
                if (lease.listening() || lease.origin == LeaseOrigin::named) { continue; }
                if (*lease.expires_at > facts.now) {
                    later(*lease.expires_at);
                    continue;
                }
                Lease looked_at = lease;
                std::erase_if(looked_at.sockets, [&facts, &as_known = lease](const Socket& socket) { return facts.is_gone && facts.is_gone(socket, as_known); });
                looked_at.expires_at = facts.now + k_look_again;
                later(*looked_at.expires_at);
                decision.changes.push_back(after_sockets_changed(std::move(looked_at), config, facts));
            } else if (lease.expires_at) {
                if (*lease.expires_at <= facts.now) {
                    decision.changes.push_back(ended(lease, LeaseChange::expired, true, config, facts));
                } else {
                    later(*lease.expires_at);
                }
            } else if (lease.origin == LeaseOrigin::named && lease.sockets.empty() && lease.state == LeaseState::allocated) {
                auto end = lease.last_active_at.value_or(lease.allocated_at) + config.inactive;
                // A program that runs without portwrap may be listening on it.
                if (end <= facts.now && facts.in_use(lease.port, true, false)) { end = facts.now + std::chrono::hours(1); }
                if (end <= facts.now) {
                    decision.changes.push_back(ended(lease, LeaseChange::expired, false, config, facts));
                } else {
                    later(end);
                }
            }
            continue;
        }
        const auto used = lease.last_active_at.value_or(lease.allocated_at);
        const auto forget = lease.released_at.value_or(used) + config.remembered;
        if (forget <= facts.now) {
            decision.changes.push_back(LeaseForgotten{id});
            continue;
        }
        later(forget);
        if (lease.claimed && used + config.inactive <= facts.now) {
            Lease changed = lease;
            changed.claimed = false;
            decision.changes.push_back(LeaseEvent{LeaseChange::updated, std::move(changed)});
        } else if (lease.claimed) {
            later(used + config.inactive);
        }
    }
    return decision;
}

namespace {
Decision<Outcome<LeaseId>> taken_by_name(const Registry& registry, Lease lease) {
    Decision<Outcome<LeaseId>> decision{{}, lease.id};
    unclaim_others(registry, lease, decision.changes);
    decision.changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(lease)});
    return decision;
}
}  // namespace

Decision<Outcome<LeaseId>> decide_get(const Registry& registry, const Config& config, const GetRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    const auto entry = configured(request.place, request.service);
    // Idempotent: what the service has already. Then what it had.
    const Lease* live = nullptr;
    const Lease* earlier = nullptr;
    for (const auto* lease : registry.of_project(root)) {
        if (lease->key.service != request.service || lease->key.protocol != Protocol::tcp || lease->key.requested == Port{0}) { continue; }
        const auto better = [&](const Lease* than) { return than == nullptr || lease->key.instance < than->key.instance; };
        if (lease->live() && better(live)) { live = lease; }
        if (!lease->live() && better(earlier)) { earlier = lease; }
    }
    if (live != nullptr) {
        const bool described = (request.description && request.description != live->description) ||
                               (request.hostname && request.hostname != live->hostname);
        // What somebody asked for by name stays when the program ends.
        const bool used_lately = facts.now - live->last_active_at.value_or(live->allocated_at) < std::chrono::hours(24);
        if (live->origin == LeaseOrigin::named && !described && used_lately) { return {{}, live->id}; }
        Lease lease = *live;
        if (!used_lately) { lease.last_active_at = facts.now; }
        lease.origin = LeaseOrigin::named;
        lease.expires_at.reset();
        if (request.description) { lease.description = request.description; }
        if (request.hostname) { lease.hostname = request.hostname; }
        const auto id = lease.id;
        return {{LeaseEvent{LeaseChange::updated, std::move(lease)}}, id};
    }

    RangeQuery query;
    query.range = request.range;
    query.environment = request.environment;
    query.kind = request.kind ? request.kind : entry ? entry->kind : std::nullopt;
    if (!query.kind) {
        // An exclusive range's name implies the kind: a service named "database".
        const auto* range = find_range(config, request.service);
        if (range != nullptr && range->exclusive) { query.kind = range->name; }
    }
    query.type = request.type.value_or(entry && entry->type ? *entry->type : request.place.config.type.value_or(request.place.type));
    query.explicit_request = true;
    const auto ranges = ranges_that_serve(config, query);
    if (ranges.empty()) { return {{}, Refusal{ErrorCode::unknown_range, "there is no range named \"" + request.range.value_or("") + "\"", {}, {}}}; }

    LeaseKey key{root, request.service, Protocol::tcp, entry ? entry->port : std::nullopt, 0};
    if (earlier != nullptr) { key = earlier->key; }
    auto lease = new_lease(registry, key, facts);
    Port port = 0;
    const bool within = !request.range || ranges.front()->contains(lease.port);
    if (lease.port != 0 && within && is_open_to(registry, key, lease.port) && !facts.in_use(lease.port, true, true)) { port = lease.port; }
    if (port == 0 && entry && entry->port && !request.range && is_open_to(registry, key, *entry->port) && !is_system_port(config, *entry->port) &&
        !is_reserved_port(config, *entry->port) && !facts.in_use(*entry->port, true, true)) {
        port = *entry->port;
        lease.range = range_name_at(config, port, ranges);
    }
    if (port == 0) {
        Search search(registry, config, facts, request.place, key);
        const auto [found, range] = search.run(ranges);
        if (found == 0) {
            return {{}, Refusal{ErrorCode::range_exhausted, "every port of the range \"" + ranges.front()->name + "\" is taken", {}, {}}};
        }
        port = found;
        lease.range = range->name;
    }
    lease.port = port;
    lease.origin = LeaseOrigin::named;
    lease.state = LeaseState::allocated;
    lease.claimed = false;
    lease.environment = request.environment;
    lease.kind = query.kind;
    lease.allocated_at = facts.now;
    lease.released_at.reset();
    lease.expires_at.reset();
    lease.boot_id = facts.boot_id;
    lease.allocated_by = request.allocated_by;
    if (request.description) { lease.description = request.description; }
    if (request.hostname) { lease.hostname = request.hostname; }
    return taken_by_name(registry, std::move(lease));
}

Decision<Outcome<LeaseId>> decide_offer(const Registry& registry, const Config& config, const OfferRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    RangeQuery query;
    query.range = request.session.range;
    query.environment = request.session.environment;
    const auto entry = configured(request.place, request.service);
    query.kind = request.session.kind ? request.session.kind : entry ? entry->kind : std::nullopt;
    query.type = request.type;
    const auto ranges = ranges_that_serve(config, query);
    if (ranges.empty()) { return {{}, Refusal{ErrorCode::unknown_range, "there is no range named \"" + request.session.range.value_or("") + "\"", {}, {}}}; }

    Caller caller;
    caller.session = request.session.outermost;
    caller.place = request.place;
    LeaseKey key{root, request.service, Protocol::tcp, request.natural, 0};
    if (request.wanted) { key.requested = request.wanted; }
    const Lease* known = nullptr;
    while ((known = registry.find(key)) != nullptr && known->live() && !is_adoptable(*known, caller.session, facts)) { ++key.instance; }

    Port port = 0;
    std::string range;
    if (request.wanted) {
        const Port wanted = *request.wanted;
        const auto* owner = owner_of(registry, wanted);
        const bool own_silent = owner != nullptr && owner->key.root == root && (!owner->live() || is_adoptable(*owner, caller.session, facts));
        const auto refuse = [&](ErrorCode code, std::string message) -> Decision<Outcome<LeaseId>> {
            Refusal refusal{code, std::move(message), owner != nullptr ? std::optional<Lease>(*owner) : std::nullopt,
                            suggest_ports(registry, config, root, wanted, 3, facts)};
            return {{}, std::move(refusal)};
        };
        if (is_system_port(config, wanted)) { return refuse(ErrorCode::system_reserved, "port " + std::to_string(wanted) + " is reserved for portwrap's own services"); }
        if (is_reserved_port(config, wanted)) { return refuse(ErrorCode::port_reserved, "port " + std::to_string(wanted) + " is reserved in the config"); }
        if (owner != nullptr && owner->live() && !own_silent) {
            return refuse(owner->listening() ? ErrorCode::port_in_use : ErrorCode::port_leased, "");
        }
        if (facts.in_use(wanted, true, false)) { return refuse(ErrorCode::port_in_use, ""); }
        if (own_silent) {
            key = owner->key;
        }
        port = wanted;
        range = range_name_at(config, wanted, ranges);
    }
    auto lease = new_lease(registry, key, facts);
    const auto usable = [&](Port candidate) {
        return candidate != 0 && is_open_to(registry, key, candidate) && !is_system_port(config, candidate) &&
               !is_reserved_port(config, candidate) && !facts.in_use(candidate, true, false);
    };
    if (port == 0 && usable(lease.port)) {
        port = lease.port;
        range = lease.range;
    }
    if (port == 0 && request.natural && usable(*request.natural)) {
        port = *request.natural;
        range = range_name_at(config, port, ranges);
    }
    if (port == 0) {
        Search search(registry, config, facts, request.place, key);
        const auto [found, from] = search.run(ranges);
        if (found == 0) { return {{}, Refusal{ErrorCode::range_exhausted, "every port of the range \"" + ranges.front()->name + "\" is taken", {}, {}}}; }
        port = found;
        range = from->name;
    }
    lease.port = port;
    lease.range = std::move(range);
    lease.environment = query.environment;
    lease.kind = query.kind;
    lease.allocated_by = request.allocated_by;
    auto granted = granted_to(std::move(lease), caller, facts);
    granted.holder.reset();
    // It lives as long as its session; a program may take its time before it binds.
    granted.expires_at.reset();
    return taken_by_name(registry, std::move(granted));
}

Decision<Outcome<std::vector<LeaseId>>> decide_release(const Registry& registry, const Config& config, const ReleaseRequest& request,
                                                       const Facts& facts) {
    std::vector<const Lease*> chosen;
    const auto holds = [](const Lease* lease) { return lease->live() || lease->claimed; };
    if (request.port) {
        for (const auto* lease : registry.on_port(*request.port)) {
            if (holds(lease)) { chosen.push_back(lease); }
        }
        const auto is_own = [&](const Lease* lease) { return lease->key.root == request.root; };
        if (std::any_of(chosen.begin(), chosen.end(), is_own)) { std::erase_if(chosen, [&](const Lease* lease) { return !is_own(lease); }); }
    } else {
        for (const auto* lease : registry.of_project(request.root)) {
            if (holds(lease) && (request.everything || lease->key.service == request.service)) { chosen.push_back(lease); }
        }
    }
    using Answer = Outcome<std::vector<LeaseId>>;
    const auto refuse = [](ErrorCode code, std::string message, const Lease& lease) {
        return Decision<Answer>{{}, Answer{Refusal{code, std::move(message), lease, {}}}};
    };
    for (const auto* lease : chosen) {
        if (lease->key.root != request.root && !request.force) {
            const auto* project = registry.find_project(lease->key.root);
            return refuse(ErrorCode::not_owner,
                          "port " + std::to_string(lease->port) + " belongs to project \"" + (project != nullptr ? project->name : lease->key.root) +
                              "\" (" + lease->key.root + "); --force releases it all the same", *lease);
        }
        if (lease->listening() && !request.force) {
            return refuse(ErrorCode::port_in_use,
                          "port " + std::to_string(lease->port) + " (" + lease->key.service +
                              ") is in use; stop its program, or --force to forget the lease while it runs", *lease);
        }
    }
    if (chosen.empty() && !request.everything) {
        const std::string what = request.port ? "port " + std::to_string(*request.port) + " is not leased"
                                              : "this project has no port for \"" + request.service.value_or("") + "\"";
        return {{}, Answer{Refusal{ErrorCode::not_found, what, {}, {}}}};
    }
    std::vector<Change> changes;
    std::vector<LeaseId> released;
    for (const auto* lease : chosen) {
        Lease listened = *lease;
        listened.origin = LeaseOrigin::named;  // a person's word: remembered, whatever it was
        changes.push_back(ended(std::move(listened), LeaseChange::released, false, config, facts));
        released.push_back(lease->id);
    }
    return {std::move(changes), Answer{std::move(released)}};
}

const Lease* current_lease(const Registry& registry, const Place& place, const std::optional<std::string>& service, std::optional<Port> requested) {
    const auto configured_at = [&](const Lease& lease) {
        const auto& services = place.config.services;
        const auto it = std::find_if(services.begin(), services.end(), [&](const ServiceConfig& entry) { return entry.name == lease.key.service; });
        return it - services.begin();
    };
    const auto rank = [&](const Lease& lease) {
        return std::tuple(!lease.listening(), is_auxiliary_service(lease.key.service), requested ? 0 : configured_at(lease), lease.key.instance, lease.port);
    };
    const Lease* best = nullptr;
    for (const auto* lease : registry.of_project(place.project.root)) {
        if (!lease->live() || (service && lease->key.service != *service) || (requested && lease->key.requested != *requested)) { continue; }
        if (lease->key.requested == Port{0} && !lease->listened) { continue; }
        if (best == nullptr || rank(*lease) < rank(*best)) { best = lease; }
    }
    return best;
}

std::vector<Port> suggest_ports(const Registry& registry, const Config& config, const std::string& root, Port port, std::size_t count,
                                const Facts& facts) {
    std::vector<Port> found;
    const auto consider = [&](int candidate) {
        if (found.size() >= count || candidate < 1024 || candidate > 65535 || candidate == port) { return; }
        const auto number = static_cast<Port>(candidate);
        const auto* owner = owner_of(registry, number);
        const bool own_claim = owner != nullptr && !owner->live() && owner->key.root == root;
        if ((owner != nullptr && !own_claim) || is_bad_port(number) || is_system_port(config, number) || is_reserved_port(config, number) ||
            facts.ephemeral.contains(number) || in_any(facts.kernel_reserved, number)) {
            return;
        }
        if (std::find(found.begin(), found.end(), number) != found.end() || facts.in_use(number, true, true)) { return; }
        found.push_back(number);
    };
    for (const auto* lease : registry.of_project(root)) {
        if (!lease->live()) { consider(lease->port); }
    }
    for (int step = 1; step <= 200; ++step) { consider(port + step); }
    for (int step = 10; step <= 1000; step *= 10) { consider(port + step); }
    return found;
}

}  // namespace portwrap
