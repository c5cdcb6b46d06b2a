#include "service/agent.hpp"

#include <algorithm>
#include <array>

#include "portwrap/protocol.hpp"
#include "service/launch_plan.hpp"
#include "storage/event_codec.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"

namespace portwrap {
namespace {

using namespace std::chrono_literals;

/// How long what was read of a directory is believed outside of a session.
constexpr auto k_place_lifetime = 1s;
/// A number that a program got for port 0 and dropped is given to no other process for this long.
constexpr auto k_dropped_for = 60s;
/// Directories of one session that are remembered.
constexpr std::size_t k_session_places = 64;
constexpr int k_max_ancestors = 64;

constexpr const char* k_service_rule = "has characters that cannot be shown, or begins or ends with a space";

/// A package's directory can be a service's name, so spaces inside are fine.
bool is_service_name(const std::string& name) {
    return printable(name, 64) == name && name.front() != ' ' && name.back() != ' ';
}

/// A directory of its own right: a git worktree or one with a .portwrap.json, not just a manifest or nothing.
bool is_project_of_its_own(const Place& place) {
    return place.project.family.starts_with("git:") || !(place.config == ProjectConfig{});
}

}  // namespace

Agent::Agent(Outside& outside, std::unique_ptr<Store> store, Registry registry, Options options)
    : m_outside(outside),
      m_store(std::move(store)),
      m_registry(std::move(registry)),
      m_options(std::move(options)),
      m_started_at(outside.now()),
      m_ephemeral(read_ephemeral_range()),
      m_kernel_reserved(read_kernel_reserved_ports()) {
    for (const auto& [id, session] : m_registry.sessions()) {
        if (session.boot_id == m_options.boot_id) { m_outside.watch_process(id); }
    }
}

// --- changing the registry ---------------------------------------------------------------------------------------

Facts Agent::facts() {
    Facts facts;
    facts.now = m_outside.now();
    facts.boot_id = m_options.boot_id;
    facts.user_at_host = m_options.user_at_host;
    facts.ephemeral = m_ephemeral;
    facts.kernel_reserved = m_kernel_reserved;
    facts.in_use = [](Port port, bool tcp, bool udp) { return is_port_in_use(port, tcp, udp); };
    std::erase_if(m_dropped, [&](const auto& entry) { return entry.second.until <= facts.now; });
    for (const auto& [port, dropped] : m_dropped) { facts.dropped.emplace(port, dropped.process); }
    facts.rotation = m_rotation;
    return facts;
}

Status Agent::commit(std::vector<Change> changes, bool durable) {
    if (changes.empty()) { return ok_status(); }
    const auto now = m_outside.now();
    const auto events = m_registry.stamp(std::move(changes), now);
    auto written = m_store->append(events);
    if (!written) {
        if (durable) { return written; }
        m_options.log_trouble("journal: " + written.error().message + "; running programs go on getting ports");
    }
    for (const auto& event : events) {
        if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
            const auto& lease = changed->lease;
            if (lease.expires_at && !lease.listening()) { wake_by(*lease.expires_at); }
            const auto* before = m_registry.find(lease.id);
            // A number that was read back from port 0 and dropped.
            if (lease.key.requested == Port{0} && lease.sockets.empty() && lease.holder && before != nullptr && !before->sockets.empty()) {
                m_dropped[lease.port] = {lease.holder->process, now + k_dropped_for};
            }
            m_options.log(std::string(word(changed->change)) + " port=" + std::to_string(lease.port) + " service=" + lease.key.service +
                          " requested=" + (lease.key.requested ? std::to_string(*lease.key.requested) : "-") + " root=" + lease.key.root +
                          (lease.holder ? " pid=" + std::to_string(lease.holder->process.pid) : ""));
        }
        if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
            m_moves.erase(forgotten->id);
            if (const auto* before = m_registry.find(forgotten->id); before != nullptr && before->key.requested == Port{0} && before->holder) {
                m_dropped[before->port] = {before->holder->process, now + k_dropped_for};
            }
        }
        m_registry.apply(event);
        mind_sockets(event);
        if (const auto* closed = std::get_if<SessionClosed>(&event.change)) {
            m_session_places.erase(closed->id);
            std::erase_if(m_noticed, [&](const auto& entry) { return entry.first == closed->id; });
        }
        for (const auto& watcher : m_watchers) { watcher(event, m_registry); }
    }
    mind_store();
    return ok_status();
}

