#include "service/agent.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "portwrap/protocol.hpp"
#include "storage/event_codec.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"

namespace portwrap {

namespace {

ProcessId own_process() {
    const auto self = read_process(::getpid());
    return self ? self->id : ProcessId{};
}

/// A number that a program got for port 0 and dropped is given to no other process for this long.
constexpr auto k_dropped_for = std::chrono::seconds(60);

/// A timer that is later than this is not coming by itself.
constexpr auto k_late = std::chrono::seconds(1);

/// Whoever asks for the ports of a project waits so long until it is known what outlived a session of it that has just ended.
constexpr auto k_survivors_known = std::chrono::milliseconds(300);

/// What named leases and their projects may take of memory, some 9,000 of them: a snapshot takes as much again. Programs that bind
/// get their ports beyond it.
constexpr std::size_t k_registry_bytes = 12 * 1024 * 1024;

/// Then every port counts as taken (try_bind): nobody is to be told that it is.
bool cannot_try_ports() {
    const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return !probe.valid() && is_shortage(errno);
}

Refusal not_changed(const std::string& problem) { return {ErrorCode::storage_error, "nothing was changed: " + problem, {}, {}}; }

/// Does the end of a socket, of the lease's own or a stranger's, mean something to it?
bool is_socketed(const Lease& lease) {
    return lease.live() && (lease.session || !lease.sockets.empty() || lease.state == LeaseState::conflict);
}

}  // namespace

Agent::Agent(Outside& outside, std::unique_ptr<Store> store, Registry registry, Options options)
    : m_outside(outside),
      m_file_jobs(outside),
      m_store(std::move(store)),
      m_registry(std::move(registry)),
      m_options(std::move(options)),
      m_started_at(outside.now()),
      m_ephemeral(read_ephemeral_range()),
      m_kernel_reserved(read_kernel_reserved_ports()),
      m_first_permitted(read_first_permitted_port()),
      m_tables(outside, {m_options.tables, own_process(), m_options.netns, m_options.log_trouble}),
      m_prompt_files(outside, {m_options.prompts, ::getpid(), m_options.log_trouble}),
      m_config(m_options.user.config),
      m_config_problem(m_options.config_problem) {
    m_named_seq = m_registry.last_seq();
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
    facts.first_permitted = m_first_permitted;
    facts.in_use = [](Port port, bool tcp, bool udp) { return is_port_in_use(port, tcp, udp); };
    facts.receivers = [](Port port) {
        std::vector<Cookie> cookies;
        if (const auto listeners = list_listeners(port, Heard::tcp_and_udp)) {
            for (const auto& listener : *listeners) {
                if (listener.protocol == Protocol::udp) { cookies.push_back(listener.cookie); }
            }
        }
        return cookies;
    };
    std::erase_if(m_dropped, [&](const auto& entry) { return entry.second.until <= facts.now; });
    for (const auto& [port, dropped] : m_dropped) { facts.dropped.emplace(port, dropped.process); }
    facts.rotation = m_rotation;
    facts.is_alive = [](const ProcessId& process) { return is_alive(process); };
    facts.is_descendant = [](const ProcessId& process, const ProcessId& ancestor) {
        const auto line = lineage_of(process);
        return std::find(line.begin(), line.end(), ancestor) != line.end();
    };
    facts.is_granted = [this](LeaseId id) { return m_granted.contains(id); };
    facts.random = m_random();
    return facts;
}

Status Agent::commit(std::vector<Change> changes, bool durable) {
    if (changes.empty()) { return ok_status(); }
    const auto now = m_outside.now();
    const auto events = m_registry.stamp(std::move(changes), now);
    auto written = m_store->append(events);
    if (!written) {
        if (durable) {
            m_registry.skip(events);
            return written;
        }
        m_options.log_trouble("journal: " + written.error().message + "; running programs go on getting ports");
    }
    if (durable) { m_named_seq = events.back().seq; }
    // The disk works while the rest is done here. Where others wait already, it is asked once for all that this turn commits:
    // a sync for each would take the time that answering them needs.
    if (durable && m_waiting.empty()) { m_store->request_sync(); }
    m_sync_due = m_sync_due || (durable && !m_waiting.empty());
    std::map<LeaseId, Lease> forgotten_leases;
    for (const auto& event : events) {
        if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
            const auto& lease = changed->lease;
            if (lease.expires_at && !lease.listening()) { wake_by(*lease.expires_at); }
            const auto* before = m_registry.find(lease.id);
            // A number that was read back from port 0 and dropped.
            if (lease.key.requested == Port{0} && lease.sockets.empty() && before != nullptr && before->holder && !before->sockets.empty()) {
                m_dropped[lease.port] = {before->holder->process, now + k_dropped_for};
            }
            // When its claim, its inactivity or its memory ends.
            const auto used = lease.last_used();
            if (!lease.live()) {
                wake_by(lease.claimed ? used + m_config.inactive : lease.released_at.value_or(used) + m_config.remembered);
            } else if (lease.by_name() && lease.sockets.empty()) {
                wake_by(used + m_config.inactive);
            }
            m_options.log(std::string(word(changed->change)) + " port=" + std::to_string(lease.port) + " service=" + lease.key.service +
                          " requested=" + (lease.key.requested ? std::to_string(*lease.key.requested) : "-") + " root=" + lease.key.root +
                          (lease.holder ? " pid=" + std::to_string(lease.holder->process.pid) : ""));
        }
        if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
            m_moves.erase(forgotten->id);
            m_health.erase(forgotten->id);
            if (const auto* before = m_registry.find(forgotten->id); before != nullptr && !m_streams.empty()) { forgotten_leases.emplace(before->id, *before); }
            if (const auto* before = m_registry.find(forgotten->id); before != nullptr && before->key.requested == Port{0} && before->holder) {
                m_dropped[before->port] = {before->holder->process, now + k_dropped_for};
            }
        }
        m_registry.apply(event);
        mind_sockets(event);
        if (std::holds_alternative<SessionOpened>(event.change) || std::holds_alternative<SessionClosed>(event.change)) { m_processes.forget_sessions(); }
        if (const auto* closed = std::get_if<SessionClosed>(&event.change)) {
            m_session_places.erase(closed->id);
            std::erase_if(m_noticed, [&](const auto& entry) { return entry.first == closed->id; });
        }
        for (const auto& watcher : m_watchers) { watcher(event, m_registry); }
    }
    mind_store();
    // Last: a reader that is dropped now may change the registry itself.
    if (!m_streams.empty() || !m_waits.empty()) { publish(events, forgotten_leases); }
    return ok_status();
}

