#include "core/lease_steps.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "core/search.hpp"

namespace portwrap {

bool is_below(const std::string& path, const std::string& directory) {
    if (directory.empty() || !path.starts_with(directory)) { return false; }
    return path.size() == directory.size() || directory.back() == '/' || path[directory.size()] == '/';
}

bool is_silent(const Lease& lease) { return lease.live() && lease.sockets.empty(); }

bool is_own_session(const Lease& lease, const ProcessId& session, const Facts& facts) {
    return lease.session && *lease.session == session && lease.boot_id == facts.boot_id;
}

bool is_adoptable(const Lease& lease, const ProcessId& session, const Facts& facts) {
    if (!is_silent(lease)) { return false; }
    // Offered to a program that ended before it bound: kept for what that may have left behind, but the next start comes first.
    const bool abandoned = lease.origin == LeaseOrigin::process && lease.session && !lease.holder && facts.is_alive && !facts.is_alive(*lease.session);
    return abandoned || lease.announced || is_own_session(lease, session, facts) || (lease.by_name() && !lease.session);
}

bool is_meant_by_port(const ServiceConfig& service, const Place& place, Port port) {
    return service.port == port && (!service.dir || place.package_dir.empty() || is_below(place.package_dir, *service.dir));
}

std::optional<ServiceConfig> configured(const Place& place, const std::string& service) {
    for (const auto& entry : place.config.services) {
        if (entry.name == service) { return entry; }
    }
    return std::nullopt;
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

Numbered numbered(const Registry& registry, const Lease& silent, LeaseKey key) {
    key.instance = 0;
    key = lowest_instance(registry, std::move(key), [&silent](const Lease& known) { return is_over(known) || known.id == silent.id; });
    Numbered numbered{silent, std::nullopt};
    if (const auto* other = registry.find(key); other != nullptr && other->id != silent.id) { numbered.replaced = LeaseForgotten{other->id}; }
    numbered.lease.key = std::move(key);
    return numbered;
}

Lease granted_to(Lease lease, const Caller& caller, const Facts& facts) {
    if (!lease.live()) {
        lease.allocated_at = facts.now;
        lease.origin = LeaseOrigin::process;
        lease.released_at.reset();
    }
    if (lease.state != LeaseState::active) { lease.state = LeaseState::allocated; }
    lease.claimed = false;
    lease.session = caller.session;
    lease.last_session.reset();
    lease.unseen = false;
    lease.announced = false;
    lease.boot_id = facts.boot_id;
    if (lease.allocated_by.empty()) { lease.allocated_by = facts.user_at_host; }
    if (lease.sockets.empty()) {
        lease.holder = caller.holder;
        if (lease.origin == LeaseOrigin::process) { lease.expires_at = facts.now + k_linger; }
    }
    return lease;
}

Lease moved_to(Lease lease, Port port, std::string range) {
    if (lease.listened && lease.port != port) {
        if (!lease.kept_port) { lease.kept_port = lease.port; }
        if (lease.kept_port == port) { lease.kept_port.reset(); }
    }
    lease.port = port;
    lease.range = std::move(range);
    return lease;
}

Lease listened_on(Lease lease, const Facts& facts) {
    // What was found before was not of this listener.
    if (lease.state != LeaseState::active) { lease.health = Health::unknown; }
    lease.state = LeaseState::active;
    lease.listened = true;
    lease.kept_port.reset();
    lease.last_active_at = facts.now;
    if (lease.origin == LeaseOrigin::process) { lease.expires_at.reset(); }
    return lease;
}

LeaseState state_without_stranger(const Lease& lease) {
    return lease.by_name() && lease.expires_at ? LeaseState::reserved : LeaseState::allocated;
}

std::string root_of_program(const Registry& registry, const Lease& lease, const std::string& root) {
    const auto* session = lease.session ? registry.find_session(*lease.session) : nullptr;
    if (session != nullptr && session->root == root) { return root; }
    std::string nearest;
    const auto consider = [&](const std::string& known) {
        if (lease.holder && known.size() > nearest.size() && is_below(lease.holder->cwd, known)) { nearest = known; }
    };
    consider(root);
    for (const auto& [known, project] : registry.projects()) { consider(known); }
    return nearest == root || session == nullptr ? nearest : session->root;
}

void unclaim_others(const Registry& registry, const Lease& taken, std::vector<Change>& changes) {
    for (const auto* other : registry.on_port(taken.port)) {
        if (other->id == taken.id || other->live() || !other->claimed) { continue; }
        Lease changed = *other;
        changed.claimed = false;
        changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(changed)});
    }
}