void Agent::commit_durably(std::vector<Change> changes, const Request& request, ReplyTo reply, const std::function<Json()>& result) {
    if (changes.empty()) {
        // Granted earlier; but is that on the disk yet?
        WaitingReply waiting{m_registry.last_seq(), result_line(request.id, result()), request.id, std::move(reply), {}};
        if (m_store->sync_state().synced_seq >= waiting.seq) { return waiting.reply({waiting.line, false}); }
        m_waiting.push_back(std::move(waiting));
        return m_store->request_sync();
    }
    WaitingReply waiting;
    for (const auto& change : changes) {
        if (const auto* event = std::get_if<LeaseEvent>(&change)) {
            const auto* before = m_registry.find(event->lease.id);
            waiting.undo.emplace_back(event->lease, before != nullptr ? std::optional<Lease>(*before) : std::nullopt);
        }
    }
    if (auto written = commit(std::move(changes), true); !written) {
        return refuse(request, reply, {ErrorCode::storage_error, "not granted: " + written.error().message, {}, {}});
    }
    waiting.seq = m_registry.last_seq();
    waiting.line = result_line(request.id, result());
    waiting.id = request.id;
    waiting.reply = std::move(reply);
    m_waiting.push_back(std::move(waiting));
    m_store->request_sync();
}

void Agent::on_synced() {
    const auto state = m_store->sync_state();
    // A degraded store cannot say of everything whether it is safe: what is not known to be on the disk is refused.
    const bool degraded = m_store->degraded();
    std::vector<WaitingReply> failed;
    while (!m_waiting.empty()) {
        auto& front = m_waiting.front();
        if (front.seq <= state.synced_seq) {
            front.reply({std::move(front.line), false});
        } else if (front.seq <= state.failed_seq || degraded) {
            failed.push_back(std::move(front));
        } else {
            break;
        }
        m_waiting.pop_front();
    }
    // Backwards, each against the value that it left, so that of two refused changes of one lease the first is undone too.
    std::map<LeaseId, std::optional<Lease>> restored;
    for (auto waiting = failed.rbegin(); waiting != failed.rend(); ++waiting) {
        for (const auto& [changed, before] : waiting->undo) {
            const auto known = restored.find(changed.id);
            const auto* current = m_registry.find(changed.id);
            const bool untouched = known != restored.end() ? known->second == changed : current != nullptr && *current == changed;
            if (untouched) { restored[changed.id] = before; }
        }
    }
    std::vector<Change> undo;
    for (auto& [id, before] : restored) {
        if (!before) {
            undo.emplace_back(LeaseForgotten{id});
            continue;
        }
        // Somebody may have been given a released port since: a promise to a running program is not taken back.
        const auto* owner = owner_of(m_registry, before->port);
        if (before->live() && owner != nullptr && owner->live() && owner->id != id) { continue; }
        undo.emplace_back(LeaseEvent{LeaseChange::updated, *before});
    }
    if (!failed.empty()) {
        m_options.log_trouble("journal: a sync failed; " + std::to_string(failed.size()) + " requests by name were refused");
        (void)commit(std::move(undo));
        take_census();
    }
    for (const auto& waiting : failed) {
        Request request;
        request.id = waiting.id;
        refuse(request, waiting.reply, {ErrorCode::storage_error, "not granted: the journal could not be written to the disk", {}, {}});
    }
    mind_store();
}

void Agent::mind_store() {
    if (m_store->wants_compaction()) { m_store->compact(m_registry, m_outside.now()); }
}

void Agent::wake_by(Time time) {
    // A time in the past: the wall clock has jumped, and the loop's timer has not.
    if (m_wake_at && *m_wake_at <= time && *m_wake_at > m_outside.now()) { return; }
    m_wake_at = time;
    m_outside.wake_at(time);
}

void Agent::on_timer() {
    m_wake_at.reset();
    m_last_cleanup = m_outside.now();
    auto now = facts();
    const auto sockets = existing_sockets();
    if (sockets) {
        const bool sees_bound = sees_bound_sockets();
        now.is_gone = [existing = std::set<Cookie>(sockets->begin(), sockets->end()), sees_bound](const Socket& socket, const Lease& lease) {
            if (existing.contains(socket.cookie)) { return false; }
            return sees_bound || !lease.holder || !is_alive(lease.holder->process);
        };
    }
    (void)commit(decide_expiry(m_registry, m_options.config, now).changes);
    // Sessions that waited for what has ended now.
    std::vector<ProcessId> ended;
    for (const auto& [id, session] : m_registry.sessions()) {
        if (!is_alive(id)) { ended.push_back(id); }
    }
    for (const auto& id : ended) { on_process_ended(id); }
    // What the changes themselves will need later, too: a claim that ended today is forgotten some weeks on.
    const auto next = decide_expiry(m_registry, m_options.config, facts());
    if (!next.changes.empty()) {
        wake_by(m_outside.now());  // it has become due in the meantime
    } else if (next.answer) {
        wake_by(*next.answer);
    }
}

void Agent::close() { m_store->close(m_registry, m_outside.now()); }

void Agent::start() {
    const auto& leases = m_registry.leases();
    for (const auto& [id, lease] : leases) {
        if (lease.live() && (lease.session || !lease.sockets.empty())) { m_socketed.insert(id); }
    }
    // Subscribed before the census: a socket that closes in between is then in the notifications.
    if (!m_socketed.empty()) { m_watching = m_outside.watch_sockets(true); }
    take_census();
    on_timer();
}