void Agent::commit_durably(std::vector<Change> changes, const Request& request, ReplyTo reply, const std::function<Json()>& result) {
    commit_with_line(std::move(changes), request, std::move(reply), [&] { return result_line(request.id, result()); });
}

std::optional<Refusal> Agent::no_room_for(const std::vector<Change>& changes) const {
    std::size_t more = 0;
    for (const auto& change : changes) {
        if (const auto* seen = std::get_if<ProjectSeen>(&change)) { more += m_project_memory.more_for(seen->project); }
        const auto* event = std::get_if<LeaseEvent>(&change);
        if (event == nullptr || !event->lease.live()) { continue; }
        const auto* before = m_registry.find(event->lease.id);
        const auto had = before != nullptr && before->live() ? Registry::bytes_of(*before) : 0;
        more += Registry::bytes_of(event->lease) - std::min(had, Registry::bytes_of(event->lease));
    }
    // Of projects that have nothing, the surplus goes by itself.
    const auto projects = m_project_memory.bytes() - std::min(m_project_memory.bytes(), ProjectMemory::k_most_bytes);
    if (more == 0 || m_registry.used_bytes() + projects + more <= k_registry_bytes) { return std::nullopt; }
    const auto count = std::count_if(m_registry.leases().begin(), m_registry.leases().end(), [](const auto& entry) { return entry.second.live(); });
    const auto much = more > k_registry_bytes / 2 ? "this is more than the registry has room for beside its " : "the registry is full with ";
    return not_changed(much + std::to_string(count) + " ports (portctl list --all; portctl cleanup --all)");
}

