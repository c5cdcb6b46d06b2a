// The steps that several rules share: how a lease is granted, what becomes of it when its use ends. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

/// A lease without a socket ends this long after its last socket closed (or after it was granted).
constexpr auto k_linger = std::chrono::seconds(10);
/// What was offered to a session (PORT, {port}) waits this long for a program that outlives the session's own process, while one lives.
constexpr auto k_offer_grace = std::chrono::seconds(60);

/// Does this path lie in that directory, or is it the same? Both absolute, or both relative to one root.
[[nodiscard]] bool is_below(const std::string& path, const std::string& directory);

/// A lease that nobody uses: got by name, reserved, or offered, and no process has a socket of it.
[[nodiscard]] bool is_silent(const Lease& lease);
[[nodiscard]] inline bool is_over(const Lease& lease) { return !lease.live(); }
[[nodiscard]] bool is_own_session(const Lease& lease, const ProcessId& session, const Facts& facts);
/// May this session take over a silent lease: one got by name, one of its own, or one offered to a session that has
/// ended. A living session's offer is not free.
[[nodiscard]] bool is_adoptable(const Lease& lease, const ProcessId& session, const Facts& facts);

/// Is a configured service meant where its port is asked for? One with a directory, only there or outside of all packages.
[[nodiscard]] bool is_meant_by_port(const ServiceConfig& service, const Place& place, Port port);
/// What .portwrap.json says of a service.
[[nodiscard]] std::optional<ServiceConfig> configured(const Place& place, const std::string& service);

/// The key with its lowest instance from its own on that may be had: nothing is known of it, or `is_free` says so of what is.
template <typename IsFree>
[[nodiscard]] LeaseKey lowest_instance(const Registry& registry, LeaseKey key, const IsFree& is_free) {
    for (const auto* known = registry.find(key); known != nullptr && !is_free(*known); known = registry.find(key)) { ++key.instance; }
    return key;
}
/// What is remembered under a key, or a new record for it.
[[nodiscard]] Lease new_lease(const Registry& registry, const LeaseKey& key, const Facts& facts);
/// What was got by name or offered to this service and has no number of its own: where a program cannot have the number that
/// it asks for, this is its port. Among those that the session may take, the first that `is_free` says so of; null for none.
template <typename IsFree>
[[nodiscard]] const Lease* without_number(const Registry& registry, const LeaseKey& key, Environment environment, const ProcessId& session,
                                          const Facts& facts, const IsFree& is_free) {
    for (const auto* lease : registry.of_service(key.root, key.service)) {
        const bool fits = lease->key.protocol == key.protocol && !lease->key.requested && lease->environment == environment;
        if (fits && is_adoptable(*lease, session, facts) && is_free(*lease)) { return lease; }
    }
    return nullptr;
}
/// A silent lease under the key of a number: from now on a restart and the connections of the project find it by what the
/// program asks for.
struct Numbered {
    Lease lease;
    std::optional<LeaseForgotten> replaced;  ///< what was remembered under that key
};
[[nodiscard]] Numbered numbered(const Registry& registry, const Lease& silent, LeaseKey key);
/// The lease on a port that its program has yet to listen on; the one that it is used to is remembered.
[[nodiscard]] Lease moved_to(Lease lease, Port port, std::string range);
/// The lease with somebody who listens on its port.
[[nodiscard]] Lease listened_on(Lease lease, const Facts& facts);
/// The lease as the caller has it while it binds: allocated, until its socket is known no longer than k_linger.
[[nodiscard]] Lease granted_to(Lease lease, const Caller& caller, const Facts& facts);
/// What a lease in conflict is once the stranger is out of its way. Among what was got by name only a reservation has an end.
[[nodiscard]] LeaseState state_without_stranger(const Lease& lease);
/// Whose program has the lease's sockets: `root` itself where its session was started there or its directory is of that project,
/// else the other project; empty where nobody can tell.
[[nodiscard]] std::string root_of_program(const Registry& registry, const Lease& lease, const std::string& root);
/// Who listens on a port, or asks for it by name, ends the claims of others on it.
void unclaim_others(const Registry& registry, const Lease& taken, std::vector<Change>& changes);
/// Granted to a person or script: the changes, and the lease's id as the answer.
[[nodiscard]] Decision<Outcome<LeaseId>> taken_by_name(const Registry& registry, Lease lease);

/// Of what one project got by name and released no more than this is remembered, those released last.
constexpr std::size_t k_most_released = 256;
/// Forgets the others among the project's leases; what is live, claimed, or was a program's own is none of them.
void forget_oldest_released(const std::vector<const Lease*>& of_project, std::vector<Change>& changes);
/// Of all projects together no more memory than this, some 4,000 leases, is taken by what was released like that.
constexpr std::size_t k_most_remembered_bytes = 8 * 1024 * 1024;
/// Forgets the oldest where it is more, and then some, for each time looks through all leases.
void forget_oldest_remembered(const Registry& registry, std::vector<Change>& changes);

/// The lease after its use has ended. Process leases that never listened leave nothing behind; one that was granted another
/// port and did not listen there has its own again, and its claim on it unless somebody took that over meanwhile.
[[nodiscard]] Change ended(const Registry& registry, Lease lease, LeaseChange change, bool keeps_claim, const Config& config, const Facts& facts);
/// What becomes of a lease whose sockets have changed (some or all gone).
[[nodiscard]] Change after_sockets_changed(const Registry& registry, Lease lease, const Config& config, const Facts& facts);

}  // namespace portwrap
