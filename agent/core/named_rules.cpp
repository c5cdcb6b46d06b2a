// What people and scripts ask for by name, and what is offered to a program before it starts.
#include <algorithm>
#include <tuple>

#include "core/blocks.hpp"
#include "core/earlier_runs.hpp"
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "core/range_usage.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {
/// A program whose port is kept without its knowledge has this long to bind it.
constexpr auto k_start_grace = std::chrono::seconds(30);

/// Those of port 0 have no name.
bool is_asked_for(const Lease& lease, const GetRequest& request) {
    return lease.key.service == request.service && lease.key.protocol == request.protocol && lease.key.requested != Port{0} &&
           lease.environment == request.environment;
}

/// The lease of another service that a launch is told of.
struct Elsewhere {
    const Lease* lease = nullptr;  ///< null: nobody has one
    /// The same command runs here already, with this service: the new run has all of its services anew.
    bool second_copy = false;
};
Elsewhere live_elsewhere(const Registry& registry, const OfferRequest& request, const Facts& facts) {
    const auto launch = launch_name(request.session);
    const auto rank = [&](const Lease& lease) {
        return std::tuple(!is_own_session(lease, request.session.outermost, facts), !lease.listening(), lease.key.instance);
    };
    Elsewhere found;
    for (const auto* lease : registry.of_service(request.place.project.root, request.service)) {
        const bool usable = lease->live() && lease->state != LeaseState::conflict && lease->key.protocol == Protocol::tcp &&
                            lease->key.requested != Port{0} && lease->environment == request.session.environment;
        if (!usable) { continue; }
        const auto* session = lease->session ? registry.find_session(*lease->session) : nullptr;
        const bool same_launch = lease->started_by == launch || (session != nullptr && launch_name(*session) == launch);
        if (same_launch && !lease->announced && !lease->by_name() && !is_own_session(*lease, request.session.outermost, facts)) {
            found.second_copy = true;
        } else if (found.lease == nullptr || rank(*lease) < rank(*found.lease)) {
            found.lease = lease;
        }
    }
    return found;
}
}  // namespace

const Lease* lowest_asked_for(const Registry& registry, const GetRequest& request, bool live) {
    const Lease* lowest = nullptr;
    for (const auto* lease : registry.of_service(request.place.project.root, request.service)) {
        const bool meant = lease->live() == live && is_asked_for(*lease, request);
        if (meant && (lowest == nullptr || lease->key.instance < lowest->key.instance)) { lowest = lease; }
    }
    return lowest;
}

Decision<Outcome<LeaseId>> decide_get(const Registry& registry, const Config& config, const GetRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    const auto entry = configured(request.place, request.service);
    // Idempotent: what the service has already. Then what it had.
    if (const auto* live = lowest_asked_for(registry, request, true)) {
        const bool described = (request.description && request.description != live->description) ||
                               (request.hostname && request.hostname != live->hostname);
        // What somebody asked for by name stays when the program ends.
        const bool used_lately = facts.now - live->last_used() < std::chrono::hours(24);
        if (live->by_name() && live->state != LeaseState::reserved && !described && used_lately) { return {{}, live->id}; }
        Lease lease = *live;
        if (!used_lately) { lease.last_active_at = facts.now; }
        if (!lease.by_name()) { lease.origin = LeaseOrigin::named; }
        if (lease.state == LeaseState::reserved) { lease.state = LeaseState::allocated; }
        lease.expires_at.reset();
        if (request.description) { lease.description = request.description; }
        if (request.hostname) { lease.hostname = request.hostname; }
        const auto id = lease.id;
        return {{LeaseEvent{LeaseChange::updated, std::move(lease)}}, id};
    }

    const auto query = range_query_of(config, request);
    const auto serving = serving_ranges(registry, config, request.place.project, query, facts);
    const auto& ranges = serving.ranges;
    if (auto refusal = refuse_ranges(ranges, request.range)) { return {{}, std::move(*refusal)}; }

    LeaseKey key{root, request.service, request.protocol, entry ? entry->port : std::nullopt, 0};
    if (const auto* earlier = lowest_asked_for(registry, request, false)) { key = earlier->key; }
    // Another environment's lease of the service is another instance, live or remembered.
    key = lowest_instance(registry, std::move(key), [&](const Lease& known) { return is_over(known) && known.environment == request.environment; });
    auto lease = new_lease(registry, key, facts);
    Port port = 0;
    const bool within = !request.range || ranges.front()->contains(lease.port);
    const auto usable = [&](Port candidate) {
        return candidate != 0 && is_open_to(registry, key, candidate) && !is_system_port(config, candidate) && !is_reserved_port(config, candidate) &&
               !facts.in_use(candidate, true, true);
    };
    if (within && usable(lease.port)) { port = lease.port; }
    if (port == 0 && entry && entry->port && !request.range && usable(*entry->port)) {
        port = *entry->port;
        lease.range = range_name_at(config, port, ranges);
    }
    if (port == 0) {
        Search search(registry, config, facts, request.place, key);
        const auto [found, range] = search.run(ranges);
        if (found == 0) {
            return {{}, range_exhausted(registry, config, ranges, facts)};
        }
        port = found;
        lease.range = range->name;
    }
    auto range = lease.range;
    lease = granted_by_name(std::move(lease), request, query, port, std::move(range), facts);
    return taken_by_name(registry, std::move(lease));
}