void Agent::commit_with_line(std::vector<Change> changes, const Request& request, ReplyTo reply, const std::function<std::string()>& line) {
    if (changes.empty()) {
        // Granted earlier; but is that on the disk yet?
        WaitingReply waiting{m_named_seq, line(), request.id, std::move(reply), {}};
        if (m_store->sync_state().synced_seq >= waiting.seq) { return waiting.reply({waiting.line, false}); }
        m_waiting.push_back(std::move(waiting));
        return m_store->request_sync();
    }
    if (m_store->degraded()) {
        if (request.again) { return refuse(request, reply, not_changed(m_store->problem())); }
        m_put_off.emplace_back(request, std::move(reply));
        m_store->request_sync();
        return mind_store();
    }
    if (const auto refusal = no_room_for(changes)) { return refuse(request, reply, *refusal); }
    WaitingReply waiting;
    for (const auto& change : changes) {
        const auto* event = std::get_if<LeaseEvent>(&change);
        const auto* forgotten = std::get_if<LeaseForgotten>(&change);
        if (event == nullptr && forgotten == nullptr) { continue; }
        const auto id = event != nullptr ? event->lease.id : forgotten->id;
        const auto* before = m_registry.find(id);
        waiting.undo.push_back({id, event != nullptr ? std::optional<Lease>(event->lease) : std::nullopt,
                                before != nullptr ? std::optional<Lease>(*before) : std::nullopt});
    }
    if (auto written = commit(std::move(changes), true); !written) {
        return refuse(request, reply, not_changed(written.error().message));
    }
    waiting.seq = m_registry.last_seq();
    waiting.line = line();
    waiting.id = request.id;
    waiting.reply = std::move(reply);
    m_waiting.push_back(std::move(waiting));
}

void Agent::on_turn_ended() {
    (void)commit(m_project_memory.surplus(m_registry));
    if (std::exchange(m_sync_due, false)) { m_store->request_sync(); }
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
        for (const auto& undo : waiting->undo) {
            const auto known = restored.find(undo.id);
            const auto* current = m_registry.find(undo.id);
            const bool untouched = known != restored.end() ? known->second == undo.after
                                   : current != nullptr    ? undo.after == *current
                                                           : !undo.after;
            if (untouched) { restored[undo.id] = undo.before; }
        }
    }
    // Somebody may have been given a released port since: a promise to a running program is not taken back.
    const auto is_promised = [&](const Lease& lease) {
        for (const auto* other : m_registry.on_port(lease.port)) {
            if (other->id == lease.id || !other->live()) { continue; }
            const auto known = restored.find(other->id);
            if (known == restored.end() || (known->second && known->second->live() && known->second->port == lease.port)) { return true; }
        }
        return false;
    };
    std::vector<Change> undo;
    for (const auto& [id, before] : restored) {
        if (!before) {
            if (m_registry.find(id) != nullptr) { undo.emplace_back(LeaseForgotten{id}); }
        } else if (!before->live() || !is_promised(*before)) {
            undo.emplace_back(LeaseEvent{LeaseChange::updated, *before});
        }
    }
    if (!failed.empty()) {
        m_options.log_trouble("journal: a sync failed: " + m_store->problem() + "; " + std::to_string(failed.size()) + " requests by name were refused");
        (void)commit(std::move(undo));
        take_census();
    }
    for (const auto& waiting : failed) {
        Request request;
        request.id = waiting.id;
        refuse(request, waiting.reply, not_changed(m_store->problem()));
    }
    tell_of_snapshots();
    mind_store();
    if (m_store->idle()) { decide_put_off(); }
}

void Agent::decide_put_off() {
    for (auto& [request, reply] : std::exchange(m_put_off, {})) {
        if (request.from && request.from->closed) {
            reply({});
            continue;
        }
        request.again = true;
        if (const auto handler = find_handler(request.method); handler != nullptr) {
            (this->*handler)(std::const_pointer_cast<Exchange>(request.from), request, reply);
        }
    }
}