void Agent::mind_sockets(const Event& event) {
    const bool before = !m_socketed.empty();
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = changed->lease;
        if (lease.live() && (lease.session || !lease.sockets.empty())) {
            m_socketed.insert(lease.id);
        } else {
            m_socketed.erase(lease.id);
        }
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        m_socketed.erase(forgotten->id);
    }
    if (before != !m_socketed.empty()) { m_watching = m_outside.watch_sockets(!m_socketed.empty()); }
}

void Agent::refresh() {
    if (!m_watching && !m_socketed.empty()) { take_census(); }
}

void Agent::note_destroyed(Cookie cookie) {
    constexpr std::size_t k_remembered = 4096;
    if (!m_destroyed_set.insert(cookie).second) { return; }
    m_destroyed.push_back(cookie);
    if (m_destroyed.size() > k_remembered) {
        m_destroyed_set.erase(m_destroyed.front());
        m_destroyed.pop_front();
    }
}

void Agent::take_census() {
    const auto sockets = existing_sockets();
    Census census;
    census.blind = !sockets;
    if (sockets) {
        census.sockets.insert(sockets->begin(), sockets->end());
    } else {
        m_options.log_trouble("census: " + sockets.error().message);
    }
    census.sees_bound = sees_bound_sockets();
    // Listeners on the ports of leases that know no socket: are they the holders' own?
    std::map<Port, ProcessId> silent;
    for (const auto& [id, lease] : m_registry.leases()) {
        if (lease.live() && lease.sockets.empty() && lease.holder) { silent.emplace(lease.port, lease.holder->process); }
    }
    if (const auto listeners = list_listeners()) {
        std::map<ino_t, const Listener*> candidates;
        std::vector<ino_t> inodes;
        std::vector<pid_t> holders;
        for (const auto& listener : *listeners) {
            census.listening.insert(listener.cookie);
            const auto expected = silent.find(listener.port);
            if (expected == silent.end() || m_registry.find_by_cookie(listener.cookie) != nullptr) { continue; }
            candidates.emplace(listener.inode, &listener);
            inodes.push_back(listener.inode);
            holders.push_back(expected->second.pid);
        }
        if (!inodes.empty()) {
            for (const auto& [inode, process] : find_socket_holders(inodes, holders)) {
                const auto* listener = candidates.at(inode);
                census.unknown.emplace(std::pair(process, listener->port), listener->cookie);
            }
        }
    }
    census.is_alive = [](const ProcessId& process) { return is_alive(process); };
    (void)commit(decide_census(m_registry, m_options.config, census, facts()));
}

void Agent::on_sockets_destroyed(const DestroyWatch::Batch& batch) {
    for (const auto& destroyed : batch.destroyed) {
        note_destroyed(destroyed.cookie);
        const auto* lease = m_registry.find_by_cookie(destroyed.cookie);
        if (lease == nullptr) { continue; }
        const auto session = lease->session;
        (void)commit(decide_destroyed(m_registry, m_options.config, destroyed.cookie, facts()));
        // A session that outlived its process only because of this socket.
        if (session && !is_alive(*session)) { on_process_ended(*session); }
    }
    if (batch.overrun) { take_census(); }
}

void Agent::on_process_ended(const ProcessId& process) {
    (void)commit(decide_session_ended(m_registry, m_options.config, process, facts()));
}

// --- requests ----------------------------------------------------------------------------------------------------

void Agent::refuse(const Request& request, const ReplyTo& reply, Refusal refusal) {
    const int code = refusal.code == ErrorCode::invalid_request ? k_rpc_invalid_params : k_rpc_refused;
    reply({error_line(request.id, code, refusal.message, refusal_shape(m_registry, refusal)), false});
}

void Agent::on_line(const std::shared_ptr<Exchange>& exchange, std::string_view line, ReplyTo reply) {
    auto parsed = parse_request(line);
    if (const auto* error = std::get_if<RequestError>(&parsed)) {
        const Refusal refusal{ErrorCode::invalid_request, error->message, {}, {}};
        const bool close = error->code == k_rpc_parse_error || error->code == k_rpc_invalid_request;
        return reply({error_line(error->id, error->code, error->message, refusal_shape(m_registry, refusal)), close});
    }
    struct Row {
        std::string_view name;
        Handler handler;
    };
    static constexpr std::array<Row, 12> k_methods{{{"shim.bind", &Agent::shim_bind},
                                                    {"shim.bound", &Agent::shim_bound},
                                                    {"shim.listening", &Agent::shim_listening},
                                                    {"shim.failed", &Agent::shim_failed},
                                                    {"session.open", &Agent::session_open},
                                                    {"lease.port", &Agent::lease_port},
                                                    {"lease.get", &Agent::lease_get},
                                                    {"lease.list", &Agent::lease_list},
                                                    {"lease.release", &Agent::lease_release},
                                                    {"port.check", &Agent::port_check},
                                                    {"agent.status", &Agent::agent_status},
                                                    {"agent.stop", &Agent::agent_stop}}};
    const auto& request = std::get<Request>(parsed);
    if (request.notification) {
        reply = [reply = std::move(reply)](Reply answer) { reply({{}, answer.close}); };
    }
    for (const auto& row : k_methods) {
        if (row.name == request.method) { return (this->*row.handler)(exchange, request, std::move(reply)); }
    }
    const Refusal refusal{ErrorCode::invalid_request, "there is no method \"" + printable(request.method, 64) + "\"", {}, {}};
    reply({error_line(request.id, k_rpc_unknown_method, refusal.message, refusal_shape(m_registry, refusal)), false});
}

