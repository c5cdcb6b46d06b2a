// lease.audit, lease.cleanup, lease.health, project.show, project.provision: looking after what is there.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/care_rules.hpp"
#include "core/search.hpp"
#include "service/agent.hpp"
#include "service/health_probe.hpp"
#include "storage/event_codec.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

Json place_shape(const Place& place) {
    const auto& project = place.project;
    auto services = Json::array();
    for (const auto& service : place.config.services) { services.push_back(service.name); }
    return {{"name", project.name},
            {"root", project.root},
            {"branch", project.branch ? Json(*project.branch) : Json(nullptr)},
            {"worktree_of", project.worktree_of ? Json(*project.worktree_of) : Json(nullptr)},
            {"type", place.type.empty() ? Json(nullptr) : Json(place.type)},
            {"services", std::move(services)},
            {"problem", place.problem.empty() ? Json(nullptr) : Json(place.problem)}};
}

constexpr std::uint64_t k_default_timeout_ms = 5000;
/// How often at most, while requests come, removed worktrees are looked for.
constexpr auto k_look_at_worktrees = std::chrono::seconds(5);
constexpr std::uint64_t k_max_timeout_ms = 20'000;  ///< the clients' patience is 30 s

}  // namespace

void Agent::with_project_or_all(const Request& request, Params& params, const ReplyTo& reply, std::function<void(const Place*)> then) {
    if (!params.flag("all")) {
        return with_project(request, params, reply, [then = std::move(then)](const Place& place) { then(&place); });
    }
    (void)params.text("cwd", 4096);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    then(nullptr);
}

void Agent::lease_audit(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    with_project_or_all(request, params, reply, [this, request, reply](const Place* place) {
        const auto root = place != nullptr ? std::optional(place->project.root) : std::nullopt;
        with_all_heard([this, request, reply, root] {
            std::set<Port> ports;
            for (const auto& [id, lease] : m_registry.leases()) {
                if (lease.live()) { ports.insert(lease.port); }
            }
            auto seen = std::make_shared<std::vector<SeenListener>>();
            m_outside.run_in_pool([seen, ports] { *seen = look_at_listeners(ports); }, [this, request, reply, root, seen] {
                const auto audit = audit_leases(m_registry, root, heard_sockets(*seen));
                auto result = ok_shape();
                result["findings"] = Json::array();
                for (const auto& finding : audit.findings) {
                    const auto* lease = m_registry.find(finding.lease);
                    const bool listens = finding.kind == FindingKind::conflict;
                    result["findings"].push_back({{"kind", word(finding.kind)},
                                                  {"port", lease->port},
                                                  {"lease", lease_shape(m_registry, *lease)},
                                                  {"listener", listens ? listener_shape(m_registry, (*seen)[finding.listener]) : Json(nullptr)},
                                                  {"fix", finding.fix}});
                }
                const double percent = audit.allocated == 0 ? 0.0 : std::round(1000.0 * audit.active / audit.allocated) / 10.0;
                result["summary"] = {{"allocated", audit.allocated}, {"active", audit.active}, {"not_running", audit.not_running},
                                     {"conflicts", audit.conflicts}, {"active_percent", percent}};
                reply({result_line(request.id, result), false});
            });
        });
    });
}

void Agent::lease_cleanup(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const bool dry_run = params.flag("dry_run");
    const bool yes = params.flag("yes");
    with_project_or_all(request, params, reply, [this, request, reply, dry_run, yes](const Place* place) {
        if (place == nullptr && !dry_run && !yes) {
            return refuse(request, reply, {ErrorCode::invalid_request, "cleaning up other projects, too, needs --yes (--dry-run shows what it would do)", {}, {}});
        }
        const auto own = place != nullptr ? std::optional(place->project) : std::nullopt;
        with_orphans([this, request, reply, dry_run, own](const std::set<std::string>& gone) {
            take_census();
            const auto concerns = [this, &own](const std::string& root) {
                if (!own || root == own->root) { return true; }
                const auto* project = m_registry.find_project(root);
                return project != nullptr && is_sibling(*project, *own);
            };
            auto decision = decide_cleanup(m_registry, m_config, gone, concerns, facts());
            auto result = ok_shape();
            result["dry_run"] = dry_run;
            result["released"] = Json::array();
            for (const auto& cleaned : decision.answer) { result["released"].push_back({{"lease", lease_shape(m_registry, cleaned.lease)}, {"reason", word(cleaned.reason)}}); }
            if (dry_run || decision.changes.empty()) { return reply({result_line(request.id, result), false}); }
            m_last_cleanup = m_outside.now();
            commit_durably(std::move(decision.changes), request, reply, [result] { return result; });
        });
    });
}

