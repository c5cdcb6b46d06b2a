// lease.health, and the checks that the config asks for: do the services answer? Nothing is polled otherwise: that a listener went
// away is known from its socket's end.
#include <algorithm>
#include <cmath>
#include <utility>

#include "service/agent.hpp"
#include "service/health_probe.hpp"
#include "storage/event_codec.hpp"
#include "system/listeners.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::uint64_t k_max_timeout_ms = 20'000;  ///< the clients' patience is 30 s
constexpr std::size_t k_results_kept = 20;          ///< of each lease

/// Fills in the answers: who listens at all, and what those say. Blocking.
void probe_all(std::vector<Probe>& probes, std::vector<bool>& listens) {
    const auto listeners = list_listeners();
    std::vector<Probe> asked;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < probes.size(); ++i) {
        auto& probe = probes[i];
        bool heard = false;
        bool ipv4 = false;
        for (const auto& listener : listeners ? *listeners : std::vector<Listener>{}) {
            if (listener.port != probe.port) { continue; }
            heard = true;
            // A socket on "::" takes IPv4, too, unless it was told not to.
            ipv4 = ipv4 || listener.address.find(':') == std::string::npos || listener.address == "::";
        }
        probe.ipv6 = heard && !ipv4;
        listens.push_back(heard);
        if (!heard) { probe.error = "nobody listens"; }
        if (heard) {
            asked.push_back(probe);
            places.push_back(i);
        }
    }
    run_probes(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) { probes[places[i]] = asked[i]; }
}

}  // namespace

struct Agent::HealthJob {
    std::vector<LeaseId> leases;
    std::vector<Probe> probes;
    std::vector<bool> listens;
};

void Agent::add_to_health_job(HealthJob& job, const Place& place, const std::optional<std::string>& service, bool listening_only,
                              std::optional<std::chrono::milliseconds> timeout) const {
    for (const auto* lease : m_registry.of_project(place.project.root)) {
        if (!lease->live() || lease->key.protocol != Protocol::tcp || (service && lease->key.service != *service)) { continue; }
        if (listening_only && !lease->listening()) { continue; }
        Probe probe;
        probe.port = lease->port;
        probe.timeout = timeout.value_or(m_config.health_timeout);
        for (const auto& entry : place.config.services) {
            if (entry.name != lease->key.service) { continue; }
            probe.path = entry.health;
            if (entry.health_timeout && !timeout) { probe.timeout = *entry.health_timeout; }
        }
        job.leases.push_back(lease->id);
        job.probes.push_back(std::move(probe));
    }
}

void Agent::check_health(const std::shared_ptr<HealthJob>& job, std::function<void()> then) {
    m_file_jobs.run(FileJobs::Lane::health, [job] { probe_all(job->probes, job->listens); }, [this, job, then = std::move(then)] {
        const auto now = m_outside.now();
        std::vector<Change> changes;
        for (std::size_t i = 0; i < job->leases.size(); ++i) {
            const auto* known = m_registry.find(job->leases[i]);
            const auto& probe = job->probes[i];
            if (known == nullptr || !known->live() || known->port != probe.port) { continue; }
            Lease lease = *known;
            lease.health = !job->listens[i] ? Health::not_running : probe.healthy ? Health::healthy : Health::unhealthy;
            auto& results = m_health[lease.id];
            results.push_back({now, lease.health, probe.response_ms, probe.error});
            if (results.size() > k_results_kept) { results.pop_front(); }
            if (lease.health != known->health) { changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)}); }
        }
        (void)commit(std::move(changes));
        then();
    });
}

Json Agent::health_shape(const HealthResult& result) const {
    return {{"health", word(result.health)},
            {"response_ms", result.response_ms ? Json(std::round(*result.response_ms * 10) / 10) : Json(nullptr)},
            {"checked_at", format_time(result.at)},
            {"error", result.error.empty() ? Json(nullptr) : Json(result.error)}};
}

void Agent::lease_health(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto service = params.text("service", 64);
    const auto timeout = params.number("timeout_ms", k_max_timeout_ms);
    with_project(request, params, reply, [this, request, reply, service, timeout](const Place& place) {
        refresh();
        auto job = std::make_shared<HealthJob>();
        add_to_health_job(*job, place, service, false, timeout ? std::optional(std::chrono::milliseconds(*timeout)) : std::nullopt);
        if (job->leases.empty() && service) {
            return refuse(request, reply, {ErrorCode::not_found, "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\"", {}, {}});
        }
        check_health(job, [this, request, reply, job] {
            auto result = ok_shape();
            result["checks"] = Json::array();
            for (const auto id : job->leases) {
                const auto* lease = m_registry.find(id);
                const auto results = m_health.find(id);
                if (lease == nullptr || !lease->live() || results == m_health.end()) { continue; }
                Json check{{"lease", lease_shape(m_registry, *lease)}};
                check.update(health_shape(results->second.back()));
                check["history"] = Json::array();
                for (const auto& earlier : results->second) { check["history"].push_back(health_shape(earlier)); }
                result["checks"].push_back(std::move(check));
            }
            reply({result_line(request.id, result), false});
        });
    });
}

void Agent::mind_health() {
    if (!m_config.health_interval || m_socketed.empty() || std::exchange(m_health_due, true)) { return; }
    (void)m_outside.call_after(*m_config.health_interval, [this] {
        if (m_config.health_interval) { return check_all_health(); }
        m_health_due = false;
    });
}

void Agent::check_all_health() {
    std::set<std::string> roots;
    for (const auto id : m_socketed) {
        const auto* lease = m_registry.find(id);
        if (lease != nullptr && lease->listening()) { roots.insert(lease->key.root); }
    }
    auto job = std::make_shared<HealthJob>();
    const auto again = [this] {
        m_health_due = false;
        mind_health();
    };
    if (roots.empty()) { return again(); }
    auto left = std::make_shared<std::size_t>(roots.size());
    for (const auto& root : roots) {
        with_place(root, [this, job, left, again](const Place* place) {
            if (place != nullptr) { add_to_health_job(*job, *place, std::nullopt, true, std::nullopt); }
            if (--*left == 0) { check_health(job, again); }
        });
    }
}

std::span<const Agent::Method> Agent::health_methods() {
    static constexpr Method k_methods[] = {{"lease.health", &Agent::lease_health}};
    return k_methods;
}

}  // namespace portwrap
