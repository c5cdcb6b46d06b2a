// session.open: what `portwrap` asks before it runs its command.
#include <algorithm>
#include <utility>

#include "core/lease_steps.hpp"
#include "core/port_text.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "service/launch_plan.hpp"
#include "service/requests.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"
#include "system/scripts.hpp"

namespace portwrap {
namespace {

/// What a launch's directory says, as soon as it is read.
struct LaunchFilesRead {
    LaunchFiles files;  ///< to be looked at when its work has ended
    bool missing = false;  ///< there is no such directory
    std::optional<FileJobs::Progress> progress;
    std::function<void()> then;
};

}  // namespace

void Agent::remember_moves(const std::vector<Change>& offers, const Session& session) {
    for (const auto& change : offers) {
        const auto* event = std::get_if<LeaseEvent>(&change);
        if (event == nullptr || event->change != LeaseChange::allocated) { continue; }
        const auto& lease = event->lease;
        if (lease.key.requested.value_or(0) == 0 || *lease.key.requested == lease.port) { continue; }
        m_moves[lease.id] = session.port == lease.port ? Move{MoveReason::asked, std::nullopt} : why_moved(m_registry, m_config, lease, facts());
    }
}

void Agent::session_open(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    LaunchRequest launch;
    launch.command = params.texts("command", 4096, 65536);
    launch.environment_names = params.texts("environment_names", 1024, 256);
    for (const auto& entry : params.texts("environment_ports", 64, 256)) {
        const auto equals = std::min(entry.find('='), entry.size());
        const auto port = port_in(std::string_view(entry).substr(std::min(equals + 1, entry.size())));
        if (!port) { params.fail("environment_ports", "has an entry that is not NAME=PORT"); }
        launch.environment_ports.emplace_back(entry.substr(0, equals), port.value_or(0));
    }
    launch.dry_run = params.flag("dry_run");
    launch.intercepted = params.flag("intercepted", true);
    auto& said = launch.session;
    said.port = params.port("port");
    said.service = params.text("service", 64);
    said.type = params.text("type", 64);
    said.range = params.text("range", 64);
    said.kind = params.text("kind", 64);
    said.environment = params.choice<Environment>("environment").value_or(Environment::dev);
    said.quiet = params.flag("quiet");
    said.connect = params.flag("connect", true);
    const auto error_file = params.numbers("stderr", 2);
    said.stderr_device = error_file[0];
    said.stderr_inode = error_file[1];
    said.cwd = params.text("cwd", 4096).value_or("");
    if (launch.command.empty()) { params.fail("command", "is missing"); }
    if (said.range && find_range(m_config, *said.range) == nullptr) {
        return refuse(request, reply, {ErrorCode::unknown_range, "there is no range named \"" + printable(*said.range) + "\"", {}, {}});
    }
    if (const auto* range = said.range ? find_range(m_config, *said.range) : nullptr; range != nullptr && range->kind == RangeKind::system) {
        return refuse(request, reply, {ErrorCode::system_reserved, "the range \"" + range->name + "\" is for portwrap's own services", {}, {}});
    }
    if (said.service && !is_service_name(*said.service)) { params.fail("service", k_service_rule); }
    // An edit of .portwrap.json is meant for the very next command.
    std::erase_if(m_places, [&](const auto& known) { return is_below(known.first, said.cwd) || is_below(said.cwd, known.first); });
    // Its files are read beside the project's: each wait for the pool is felt at every start.
    auto reading = std::make_shared<LaunchFilesRead>();
    if (said.cwd.starts_with('/')) {
        m_file_jobs.run(
            said.cwd, [reading, command = launch.command, cwd = said.cwd] {
                reading->files = read_launch_files(command, cwd);
                reading->missing = is_gone(cwd);
            },
            [reading](FileJobs::Progress progress) {
                if (reading->progress) { return; }  // the work ended after its deadline
                reading->progress = progress;
                if (const auto then = std::exchange(reading->then, nullptr)) { then(); }
            });
    } else {
        reading->progress = FileJobs::Progress::ended;
    }
    with_project(request, params, reply, [this, exchange, request, reply, launch, reading](const Place& asked) {
        auto open = [this, exchange, request, reply, launch, kept = kept_place(asked), reading]() mutable {
            const auto place = kept.whole();
            auto& session = launch.session;
            auto& files = reading->files;
            if (exchange->closed) { return reply({}); }
            if (reading->progress != FileJobs::Progress::ended) {
                return refuse(request, reply, {ErrorCode::agent_unavailable, "the file system of " + printable(session.cwd) + " does not answer", {}, {}});
            }
            const auto stat = read_process(exchange->peer.pid);
            if (!stat) { return refuse(request, reply, {ErrorCode::agent_unavailable, "the process of the session cannot be seen from here", {}, {}}); }
            // The directory that its process works in may be out of sight: in another mount namespace, or removed this very moment.
            if (const auto own = reading->missing ? read_cwd(stat->id.pid).path : std::string(); !own.empty() && own != session.cwd) {
                return refuse(request, reply, {ErrorCode::not_found, "there is no directory " + printable(session.cwd), {}, {}});
            }
            session.id = stat->id;
            const auto outer = scope_of(*stat);
            session.outermost = outer ? outer->outermost : session.id;
            session.root = place.project.root;
            session.boot_id = m_options.boot_id;
            // `portwrap -p 3005 sh -c 'portwrap npm start'`: the word was meant for the server that is still to come.
            if (outer && outer->root == session.root && outer->port && !session.port) {
                for (const auto* lease : m_registry.of_session(session.outermost)) {
                    if (lease->live() && lease->port == *outer->port && lease->sockets.empty()) { session.port = outer->port; }
                }
            }
            session.started_at = m_outside.now();
            session.command = session_command(launch.command, launch.environment_ports);
            launch.place = place;
            launch.script = std::move(files.script);
            launch.traits = std::move(files.traits);
            launch.env_files = std::move(files.env);
            launch.allocated_by = m_options.user_at_host;
            refresh();
            auto plan = plan_launch(m_registry, m_config, launch, facts());
            if (auto* refusal = std::get_if<Refusal>(&plan)) {
                return refuse_port(request, reply, std::move(*refusal));
            }
            auto& ready = std::get<LaunchPlan>(plan);
            if (!m_config_problem.empty()) { ready.notices.push_back("portwrap: " + printable(m_config_problem, 512) + " (this config is not in use)"); }
            // A nested run belongs to a session that has been told.
            const auto fullness = session.outermost == session.id ? m_range_fill.warning(ready.range) : "";
            if (!fullness.empty()) { ready.notices.push_back("portwrap: " + fullness + "; portctl ranges tells more"); }
            if (!launch.dry_run) {
                remember_moves(ready.changes, session);
                // Of a directory that is not there nothing is remembered before its programs have ports.
                const auto is_lease = [](const Change& change) { return std::holds_alternative<LeaseEvent>(change); };
                if (!reading->missing || std::any_of(ready.changes.begin(), ready.changes.end(), is_lease)) { see_project(place.project, ready.changes); }
                (void)commit(std::move(ready.changes));
                remember_place(session.outermost, session.cwd, shared_place(session.cwd, place));
                m_outside.watch_process(session.id);
            }
            auto result = ok_shape();
            result["session"] = session_text(session.outermost);
            result["project"] = {{"name", place.project.name},
                                 {"root", place.project.root},
                                 {"branch", place.project.branch ? Json(*place.project.branch) : Json(nullptr)},
                                 {"worktree_of", place.project.worktree_of ? Json(*place.project.worktree_of) : Json(nullptr)}};
            const auto table = launch.dry_run ? 0 : m_tables.open(place.project.root, session.id, m_registry);
            result["table"] = table != 0 ? table_name(table) : "";
            result["connect"] = session.connect && place.config.connect && m_config.connect;
            result["service"] = ready.service;
            result["range"] = ready.range;
            result["command"] = ready.command;
            result["set"] = Json::object();
            for (const auto& [name, value] : ready.set) { result["set"][name] = value; }
            result["notices"] = ready.notices;
            result["explain"] = ready.explain;
            result["container_client"] = ready.container_client;
            reply({result_line(request.id, result), false});
        };
        if (reading->progress) { return open(); }
        reading->then = std::move(open);
    });
}

std::span<const Agent::Method> Agent::session_methods() {
    static constexpr Method k_methods[] = {{"session.open", &Agent::session_open}, {"session.members", &Agent::session_members}};
    return k_methods;
}

}  // namespace portwrap
