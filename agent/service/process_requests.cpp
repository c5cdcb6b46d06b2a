// session.members: which processes belong to a running service, for `portctl stop`. The client sends the signals itself, through
// pidfds: they come from the one who asked, end with their Ctrl-C, and the agent waits for nobody.
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "core/stop_rules.hpp"
#include "service/agent.hpp"

namespace portwrap {
namespace {

Json process_shape(const ProcessId& process) {
    return {{"pid", process.pid}, {"start_ticks", process.start_ticks}, {"command", read_command(process.pid)}};
}

Json shapes_of(const std::vector<ProcessId>& processes) {
    auto shapes = Json::array();
    for (const auto& process : processes) {
        if (is_alive(process)) { shapes.push_back(process_shape(process)); }
    }
    return shapes;
}

}  // namespace

void Agent::session_members(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto port = params.port("port");
    const auto service = params.text("service", 64);
    if (port.has_value() == service.has_value()) { params.fail("port", "or \"service\": exactly one of them is needed"); }
    with_project(request, params, reply, [this, request, reply, port, service](const Place& asked) {
        with_all_heard([this, request, reply, port, service, kept = kept_project(asked.project)] {
            const auto& root = kept->root;
            std::vector<const Lease*> chosen;
            const Lease* silent = nullptr;
            const auto consider = [&](const Lease* lease) {
                if (lease->live() && !lease->sockets.empty() && lease->holder) { chosen.push_back(lease); }
                if (lease->live()) { silent = lease; }
            };
            if (port) {
                for (const auto* lease : m_registry.on_port(*port)) { consider(lease); }
            } else {
                for (const auto* lease : m_registry.of_project(root)) {
                    if (lease->key.service == *service) { consider(lease); }
                }
            }
            const auto not_ours = [this](const Lease& lease) {
                auto refusal = not_owner(m_registry, lease, {});
                refusal.message += "; nothing is stopped there from here";
                return refusal;
            };
            for (const auto* lease : chosen) {
                if (lease->key.root != root) { return refuse(request, reply, not_ours(*lease)); }
            }
            // What was recorded here does not make a program this project's.
            for (const auto* lease : chosen) {
                const auto owner = root_of_program(m_registry, *lease, root);
                if (owner.empty() || owner == root) { continue; }
                const auto* project = m_registry.find_project(owner);
                return refuse(request, reply, {ErrorCode::not_owner, "the program on port " + std::to_string(lease->port) + " is project \"" +
                                                                         (project != nullptr ? project->name : owner) + "\"'s (" + owner +
                                                                         "); nothing is stopped there from here", *lease, {}});
            }
            const std::string what = port ? "port " + std::to_string(*port) : "\"" + *service + "\"";
            if (chosen.empty() && silent != nullptr && silent->key.root != root) {
                return refuse(request, reply, not_ours(*silent));
            }
            if (chosen.empty()) {
                std::string why = "nothing of this project runs as " + what;
                if (silent != nullptr) { why = what + " has a port, but no program runs on it"; }
                if (silent != nullptr && silent->state == LeaseState::conflict) {
                    const auto number = std::to_string(silent->port);
                    why = "a program from outside of the project listens on port " + number + "; portctl who " + number + " says which";
                }
                return refuse(request, reply, {ErrorCode::not_found, why, {}, {}});
            }
            auto leases = Json::array();
            for (const auto* lease : chosen) { leases.push_back(lease_shape(m_registry, *lease)); }
            auto shape = std::make_shared<Json>();
            m_file_jobs.run(
                FileJobs::Lane::processes, {},
                [scene = stop_scene(m_registry, root, chosen), shape] {
                    const auto members = members_to_stop(scene, list_processes());
                    *shape = {{"commands", shapes_of(members.commands)}, {"holders", shapes_of(members.holders)}, {"others", shapes_of(members.others)}};
                },
                [request, reply, shape, leases] {
                    auto result = ok_shape();
                    result["leases"] = leases;
                    result.update(*shape);
                    reply({result_line(request.id, result), false});
                });
        });
    });
}

}  // namespace portwrap
