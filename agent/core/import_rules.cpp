// The registry wins over a file: a row never moves or takes what somebody has.
#include "core/import_rules.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/blocks.hpp"
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

/// A key whose texts stand elsewhere: in the registry or in the row.
using KeyView = std::tuple<std::string_view, std::string_view, Protocol, std::optional<Port>, int>;

KeyView view_of(const LeaseKey& key) { return {key.root, key.service, key.protocol, key.requested, key.instance}; }

/// Rows of one file against each other: which has a port or a key already.
struct Taken {
    std::map<std::pair<Port, Protocol>, int> ports;
    std::map<KeyView, int> keys;
};

/// The records that rows are about, by their roles. A project is looked through once, when its first row comes.
class KnownRoles {
public:
    explicit KnownRoles(const Registry& registry) : m_registry(registry) {}

    /// The record with the row's role in the project, live before remembered. Who says no number has any.
    [[nodiscard]] const Lease* find(const ImportRow& row) {
        const auto& roles = of_project(row.project->root);
        const auto found = roles.find({row.service, row.protocol, row.instance});
        if (found == roles.end()) { return nullptr; }
        const auto& role = found->second;
        if (!row.requested) { return role.any; }
        const auto numbered = role.by_number.find(*row.requested);
        const auto* same = numbered == role.by_number.end() ? nullptr : numbered->second;
        if (same == nullptr || role.unnumbered == nullptr) { return same != nullptr ? same : role.unnumbered; }
        return std::pair(!same->live(), same->id) < std::pair(!role.unnumbered->live(), role.unnumbered->id) ? same : role.unnumbered;
    }

private:
    /// Of the records with one role the first that lives, else the first: of all, of those without a number, of those with each.
    struct Role {
        const Lease* any = nullptr;
        const Lease* unnumbered = nullptr;
        std::map<Port, const Lease*> by_number{};
    };
    using Roles = std::map<std::tuple<std::string_view, Protocol, int>, Role>;

    const Roles& of_project(const std::string& root) {
        const auto [entry, is_new] = m_projects.try_emplace(root);
        if (!is_new) { return entry->second; }
        const auto offer = [](const Lease*& best, const Lease* lease) {
            if (best == nullptr || (lease->live() && !best->live())) { best = lease; }
        };
        for (const auto* lease : m_registry.of_project(root)) {
            auto& role = entry->second[{lease->key.service, lease->key.protocol, lease->key.instance}];
            offer(role.any, lease);
            offer(lease->key.requested ? role.by_number[*lease->key.requested] : role.unnumbered, lease);
        }
        return entry->second;
    }

    const Registry& m_registry;
    std::map<std::string_view, Roles> m_projects;
};

std::string owner_words(const Registry& registry, const Lease& lease) {
    const auto* project = registry.find_project(lease.key.root);
    return "project \"" + (project != nullptr ? project->name : lease.key.root) + "\" (" + lease.key.service + ")";
}

/// Empty when the row can be taken in.
std::string why_not(const Registry& registry, const Config& config, const ImportRow& row, const KeyView& key, const Lease* known, const Taken& taken,
                    const Registry& with_blocks, const Facts& facts) {
    const auto number = std::to_string(row.port);
    if (const auto* owner = block_owner(with_blocks, config, row.project->root, row.port)) { return "port " + number + " is in the block of project \"" + owner->name + "\""; }
    if (is_system_port(config, row.port)) { return "port " + number + " is reserved for portwrap's own services"; }
    if (const auto before = taken.ports.find({row.port, row.protocol}); before != taken.ports.end()) {
        return "row " + std::to_string(before->second) + " has port " + number + " already";
    }
    if (const auto before = taken.keys.find(key); before != taken.keys.end()) {
        return "row " + std::to_string(before->second) + " has a port for \"" + row.service + "\" already";
    }
    if (row.expires_at && *row.expires_at <= facts.now) { return "the reservation has expired"; }
    for (const auto* other : registry.on_port(row.port)) {
        if (other->live() && other->key.protocol == row.protocol && (known == nullptr || other->id != known->id)) {
            return "port " + number + " is leased to " + owner_words(registry, *other);
        }
    }
    if (known != nullptr && known->live() && known->port != row.port) {
        return "\"" + row.service + "\" has port " + std::to_string(known->port) + " here (portctl update moves it)";
    }
    return {};
}

/// The range that the file names where it has the port here too, else the one that the lease has there already, else the
/// one that would have served it.
std::string range_of(const Registry& registry, const Config& config, const ImportRow& row, const Lease& lease, const Facts& facts) {
    const auto has_port = [&](const std::string& name) {
        const auto* range = find_range(config, name);
        return range != nullptr && range->contains(row.port);
    };
    if (has_port(row.range)) { return row.range; }
    if (lease.port == row.port && has_port(lease.range)) { return lease.range; }
    GetRequest as_asked;
    as_asked.place.project = *row.project;
    as_asked.service = row.service;
    as_asked.environment = row.environment;
    as_asked.kind = row.kind ? row.kind : lease.kind;
    const auto serving = serving_ranges(registry, config, *row.project, range_query_of(config, as_asked), facts);
    // A file says nothing of the program, so that the chain of all others comes after the ranges of a type.
    auto special = serving.ranges;
    std::erase_if(special, [](const Range* range) { return range->kind == RangeKind::chain; });
    const auto name = range_name_at(config, row.port, special);
    return name.empty() ? range_name_at(config, row.port, serving.ranges) : name;
}

