// Changes of leases that exist: their words, their place, their project, their end.
#include <algorithm>
#include <set>

#include "core/blocks.hpp"
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

Refusal no_such_lease(std::optional<Port> port, const std::optional<std::string>& service, std::optional<Protocol> protocol) {
    const std::string over = protocol ? " over " + std::string(word(*protocol)) : std::string();
    return {ErrorCode::not_found, port ? "port " + std::to_string(*port) + " is not leased" + over
                                       : "this project has no port for \"" + service.value_or("") + "\"" + over, {}, {}};
}

/// The lease that a person means by a port (their own before another's) or by a service (live before remembered, the
/// lowest instance first).
Outcome<const Lease*> find_target(const Registry& registry, const LeaseTarget& target, const std::string& remedy) {
    const Lease* best = nullptr;
    const auto rank = [&](const Lease& lease) {
        return std::tuple(lease.key.root != target.root, !lease.live(), lease.key.protocol, lease.key.instance, ~lease.id);
    };
    const auto consider = [&](const Lease* lease) {
        if (best == nullptr || rank(*lease) < rank(*best)) { best = lease; }
    };
    const auto is_meant = [&](const Lease* lease) { return !target.protocol || lease->key.protocol == *target.protocol; };
    if (target.port) {
        for (const auto* lease : registry.on_port(*target.port)) {
            if (is_meant(lease) && (lease->live() || lease->claimed)) { consider(lease); }
        }
    } else {
        for (const auto* lease : registry.of_project(target.root)) {
            if (is_meant(lease) && lease->key.service == target.service && lease->key.requested != Port{0}) { consider(lease); }
        }
    }
    if (best == nullptr) { return no_such_lease(target.port, target.service, target.protocol); }
    if (best->key.root != target.root && !target.force) { return not_owner(registry, *best, remedy); }
    return best;
}

/// The key with the lowest instance that no other live lease of the service has.
LeaseKey free_key(const Registry& registry, LeaseKey key, LeaseId own) {
    std::set<int> taken;
    for (const auto* lease : registry.of_project(key.root)) {
        const bool same = lease->id != own && lease->live() && lease->key.service == key.service && lease->key.protocol == key.protocol;
        if (same) { taken.insert(lease->key.instance); }
    }
    key.instance = 0;
    while (taken.contains(key.instance)) { ++key.instance; }
    return key;
}

/// Of several remembered leases with one key only one can be its stickiness: the one that takes the key now.
void forget_remembered(const Registry& registry, const Lease& taken, std::vector<Change>& changes) {
    for (const auto* lease : registry.of_project(taken.key.root)) {
        if (lease->id != taken.id && !lease->live() && lease->key == taken.key) { changes.emplace_back(LeaseForgotten{lease->id}); }
    }
}

/// TCP and UDP of one number are one service's: what is live beside this lease with the other protocol.
const Lease* partner_of(const Registry& registry, const Lease& lease) {
    for (const auto* other : registry.on_port(lease.port)) {
        const bool beside = other->live() && other->id != lease.id && other->key.root == lease.key.root && other->key.service == lease.key.service;
        if (beside && lease.live()) { return other; }
    }
    return nullptr;
}

/// The lease under another service or project, with what remembered that key before.
void move_key(const Registry& registry, Lease& lease, const std::string& root, const std::string& service, std::vector<Change>& changes) {
    lease.key.root = root;
    lease.key.service = service;
    if (lease.live()) { lease.key = free_key(registry, lease.key, lease.id); }
    forget_remembered(registry, lease, changes);
}

/// The lease without the program of another project that has it: to its new owner that is a stranger, which `stop` must not end.
/// What is managed elsewhere may be listened on by whomever.
void part_from_program(const Registry& registry, Lease& lease, const std::string& to) {
    const bool used = lease.session || lease.holder || !lease.sockets.empty();
    if (!used || lease.origin == LeaseOrigin::registered || root_of_program(registry, lease, to) == to) { return; }
    if (lease.origin == LeaseOrigin::process) {
        lease.origin = LeaseOrigin::named;  // a person's word: it does not end with that program
        lease.expires_at.reset();
    }
    if (lease.listening()) {
        lease.state = LeaseState::conflict;
    } else if (lease.state == LeaseState::active) {
        lease.state = state_without_stranger(lease);
    }
    lease.health = Health::unknown;
    lease.sockets.clear();
    lease.holder.reset();
    lease.session.reset();
    lease.announced = false;
    lease.unseen = false;
}

void set_or_clear(std::optional<std::string>& value, const std::optional<std::string>& given) {
    if (given) { value = given->empty() ? std::nullopt : given; }
}

}  // namespace

Refusal not_owner(const Registry& registry, const Lease& lease, std::string remedy) {
    const auto* project = registry.find_project(lease.key.root);
    Refusal refusal{ErrorCode::not_owner,
                    "port " + std::to_string(lease.port) + " belongs to project \"" + (project != nullptr ? project->name : lease.key.root) + "\" (" +
                        lease.key.root + ")",
                    lease, {}};
    refusal.port = lease.port;
    refusal.remedy = std::move(remedy);
    return refusal;
}

