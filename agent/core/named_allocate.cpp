// Ports that are asked for by name or number: judging a number, new instances, records, reservations.
#include <algorithm>

#include "core/blocks.hpp"
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "core/range_usage.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

std::string intervals_of(const Range& range) {
    std::string text;
    for (const auto& part : range.intervals) {
        text += (text.empty() ? "" : ", ") + std::to_string(part.start) + "-" + std::to_string(part.end);
    }
    return text;
}

/// HTTP/3: one service listens with TCP and UDP on one number.
bool shares_number(const Lease& lease, const std::string& root, const std::string& service, Protocol protocol) {
    return lease.key.root == root && lease.key.service == service && lease.key.protocol != protocol;
}

bool is_usable(const Registry& registry, const Config& config, const LeaseKey& key, Port port, const Facts& facts) {
    const auto* owner = owner_of(registry, port);
    const bool open = owner == nullptr || owner->key == key || shares_number(*owner, key.root, key.service, key.protocol);
    const bool shared = owner != nullptr && owner->live() && owner->key != key;
    return port != 0 && open && !is_system_port(config, port) && !is_reserved_port(config, port) &&
           !facts.in_use(port, !shared || key.protocol == Protocol::tcp, !shared || key.protocol == Protocol::udp);
}

/// The instances of a service: those that are live or another environment's, and what is remembered of ended ones.
struct Instances {
    std::set<int> taken;
    std::map<int, const Lease*> remembered;  ///< the newest of each
};
Instances instances_of(const Registry& registry, const GetRequest& request) {
    Instances instances;
    for (const auto* lease : registry.of_service(request.place.project.root, request.service)) {
        const auto& key = lease->key;
        if (key.protocol != request.protocol || key.requested == Port{0}) { continue; }
        if (lease->live() || lease->environment != request.environment) {
            instances.taken.insert(key.instance);
        } else {
            instances.remembered[key.instance] = lease;
        }
    }
    return instances;
}

}  // namespace

void end_own_silent(const Registry& registry, const Config& config, const PortWish& wish, const Facts& facts, std::vector<Change>& changes) {
    for (const auto* lease : registry.on_port(wish.port)) {
        if (!lease->live() || lease->id == wish.own || shares_number(*lease, wish.root, wish.service, wish.protocol)) { continue; }
        changes.push_back(ended(registry, *lease, LeaseChange::released, false, config, facts));
    }
}

Refusal unknown_range(const std::string& name) {
    Refusal refusal{ErrorCode::unknown_range, "there is no range named \"" + name + "\"", {}, {}};
    refusal.range = name;
    return refusal;
}

std::optional<Refusal> refuse_ranges(const std::vector<const Range*>& ranges, const std::optional<std::string>& named) {
    if (ranges.empty()) { return unknown_range(named.value_or("")); }
    if (ranges.front()->kind != RangeKind::system) { return std::nullopt; }
    Refusal refusal{ErrorCode::system_reserved, "the range \"" + ranges.front()->name + "\" is for portwrap's own services", {}, {}};
    refusal.range = ranges.front()->name;
    return refusal;
}

RangeQuery range_query_of(const Config& config, const GetRequest& request) {
    const auto entry = configured(request.place, request.service);
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
    query.service = request.service;
    return query;
}

Lease granted_by_name(Lease lease, const GetRequest& request, const RangeQuery& query, Port port, std::string range, const Facts& facts) {
    lease.port = port;
    lease.range = std::move(range);
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
    return lease;
}

std::string too_low(Port port, const Facts& facts) {
    return "port " + std::to_string(port) + " cannot be had: the system lets this user bind no port below " + std::to_string(facts.first_permitted);
}

std::optional<Refusal> judge_port(const Registry& registry, const Config& config, const PortWish& wish, const Facts& facts) {
    const auto refuse = [&](ErrorCode code, std::string message, const Lease* owner, const Range* within = nullptr, const char* remedy = "") {
        Refusal refusal{code, std::move(message), owner != nullptr ? std::optional<Lease>(*owner) : std::nullopt,
                        suggest_ports(registry, config, wish.root, wish.port, 3, facts, within)};
        refusal.port = wish.port;
        if (within != nullptr) { refusal.range = within->name; }
        refusal.remedy = remedy;
        return refusal;
    };
    const std::string number = "port " + std::to_string(wish.port);
    if (is_system_port(config, wish.port)) { return refuse(ErrorCode::system_reserved, number + " is reserved for portwrap's own services", nullptr); }
    for (const auto* lease : registry.on_port(wish.port)) {
        if (!lease->live() || lease->id == wish.own || shares_number(*lease, wish.root, wish.service, wish.protocol)) { continue; }
        if (lease->key.root == wish.root && wish.force && lease->sockets.empty()) { continue; }
        return refuse(lease->listening() ? ErrorCode::port_in_use : ErrorCode::port_leased, {}, lease, wish.range);
    }
    if (wish.force) { return std::nullopt; }
    if (is_reserved_port(config, wish.port)) {
        return refuse(ErrorCode::port_reserved, number + " is reserved in the config", nullptr, wish.range, "--force takes it");
    }
    if (wish.range != nullptr && !wish.range->contains(wish.port)) {
        return refuse(ErrorCode::out_of_range, number + " is not in the range \"" + wish.range->name + "\" (" + intervals_of(*wish.range) +
                                                   ") that serves this request", nullptr, wish.range, "--range or --force says that it is meant");
    }
    if (wish.port < facts.first_permitted) { return refuse(ErrorCode::permission_denied, too_low(wish.port, facts), nullptr, wish.range); }
    if (facts.in_use(wish.port, wish.protocol == Protocol::tcp, wish.protocol == Protocol::udp)) {
        return refuse(ErrorCode::port_in_use, {}, nullptr, wish.range);
    }
    return std::nullopt;
}

