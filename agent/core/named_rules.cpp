// What people and scripts ask for by name, and what is offered to a program before it starts.
#include <algorithm>

#include "core/lease_steps.hpp"
#include "core/search.hpp"

namespace portwrap {

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

}  // namespace portwrap