void Agent::mind_store() {
    if (m_store->wants_compaction()) { m_store->compact(m_registry, m_outside.now()); }
}

void Agent::tell_of_snapshots() {
    auto problem = m_store->snapshot_problem();
    if (problem == m_snapshot_problem) { return; }
    if (problem.empty()) {
        m_options.log("snapshot: written again");
    } else {
        m_options.log_trouble("snapshot: " + problem + "; the journal keeps every change, and grows");
    }
    m_snapshot_problem = std::move(problem);
}

void Agent::wake_by(Time time) {
    const auto now = m_outside.now();
    // What is due already is due next: a later wish must not take its place.
    time = std::max(time, now + std::chrono::milliseconds(1));
    // A time in the past: the wall clock has jumped, and the loop's timer has not.
    if (m_wake_at && *m_wake_at <= time && *m_wake_at > now) { return; }
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
    (void)commit(decide_expiry(m_registry, m_config, now).changes);
    // What is kept beyond its time because somebody listens: it is seen who.
    std::vector<const Lease*> overdue;
    for (const auto& [id, lease] : m_registry.leases()) {
        if (lease.live() && lease.by_name() && lease.sockets.empty() && lease.expires_at && *lease.expires_at <= now.now) { overdue.push_back(&lease); }
    }
    with_heard(overdue, [] {});
    mind_removed_roots();
    // Sessions that waited for what has ended now.
    std::vector<ProcessId> ended;
    for (const auto& [id, session] : m_registry.sessions()) {
        if (!is_alive(id)) { ended.push_back(id); }
    }
    for (const auto& id : ended) { on_process_ended(id); }
    // What the changes themselves will need later, too: a claim that ended today is forgotten some weeks on.
    const auto next = decide_expiry(m_registry, m_config, facts());
    if (!next.changes.empty()) {
        wake_by(m_outside.now());  // it has become due in the meantime
    } else if (next.answer) {
        wake_by(*next.answer);
    }
}

void Agent::close() {
    m_tables.leave();
    m_prompt_files.close();
    m_store->close(m_registry, m_outside.now());
    tell_of_snapshots();
}

void Agent::start() {
    apply_config();
    const auto& leases = m_registry.leases();
    for (const auto& [id, lease] : leases) {
        if (is_socketed(lease)) { m_socketed.insert(id); }
    }
    // Subscribed before the census: a socket that closes in between is then in the notifications.
    if (!m_socketed.empty()) { m_watching = m_outside.watch_sockets(true); }
    take_census();
    // With what is true by now; from here on the tables follow the events.
    m_tables.start(m_registry);
    watch([this](const Event& event, const Registry& registry) { m_tables.on_event(event, registry); });
    m_prompt_files.start(m_registry);
    watch([this](const Event& event, const Registry& registry) { m_prompt_files.on_event(event, registry); });
    watch_ranges();
    m_project_memory.start(m_registry);
    watch([this](const Event& event, const Registry&) { m_project_memory.on_event(event); });
    start_root_care();
    on_timer();
    with_all_heard([] {});
    mind_unanswered();
}

void Agent::mind_sockets(const Event& event) {
    const bool before = !m_socketed.empty();
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = changed->lease;
        if (is_socketed(lease)) {
            m_socketed.insert(lease.id);
        } else {
            m_socketed.erase(lease.id);
        }
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        m_socketed.erase(forgotten->id);
    }
    if (before != !m_socketed.empty()) {
        m_watching = m_outside.watch_sockets(!m_socketed.empty());
        mind_health();
    }
}

void Agent::refresh(const std::string* root) {
    if (!m_socketed.empty() && (!m_watching || has_unseen_end(root))) { take_census(); }
}