void Agent::on_closed(const std::shared_ptr<Exchange>& exchange) {
    exchange->closed = true;
    if (exchange->lease == 0) { return; }
    const bool gone = exchange->caller && !is_alive(exchange->caller->holder.process);
    (void)commit(decide_unbound(m_registry, m_options.config, exchange->lease, gone, facts()));
}

void Agent::with_place(const std::string& directory, std::function<void(const Place&)> then) {
    if (const auto known = m_places.find(directory); known != m_places.end()) {
        if (m_outside.now() - known->second.read_at < k_place_lifetime) { return then(known->second.place); }
        m_places.erase(known);
    }
    auto& waiters = m_place_waiters[directory];
    waiters.push_back(std::move(then));
    if (waiters.size() > 1) { return; }
    auto found = std::make_shared<Place>();
    m_outside.run_in_pool([found, directory, home = m_options.home] { *found = find_place(directory, home); },
                          [this, found, directory] {
                              if (m_places.size() > 256) { m_places.clear(); }
                              m_places[directory] = {*found, m_outside.now()};
                              auto node = m_place_waiters.extract(directory);
                              for (const auto& waiter : node.mapped()) { waiter(*found); }
                          });
}

void Agent::with_project(const Request& request, Params& params, const ReplyTo& reply, std::function<void(const Place&)> then) {
    const auto cwd = params.text("cwd", 4096);
    const auto project = params.text("project", 4096);
    if (!cwd && !project) { params.fail("cwd", "is missing"); }
    if (cwd && cwd->front() != '/') { params.fail("cwd", "is not an absolute path"); }
    if (const auto problem = params.finish(); !problem.empty()) {
        return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}});
    }
    std::string directory = cwd.value_or("");
    if (project) {
        directory = *project;
        if (project->front() != '/') {
            std::vector<std::string> roots;
            for (const auto& [root, known] : m_registry.projects()) {
                if (known.name == *project) { roots.push_back(root); }
            }
            if (roots.size() != 1) {
                const std::string what = roots.empty() ? "there is no project named \"" : "several projects are named \"";
                return refuse(request, reply, {roots.empty() ? ErrorCode::not_found : ErrorCode::invalid_request,
                                               what + printable(*project) + "\"" + (roots.empty() ? "" : "; name its directory"), {}, {}});
            }
            directory = roots.front();
        }
    }
    with_place(directory, std::move(then));
}

std::optional<Session> Agent::scope_of(const ProcessId& process, const ProcessId& hint) const {
    // Through the ancestors: an identity inherited through the environment proves nothing.
    ProcessId current = process;
    for (int level = 0; level < k_max_ancestors && current.pid > 1; ++level) {
        if (const auto* session = m_registry.find_session(current)) { return *session; }
        const auto stat = read_process(current.pid);
        if (!stat || stat->parent <= 1) { break; }
        const auto parent = read_process(stat->parent);
        if (!parent) { break; }
        current = parent->id;
    }
    // An orphan: what its environment says, which the caller's directory must bear out.
    if (const auto* session = m_registry.find_session(hint)) { return *session; }
    return std::nullopt;
}

void Agent::with_caller(const std::shared_ptr<Exchange>& exchange, const ProcessId& hint, std::function<void(const Caller*)> then) {
    if (exchange->caller) { return then(&*exchange->caller); }
    const auto pid = exchange->peer.pid;
    const auto stat = read_process(pid);
    if (!stat) { return then(nullptr); }  // gone already
    Caller caller;
    caller.holder.process = stat->id;
    caller.holder.started_at = stat->started_at;
    caller.holder.command = read_command(pid);
    caller.holder.cwd = read_cwd(pid);
    caller.arguments = read_arguments(pid);
    caller.executable = read_executable(pid);
    caller.scope = scope_of(caller.holder.process, hint);
    caller.session = caller.scope ? caller.scope->outermost : caller.holder.process;
    const auto done = [exchange, then = std::move(then)](Caller known, const Place& place) {
        known.place = place;
        exchange->caller = std::move(known);
        then(&*exchange->caller);
    };
    // Read once a session: what was read of a directory is good for the session's life.
    const auto with_known_place = [this](const std::optional<Session>& scope, const std::string& path, std::function<void(const Place&)> use) {
        if (!scope) { return with_place(path, std::move(use)); }
        const auto places = m_session_places.find(scope->outermost);
        if (places != m_session_places.end()) {
            if (const auto known = places->second.find(path); known != places->second.end()) { return use(known->second); }
        }
        with_place(path, [this, session = scope->outermost, path, use = std::move(use)](const Place& place) {
            if (m_registry.find_session(session) != nullptr) {
                auto& places_of_session = m_session_places[session];
                if (places_of_session.size() < k_session_places) { places_of_session[path] = place; }
            }
            use(place);
        });
    };
    const std::string directory = caller.holder.cwd.empty() && caller.scope ? caller.scope->cwd : caller.holder.cwd;
    with_known_place(caller.scope, directory.empty() ? "/" : directory, [caller, done, with_known_place](const Place& place) {
        if (!caller.scope || place.project.root == caller.scope->root || is_project_of_its_own(place)) { return done(caller, place); }
        // Somewhere outside of any project (/tmp, a cache): where the session was started.
        with_known_place(caller.scope, caller.scope->cwd, [caller, done](const Place& started_in) { done(caller, started_in); });
    });
}