Decision<Outcome<LeaseId>> decide_get_at(const Registry& registry, const Config& config, const AllocateRequest& request, const Facts& facts) {
    if (!request.port || lowest_asked_for(registry, request, true) != nullptr) { return decide_get(registry, config, request, facts); }
    auto decision = decide_allocate(registry, config, request, facts);
    if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return {{}, std::move(*refusal)}; }
    return {std::move(decision.changes), std::get<std::vector<LeaseId>>(decision.answer).front()};
}

Decision<Outcome<LeaseId>> decide_offer(const Registry& registry, const Config& config, const OfferRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    RangeQuery query;
    query.range = request.session.range;
    query.environment = request.session.environment;
    const auto entry = configured(request.place, request.service);
    query.kind = request.session.kind ? request.session.kind : entry ? entry->kind : std::nullopt;
    query.type = request.type;
    const auto serving = serving_ranges(registry, config, request.place.project, query, facts);
    const auto& ranges = serving.ranges;
    if (auto refusal = refuse_ranges(ranges, request.session.range)) { return {{}, std::move(*refusal)}; }

    bool second_copy = false;
    if (request.another) {
        const auto there = live_elsewhere(registry, request, facts);
        if (there.lease != nullptr) { return {{}, there.lease->id}; }
        second_copy = there.second_copy;
    }

    Caller caller;
    caller.session = request.session.outermost;
    caller.place = std::make_shared<const Place>(request.place);
    LeaseKey key{root, request.service, Protocol::tcp, request.natural, 0};
    if (request.wanted && !request.natural) { key.requested = request.wanted; }
    key = lowest_instance(registry, std::move(key), [&](const Lease& known) { return is_over(known) || is_adoptable(known, caller.session, facts); });

    Port port = 0;
    std::string range;
    const Lease* unnumbered = nullptr;  // to become the number's
    if (request.wanted) {
        const Port wanted = *request.wanted;
        const auto* owner = owner_of(registry, wanted, key);
        const bool own_silent = owner != nullptr && owner->key.root == root && owner->key.protocol == key.protocol &&
                                (!owner->live() || is_adoptable(*owner, caller.session, facts));
        const auto refuse = [&](ErrorCode code, std::string message) -> Decision<Outcome<LeaseId>> {
            Refusal refusal{code, std::move(message), owner != nullptr ? std::optional<Lease>(*owner) : std::nullopt,
                            suggest_ports(registry, config, root, wanted, 3, facts)};
            refusal.port = wanted;
            return {{}, std::move(refusal)};
        };
        if (wanted < facts.first_permitted) {
            return refuse(ErrorCode::permission_denied, too_low(wanted, facts));
        }
        if (is_system_port(config, wanted)) { return refuse(ErrorCode::system_reserved, "port " + std::to_string(wanted) + " is reserved for portwrap's own services"); }
        if (is_reserved_port(config, wanted)) { return refuse(ErrorCode::port_reserved, "port " + std::to_string(wanted) + " is reserved in the config"); }
        if (owner != nullptr && owner->live() && !own_silent) {
            return refuse(owner->listening() ? ErrorCode::port_in_use : ErrorCode::port_leased, "");
        }
        if (facts.in_use(wanted, true, false)) { return refuse(ErrorCode::port_in_use, ""); }
        if (own_silent) {
            key.service = owner->key.service;
            if (owner->key.requested) {
                key = owner->key;
            } else {
                unnumbered = owner;
            }
        }
        port = wanted;
        range = range_name_at(config, wanted, ranges);
    }
    auto lease = new_lease(registry, key, facts);
    const auto usable = [&](const LeaseKey& owner, Port candidate) {
        return candidate != 0 && candidate >= facts.first_permitted && is_open_to(registry, owner, candidate) && !is_system_port(config, candidate) &&
               !is_reserved_port(config, candidate) && !facts.in_use(candidate, true, false);
    };
    if (port == 0 && usable(key, lease.port)) {
        port = lease.port;
        range = lease.range;
    }
    if (port == 0 && request.natural && usable(key, *request.natural)) {
        port = *request.natural;
        range = range_name_at(config, port, ranges);
    }
    if (port == 0 && request.natural) {
        const auto is_free = [&](const Lease& named) { return usable(named.key, named.port); };
        unnumbered = without_number(registry, key, query.environment, caller.session, facts, is_free);
    }
    std::vector<Change> changes;
    if (unnumbered != nullptr) {
        auto [taken, replaced] = numbered(registry, *unnumbered, key);
        if (replaced) { changes.emplace_back(*replaced); }
        lease = std::move(taken);
        port = lease.port;
        range = lease.range;
    }
    if (port == 0) {
        Search search(registry, config, facts, request.place, key);
        const auto [found, from] = search.run(ranges);
        if (found == 0) { return {{}, range_exhausted(registry, config, ranges, facts)}; }
        port = found;
        range = from->name;
    }
    lease = moved_to(std::move(lease), port, std::move(range));
    // What somebody got by name stays as it was asked for, and for as long.
    const bool named = lease.live() && lease.by_name();
    if (!named) {
        lease.environment = query.environment;
        lease.kind = query.kind;
        lease.allocated_by = request.allocated_by;
    }
    auto granted = granted_to(std::move(lease), caller, facts);
    granted.holder.reset();
    granted.unseen = request.unseen;
    granted.announced = request.another && !request.unseen && !second_copy;
    // It lives as long as its session; a program may take its time before it binds. A run inside a long one (a shell, an
    // editor) does not keep what it was offered for the other's life.
    const bool inside = request.session.id != request.session.outermost;
    if (!named) {
        granted.expires_at.reset();
        if (inside) { granted.expires_at = facts.now + k_offer_grace; }
        if (request.brief && granted.port == request.natural) { granted.expires_at = facts.now + k_start_grace; }
    } else if (inside && !request.unseen && !request.wanted) {
        granted.session.reset();
    }
    const auto id = granted.id;
    changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(granted)});
    return {std::move(changes), id};
}

const Lease* current_lease(const Registry& registry, const Place& place, const std::optional<std::string>& service,
                           std::optional<Port> requested, std::optional<Protocol> protocol) {
    const auto configured_at = [&](const Lease& lease) {
        const auto& services = place.config.services;
        const auto it = std::find_if(services.begin(), services.end(), [&](const ServiceConfig& entry) { return entry.name == lease.key.service; });
        return it - services.begin();
    };
    const auto rank = [&](const Lease& lease) {
        const bool got_it = requested && lease.port == *requested;
        return std::tuple(!lease.listening(), lease.key.protocol, is_auxiliary_service(lease.key.service), !got_it, requested ? 0 : configured_at(lease),
                          lease.key.instance, lease.port);
    };
    const Lease* best = nullptr;
    for (const auto* lease : registry.of_project(place.project.root)) {
        if (!lease->live() || (service && lease->key.service != *service) || (requested && lease->key.requested != *requested)) { continue; }
        if (protocol && lease->key.protocol != *protocol) { continue; }
        if (lease->key.requested == Port{0} && !lease->listened) { continue; }
        if (best == nullptr || rank(*lease) < rank(*best)) { best = lease; }
    }
    return best;
}

}  // namespace portwrap
