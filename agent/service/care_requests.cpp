// lease.audit, lease.cleanup, project.show, project.provision: looking after what is there.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/care_rules.hpp"
#include "core/named_rules.hpp"
#include "core/registry_after.hpp"
#include "core/search.hpp"
#include "service/agent.hpp"
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
            m_file_jobs.run(FileJobs::Lane::processes, {}, [seen, ports] { *seen = look_at_listeners(ports); }, [this, request, reply, root, seen] {
                const auto audit = audit_leases(m_registry, m_config, root, heard_sockets(*seen));
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
        const auto own = place != nullptr ? kept_project(place->project) : nullptr;
        const auto clean = [this, request, reply, dry_run, own](const std::set<std::string>& gone) {
            std::vector<Lease> before;
            for (const auto& [id, lease] : m_registry.leases()) {
                if (lease.live()) { before.push_back(lease); }
            }
            const auto now = facts();
            RegistryAfter after(m_registry, now.now);
            if (dry_run) {
                after.add(decide_census(m_registry, m_config, look_at_system(), now));
            } else {
                take_census();
            }
            const auto& registry = after.get();
            const auto concerns = [this, &own](const std::string& root) {
                if (!own || root == own->root) { return true; }
                const auto* project = m_registry.find_project(root);
                return project != nullptr && is_sibling(*project, *own);
            };
            auto decision = decide_cleanup(registry, m_config, gone, concerns, now);
            auto result = ok_shape();
            result["dry_run"] = dry_run;
            result["released"] = Json::array();
            // What the comparison with the system ends, without being asked: what dead programs had.
            for (const auto& lease : before) {
                const auto* now_known = registry.find(lease.id);
                if ((now_known == nullptr || !now_known->live()) && concerns(lease.key.root)) { decision.answer.insert(decision.answer.begin(), {lease, CleanupReason::holder_dead}); }
            }
            for (const auto& cleaned : decision.answer) { result["released"].push_back({{"lease", lease_shape(m_registry, cleaned.lease)}, {"reason", word(cleaned.reason)}}); }
            if (!dry_run) {
                for (const auto& root : gone) {
                    if (concerns(root)) { m_tables.let_go(root); }
                }
                if (!own) { look_at_all_roots(); }
            }
            if (dry_run || decision.changes.empty()) { return reply({result_line(request.id, result), false}); }
            m_last_cleanup = m_outside.now();
            commit_durably(std::move(decision.changes), request, reply, [result] { return result; });
        };
        // Who listens is known first: a stranger keeps no removed worktree's port. Nothing ends by that, also in a dry run.
        with_heard(list_leases(m_registry, {}), [this, clean] { with_orphans(clean); });
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

std::span<const Agent::Method> Agent::care_methods() {
    static constexpr Method k_methods[] = {{"lease.audit", &Agent::lease_audit},
                                           {"lease.cleanup", &Agent::lease_cleanup},
                                           {"project.show", &Agent::project_show},
                                           {"project.provision", &Agent::project_provision}};
    return k_methods;
}

}  // namespace portwrap