void Agent::see_project(const Project& project, std::vector<Change>& changes) const {
    const auto* known = m_registry.find_project(project.root);
    if (known == nullptr || !(*known == project)) { changes.insert(changes.begin(), ProjectSeen{project}); }
}

void Agent::agent_status(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto& leases = m_registry.leases();
    const auto live = std::count_if(leases.begin(), leases.end(), [](const auto& entry) { return entry.second.live(); });
    auto result = ok_shape();
    result["agent"] = {{"running", true},
                       {"pid", ::getpid()},
                       {"version", k_version},
                       {"protocol", k_protocol_version},
                       {"socket", m_options.socket},
                       {"uptime_s", std::chrono::duration_cast<std::chrono::seconds>(m_outside.now() - m_started_at).count()},
                       {"leases", live},
                       {"sessions", m_registry.sessions().size()},
                       {"last_cleanup", m_last_cleanup ? Json(format_time(*m_last_cleanup)) : Json(nullptr)}};
    reply({result_line(request.id, result), false});
}

void Agent::agent_stop(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    agent_status(exchange, request, [this, reply = std::move(reply)](Reply answer) {
        answer.close = true;
        reply(std::move(answer));
        m_outside.stop();
    });
}

void Agent::lease_get(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    GetRequest get;
    params.require("service");
    get.service = params.text("service", 64).value_or("");
    get.type = params.text("type", 64);
    get.kind = params.text("kind", 64);
    get.range = params.text("range", 64);
    get.environment = params.choice<Environment>("environment").value_or(Environment::dev);
    get.description = params.text("description", 1024);
    get.hostname = params.text("hostname", 253);
    get.allocated_by = params.text("allocated_by").value_or(m_options.user_at_host);
    if (!get.service.empty() && !is_service_name(get.service)) { params.fail("service", k_service_rule); }
    with_project(request, params, reply, [this, request, reply, get](const Place& place) mutable {
        get.place = place;
        refresh();
        auto decision = decide_get(m_registry, m_options.config, get, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse(request, reply, std::move(*refusal)); }
        if (!decision.changes.empty()) { see_project(place.project, decision.changes); }
        const auto id = std::get<LeaseId>(decision.answer);
        commit_durably(std::move(decision.changes), request, reply, [this, id] {
            auto result = ok_shape();
            const auto* lease = m_registry.find(id);
            result["lease"] = lease != nullptr ? lease_shape(m_registry, *lease) : Json(nullptr);
            return result;
        });
    });
}

void Agent::with_true_holders(std::function<void()> then) {
    struct Lost {
        LeaseId lease;
        std::vector<Cookie> cookies;
        ProcessId old;
    };
    refresh();
    auto lost = std::make_shared<std::vector<Lost>>();
    for (const auto& [id, lease] : m_registry.leases()) {
        if (!lease.live() || lease.sockets.empty() || (lease.holder && is_alive(lease.holder->process))) { continue; }
        Lost entry{id, {}, lease.holder ? lease.holder->process : ProcessId{}};
        for (const auto& socket : lease.sockets) { entry.cookies.push_back(socket.cookie); }
        lost->push_back(std::move(entry));
    }
    if (lost->empty()) { return then(); }
    auto found = std::make_shared<std::map<LeaseId, Holder>>();
    const auto work = [lost, found] {
        const auto listeners = list_listeners();
        if (!listeners) { return; }
        std::map<ino_t, LeaseId> wanted;
        std::vector<ino_t> inodes;
        for (const auto& listener : *listeners) {
            for (const auto& entry : *lost) {
                if (std::find(entry.cookies.begin(), entry.cookies.end(), listener.cookie) != entry.cookies.end()) {
                    wanted[listener.inode] = entry.lease;
                    inodes.push_back(listener.inode);
                }
            }
        }
        if (inodes.empty()) { return; }
        for (const auto& [inode, process] : find_socket_holders(inodes, {})) {
            Holder holder{process, read_command(process.pid), read_cwd(process.pid), {}};
            if (const auto stat = read_process(process.pid)) { holder.started_at = stat->started_at; }
            found->emplace(wanted[inode], std::move(holder));
        }
    };
    m_outside.run_in_pool(work, [this, found, then = std::move(then)] {
        std::vector<Change> changes;
        for (auto& [id, holder] : *found) {
            const auto* known = m_registry.find(id);
            if (known == nullptr || !known->live() || known->sockets.empty()) { continue; }
            Lease lease = *known;
            lease.holder = holder;
            changes.emplace_back(LeaseEvent{LeaseChange::held, std::move(lease)});
        }
        (void)commit(std::move(changes));
        then();
    });
}