Decision<Outcome<LeaseId>> taken_by_name(const Registry& registry, Lease lease) {
    Decision<Outcome<LeaseId>> decision{{}, lease.id};
    unclaim_others(registry, lease, decision.changes);
    decision.changes.emplace_back(LeaseEvent{LeaseChange::allocated, std::move(lease)});
    return decision;
}

namespace {

/// The leases of these that are only remembered, those that ended first in front.
std::vector<const Lease*> remembered_among(const std::vector<const Lease*>& leases) {
    std::vector<const Lease*> remembered;
    for (const auto* lease : leases) {
        if (lease->only_remembered()) { remembered.push_back(lease); }
    }
    std::sort(remembered.begin(), remembered.end(), [](const Lease* one, const Lease* other) {
        const auto end = [](const Lease& lease) { return std::pair(lease.released_at.value_or(lease.last_used()), lease.id); };
        return end(*one) < end(*other);
    });
    return remembered;
}

}  // namespace

void forget_oldest_released(const std::vector<const Lease*>& of_project, std::vector<Change>& changes) {
    auto released = remembered_among(of_project);
    if (released.size() <= k_most_released) { return; }
    released.resize(released.size() - k_most_released);
    for (const auto* lease : released) { changes.emplace_back(LeaseForgotten{lease->id}); }
}

void forget_oldest_remembered(const Registry& registry, std::vector<Change>& changes) {
    auto bytes = registry.remembered_bytes();
    if (bytes <= k_most_remembered_bytes) { return; }
    std::set<LeaseId> forgotten;
    for (const auto& change : changes) {
        if (const auto* one = std::get_if<LeaseForgotten>(&change)) { forgotten.insert(one->id); }
    }
    std::vector<const Lease*> all;
    for (const auto& [id, lease] : registry.leases()) { all.push_back(&lease); }
    for (const auto* lease : remembered_among(all)) {
        if (bytes <= k_most_remembered_bytes * 3 / 4) { return; }
        bytes -= Registry::bytes_of(*lease);
        if (!forgotten.contains(lease->id)) { changes.emplace_back(LeaseForgotten{lease->id}); }
    }
}

Change ended(const Registry& registry, Lease lease, LeaseChange change, bool keeps_claim, const Config& config, const Facts& facts) {
    const bool further_zero = lease.key.requested == Port{0} && lease.key.instance > 0;
    const bool remembered = (lease.listened && !further_zero) || lease.by_name();
    if (!remembered) { return LeaseForgotten{lease.id}; }
    bool is_anothers = false;
    if (lease.kept_port) {
        const auto* range = find_range(config, lease.range);
        lease.port = *std::exchange(lease.kept_port, std::nullopt);
        lease.range = range_name_at(config, lease.port, range != nullptr ? std::vector{range} : std::vector<const Range*>{});
        is_anothers = owner_of(registry, lease.port) != nullptr;
    }
    lease.state = LeaseState::released;
    lease.health = lease.listened ? Health::not_running : Health::unknown;
    lease.claimed = keeps_claim && !is_anothers && lease.listened && lease.claims && config.claims;
    lease.holder.reset();
    lease.last_session = std::exchange(lease.session, std::nullopt);
    lease.sockets.clear();
    lease.unseen = false;
    lease.announced = false;
    lease.expires_at.reset();
    lease.released_at = facts.now;
    return LeaseEvent{change, std::move(lease)};
}

Change after_sockets_changed(const Registry& registry, Lease lease, const Config& config, const Facts& facts) {
    if (!lease.sockets.empty()) {
        if (!lease.listening() && lease.state == LeaseState::active) { lease.state = LeaseState::allocated; }
        return LeaseEvent{LeaseChange::held, std::move(lease)};
    }
    if (lease.state == LeaseState::active) { lease.last_active_at = facts.now; }
    if (lease.by_name()) {
        lease.state = LeaseState::allocated;
        lease.health = lease.listened ? Health::not_running : Health::unknown;
        lease.holder.reset();
        lease.session.reset();
        return LeaseEvent{LeaseChange::silenced, std::move(lease)};
    }
    const bool awaited = facts.is_granted && facts.is_granted(lease.id);
    if (lease.listened && !awaited) { return ended(registry, std::move(lease), LeaseChange::released, true, config, facts); }
    lease.state = LeaseState::allocated;
    lease.expires_at = facts.now + k_linger;
    return LeaseEvent{LeaseChange::silenced, std::move(lease)};
}

}  // namespace portwrap