Decision<Outcome<std::vector<LeaseId>>> decide_allocate(const Registry& registry, const Config& config, const AllocateRequest& request,
                                                        const Facts& facts) {
    using Answer = Outcome<std::vector<LeaseId>>;
    const auto refused = [](Refusal refusal) { return Decision<Answer>{{}, Answer{std::move(refusal)}}; };
    const auto& root = request.place.project.root;
    const auto query = range_query_of(config, request);
    const auto serving = serving_ranges(registry, config, request.place.project, query, facts);
    const auto& ranges = serving.ranges;
    if (auto refusal = refuse_ranges(ranges, request.range)) { return refused(std::move(*refusal)); }
    const auto entry = configured(request.place, request.service);
    const bool as_configured = entry && entry->port && request.port == entry->port && !request.range;

    Decision<Answer> decision{{}, std::vector<LeaseId>{}};
    auto instances = instances_of(registry, request);
    std::map<Port, int> taken;  // by this very request
    const LeaseKey asker{root, request.service, request.protocol, std::nullopt, 0};
    std::optional<Port> first = request.port;
    std::string block_range;
    if (!first && request.block && request.count > 1) {
        const auto [start, range] = Search(registry, config, facts, request.place, asker).run_block(ranges, request.count);
        if (start == 0) { return refused(range_exhausted(registry, config, ranges, facts, {request.count, 0, true})); }
        first = start;
        block_range = range->name;
    }
    auto next_id = registry.next_lease_id();
    int instance = 0;
    for (int n = 0; n < request.count; ++n, ++instance) {
        while (instances.taken.contains(instance)) { ++instance; }
        Port port = 0;
        std::string range;
        LeaseKey key{root, request.service, request.protocol, entry ? entry->port : std::nullopt, instance};
        if (first) {
            if (*first + n > 65535) { return refused({ErrorCode::invalid_request, "the block would end above port 65535", {}, {}}); }
            port = static_cast<Port>(*first + n);
            const PortWish wish{root, request.service, request.protocol, port, as_configured ? nullptr : ranges.front(), request.force, 0};
            if (request.port) {
                if (auto refusal = judge_port(registry, config, wish, facts)) { return refused(std::move(*refusal)); }
                end_own_silent(registry, config, wish, facts, decision.changes);
            }
            if (request.port) { key.requested = port; }
            range = block_range.empty() ? range_name_at(config, port, ranges) : block_range;
        } else if (request.preferred && n == 0) {
            const PortWish wish{root, request.service, request.protocol, *request.preferred, nullptr, false, 0};
            if (!judge_port(registry, config, wish, facts) && block_owner(registry, config, root, wish.port) == nullptr) {
                port = *request.preferred;
                key.requested = port;
                range = range_name_at(config, port, ranges);
            }
        }
        if (const auto earlier = instances.remembered.find(instance); port == 0 && earlier != instances.remembered.end()) { key = earlier->second->key; }
        auto lease = new_lease(registry, key, facts);
        if (lease.id == registry.next_lease_id()) { lease.id = next_id++; }
        const bool within = !request.range || ranges.front()->contains(lease.port);
        if (port == 0 && within && !taken.contains(lease.port) && is_usable(registry, config, key, lease.port, facts)) {
            port = lease.port;
            range = lease.range;
        }
        if (port == 0 && entry && entry->port && !request.range && !taken.contains(*entry->port) &&
            is_usable(registry, config, key, *entry->port, facts)) {
            port = *entry->port;
            range = range_name_at(config, port, ranges);
        }
        if (port == 0) {
            Search search(registry, config, facts, request.place, key);
            search.exclude(taken);
            const auto [found, from] = search.run(ranges);
            if (found == 0) { return refused(range_exhausted(registry, config, ranges, facts, {request.count, static_cast<int>(taken.size()), false})); }
            port = found;
            range = from->name;
        }
        taken.emplace(port, 0);
        lease = granted_by_name(std::move(lease), request, query, port, std::move(range), facts);
        unclaim_others(registry, lease, decision.changes);
        std::get<std::vector<LeaseId>>(decision.answer).push_back(lease.id);
        decision.changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(lease)});
    }
    return decision;
}