void Agent::lease_list(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    const bool all = params.flag("all");
    std::set<LeaseState> states;
    for (const auto& text : params.texts("states", 8, 16)) {
        if (const auto state = from_word<LeaseState>(text)) {
            states.insert(*state);
        } else {
            params.fail("states", "has a word that is no state");
        }
    }
    const auto answer = [this, request, reply, states](const std::optional<std::string>& root) {
        with_true_holders([this, request, reply, states, root] {
            std::vector<const Lease*> chosen;
            for (const auto& [id, lease] : m_registry.leases()) {
                if (root && lease.key.root != *root) { continue; }
                if (states.empty() ? !lease.live() : !states.contains(lease.state)) { continue; }
                if (lease.key.requested == Port{0} && lease.state != LeaseState::active) { continue; }  // a number on its way
                chosen.push_back(&lease);
            }
            std::sort(chosen.begin(), chosen.end(), [](const Lease* a, const Lease* b) {
                return std::tie(a->key.root, a->port, a->id) < std::tie(b->key.root, b->port, b->id);
            });
            auto result = ok_shape();
            result["leases"] = Json::array();
            for (const auto* lease : chosen) { result["leases"].push_back(lease_shape(m_registry, *lease)); }
            reply({result_line(request.id, result), false});
        });
    };
    if (all) {
        (void)params.text("cwd", 4096);
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        return answer(std::nullopt);
    }
    with_project(request, params, reply, [answer](const Place& place) { answer(place.project.root); });
}

void Agent::lease_port(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    const auto service = params.text("service", 64);
    const auto requested = params.port("requested");
    with_project(request, params, reply, [this, request, reply, service, requested](const Place& place) {
        refresh();
        const auto* lease = current_lease(m_registry, place, service, requested);
        if (lease == nullptr) {
            const std::string what = requested ? "nobody in project \"" + place.project.name + "\" asked for port " + std::to_string(*requested)
                                     : service ? "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\""
                                               : "project \"" + place.project.name + "\" has no port";
            return refuse(request, reply, {ErrorCode::not_found, what, {}, {}});
        }
        auto result = ok_shape();
        result["lease"] = lease_shape(m_registry, *lease);
        reply({result_line(request.id, result), false});
    });
}

void Agent::lease_release(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    ReleaseRequest release;
    release.port = params.port("port");
    release.service = params.text("service", 64);
    release.everything = params.flag("everything");
    release.force = params.flag("force");
    if (int{release.port.has_value()} + int{release.service.has_value()} + int{release.everything} != 1) {
        params.fail("port", "or \"service\" or \"everything\": exactly one of them is needed");
    }
    with_project(request, params, reply, [this, request, reply, release](const Place& place) mutable {
        release.root = place.project.root;
        refresh();
        auto decision = decide_release(m_registry, m_options.config, release, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse(request, reply, std::move(*refusal)); }
        const auto ids = std::get<std::vector<LeaseId>>(decision.answer);
        commit_durably(std::move(decision.changes), request, reply, [this, ids] {
            auto result = ok_shape();
            result["leases"] = Json::array();
            for (const auto id : ids) {
                if (const auto* lease = m_registry.find(id)) { result["leases"].push_back(lease_shape(m_registry, *lease)); }
            }
            return result;
        });
    });
}

void Agent::port_check(const std::shared_ptr<Exchange>&, const Request& request, ReplyTo reply) {
    Params params(request.params);
    params.require("port");
    const auto port = params.port("port").value_or(0);
    with_project(request, params, reply, [this, request, reply, port](const Place& place) {
        auto seen = std::make_shared<std::vector<SeenListener>>();
        m_outside.run_in_pool([seen, port] { *seen = look_at_listeners(port); },
                              [this, request, reply, port, seen, root = place.project.root] {
                                  const auto now = facts();
                                  const auto* owner = owner_of(m_registry, port);
                                  const bool live = owner != nullptr && owner->live();
                                  const bool own = live && owner->key.root == root && owner->sockets.empty();
                                  std::optional<ErrorCode> code;
                                  if (!seen->empty() || now.in_use(port, true, true)) {
                                      code = ErrorCode::port_in_use;
                                  } else if (live && !own) {
                                      code = ErrorCode::port_leased;
                                  } else if (is_system_port(m_options.config, port)) {
                                      code = ErrorCode::system_reserved;
                                  } else if (is_reserved_port(m_options.config, port)) {
                                      code = ErrorCode::port_reserved;
                                  }
                                  auto result = ok_shape();
                                  result["port"] = port;
                                  result["available"] = !code;
                                  result["code"] = code ? Json(error_code_name(*code)) : Json(nullptr);
                                  result["lease"] = owner != nullptr ? lease_shape(m_registry, *owner) : Json(nullptr);
                                  result["listeners"] = Json::array();
                                  for (const auto& entry : *seen) { result["listeners"].push_back(listener_shape(m_registry, entry)); }
                                  result["suggestions"] = code ? Json(suggest_ports(m_registry, m_options.config, root, port, 3, now)) : Json::array();
                                  reply({result_line(request.id, result), false});
                              });
    });
}

