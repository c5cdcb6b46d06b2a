// session.members: which processes belong to a running service, for `portctl stop`. The client sends the signals itself, through
// pidfds: they come from the one who asked, end with their Ctrl-C, and the agent waits for nobody.
#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "service/agent.hpp"

namespace portwrap {
namespace {

struct Members {
    std::vector<ProcessId> commands;  ///< of the sessions
    std::vector<ProcessId> holders;   ///< that have the sockets
    std::vector<ProcessId> others;    ///< below them
};

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
            auto members = std::make_shared<Members>();
            std::set<ProcessId> sessions;
            std::set<ProcessId> holders;
            auto leases = Json::array();
            for (const auto* lease : chosen) {
                leases.push_back(lease_shape(m_registry, *lease));
                holders.insert(lease->holder->process);
                // A session of another project may have started a program here, and has programs of its own.
                const auto* session = lease->session ? m_registry.find_session(*lease->session) : nullptr;
                if (session == nullptr || session->root != root) { continue; }
                sessions.insert(*lease->session);
                for (const auto* other : m_registry.of_session(*lease->session)) {
                    if (other->live() && !other->sockets.empty() && other->holder) { holders.insert(other->holder->process); }
                }
            }
            members->commands.assign(sessions.begin(), sessions.end());
            members->holders.assign(holders.begin(), holders.end());
            auto shape = std::make_shared<Json>();
            m_file_jobs.run(
                FileJobs::Lane::processes, {},
                [members, shape] {
                    auto roots = members->commands;
                    roots.insert(roots.end(), members->holders.begin(), members->holders.end());
                    members->others = find_descendants(roots);
                    *shape = {{"commands", shapes_of(members->commands)}, {"holders", shapes_of(members->holders)}, {"others", shapes_of(members->others)}};
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