Lease imported_lease(Lease lease, const ImportRow& row, std::string range, const Config& config, const Facts& facts) {
    const bool running = !lease.sockets.empty();
    if (!lease.live()) { lease.released_at.reset(); }
    lease.origin = LeaseOrigin::named;
    lease.port = row.port;
    lease.claimed = false;
    lease.range = std::move(range);
    lease.environment = row.environment;
    if (row.kind) { lease.kind = row.kind; }
    if (row.description) { lease.description = row.description; }
    if (row.hostname) { lease.hostname = row.hostname; }
    lease.allocated_by = row.allocated_by.empty() ? facts.user_at_host : row.allocated_by;
    lease.allocated_at = row.allocated_at.value_or(facts.now);
    lease.boot_id = facts.boot_id;
    if (running) { return lease; }
    lease.state = row.state;
    lease.expires_at = row.state == LeaseState::reserved ? row.expires_at : std::nullopt;
    if (row.last_active_at) { lease.last_active_at = row.last_active_at; }
    if (row.state == LeaseState::active) { lease.listened = true; }
    // Taken in today: what was allocated long ago must not expire at once.
    const bool too_old = facts.now - lease.last_used() >= config.inactive;
    if (too_old || (row.state == LeaseState::active && !lease.last_active_at)) {
        lease.last_active_at = facts.now;
    }
    return lease;
}

}  // namespace

Decision<ImportAnswer> decide_import(const Registry& registry, const Config& config, const std::vector<ImportRow>& rows, std::vector<RefusedRow> refused,
                                     bool strict, const Facts& facts) {
    Decision<ImportAnswer> decision{{}, {{}, std::move(refused), false}};
    Taken taken;
    KnownRoles roles(registry);
    struct Seen {
        Project project{};
        bool has_rows = false;  ///< that are taken in
    };
    std::map<std::string_view, Seen> projects;
    auto next_id = registry.next_lease_id();
    std::size_t bytes = 0;
    // Under the preset `blocks` each project of the file gets its block before the next one does.
    std::optional<Registry> copy;
    if (config.preset == Preset::blocks) { copy = registry; }
    const auto& with_blocks = copy ? *copy : registry;
    for (const auto& row : rows) {
        if (!row.project) {
            decision.answer.refused.push_back({row.row, "nobody knows whose it is"});
            continue;
        }
        const auto* known = roles.find(row);
        const auto key = known != nullptr ? view_of(known->key) : KeyView{row.project->root, row.service, row.protocol, row.requested, row.instance};
        auto& seen = projects[row.project->root];
        if (!seen.has_rows) {
            seen.project = *row.project;
            seen.project.block = block_for(with_blocks, config, seen.project, facts);
            if (copy && seen.project.block) {
                for (const auto& event : copy->stamp({ProjectSeen{seen.project}}, facts.now)) { copy->apply(event); }
            }
        }
        if (auto reason = why_not(registry, config, row, key, known, taken, with_blocks, facts); !reason.empty()) {
            decision.answer.refused.push_back({row.row, std::move(reason)});
            continue;
        }
        taken.ports.emplace(std::pair(row.port, row.protocol), row.row);
        taken.keys.emplace(key, row.row);
        Lease fresh;
        if (known != nullptr) {
            fresh = *known;
        } else {
            fresh.id = next_id++;
            fresh.key = {row.project->root, row.service, row.protocol, row.requested, row.instance};
        }
        auto range = range_of(with_blocks, config, row, fresh, facts);
        auto lease = imported_lease(std::move(fresh), row, std::move(range), config, facts);
        if (!std::exchange(seen.has_rows, true)) {
            const auto* before = registry.find_project(row.project->root);
            if (before == nullptr || !(*before == seen.project)) { decision.changes.emplace_back(ProjectSeen{seen.project}); }
        }
        if (known == nullptr || !(*known == lease)) {
            bytes += Registry::bytes_of(lease);
            if (bytes > k_imported_bytes) { return {{}, {{}, {}, true}}; }
            unclaim_others(registry, lease, decision.changes);
            decision.changes.emplace_back(LeaseEvent{known != nullptr && known->live() ? LeaseChange::updated : LeaseChange::allocated, lease});
        }
        decision.answer.imported.push_back(std::move(lease));
    }
    std::sort(decision.answer.refused.begin(), decision.answer.refused.end(), [](const RefusedRow& a, const RefusedRow& b) { return a.row < b.row; });
    if (strict && !decision.answer.refused.empty()) {
        decision.changes.clear();
        decision.answer.imported.clear();
    }
    return decision;
}

}  // namespace portwrap