Decision<Outcome<LeaseId>> decide_update(const Registry& registry, const Config& config, const UpdateRequest& request, const Facts& facts) {
    const auto found = find_target(registry, request.target, "--force changes it all the same");
    if (const auto* refusal = std::get_if<Refusal>(&found)) { return {{}, *refusal}; }
    const Lease& known = *std::get<const Lease*>(found);
    Lease lease = known;
    set_or_clear(lease.description, request.description);
    set_or_clear(lease.hostname, request.hostname);
    set_or_clear(lease.kind, request.kind);
    if (request.environment) { lease.environment = *request.environment; }
    std::vector<Change> changes;
    if (request.service && *request.service != lease.key.service) {
        if (const auto* partner = partner_of(registry, known); partner != nullptr && request.port.value_or(lease.port) == lease.port) {
            Lease beside = *partner;
            move_key(registry, beside, lease.key.root, *request.service, changes);
            changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(beside)});
        }
        move_key(registry, lease, lease.key.root, *request.service, changes);
    }
    if (request.port && *request.port != lease.port) {
        if (!lease.sockets.empty()) {
            Refusal refusal{ErrorCode::port_in_use, lease.key.service + " is on port " + std::to_string(lease.port) + "; stop it first (portctl stop " +
                                                        lease.key.service + ")", lease, {}};
            refusal.port = lease.port;
            return {{}, std::move(refusal)};
        }
        GetRequest as_asked;
        as_asked.place = request.place;
        as_asked.service = lease.key.service;
        as_asked.range = request.range;
        as_asked.environment = lease.environment;
        as_asked.kind = lease.kind;
        const auto serving = serving_ranges(registry, config, request.place.project, range_query_of(config, as_asked), facts);
        const auto& ranges = serving.ranges;
        if (auto refusal = refuse_ranges(ranges, request.range)) { return {{}, std::move(*refusal)}; }
        const PortWish wish{lease.key.root, lease.key.service, lease.key.protocol, *request.port, ranges.front(), request.target.force, lease.id};
        if (auto refusal = judge_port(registry, config, wish, facts)) { return {{}, std::move(*refusal)}; }
        end_own_silent(registry, config, wish, facts, changes);
        lease.port = *request.port;
        lease.health = Health::unknown;
        lease.range = range_name_at(config, lease.port, ranges);
        lease.origin = lease.origin == LeaseOrigin::process ? LeaseOrigin::named : lease.origin;
        if (lease.state == LeaseState::conflict) { lease.state = state_without_stranger(lease); }
        unclaim_others(registry, lease, changes);
    }
    const auto id = lease.id;
    if (lease == known) { return {{}, id}; }
    changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)});
    return {std::move(changes), id};
}

Decision<Outcome<LeaseId>> decide_transfer(const Registry& registry, const TransferRequest& request) {
    const auto found = find_target(registry, request.target, "--force hands it over all the same");
    if (const auto* refusal = std::get_if<Refusal>(&found)) { return {{}, *refusal}; }
    Lease lease = *std::get<const Lease*>(found);
    if (lease.key.root == request.to.root) { return {{}, lease.id}; }
    const auto* partner = partner_of(registry, lease);
    if ((lease.listening() || (partner != nullptr && partner->listening())) && !request.target.force) {
        Refusal refusal{ErrorCode::port_in_use, "port " + std::to_string(lease.port) + " (" + lease.key.service +
                                                    ") is in use; stop its program first", lease, {}};
        refusal.port = lease.port;
        refusal.remedy = "--force hands it over while it runs";
        return {{}, std::move(refusal)};
    }
    std::vector<Change> changes;
    if (partner != nullptr) {
        Lease beside = *partner;
        part_from_program(registry, beside, request.to.root);
        move_key(registry, beside, request.to.root, beside.key.service, changes);
        changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(beside)});
    }
    part_from_program(registry, lease, request.to.root);
    move_key(registry, lease, request.to.root, lease.key.service, changes);
    const auto id = lease.id;
    changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)});
    return {std::move(changes), id};
}

Decision<Outcome<std::vector<LeaseId>>> decide_release(const Registry& registry, const Config& config, const ReleaseRequest& request,
                                                       const Facts& facts) {
    std::vector<const Lease*> chosen;
    const auto holds = [&](const Lease* lease) {
        return (lease->live() || lease->claimed) && (!request.protocol || lease->key.protocol == *request.protocol);
    };
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
    for (const auto* lease : chosen) {
        if (lease->key.root != request.root && !request.force) {
            return {{}, Answer{not_owner(registry, *lease, "--force releases it all the same")}};
        }
        if (lease->listening() && !request.force) {
            Refusal refusal{ErrorCode::port_in_use, "port " + std::to_string(lease->port) + " (" + lease->key.service +
                                                        ") is in use; stop its program first", *lease, {}};
            refusal.port = lease->port;
            refusal.remedy = "--force forgets the lease while it runs";
            return {{}, Answer{std::move(refusal)}};
        }
    }
    if (chosen.empty() && !request.everything) { return {{}, Answer{no_such_lease(request.port, request.service, request.protocol)}}; }
    std::vector<Change> changes;
    std::vector<LeaseId> released;
    for (const auto* lease : chosen) {
        Lease listened = *lease;
        listened.origin = LeaseOrigin::named;  // a person's word: remembered, whatever it was
        changes.push_back(ended(registry, std::move(listened), LeaseChange::released, false, config, facts));
        released.push_back(lease->id);
    }
    std::set<std::string> roots;
    for (const auto* lease : chosen) { roots.insert(lease->key.root); }
    for (const auto& root : roots) { forget_oldest_released(registry.of_project(root), changes); }
    forget_oldest_remembered(registry, changes);
    return {std::move(changes), Answer{std::move(released)}};
}

}  // namespace portwrap