void Agent::session_open(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    Params params(request.params);
    LaunchRequest launch;
    launch.command = params.texts("command", 4096, 65536);
    launch.environment_names = params.texts("environment_names", 1024, 256);
    launch.dry_run = params.flag("dry_run");
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
    if (said.range && find_range(m_options.config, *said.range) == nullptr) {
        return refuse(request, reply, {ErrorCode::unknown_range, "there is no range named \"" + printable(*said.range) + "\"", {}, {}});
    }
    if (said.service && !is_service_name(*said.service)) { params.fail("service", k_service_rule); }
    with_project(request, params, reply, [this, exchange, request, reply, launch](const Place& place) {
        auto script = std::make_shared<std::string>();
        m_outside.run_in_pool(
            [script, command = launch.command, cwd = launch.session.cwd] { *script = script_of_command(command, cwd); },
            [this, exchange, request, reply, launch, place, script]() mutable {
                auto& session = launch.session;
                if (exchange->closed) { return reply({}); }
                const auto stat = read_process(exchange->peer.pid);
                if (!stat) { return refuse(request, reply, {ErrorCode::permission_denied, "the process of the session cannot be seen from here", {}, {}}); }
                session.id = stat->id;
                const auto outer = scope_of(stat->id, {});
                session.outermost = outer ? outer->outermost : session.id;
                session.root = place.project.root;
                session.boot_id = m_options.boot_id;
                session.started_at = m_outside.now();
                for (const auto& word : launch.command) { session.command += (session.command.empty() ? "" : " ") + word; }
                session.command = printable(session.command);
                launch.place = place;
                launch.script = *script;
                launch.allocated_by = m_options.user_at_host;
                refresh();
                auto plan = plan_launch(m_registry, m_options.config, launch, facts());
                if (auto* refusal = std::get_if<Refusal>(&plan)) {
                    if (refusal->message.empty()) {
                        refusal->message = taken_message(m_registry, session.port.value_or(0), refusal->conflict ? &*refusal->conflict : nullptr,
                                                         refusal->code == ErrorCode::port_in_use);
                    }
                    return refuse(request, reply, std::move(*refusal));
                }
                auto& ready = std::get<LaunchPlan>(plan);
                if (!launch.dry_run) {
                    see_project(place.project, ready.changes);
                    (void)commit(std::move(ready.changes));
                    m_session_places[session.outermost][session.cwd] = place;
                    m_outside.watch_process(session.id);
                }
                auto result = ok_shape();
                result["session"] = std::to_string(session.outermost.pid) + "." + std::to_string(session.outermost.start_ticks);
                result["project"] = {{"name", place.project.name},
                                     {"root", place.project.root},
                                     {"branch", place.project.branch ? Json(*place.project.branch) : Json(nullptr)},
                                     {"worktree_of", place.project.worktree_of ? Json(*place.project.worktree_of) : Json(nullptr)}};
                result["service"] = ready.service;
                result["range"] = ready.range;
                result["command"] = ready.command;
                result["set"] = Json::object();
                for (const auto& [name, value] : ready.set) { result["set"][name] = value; }
                result["notices"] = ready.notices;
                result["explain"] = ready.explain;
                reply({result_line(request.id, result), false});
            });
    });
}

// --- the shim ----------------------------------------------------------------------------------------------------

namespace {
std::string bind_reply(const Json& id, LeaseId lease, Port port) { return result_line(id, {{"lease", lease}, {"port", port}}); }

void check_family(Params& params) {
    const auto family = params.number("family", 255).value_or(2);
    if (family != 2 && family != 10) { params.fail("family", "is not AF_INET (2) or AF_INET6 (10)"); }
}

ProcessId session_hint(const std::vector<std::uint64_t>& numbers) {
    return numbers[0] > 0 && numbers[0] <= INT32_MAX ? ProcessId{static_cast<std::int32_t>(numbers[0]), numbers[1]} : ProcessId{};
}
}  // namespace