bool Agent::has_unseen_end(const std::string* root) const {
    pid_t seen = 0;  // most leases of a project belong to few processes
    return std::any_of(m_socketed.begin(), m_socketed.end(), [&](LeaseId id) {
        const auto* lease = m_registry.find(id);
        if (root != nullptr && lease != nullptr && lease->key.root != *root) { return false; }
        if (lease == nullptr || !lease->holder || m_granted.contains(id)) { return false; }
        const auto& holder = lease->holder->process;
        if (holder.pid == seen || m_outlived.contains({id, holder})) { return false; }
        if (is_pid_free(holder.pid)) { return true; }
        seen = holder.pid;
        return false;
    });
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

Census Agent::look_at_system() {
    const auto sockets = existing_sockets();
    Census census;
    census.blind = !sockets;
    if (sockets) {
        census.sockets.insert(sockets->begin(), sockets->end());
    } else if (!m_blind) {
        m_options.log_trouble("census: " + sockets.error().message + "; leases end when their ports are seen free");
    }
    m_blind = census.blind;
    census.sees_bound = sees_bound_sockets();
    // Listeners on the ports of leases that know no socket: are they the holders' own?
    std::map<Port, const Lease*> silent;
    for (const auto& [id, lease] : m_registry.leases()) {
        if (lease.live() && lease.sockets.empty() && (lease.holder || lease.session)) { silent.emplace(lease.port, &lease); }
    }
    if (const auto listeners = list_listeners()) {
        std::map<ino_t, const Listener*> candidates;
        std::vector<ino_t> inodes;
        std::vector<pid_t> holders;
        for (const auto& listener : *listeners) {
            census.listening.insert(listener.cookie);
            const auto expected = silent.find(listener.port);
            if (expected == silent.end() || listener.cookie == 0 || m_registry.find_by_cookie(listener.cookie) != nullptr) { continue; }
            candidates.emplace(listener.inode, &listener);
            inodes.push_back(listener.inode);
            const auto& lease = *expected->second;
            holders.push_back(lease.holder ? lease.holder->process.pid : lease.session->pid);
        }
        if (!inodes.empty()) {
            for (const auto& [inode, process] : find_socket_holders(inodes, holders)) {
                const auto* listener = candidates.at(inode);
                const auto& lease = *silent.at(listener->port);
                // Offered to a session (PORT, the table): any process of that session is meant.
                auto owner = process;
                if (!lease.holder) {
                    const auto scope = scope_of(process);
                    if (scope && scope->outermost == *lease.session) { owner = *lease.session; }
                }
                census.unknown.emplace(std::pair(owner, listener->port), listener->cookie);
            }
        }
    }
    census.is_alive = [](const ProcessId& process) { return is_alive(process); };
    return census;
}

void Agent::take_census() {
    (void)commit(decide_census(m_registry, m_config, look_at_system(), facts()));
    m_outlived.clear();
    for (const auto id : m_socketed) {
        const auto* lease = m_registry.find(id);
        const bool settled = lease != nullptr && lease->holder && !m_granted.contains(id);
        if (settled && is_pid_free(lease->holder->process.pid)) { m_outlived.emplace(id, lease->holder->process); }
    }
}

void Agent::on_sockets_destroyed(const DestroyWatch::Batch& batch) {
    for (const auto& destroyed : batch.destroyed) {
        note_destroyed(destroyed.cookie);
        const auto* lease = m_registry.find_by_cookie(destroyed.cookie);
        if (lease == nullptr) {
            end_conflicts(destroyed.port);
            continue;
        }
        const auto session = lease->session;
        (void)commit(decide_destroyed(m_registry, m_config, destroyed.cookie, facts()));
        // A session that outlived its process only because of this socket.
        if (session && !is_alive(*session)) { on_process_ended(*session); }
    }
    if (batch.overrun) { take_census(); }
}

void Agent::end_conflicts(Port port) {
    std::vector<Lease> conflicts;
    for (const auto* lease : m_registry.on_port(port)) {
        if (lease->state == LeaseState::conflict) { conflicts.push_back(*lease); }
    }
    if (conflicts.empty()) { return; }
    const auto now = facts();
    if (now.in_use(port, true, true)) { return; }
    (void)commit(decide_heard(m_registry, conflicts, {}, now));
}

void Agent::on_process_ended(const ProcessId& process) {
    refresh();
    (void)commit(decide_session_ended(m_registry, m_config, process, facts()));
    look_for_survivors(process);
    const auto outlived = m_survivors.extract(process);
    // Where there are no pidfds, nobody is told of its end: then what was offered ends with its time.
    if (!outlived.empty() && !is_alive(process)) { look_for_survivors(outlived.mapped()); }
}

void Agent::look_for_survivors(const ProcessId& session) {
    Offered offered;
    for (const auto* lease : m_registry.of_session(session)) {
        if (!waits_for_survivor(*lease)) { continue; }
        offered.roots.insert(lease->key.root);
        offered.ports.insert(lease->port);
    }
    if (offered.ports.empty() || is_alive(session)) { return; }
    m_looked_for.emplace(session, std::move(offered));
    look_for_next_survivors();
}

void Agent::look_for_next_survivors() {
    if (m_looked_for.empty() || std::exchange(m_looking_for_survivors, true)) { return; }
    std::set<ProcessId> sessions;
    for (const auto& [session, offered] : m_looked_for) { sessions.insert(session); }
    auto found = std::make_shared<std::optional<std::map<ProcessId, ProcessId>>>();
    m_file_jobs.run(FileJobs::Lane::processes, {}, [found, sessions] { *found = find_survivors(sessions); }, [this, sessions, found] {
        m_looking_for_survivors = false;
        for (const auto& session : sessions) {
            m_looked_for.erase(session);
            if (!*found) { continue; }
            if (const auto survivor = (*found)->find(session); survivor != (*found)->end()) {
                m_survivors.insert_or_assign(survivor->second, session);
                m_outside.watch_process(survivor->second);
            } else {
                (void)commit(decide_session_ended(m_registry, m_config, session, facts(), Survivors::none));
            }
        }
        look_for_next_survivors();
        decide_after_looks();
    });
}

bool Agent::looks_for_survivors(const std::string& root, std::optional<Port> port) const {
    return std::any_of(m_looked_for.begin(), m_looked_for.end(), [&](const auto& entry) {
        return entry.second.roots.contains(root) || (port && entry.second.ports.contains(*port));
    });
}

void Agent::with_survivors_known(const std::string& root, std::optional<Port> port, std::function<void()> then) {
    const auto number = ++m_next_after_look;
    auto cancel = m_outside.call_after(k_survivors_known, [this, number] {
        if (const auto waiting = m_after_looks.extract(number)) { waiting.mapped().then(); }
    });
    m_after_looks.emplace(number, AfterLook{root, port, std::move(then), std::move(cancel)});
}

void Agent::decide_after_looks() {
    std::vector<AfterLook> known;
    for (auto entry = m_after_looks.begin(); entry != m_after_looks.end();) {
        const auto waiting = entry++;
        if (!looks_for_survivors(waiting->second.root, waiting->second.port)) { known.push_back(std::move(m_after_looks.extract(waiting).mapped())); }
    }
    for (const auto& waiting : known) {
        waiting.cancel();
        waiting.then();
    }
}

// --- requests ----------------------------------------------------------------------------------------------------

void Agent::refuse(const Request& request, const ReplyTo& reply, const Refusal& refusal) {
    if (refusal.code == ErrorCode::range_exhausted && cannot_try_ports()) {
        return refuse(request, reply, {ErrorCode::agent_unavailable, "the agent has no descriptor left to see which ports are free; portctl doctor tells how many it has", {}, {}});
    }
    const int code = refusal.code == ErrorCode::invalid_request ? k_rpc_invalid_params : k_rpc_refused;
    reply({error_line(request.id, code, refusal.message, refusal_shape(m_registry, refusal)), false});
}

Agent::Handler Agent::find_handler(std::string_view method) {
    for (const auto& group : {shim_methods(), session_methods(), lease_methods(), port_methods(), exchange_methods(), range_methods(), care_methods(), health_methods(), event_methods(), agent_methods(), config_methods()}) {
        for (const auto& row : group) {
            if (row.name == method) { return row.handler; }
        }
    }
    return nullptr;
}

std::span<const Agent::Method> Agent::agent_methods() {
    static constexpr Method k_methods[] = {{"agent.status", &Agent::agent_status},
                                           {"agent.stop", &Agent::agent_stop},
                                           {"agent.doctor", &Agent::agent_doctor},
                                           {"agent.log_level", &Agent::agent_log_level}};
    return k_methods;
}

void Agent::refuse_port(const Request& request, const ReplyTo& reply, Refusal refusal) {
    if (!refusal.message.empty() || (refusal.code != ErrorCode::port_in_use && refusal.code != ErrorCode::port_leased)) {
        return refuse(request, reply, refusal);
    }
    const auto* owner = refusal.conflict ? &*refusal.conflict : nullptr;
    refusal.message = taken_message(m_registry, refusal.port, owner, refusal.code == ErrorCode::port_in_use);
    if (owner != nullptr) { return refuse(request, reply, refusal); }
    auto seen = std::make_shared<std::vector<SeenListener>>();
    m_file_jobs.run(FileJobs::Lane::processes, {}, [seen, port = refusal.port] { *seen = look_at_listeners({port}); },
                          [this, request, reply, refusal, seen]() mutable {
                              if (!seen->empty()) { refusal.message += stranger_words(seen->front()); }
                              reply({error_line(request.id, k_rpc_refused, refusal.message,
                                                refusal_shape(m_registry, refusal, seen->empty() ? nullptr : &seen->front())), false});
                          });
}

void Agent::answer_lease(Decision<Outcome<LeaseId>> decision, const Project& project, const Request& request, const ReplyTo& reply) {
    if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse_port(request, reply, std::move(*refusal)); }
    if (!decision.changes.empty()) { see_project(project, decision.changes); }
    const auto id = std::get<LeaseId>(decision.answer);
    commit_durably(std::move(decision.changes), request, reply, [this, id] {
        auto result = ok_shape();
        const auto* lease = m_registry.find(id);
        result["lease"] = lease != nullptr ? lease_shape(m_registry, *lease) : Json(nullptr);
        result["config_problem"] = m_config_problem.empty() ? Json(nullptr) : Json(m_config_problem);
        return result;
    });
}

