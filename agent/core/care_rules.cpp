// See care_rules.hpp.
#include "core/care_rules.hpp"

#include <algorithm>
#include <utility>

#include "core/lease_steps.hpp"
#include "core/registry_after.hpp"

namespace portwrap {
namespace {

std::string quoted(const std::string& text) {
    std::string shell = "'";
    for (const char c : text) { shell += c == '\'' ? std::string("'\\''") : std::string(1, c); }
    return shell + "'";
}

std::string in_project(const std::string& root) { return " --project " + quoted(root); }

/// Which of the two is meant where TCP and UDP of one number are the project's.
std::string over_protocol(const Registry& registry, const Lease& lease) {
    const auto beside = registry.on_port(lease.port);
    const bool both = std::any_of(beside.begin(), beside.end(), [&](const Lease* other) {
        return (other->live() || other->claimed) && other->key.root == lease.key.root && other->key.protocol != lease.key.protocol;
    });
    return both ? " --protocol " + std::string(word(lease.key.protocol)) : std::string();
}

/// Moves the lease to a free port of its own range, from whatever directory the command is given.
std::string move_away(const Registry& registry, const Lease& lease, const Config& config) {
    const auto* range = find_range(config, lease.range);
    const bool serves = range != nullptr && range->kind != RangeKind::system;
    return "portctl update " + std::to_string(lease.port) + " --port $(portctl next" + (serves ? " " + quoted(lease.range) : std::string()) + in_project(lease.key.root) + ")" +
           (serves ? " --range " + quoted(lease.range) : std::string()) + over_protocol(registry, lease) + in_project(lease.key.root);
}

/// Ends the lease that nobody uses; where both are used, the program of the first. By name: the number is both's.
std::string end_one_of(const Registry& registry, const Lease& lease, const Lease& other) {
    const auto& ended = !lease.listening() || other.listening() ? lease : other;
    const bool stop = ended.listening();
    return (stop ? "portctl stop " : "portctl release ") + quoted(ended.key.service) + (stop ? std::string() : over_protocol(registry, ended)) + in_project(ended.key.root);
}

}  // namespace

Audit audit_leases(const Registry& registry, const Config& config, const std::optional<std::string>& root, const std::vector<HeardSocket>& heard) {
    Audit audit;
    std::vector<const Lease*> leases;
    for (const auto& [id, lease] : registry.leases()) {
        if (lease.live() && (!root || lease.key.root == *root)) { leases.push_back(&lease); }
    }
    std::sort(leases.begin(), leases.end(), [](const Lease* a, const Lease* b) { return std::pair(a->port, a->id) < std::pair(b->port, b->id); });
    for (const auto* lease : leases) {
        ++audit.allocated;
        const auto release = "portctl release " + std::to_string(lease->port) + over_protocol(registry, *lease) + in_project(lease->key.root);
        for (const auto* other : registry.on_port(lease->port)) {
            // Said once, of the later one; but each project hears of its own.
            const bool said_there = (!root || other->key.root == *root) && other->id > lease->id;
            if (!other->live() || other->id == lease->id || said_there || other->key.protocol != lease->key.protocol) { continue; }
            audit.findings.push_back({FindingKind::duplicate, lease->id, 0, end_one_of(registry, *lease, *other)});
            break;
        }
        bool active = false;
        bool stranger = false;
        for (std::size_t i = 0; i < heard.size(); ++i) {
            if (heard[i].port != lease->port || heard[i].protocol != lease->key.protocol) { continue; }
            if (may_listen(*lease, heard[i])) {
                active = true;
            } else if (!std::exchange(stranger, true)) {
                audit.findings.push_back({FindingKind::conflict, lease->id, i, move_away(registry, *lease, config)});
            }
        }
        active = active || (lease->key.protocol == Protocol::udp && lease->listening());
        audit.active += active ? 1 : 0;
        audit.conflicts += stranger ? 1 : 0;
        if (!active && !stranger && lease->state != LeaseState::reserved) {
            ++audit.not_running;
            audit.findings.push_back({FindingKind::not_running, lease->id, 0, release});
        }
    }
    return audit;
}

Decision<std::vector<Cleaned>> decide_cleanup(const Registry& registry, const Config& config, const std::set<std::string>& gone,
                                              const std::function<bool(const std::string& root)>& concerns, const Facts& facts) {
    Decision<std::vector<Cleaned>> decision;
    std::set<LeaseId> done;
    for (const auto& [id, lease] : registry.leases()) {
        if (!gone.contains(lease.key.root) || !concerns(lease.key.root) || !lease.sockets.empty()) { continue; }
        if (!lease.live() && !lease.claimed) { continue; }
        done.insert(id);
        // Somebody runs in the directory that was removed; not he who is known for a stranger.
        const bool may_run = lease.live() && lease.state != LeaseState::conflict;
        if (may_run && facts.in_use(lease.port, lease.key.protocol == Protocol::tcp, lease.key.protocol == Protocol::udp)) { continue; }
        if (facts.is_granted && facts.is_granted(id)) { continue; }  // or is about to
        decision.answer.push_back({lease, CleanupReason::worktree_gone});
        Lease over = lease;
        if (!lease.live()) {
            over.claimed = false;
            decision.changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(over)});
            continue;
        }
        over.origin = LeaseOrigin::named;  // remembered, so that a worktree of this name has its ports again
        decision.changes.push_back(ended(registry, std::move(over), LeaseChange::released, false, config, facts));
    }
    // Who asks for a cleanup means it, also where nothing ends by itself.
    Config asked = config;
    asked.auto_cleanup = true;
    for (auto& change : decide_expiry(registry, asked, facts).changes) {
        const auto* event = std::get_if<LeaseEvent>(&change);
        const auto* forgotten = std::get_if<LeaseForgotten>(&change);
        const auto id = event != nullptr ? event->lease.id : forgotten != nullptr ? forgotten->id : 0;
        const auto* before = registry.find(id);
        if (before == nullptr || done.contains(id) || !concerns(before->key.root)) { continue; }
        if (before->live() && (forgotten != nullptr || !event->lease.live())) {
            const auto reason = before->origin == LeaseOrigin::process ? CleanupReason::holder_dead : before->expires_at ? CleanupReason::expired : CleanupReason::inactive;
            decision.answer.push_back({*before, reason});
        } else if (forgotten != nullptr) {
            decision.answer.push_back({*before, CleanupReason::forgotten});
        }
        decision.changes.push_back(std::move(change));
    }
    return decision;
}