void Agent::shim_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    Params params(request.params);
    for (const auto* name : {"port", "family", "scope", "protocol", "cookie"}) { params.require(name); }
    const auto port = static_cast<Port>(params.number("port", 65535).value_or(0));
    check_family(params);
    (void)params.number("scope", 2);
    const auto protocol = params.number("protocol", 65535).value_or(6);
    if (protocol != 6 && protocol != 17 && protocol != 262) { params.fail("protocol", "is not TCP (6), UDP (17) or MPTCP (262)"); }
    (void)params.number("reuseport", 1);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }

    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply({bind_reply(request.id, 0, port), false}); }
    exchange->bind = {port, protocol == 17 ? Protocol::udp : Protocol::tcp, cookie, {}};
    with_caller(exchange, hint, [this, exchange, request, reply, port](const Caller* caller) {
        if (caller == nullptr) { return reply({bind_reply(request.id, 0, port), false}); }
        answer_bind(exchange, request, reply);
    });
}

void Agent::answer_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    if (exchange->closed) { return reply({}); }  // it hung up before this was decided: nothing was granted
    refresh();
    const auto before = exchange->lease;
    auto decision = decide_bind(m_registry, m_options.config, *exchange->caller, exchange->bind, facts());
    if (exchange->bind.port == 0) { ++m_rotation; }
    if (!decision.changes.empty()) { see_project(exchange->caller->place.project, decision.changes); }
    const auto& answer = decision.answer;
    exchange->lease = answer.lease;
    if (answer.lease != 0 && answer.move.reason != MoveReason::none) { m_moves[answer.lease] = answer.move; }
    (void)commit(std::move(decision.changes));
    // Refused by the kernel, and another one granted: the first is nobody's again.
    if (before != 0 && before != answer.lease) { (void)commit(decide_unbound(m_registry, m_options.config, before, true, facts())); }
    reply({bind_reply(request.id, answer.lease, answer.port), false});
}

void Agent::shim_failed(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    Params params(request.params);
    for (const auto* name : {"lease", "port", "errno"}) { params.require(name); }
    (void)params.number("lease", UINT64_MAX);
    const auto port = params.port("port");
    const auto code = params.number("errno", 4096);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    if (!exchange->caller) { return refuse(request, reply, {ErrorCode::invalid_request, "shim.failed without shim.bind", {}, {}}); }
    exchange->bind.refused[*port] = static_cast<int>(*code);
    answer_bind(exchange, request, reply);
}

void Agent::shim_bound(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    Params params(request.params);
    for (const auto* name : {"lease", "port", "cookie"}) { params.require(name); }
    const auto lease = params.number("lease", UINT64_MAX).value_or(0);
    const auto port = params.port("port").value_or(0);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    // Only what this very exchange was granted can be confirmed in it.
    if (params.finish().empty() && exchange->caller && lease != 0 && lease == exchange->lease) {
        exchange->lease = 0;
        (void)commit(decide_bound(m_registry, *exchange->caller, lease, port, cookie, facts()));
        if (m_destroyed_set.contains(cookie)) { on_sockets_destroyed({{{cookie, port}}, false}); }
    }
    reply({result_line(request.id, Json::object()), true});
}

void Agent::shim_listening(const std::shared_ptr<Exchange>& exchange, const Request& request, ReplyTo reply) {
    Params params(request.params);
    for (const auto* name : {"port", "errno", "cookie"}) { params.require(name); }
    const auto port = params.port("port").value_or(0);
    const auto code = params.number("errno", 4096).value_or(0);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    check_family(params);
    (void)params.number("scope", 2);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    const auto error_file = params.numbers("stderr", 2);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto answer = [request](const std::string& notice) { return Reply{result_line(request.id, {{"notice", notice}}), true}; };
    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply(answer("")); }
    with_caller(exchange, hint, [this, reply, port, code, cookie, error_file, answer](const Caller* known_caller) {
        if (known_caller == nullptr) { return reply(answer("")); }
        const auto& caller = *known_caller;
        if (code != 0) {
            m_options.log("listen failed port=" + std::to_string(port) + " errno=" + std::to_string(code) + " pid=" +
                          std::to_string(caller.holder.process.pid));
            return reply(answer(""));
        }
        auto decision = decide_listening(m_registry, m_options.config, caller, port, cookie, facts());
        if (!decision.changes.empty()) { see_project(caller.place.project, decision.changes); }
        (void)commit(std::move(decision.changes));
        if (m_destroyed_set.contains(cookie)) { on_sockets_destroyed({{{cookie, port}}, false}); }
        const auto* lease = m_registry.find(decision.answer);
        std::string notice;
        const bool moved = lease != nullptr && lease->key.requested.value_or(0) != 0 && *lease->key.requested != lease->port;
        const bool same_file = caller.scope && caller.scope->stderr_inode == error_file[1] && caller.scope->stderr_device == error_file[0];
        if (moved && same_file && !caller.scope->quiet && m_noticed.emplace(caller.session, lease->id).second) {
            const auto known = m_moves.find(lease->id);
            notice = moved_notice(m_registry, *lease, known != m_moves.end() ? known->second : Move{}, m_outside.now());
        }
        reply(answer(notice));
    });
}

}  // namespace portwrap