void Agent::lease_health(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto service = params.text("service", 64);
    const auto timeout = params.number("timeout_ms", k_max_timeout_ms).value_or(k_default_timeout_ms);
    with_project(request, params, reply, [this, request, reply, service, timeout](const Place& place) {
        refresh();
        struct Job {
            std::vector<LeaseId> leases;
            std::vector<Probe> probes;
            std::vector<bool> listens;
        };
        auto job = std::make_shared<Job>();
        for (const auto* lease : m_registry.of_project(place.project.root)) {
            if (!lease->live() || lease->key.protocol != Protocol::tcp || (service && lease->key.service != *service)) { continue; }
            Probe probe;
            probe.port = lease->port;
            for (const auto& entry : place.config.services) {
                if (entry.name == lease->key.service) { probe.path = entry.health; }
            }
            job->leases.push_back(lease->id);
            job->probes.push_back(std::move(probe));
        }
        if (job->leases.empty() && service) {
            return refuse(request, reply, {ErrorCode::not_found, "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\"", {}, {}});
        }
        const auto work = [job, timeout] {
            const auto listeners = list_listeners();
            std::vector<Probe> asked;
            std::vector<std::size_t> places;
            for (std::size_t i = 0; i < job->probes.size(); ++i) {
                auto& probe = job->probes[i];
                bool listens = false;
                bool ipv4 = false;
                for (const auto& listener : listeners ? *listeners : std::vector<Listener>{}) {
                    if (listener.port != probe.port) { continue; }
                    listens = true;
                    // A socket on "::" takes IPv4, too, unless it was told not to.
                    ipv4 = ipv4 || listener.address.find(':') == std::string::npos || listener.address == "::";
                }
                probe.ipv6 = listens && !ipv4;
                job->listens.push_back(listens);
                if (!listens) { probe.error = "nobody listens"; }
                if (listens) {
                    asked.push_back(probe);
                    places.push_back(i);
                }
            }
            run_probes(asked, std::chrono::milliseconds(timeout));
            for (std::size_t i = 0; i < asked.size(); ++i) { job->probes[places[i]] = asked[i]; }
        };
        m_outside.run_in_pool(work, [this, request, reply, job] {
            const auto now = m_outside.now();
            std::vector<Change> changes;
            auto result = ok_shape();
            result["checks"] = Json::array();
            for (std::size_t i = 0; i < job->leases.size(); ++i) {
                const auto* known = m_registry.find(job->leases[i]);
                if (known == nullptr || !known->live() || known->port != job->probes[i].port) { continue; }
                const auto& probe = job->probes[i];
                Lease lease = *known;
                lease.health = !job->listens[i] ? Health::not_running : probe.healthy ? Health::healthy : Health::unhealthy;
                result["checks"].push_back({{"lease", lease_shape(m_registry, lease)},
                                            {"health", word(lease.health)},
                                            {"response_ms", probe.response_ms ? Json(std::round(*probe.response_ms * 10) / 10) : Json(nullptr)},
                                            {"checked_at", format_time(now)},
                                            {"error", probe.error.empty() ? Json(nullptr) : Json(probe.error)}});
                if (lease.health != known->health) { changes.emplace_back(LeaseEvent{LeaseChange::updated, std::move(lease)}); }
            }
            (void)commit(std::move(changes));
            reply({result_line(request.id, result), false});
        });
    });
}

void Agent::project_show(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    with_project(request, params, reply, [request, reply](const Place& place) {
        auto result = ok_shape();
        result["project"] = place_shape(place);
        reply({result_line(request.id, result), false});
    });
}

void Agent::project_provision(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    with_project(request, params, reply, [this, request, reply](const Place& place) {
        refresh();
        auto decision = decide_provision(m_registry, m_config, place, m_options.user_at_host, facts());
        auto result = ok_shape();
        result["project"] = place_shape(place);
        result["new"] = !decision.changes.empty();
        result["services"] = Json::array();
        for (const auto& provided : decision.answer) { result["services"].push_back({{"service", provided.service}, {"port", provided.port}}); }
        if (!decision.changes.empty()) { see_project(place.project, decision.changes); }
        commit_durably(std::move(decision.changes), request, reply, [result] { return result; });
    });
}

void Agent::mind_removed_worktrees() {
    const auto now = m_outside.now();
    if (now - m_worktrees_looked_at < k_look_at_worktrees && now >= m_worktrees_looked_at) { return; }
    m_worktrees_looked_at = now;
    std::set<std::string> roots;
    for (const auto& [id, lease] : m_registry.leases()) {
        if (lease.sockets.empty() && (lease.live() || lease.claimed)) { roots.insert(lease.key.root); }
    }
    for (const auto& root : roots) {
        const auto* project = m_registry.find_project(root);
        if (project == nullptr || !project->worktree_of) { continue; }
        auto gone = std::make_shared<bool>(false);
        // Where the main worktree has gone, too, a disk may have been unmounted.
        const auto work = [gone, root, main = *project->worktree_of] { *gone = is_gone(root) && !is_gone(main); };
        m_file_jobs.run(root, work, [this, gone, root](FileJobs::Progress progress) {
            if (progress != FileJobs::Progress::ended || !*gone) { return; }
            const auto is_it = [&root](const std::string& other) { return other == root; };
            (void)commit(decide_cleanup(m_registry, m_config, {root}, is_it, facts()).changes);
        });
    }
}

std::span<const Agent::Method> Agent::care_methods() {
    static constexpr Method k_methods[] = {{"lease.audit", &Agent::lease_audit},
                                           {"lease.cleanup", &Agent::lease_cleanup},
                                           {"lease.health", &Agent::lease_health},
                                           {"project.show", &Agent::project_show},
                                           {"project.provision", &Agent::project_provision}};
    return k_methods;
}

}  // namespace portwrap