Decision<std::vector<Provided>> decide_provision(const Registry& registry, const Config& config, const Place& place, const std::string& allocated_by,
                                                 const Facts& facts) {
    std::vector<GetRequest> wanted;
    const auto want = [&](const std::string& service, std::optional<std::string> type, std::optional<std::string> kind, Environment environment) {
        const auto same = [&](const GetRequest& request) { return request.service == service && request.environment == environment; };
        if (std::any_of(wanted.begin(), wanted.end(), same)) { return; }
        GetRequest get;
        get.place = place;
        get.service = service;
        get.type = std::move(type);
        get.kind = std::move(kind);
        get.environment = environment;
        get.allocated_by = allocated_by;
        wanted.push_back(std::move(get));
    };
    for (const auto& service : place.config.services) { want(service.name, service.type, service.kind, Environment::dev); }
    const auto want_those_of = [&](const std::string& root) {
        for (const auto* lease : registry.of_project(root)) {
            const bool kept = (lease->live() || lease->claimed) && lease->origin != LeaseOrigin::registered;
            if (!kept || lease->key.protocol != Protocol::tcp || lease->key.requested == Port{0} || is_auxiliary_service(lease->key.service)) { continue; }
            want(lease->key.service, std::nullopt, lease->kind, lease->environment);
        }
    };
    if (wanted.empty() && place.project.worktree_of) {
        want_those_of(*place.project.worktree_of);
        // A bare repository has worktrees and no main one.
        for (const auto& [root, project] : registry.projects()) {
            if (!wanted.empty()) { break; }
            if (root != place.project.root && project.worktree_of == place.project.worktree_of) { want_those_of(root); }
        }
    }
    Decision<std::vector<Provided>> decision;
    RegistryAfter after(registry, facts.now);
    for (const auto& get : wanted) {
        // What runs here has its port; it needs no name for that.
        const auto here = registry.of_service(place.project.root, get.service);
        const auto live = std::find_if(here.begin(), here.end(), [&](const Lease* lease) {
            return lease->live() && lease->key.protocol == Protocol::tcp && lease->environment == get.environment;
        });
        if (live != here.end()) {
            decision.answer.push_back({get.service, (*live)->port});
            continue;
        }
        auto one = decide_get(after.get(), config, get, facts);
        const auto* id = std::get_if<LeaseId>(&one.answer);
        if (id == nullptr) { continue; }  // a full range: its program is told when it starts
        decision.answer.push_back({get.service, port_after(after.get(), one.changes, *id)});
        after.add(std::move(one.changes));
    }
    decision.changes = after.take_changes();
    return decision;
}

}  // namespace portwrap
