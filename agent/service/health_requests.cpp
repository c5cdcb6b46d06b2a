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

/// Where to connect to, for one that listens on `address`: over loopback where it hears that.
std::string reached_at(const std::string& address) {
    constexpr std::string_view k_mapped = "::ffff:";
    const auto plain = address.starts_with(k_mapped) ? address.substr(k_mapped.size()) : address;
    if (plain == "0.0.0.0") { return "127.0.0.1"; }
    return plain == "::" ? "::1" : plain;
}

}  // namespace

struct Agent::HealthJob {
    struct Check {
        LeaseId lease = 0;
        Protocol protocol = Protocol::tcp;
        bool stranger = false;  ///< who listens is none of the project's
        Probe probe;
        bool listens = false;
        std::vector<Socket> sockets{};  ///< those that the lease had
    };
    std::vector<Check> checks;
    std::vector<std::function<void()>> then;  ///< of all who wait for it

    /// Does it find out what the other one asks for? What is asked alone, since this one may be at work.
    [[nodiscard]] bool answers(const HealthJob& other) const {
        return std::equal(checks.begin(), checks.end(), other.checks.begin(), other.checks.end(), [](const Check& a, const Check& b) {
            const bool one_lease = a.lease == b.lease && a.stranger == b.stranger && a.sockets == b.sockets;
            return one_lease && a.probe.port == b.probe.port && a.probe.path == b.probe.path && a.probe.tls == b.probe.tls && a.probe.timeout == b.probe.timeout;
        });
    }

    /// Fills in the answers: who listens at all, and what those say. Blocking.
    void run() {
        const auto listeners = list_listeners(std::nullopt, Heard::tcp_and_udp);
        std::vector<Probe> asked;
        std::vector<Check*> askers;
        for (auto& check : checks) {
            auto& probe = check.probe;
            std::string address;
            for (const auto& listener : listeners ? *listeners : std::vector<Listener>{}) {
                if (listener.port != probe.port || listener.protocol != check.protocol) { continue; }
                check.listens = true;
                // IPv4's loopback, if that is among them.
                const auto reached = reached_at(listener.address);
                if (address.empty() || reached == "127.0.0.1") { address = reached; }
            }
            if (!check.listens) {
                probe.error = "nobody listens";
            } else if (check.stranger) {
                probe.error = "a program from outside of the project listens; portctl check " + std::to_string(probe.port) + " says whose";
            } else if (check.protocol == Protocol::udp) {
                probe.healthy = true;  // datagrams have no handshake: more cannot be known
            } else {
                probe.address = address;
                asked.push_back(probe);
                askers.push_back(&check);
            }
        }
        run_probes(asked);
        for (std::size_t i = 0; i < asked.size(); ++i) { askers[i]->probe = asked[i]; }
    }
};

void Agent::add_to_health_job(HealthJob& job, const Place& place, const std::optional<std::string>& service, bool listening_only,
                              std::optional<std::chrono::milliseconds> timeout) const {
    for (const auto* lease : m_registry.of_project(place.project.root)) {
        if (!lease->live() || (service && lease->key.service != *service)) { continue; }
        if (listening_only && !lease->listening()) { continue; }
        Probe probe;
        probe.port = lease->port;
        probe.timeout = timeout.value_or(m_config.health_timeout);
        for (const auto& entry : place.config.services) {
            if (entry.name != lease->key.service) { continue; }
            probe.path = entry.health;
            probe.tls = entry.health_tls;
            if (entry.health_timeout && !timeout) { probe.timeout = *entry.health_timeout; }
        }
        job.checks.push_back({lease->id, lease->key.protocol, lease->state == LeaseState::conflict, std::move(probe), false, lease->sockets});
    }
}

void Agent::check_health(const std::shared_ptr<HealthJob>& job, const std::string& root, std::function<void()> then) {
    const auto same = std::find_if(m_health_jobs.begin(), m_health_jobs.end(), [&](const auto& other) { return other->answers(*job); });
    if (same != m_health_jobs.end()) { return (*same)->then.push_back(std::move(then)); }
    job->then.push_back(std::move(then));
    m_health_jobs.push_back(job);
    m_file_jobs.run(FileJobs::Lane::health, root, [job] { job->run(); }, [this, job] {
        std::erase(m_health_jobs, job);
        const auto now = m_outside.now();
        std::vector<Change> changes;
        for (const auto& check : job->checks) {
            const auto* known = m_registry.find(check.lease);
            const auto& probe = check.probe;
            if (known == nullptr || !known->live() || known->port != probe.port) { continue; }
            Lease lease = *known;
            lease.health = !check.listens ? Health::not_running : probe.healthy ? Health::healthy : Health::unhealthy;
            auto& results = m_health[lease.id];
            results.push_back({now, lease.health, probe.response_ms, probe.error});
            if (results.size() > k_results_kept) { results.pop_front(); }
            if (lease.health != known->health) { changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)}); }
        }
        (void)commit(std::move(changes));
        for (const auto& told : job->then) { told(); }
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
    with_project(request, params, reply, [this, request = request.without_params(), reply, service, timeout](const Place& asked) {
        refresh();
        // Whose program listens is seen first: a stranger's answer is not the service's.
        with_heard(m_registry.of_project(asked.project.root), [this, request, reply, service, timeout, kept = kept_place(asked)] {
            const auto place = kept.whole();
            auto job = std::make_shared<HealthJob>();
            add_to_health_job(*job, place, service, false, timeout ? std::optional(std::chrono::milliseconds(*timeout)) : std::nullopt);
            if (job->checks.empty() && service) {
                return refuse(request, reply, {ErrorCode::not_found, "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\"", {}, {}});
            }
            check_health(job, place.project.root, [this, request, reply, job] {
                auto result = ok_shape();
                result["checks"] = Json::array();
                for (const auto& checked : job->checks) {
                    const auto* lease = m_registry.find(checked.lease);
                    const auto results = m_health.find(checked.lease);
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
        with_place(std::make_shared<const std::string>(root), [this, job, left, again](const Place* place) {
            if (place != nullptr) { add_to_health_job(*job, *place, std::nullopt, true, std::nullopt); }
            if (--*left == 0) { check_health(job, {}, again); }
        });
    }
}

std::span<const Agent::Method> Agent::health_methods() {
    static constexpr Method k_methods[] = {{"lease.health", &Agent::lease_health}};
    return k_methods;
}

}  // namespace portwrap
