// What ends, and when: sockets, processes, sessions, time, and the comparison with the system at start.
#include <algorithm>
#include <map>

#include "core/lease_steps.hpp"

namespace portwrap {
namespace {

using namespace std::chrono_literals;

/// How often a socket that is bound and does not listen is looked at again.
constexpr auto k_look_again = 60s;
/// How long what is over is kept at least when somebody listens on it.
constexpr auto k_listened_to = 1h;

bool is_holder_dead(const Lease& lease, const Facts& facts) {
    const bool awaited = facts.is_granted && facts.is_granted(lease.id);
    return lease.holder && facts.is_alive && !facts.is_alive(lease.holder->process) && !awaited;
}
}  // namespace

std::vector<Change> decide_unbound(const Registry& registry, const Config& config, LeaseId id, bool gone, const Facts& facts) {
    const auto* known = registry.find(id);
    if (known == nullptr || !known->live() || !known->sockets.empty() || (facts.is_granted && facts.is_granted(id))) { return {}; }
    Lease lease = *known;
    if (lease.by_name()) {
        lease.holder.reset();
        lease.session.reset();
        return {LeaseEvent{LeaseChange::silenced, std::move(lease)}};
    }
    if (gone) { return {ended(registry, std::move(lease), LeaseChange::released, true, config, facts)}; }
    lease.expires_at = facts.now + k_linger;
    return {LeaseEvent{LeaseChange::silenced, std::move(lease)}};
}

std::vector<Change> decide_destroyed(const Registry& registry, const Config& config, Cookie cookie, const Facts& facts) {
    const auto* known = registry.find_by_cookie(cookie);
    if (known == nullptr || !known->live()) { return {}; }
    Lease lease = *known;
    std::erase_if(lease.sockets, [cookie](const Socket& socket) { return socket.cookie == cookie; });
    return {after_sockets_changed(registry, std::move(lease), config, facts)};
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
            // Cookies cannot be asked for: a listener is gone when nobody has its port, another socket with its process.
            if (census.blind) { return socket.listening ? !facts.in_use(lease.port, true, false) : !holder_lives; }
            if (census.sockets.contains(socket.cookie)) { return false; }
            return census.sees_bound || socket.listening || !holder_lives;
        });
        bool heard = false;
        for (auto& socket : lease.sockets) {
            if (!socket.listening && census.listening.contains(socket.cookie)) { socket.listening = heard = true; }
        }
        if (lease.sockets.empty() && (holder_lives || (!rebooted && !lease.holder && lease.session))) {
            const auto found = census.unknown.find({lease.holder ? lease.holder->process : *lease.session, lease.port});
            if (found != census.unknown.end()) {
                lease.sockets.push_back({found->second, true, true});
                heard = true;
            }
        }
        if (heard) {
            if (lease.session) { used.insert(*lease.session); }
            unclaim_others(registry, lease, changes);
            changes.emplace_back(LeaseEvent{LeaseChange::activated, listened_on(std::move(lease), facts)});
            continue;
        }
        const bool session_lives = !rebooted && lease.session && census.is_alive(*lease.session);
        // What was offered to a session that has ended waits for a program that outlives it (decide_session_ended).
        const bool was_offered = !rebooted && !lease.holder && lease.session && registry.find_session(*lease.session) != nullptr;
        const bool still_waits = was_offered && (!lease.expires_at || *lease.expires_at > facts.now);
        if (lease.sockets.size() != known.sockets.size()) {
            changes.push_back(after_sockets_changed(registry, lease, config, facts));
        } else if (facts.is_granted && facts.is_granted(id)) {
            // What its program said last is still on its way.
        } else if (lease.origin == LeaseOrigin::process && lease.sockets.empty() && !session_lives && still_waits) {
            used.insert(*lease.session);
            if (!lease.expires_at) {
                lease.expires_at = facts.now + k_offer_grace;
                changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)});
            }
            continue;
        } else if (lease.origin == LeaseOrigin::process && lease.sockets.empty() && !holder_lives && !session_lives) {
            changes.push_back(ended(registry, lease, LeaseChange::released, true, config, facts));
        } else if (lease.by_name() && lease.sockets.empty() && lease.session && !session_lives) {
            lease.session.reset();
            lease.holder.reset();
            changes.push_back(LeaseEvent{LeaseChange::silenced, lease});
        } else if (lease.by_name() && lease.sockets.empty() && lease.state == LeaseState::active && !facts.in_use(lease.port, true, true)) {
            // A file of another tool said so when it was imported.
            lease.state = LeaseState::allocated;
            lease.health = Health::not_running;
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

bool may_listen(const Lease& lease, const HeardSocket& heard) {
    if (lease.origin == LeaseOrigin::registered) { return true; }  // managed elsewhere, by whomever
    const bool own = std::any_of(lease.sockets.begin(), lease.sockets.end(), [&](const Socket& socket) { return socket.cookie == heard.cookie; });
    if (own || (heard.cookie == 0 && !lease.sockets.empty())) { return true; }
    return (heard.session && heard.session == lease.session) || is_below(heard.holder.cwd, lease.key.root);
}

std::vector<Change> decide_heard(const Registry& registry, const std::vector<Lease>& looked_at, const std::vector<HeardSocket>& heard,
                                 const Facts& facts) {
    std::vector<Change> changes;
    for (const auto& then : looked_at) {
        const auto* known = registry.find(then.id);
        if (known == nullptr || !known->live() || !(*known == then)) { continue; }
        Lease lease = then;
        const HeardSocket* own = nullptr;
        const HeardSocket* stranger = nullptr;
        for (const auto& socket : heard) {
            if (socket.port != lease.port || socket.protocol != lease.key.protocol) { continue; }
            const auto* has_it = registry.find_by_cookie(socket.cookie);
            if (has_it != nullptr && has_it->id != lease.id) { continue; }
            (may_listen(lease, socket) ? own : stranger) = &socket;
        }
        if (own != nullptr && own->holder.process.known()) {
            lease.holder = own->holder;
            const auto socket = std::find_if(lease.sockets.begin(), lease.sockets.end(), [&](const Socket& one) { return one.cookie == own->cookie; });
            if (!lease.sockets.empty() && (lease.listening() || socket == lease.sockets.end())) {
                changes.emplace_back(LeaseEvent{LeaseChange::held, std::move(lease)});
                continue;
            }
            if (socket != lease.sockets.end()) {
                *socket = {own->cookie, true, true};  // bound with the shim, listened on without
            } else {
                lease.sockets.push_back({own->cookie, true, true});
                lease.session = own->session;
            }
            lease.boot_id = facts.boot_id;
            unclaim_others(registry, lease, changes);
            changes.emplace_back(LeaseEvent{LeaseChange::activated, listened_on(std::move(lease), facts)});
        } else if (own == nullptr && stranger != nullptr && lease.sockets.empty() && lease.state != LeaseState::conflict) {
            lease.state = LeaseState::conflict;
            changes.emplace_back(LeaseEvent{LeaseChange::conflicted, std::move(lease)});
        } else if (own == nullptr && stranger == nullptr && lease.state == LeaseState::conflict) {
            lease.state = state_without_stranger(lease);
            lease.health = lease.listened ? Health::not_running : Health::unknown;  // what was said was of the stranger
            changes.emplace_back(LeaseEvent{LeaseChange::silenced, std::move(lease)});
        }
    }
    return changes;
}

namespace {
/// Another living session of the same project; null when there is none.
const Session* another_session_of(const Registry& registry, const Session& ending, const Facts& facts) {
    for (const auto& [id, session] : registry.sessions()) {
        const bool fits = session.root == ending.root && session.outermost == id && id != ending.outermost;
        if (fits && (!facts.is_alive || facts.is_alive(id))) { return &session; }
    }
    return nullptr;
}
}  // namespace

bool waits_for_survivor(const Lease& lease) {
    return lease.origin == LeaseOrigin::process && is_silent(lease) && lease.session && !lease.holder;
}

std::vector<Change> decide_session_ended(const Registry& registry, const Config& config, const ProcessId& session, const Facts& facts,
                                         Survivors survivors) {
    const auto* known = registry.find_session(session);
    if (known == nullptr) { return {}; }
    std::vector<Change> changes;
    bool used = false;
    for (const auto* lease : registry.of_session(session)) {
        if (!lease->live()) { continue; }
        const bool overdue = (lease->expires_at && *lease->expires_at <= facts.now) || is_holder_dead(*lease, facts);
        const auto* heir = lease->announced && !overdue ? another_session_of(registry, *known, facts) : nullptr;
        if (!lease->sockets.empty()) {
            used = true;
        } else if (lease->by_name()) {
            Lease free = *lease;
            free.session.reset();
            free.holder.reset();
            changes.emplace_back(LeaseEvent{LeaseChange::silenced, std::move(free)});
        } else if (heir != nullptr) {
            // Others were told of it, too.
            Lease kept = *lease;
            kept.session = heir->outermost;
            changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(kept)});
        } else if (overdue || (survivors == Survivors::none && waits_for_survivor(*lease))) {
            // What a dead program asked for and did not bind would only push its next start to another port.
            changes.push_back(ended(registry, *lease, LeaseChange::released, true, config, facts));
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
    std::map<std::string, std::vector<const Lease*>> released;  // by root
    // A program that runs without portwrap may be listening on it.
    const auto is_used = [&](const Lease& lease) {
        const bool udp = lease.key.protocol == Protocol::udp;
        return facts.in_use(lease.port, !udp, udp);
    };
    for (const auto& [id, lease] : registry.leases()) {
        if (lease.live()) {
            if (lease.expires_at && !lease.sockets.empty()) {
                if (lease.listening() || lease.by_name()) { continue; }
                if (*lease.expires_at > facts.now) {
                    later(*lease.expires_at);
                    continue;
                }
                Lease looked_at = lease;
                std::erase_if(looked_at.sockets, [&facts, &as_known = lease](const Socket& socket) { return facts.is_gone && facts.is_gone(socket, as_known); });
                looked_at.expires_at = facts.now + k_look_again;
                later(*looked_at.expires_at);
                decision.changes.push_back(after_sockets_changed(registry, std::move(looked_at), config, facts));
            } else if (lease.expires_at) {
                auto end = *lease.expires_at;
                // Kept until it is known whose program listens (decide_heard); a stranger keeps nothing.
                if (end <= facts.now && lease.by_name() && lease.state != LeaseState::conflict && is_used(lease)) { end = facts.now + k_listened_to; }
                if (end <= facts.now) {
                    decision.changes.push_back(ended(registry, lease, LeaseChange::expired, true, config, facts));
                } else {
                    later(end);
                }
            } else if (config.auto_cleanup && lease.by_name() && lease.sockets.empty()) {
                auto end = lease.last_used() + config.inactive;
                if (end <= facts.now && is_used(lease)) { end = facts.now + k_listened_to; }
                if (end <= facts.now) {
                    decision.changes.push_back(ended(registry, lease, LeaseChange::expired, false, config, facts));
                } else {
                    later(end);
                }
            }
            continue;
        }
        if (!config.auto_cleanup) { continue; }
        const auto used = lease.last_used();
        const auto forget = lease.released_at.value_or(used) + config.remembered;
        if (forget <= facts.now) {
            decision.changes.push_back(LeaseForgotten{id});
            continue;
        }
        later(forget);
        if (lease.only_remembered()) { released[lease.key.root].push_back(&lease); }
        if (lease.claimed && used + config.inactive <= facts.now) {
            Lease changed = lease;
            changed.claimed = false;
            decision.changes.push_back(LeaseEvent{LeaseChange::updated, std::move(changed)});
        } else if (lease.claimed) {
            later(used + config.inactive);
        }
    }
    for (const auto& [root, leases] : released) { forget_oldest_released(leases, decision.changes); }
    forget_oldest_remembered(registry, decision.changes);
    return decision;
}

}  // namespace portwrap