Json Agent::leases_result(const std::vector<LeaseId>& ids) const {
    auto result = ok_shape();
    result["leases"] = Json::array();
    for (const auto id : ids) {
        if (const auto* lease = m_registry.find(id)) { result["leases"].push_back(lease_shape(m_registry, *lease)); }
    }
    return result;
}

bool Agent::has_room_for(std::string_view line) const { return has_room_beside(*m_held, line); }

void Agent::on_line(const std::shared_ptr<Exchange>& exchange, std::string_view line, ReplyTo reply) {
    auto parsed = parse_request(line, m_held);
    if (const auto* error = std::get_if<RequestError>(&parsed)) {
        const Refusal refusal{ErrorCode::invalid_request, error->message, {}, {}};
        const bool close = error->code == k_rpc_parse_error || error->code == k_rpc_invalid_request;
        return reply({error_line(error->id, error->code, error->message, refusal_shape(m_registry, refusal)), close});
    }
    m_last_used = m_outside.now();
    // The wall clock has jumped, or the machine has slept, which the loop's timer does not see.
    if (m_wake_at && *m_wake_at + k_late < m_last_used) { on_timer(); }
    if (!std::exchange(exchange->talking, true)) { ++m_talking; }
    auto& request = std::get<Request>(parsed);
    request.from = exchange;
    if (request.notification) {
        reply = [reply = std::move(reply)](const Reply& answer) { reply({{}, answer.close}); };
    } else if (exchange->closed) {
        // Nobody waits for it any more; a program has gone on without its answer.
        if (request.method.starts_with("shim.")) { mind_unanswered(); }
        return reply({});
    }
    if (const auto handler = find_handler(request.method); handler != nullptr) { return (this->*handler)(exchange, request, reply); }
    const Refusal refusal{ErrorCode::invalid_request, "there is no method \"" + printable(request.method, 64) + "\"", {}, {}};
    reply({error_line(request.id, k_rpc_unknown_method, refusal.message, refusal_shape(m_registry, refusal)), false});
}