Decision<Outcome<Registered>> decide_register(const Registry& registry, const Config& config, const RegisterRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    PortWish wish{root, request.service, request.protocol, request.port, nullptr, false, 0};
    const Lease* known = nullptr;
    for (const auto* lease : registry.on_port(request.port)) {
        if (lease->live() && lease->key.root == root && lease->key.service == request.service && lease->key.protocol == request.protocol) { known = lease; }
    }
    if (known != nullptr) { wish.own = known->id; }
    // Whoever listens there, in whichever range: that is managed elsewhere.
    Facts as_if_free = facts;
    as_if_free.first_permitted = 1;
    as_if_free.in_use = [](Port, bool, bool) { return false; };
    if (auto refusal = judge_port(registry, config, wish, as_if_free); refusal && refusal->code != ErrorCode::port_reserved) {
        refusal->suggestions = suggest_ports(registry, config, root, request.port, 3, facts);
        return {{}, Outcome<Registered>{std::move(*refusal)}};
    }
    auto query = range_query_of(config, request);
    Lease lease;
    if (known != nullptr) {
        lease = *known;
        lease.environment = request.environment;
        if (query.kind) { lease.kind = query.kind; }
        if (request.description) { lease.description = request.description; }
        if (request.hostname) { lease.hostname = request.hostname; }
        lease.origin = LeaseOrigin::registered;
        lease.expires_at.reset();
        if (lease.state == LeaseState::reserved) { lease.state = LeaseState::allocated; }
    } else {
        const auto instances = instances_of(registry, request);
        int instance = 0;
        while (instances.taken.contains(instance)) { ++instance; }
        query.range.reset();
        lease = granted_by_name(new_lease(registry, {root, request.service, request.protocol, request.port, instance}, facts), request, query,
                                request.port, range_name_at(config, request.port, serving_ranges(registry, config, request.place.project, query, facts).ranges), facts);
        lease.origin = LeaseOrigin::registered;
    }
    std::string warning;
    const auto is_elsewhere = [&](const Range& range) {
        return range.kind == RangeKind::environment && range.name != word(request.environment) && range.contains(request.port);
    };
    const auto* own_range = find_range(config, word(request.environment));
    const bool at_home = own_range != nullptr && own_range->kind == RangeKind::environment && own_range->contains(request.port);
    if (const auto range = std::find_if(config.ranges.begin(), config.ranges.end(), is_elsewhere); range != config.ranges.end() && !at_home) {
        warning = "port " + std::to_string(request.port) + " lies in the range of the environment \"" + range->name + "\", but was registered for \"" +
                  std::string(word(request.environment)) + "\"";
    }
    Decision<Outcome<Registered>> decision{{}, Registered{lease.id, std::move(warning)}};
    unclaim_others(registry, lease, decision.changes);
    decision.changes.emplace_back(LeaseEvent{known != nullptr ? LeaseChange::updated : LeaseChange::allocated, std::move(lease)});
    return decision;
}

Decision<Outcome<LeaseId>> decide_reserve(const Registry& registry, const Config& config, const ReserveRequest& request, const Facts& facts) {
    const auto& root = request.place.project.root;
    const auto reserved = [&](Lease lease, std::vector<Change> changes) {
        lease.state = LeaseState::reserved;
        if (request.ttl) { lease.expires_at = facts.now + *request.ttl; }
        const auto id = lease.id;
        unclaim_others(registry, lease, changes);
        changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(lease)});
        return Decision<Outcome<LeaseId>>{std::move(changes), id};
    };
    /// What the project has needs no reservation; what it has reserved is reserved anew.
    const auto as_it_is = [&](const Lease& lease) {
        if (lease.state == LeaseState::reserved) { return reserved(lease, {}); }
        return Decision<Outcome<LeaseId>>{{}, lease.id};
    };
    if (!request.port) {
        if (const auto* live = lowest_asked_for(registry, request, true)) { return as_it_is(*live); }
        AllocateRequest allocate;
        static_cast<GetRequest&>(allocate) = request;
        auto granted = decide_allocate(registry, config, allocate, facts);
        if (auto* refusal = std::get_if<Refusal>(&granted.answer)) { return {{}, std::move(*refusal)}; }
        auto lease = std::get<LeaseEvent>(granted.changes.back()).lease;
        return reserved(std::move(lease), {});
    }
    for (const auto* lease : registry.on_port(*request.port)) {
        if (lease->live() && lease->key.root == root && lease->key.protocol == request.protocol) { return as_it_is(*lease); }
    }
    const PortWish wish{root, request.service, request.protocol, *request.port, nullptr, request.force, 0};
    if (auto refusal = judge_port(registry, config, wish, facts)) { return {{}, std::move(*refusal)}; }
    const auto key = lowest_instance(registry, {root, request.service, request.protocol, *request.port, 0}, is_over);
    const auto query = range_query_of(config, request);
    auto range = range_name_at(config, *request.port, serving_ranges(registry, config, request.place.project, query, facts).ranges);
    std::vector<Change> changes;
    end_own_silent(registry, config, wish, facts, changes);
    return reserved(granted_by_name(new_lease(registry, key, facts), request, query, *request.port, std::move(range), facts), std::move(changes));
}

}  // namespace portwrap