void Agent::set_granted(Exchange& exchange, LeaseId lease) {
    if (const auto known = m_granted.find(exchange.lease); known != m_granted.end() && --known->second == 0) { m_granted.erase(known); }
    exchange.lease = lease;
    if (lease != 0) { ++m_granted[lease]; }
}

void Agent::on_closed(const std::shared_ptr<Exchange>& exchange) {
    exchange->closed = true;
    if (exchange->talking) { --m_talking; }
    end_streams(exchange);
    const auto lease = exchange->lease;
    if (lease == 0) { return; }
    set_granted(*exchange, 0);
    const bool gone = exchange->caller && !m_processes.is_alive(exchange->caller->holder.process);
    (void)commit(decide_unbound(m_registry, m_config, lease, gone, facts()));
}

void Agent::agent_status(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
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

void Agent::agent_stop(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    agent_status(exchange, request, [this, reply](Reply answer) {
        answer.close = true;
        reply(std::move(answer));
        m_outside.stop();
    });
}

void Agent::agent_log_level(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("level");
    const auto level = params.text("level", 16).value_or("info");
    if (level != "debug" && level != "info" && level != "warn" && level != "error") { params.fail("level", "is not one of debug, info, warn, error"); }
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    if (m_options.set_log_level) { m_options.set_log_level(level); }
    auto result = ok_shape();
    result["level"] = level;
    reply({result_line(request.id, result), false});
}

void Agent::agent_doctor(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    with_config_news([this, request, reply](const std::string& news) { answer_doctor(request, reply, news); });
}

void Agent::answer_doctor(const Request& request, const ReplyTo& reply, const std::string& config_news) {
    auto checks = Json::array();
    const auto check = [&checks](const char* name, bool good, const char* grade, const std::string& detail) {
        checks.push_back({{"name", name}, {"status", good ? "ok" : grade}, {"detail", detail}});
    };
    std::string losses;
    for (const auto& loss : m_options.losses) { losses += (losses.empty() ? "" : "; ") + loss; }
    check("registry", losses.empty(), "warning", losses.empty() ? "whole: " + m_options.state : losses);
    const bool degraded = m_store->degraded();
    check("journal", !degraded, "error", degraded ? "cannot be written; allocations by name are refused (" + m_store->problem() + ")" : "writable");
    const auto problem = m_store->snapshot_problem();
    check("snapshot", problem.empty(), "warning", problem.empty() ? "written when the journal outgrows it" : problem + "; the journal keeps every change, and grows");
    check("config", config_news.empty(), "warning", config_news.empty() ? m_options.config_path : config_news + "; the last good one, or the built-in values, are in use");
    const auto unpublished = m_tables.keep_in_place();
    check("tables", unpublished.empty(), "error", unpublished.empty() ? "connections are looked up in " + m_options.tables : unpublished);
    const auto sockets = existing_sockets();
    check("sock_diag", static_cast<bool>(sockets), "warning", sockets ? "the kernel lists sockets" : sockets.error().message + "; listeners are read from /proc/net");
    // Without a running program nobody is subscribed: tried with a subscription of its own.
    const auto watch = m_watching ? ok_status() : [] {
        const auto opened = DestroyWatch::open();
        return opened ? ok_status() : Status(opened.error());
    }();
    check("destroy groups", static_cast<bool>(watch), "warning",
          watch ? "the kernel tells when sockets end" : watch.error().message + "; the end of a lease is seen when somebody asks");
    const auto pidfd = open_pidfd(::getpid());
    check("pidfd", pidfd.valid(), "warning", pidfd.valid() ? "processes are awaited" : "no pidfds: the ends of sessions are seen late");
    rlimit files{};
    const bool known = ::getrlimit(RLIMIT_NOFILE, &files) == 0;
    check("descriptors", known && files.rlim_cur >= 1024, "warning", std::to_string(known ? files.rlim_cur : 0) + " for the agent");
    check("ephemeral ports", m_ephemeral.size() > 0, "warning", std::to_string(m_ephemeral.start) + "-" + std::to_string(m_ephemeral.end) + " are the kernel's own");
    auto result = ok_shape();
    result["checks"] = std::move(checks);
    reply({result_line(request.id, result), false});
}

}  // namespace portwrap
