// Who asks, and from where: directories, projects, processes and their sessions.
#include <algorithm>
#include <utility>

#include "core/blocks.hpp"
#include "core/lease_steps.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "system/listeners.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"

namespace portwrap {
namespace {

using namespace std::chrono_literals;

/// How long what was read of a directory is believed outside of a session.
constexpr auto k_place_lifetime = 1s;
/// And of how many directories, in how much memory: the oldest are read again.
constexpr std::size_t k_known_places = 256;
constexpr std::size_t k_known_bytes = 2 * 1024 * 1024;

/// Directories of one session that are remembered, and how much memory those of all sessions may have: what is more is read again.
constexpr std::size_t k_session_places = 64;
constexpr std::size_t k_session_bytes = 4 * 1024 * 1024;

/// Ports that are tried on the loop before somebody is asked who listens; more of them are looked at together, in the pool.
constexpr std::size_t k_ports_tried = 8;

/// A program that got no answer asks nobody for a while, and then has to be scheduled.
constexpr auto k_unanswered_for = std::chrono::milliseconds(k_quiet_ms) + 1s;
/// Strangers' sockets that are remembered as such: of more, all are looked at again.
constexpr std::size_t k_strangers = 64 * 1024;

/// A directory of its own right: a git worktree or one with a .portwrap.json, not just a manifest or nothing.
bool is_project_of_its_own(const Place& place) {
    return place.project.family.starts_with("git:") || !(place.config == ProjectConfig{});
}

std::size_t memory_of(const Place& place) {
    const auto& project = place.project;
    std::size_t bytes = sizeof place + place.problem.size() + place.package_dir.size() + project.root.size() + project.name.size() + project.family.size() +
                        project.git_dir.size() + project.worktree_of.value_or("").size();
    for (const auto& service : place.config.services) {
        bytes += sizeof service + service.dir.value_or("").size();
        for (const auto& argument : service.args) { bytes += sizeof(std::string) + argument.size(); }
    }
    for (const auto& [name, value] : place.config.env) { bytes += 2 * sizeof(std::string) + name.size() + value.size(); }
    return bytes;
}

/// The number that a request asks for, if it names one.
std::optional<Port> wanted_port(const Request& request) {
    Params params(request.params);
    for (const auto* name : {"new_port", "preferred"}) {
        if (const auto port = params.port(name)) { return port; }
    }
    return params.port("port");
}

/// What a session or a connection remembers for its life: the rest is for launches and health checks, which read it anew.
Place for_callers(const Place& place) {
    Place kept;
    kept.project = place.project;
    kept.type = place.type;
    kept.package_dir = place.package_dir;
    kept.problem = place.problem;
    const auto& config = place.config;
    kept.config = {config.name, config.type, {}, {}, config.connect, config.claims, config.port_zero_kernel, config.rewrite_env};
    if (!config.env.empty()) { kept.config.env.emplace_back(config.env.front().first, ""); }  // that there are some makes it a project of its own
    kept.config.services.reserve(config.services.size());
    for (const auto& service : config.services) {
        auto& entry = kept.config.services.emplace_back();
        entry.name = service.name;
        entry.port = service.port;
        entry.env = service.env;
        entry.dir = service.dir;
        entry.kind = service.kind;
        entry.type = service.type;
        entry.shared = service.shared;
        entry.sockname_requested = service.sockname_requested;
    }
    return kept;
}

/// A wrapped process that belongs to no session that is known here, in the place of one; where it writes is as it inherited it.
Session session_of_its_own(const Caller& caller, const Place& place) {
    Session session;
    session.id = session.outermost = caller.holder.process;
    session.root = place.project.root;
    session.cwd = caller.holder.cwd;
    session.command = caller.holder.command;
    session.boot_id = caller.scope->boot_id;
    session.quiet = caller.scope->quiet;
    session.connect = caller.scope->connect;
    session.stderr_device = caller.scope->stderr_device;
    session.stderr_inode = caller.scope->stderr_inode;
    session.started_at = caller.holder.started_at;
    return session;
}

/// What somebody keeps for this key, if it says the same, else a new one of it.
template <typename T, typename Value, typename Make>
std::shared_ptr<const T> share(std::unordered_map<std::string, std::weak_ptr<const T>>& known, const std::string& key, Value&& value, const Make& make) {
    if (const auto last = known.find(key); last != known.end()) {
        if (auto shared = last->second.lock(); shared && *shared == value) { return shared; }
    }
    if (known.size() >= k_known_places) {
        std::erase_if(known, [](const auto& one) { return one.second.expired(); });
    }
    std::shared_ptr<const T> shared = make(std::forward<Value>(value));
    known[key] = shared;
    return shared;
}

}  // namespace

void Agent::with_place(const std::shared_ptr<const std::string>& directory, std::function<void(const Place*)> then) {
    if (const auto known = m_places.find(*directory); known != m_places.end()) {
        if (m_outside.now() - known->second.read_at < k_place_lifetime) { return then(&known->second.place); }
        m_places.erase(known);
    }
    const auto [entry, is_new] = m_place_reads.try_emplace(*directory);
    if (entry->second.late) { return then(nullptr); }
    entry->second.waiters.push_back(std::move(then));
    if (!is_new) { return; }
    entry->second.directory = directory;
    auto found = std::make_shared<Place>();
    const auto work = [found, directory, home = m_options.home, roots = m_root_commits] { *found = find_place(*directory, home, roots.get()); };
    m_file_jobs.run(*directory, work, [this, found, directory](FileJobs::Progress progress) {
        if (progress != FileJobs::Progress::ended) {
            auto& read = m_place_reads[*directory];
            const auto waiters = std::exchange(read.waiters, {});
            if (progress == FileJobs::Progress::late) {
                read.late = true;
                m_options.log_trouble("the file system of " + printable(*directory) + " does not answer");
            } else {
                m_place_reads.erase(*directory);
            }
            for (const auto& waiter : waiters) { waiter(nullptr); }
            return;
        }
        with_moves(*found, [this, found, directory] {
            auto bytes = memory_of(*found);
            std::erase_if(m_places, [&bytes, now = m_outside.now()](const auto& known) {
                bytes += memory_of(known.second.place);
                return now - known.second.read_at >= k_place_lifetime;
            });
            if (m_places.size() >= k_known_places || bytes > k_known_bytes) { m_places.clear(); }
            m_places[*directory] = {*found, m_outside.now()};
            auto node = m_place_reads.extract(*directory);
            for (const auto& waiter : node.mapped().waiters) { waiter(found.get()); }
        });
    });
}

Outcome<std::string> Agent::directory_of(const std::string& project) const {
    if (project.starts_with('/')) { return project; }
    std::vector<std::string> roots;
    for (const auto& [root, known] : m_registry.projects()) {
        if (known.name == project) { roots.push_back(root); }
    }
    if (roots.size() == 1) { return roots.front(); }
    if (roots.empty()) { return Refusal{ErrorCode::not_found, "there is no project named \"" + printable(project) + "\"", {}, {}}; }
    std::string message = "several projects are named \"" + printable(project) + "\"; name its directory:";
    for (const auto& root : roots) { message += " " + printable(root); }
    return Refusal{ErrorCode::invalid_request, std::move(message), {}, {}};
}

void Agent::with_project(const Request& request, Params& params, const ReplyTo& reply, std::function<void(const Place&)> then) {
    const auto cwd = params.text("cwd", 4096);
    const auto project = params.text("project", 4096);
    if (!cwd && !project) { params.fail("cwd", "is missing"); }
    if (cwd && cwd->front() != '/') { params.fail("cwd", "is not an absolute path"); }
    if (const auto problem = params.finish(); !problem.empty()) {
        return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}});
    }
    if (project) { return with_named_project(request, *project, reply, std::move(then)); }
    with_directory(request, *cwd, reply, std::move(then));
}

void Agent::with_named_project(const Request& request, const std::string& project, const ReplyTo& reply, std::function<void(const Place&)> then) {
    const auto found = directory_of(project);
    if (const auto* refusal = std::get_if<Refusal>(&found)) { return refuse(request, reply, *refusal); }
    const auto directory = std::get<std::string>(found);
    if (m_registry.find_project(directory) != nullptr) { return with_directory(request, directory, reply, std::move(then)); }
    auto gone = std::make_shared<bool>(false);
    auto answered = std::make_shared<bool>(false);
    m_file_jobs.run(directory, [gone, directory] { *gone = is_gone(directory); },
                    [this, request, reply, directory, gone, answered, then = std::move(then)](FileJobs::Progress progress) {
                        if (std::exchange(*answered, true)) { return; }
                        if (progress == FileJobs::Progress::ended && *gone) {
                            return refuse(request, reply, {ErrorCode::not_found, "there is no directory " + printable(directory), {}, {}});
                        }
                        with_directory(request, directory, reply, then);
                    });
}

void Agent::with_directory(const Request& request, const std::string& directory, const ReplyTo& reply, std::function<void(const Place&)> then) {
    const auto path = std::make_shared<const std::string>(directory);
    with_place(path, [this, request, reply, path, then = std::move(then)](const Place* place) {
        if (request.from && request.from->closed) { return reply({}); }  // it hung up before this was decided
        if (place == nullptr) {
            return refuse(request, reply, {ErrorCode::agent_unavailable, "the file system of " + printable(*path) + " does not answer", {}, {}});
        }
        const auto& root = place->project.root;
        const auto port = m_looked_for.empty() ? std::nullopt : wanted_port(request);
        if (!looks_for_survivors(root, port)) { return then(*place); }
        with_survivors_known(root, port, [request, reply, kept = kept_place(*place), then] {
            if (request.from && request.from->closed) { return reply({}); }
            then(kept.whole());
        });
    });
}

std::optional<Session> Agent::scope_of(const ProcessStat& process) {
    const auto* session = m_processes.session_above(process, m_registry);
    return session != nullptr ? std::optional(*session) : std::nullopt;
}

std::optional<Session> Agent::scope_of(const ProcessId& process) {
    const auto stat = read_process(process.pid);
    return stat && stat->id == process ? scope_of(*stat) : std::nullopt;
}

std::shared_ptr<const Place> Agent::shared_place(const std::string& directory, const Place& place) {
    return share(m_shared_places, directory, for_callers(place), [this, &directory](Place&& wanted) {
        const auto bytes = memory_of(wanted) + 2 * directory.size();
        *m_shared_bytes += bytes;
        // Connections keep it, and may end after the agent.
        return std::shared_ptr<const Place>(new Place(std::move(wanted)), [bytes, sum = m_shared_bytes](const Place* ended) {
            *sum -= bytes;
            delete ended;
        });
    });
}

Agent::KeptPlace Agent::kept_place(const Place& place) {
    auto config = share(m_kept_configs, place.project.root, place.config, [](const ProjectConfig& wanted) { return std::make_shared<const ProjectConfig>(wanted); });
    return {kept_project(place.project), std::move(config), place.type, place.package_dir, place.problem};
}

std::shared_ptr<const Project> Agent::kept_project(const Project& project) {
    return share(m_kept_projects, project.root, project, [](const Project& wanted) { return std::make_shared<const Project>(wanted); });
}

void Agent::remember_place(const ProcessId& session, const std::string& directory, std::shared_ptr<const Place> place) {
    auto& places = m_session_places[session];
    if (places.size() < k_session_places && *m_shared_bytes <= k_session_bytes) { places[directory] = std::move(place); }
}

std::shared_ptr<const Place> Agent::remembered_place(const ProcessId& session, const std::string& directory) const {
    const auto places = m_session_places.find(session);
    if (places == m_session_places.end()) { return nullptr; }
    const auto known = places->second.find(directory);
    return known != places->second.end() ? known->second : nullptr;
}

std::shared_ptr<const Place> Agent::place_that_was(const std::string& directory) const {
    const Project* innermost = nullptr;
    for (const auto& [root, project] : m_registry.projects()) {
        if (is_below(directory, root) && (innermost == nullptr || root.size() > innermost->root.size())) { innermost = &project; }
    }
    if (innermost == nullptr) { return nullptr; }
    Place place;
    place.project = *innermost;
    return std::make_shared<const Place>(std::move(place));
}

void Agent::with_caller(const std::shared_ptr<Exchange>& exchange, const ProcessId& hint, std::function<void(const Caller*)> then) {
    if (exchange->caller) { return then(&*exchange->caller); }
    const auto pid = exchange->peer.pid;
    const auto* process = m_processes.look(pid);
    if (process == nullptr) { return then(nullptr); }  // gone already
    const auto caller = std::make_shared<Caller>();
    const auto cwd = read_cwd(pid);
    caller->holder = {process->stat.id, process->command, cwd.path, process->stat.started_at};
    caller->arguments = process->arguments;
    caller->executable = process->executable;
    caller->scope = scope_of(process->stat);
    const auto* claimed = caller->scope ? nullptr : m_registry.find_session(hint);
    const bool orphan = claimed != nullptr;
    if (orphan) { caller->scope = *claimed; }
    caller->session = caller->scope ? caller->scope->outermost : caller->holder.process;
    using Shared = std::shared_ptr<const Place>;
    const auto done = [exchange, caller, then = std::move(then)](const Shared& place) {
        if (!place) { return then(nullptr); }
        caller->place = place;
        exchange->caller = std::move(*caller);
        then(&*exchange->caller);
    };
    // Read once a session: what was read of a directory is good for the session's life.
    const auto with_known_place = [this](const std::optional<Session>& scope, const std::string& path, std::function<void(const Shared&)> use) {
        const auto session = scope ? scope->outermost : ProcessId{};
        if (const auto known = remembered_place(session, path)) { return use(known); }
        with_place(std::make_shared<const std::string>(path), [this, session, path, use = std::move(use)](const Place* place) {
            if (place == nullptr) { return use(nullptr); }
            const auto shared = shared_place(path, *place);
            if (m_registry.find_session(session) != nullptr) { remember_place(session, path, shared); }
            use(shared);
        });
    };
    auto decide = [caller, orphan, done, with_known_place](const Shared& place) {
        if (!place || !caller->scope || place->project.root == caller->scope->root) { return done(place); }
        if (is_project_of_its_own(*place)) {
            // An identity that was inherited through the environment alone proves nothing in another project: what the
            // user said to that session is not meant for this one.
            if (orphan) {
                caller->session = caller->holder.process;
                caller->scope = session_of_its_own(*caller, *place);
            }
            return done(place);
        }
        // Somewhere outside of any project (/tmp, a cache): where the session was started.
        with_known_place(caller->scope, caller->scope->cwd, done);
    };
    std::string directory = cwd.path;
    if (cwd.removed && (!caller->scope || remembered_place(caller->scope->outermost, directory) == nullptr)) {
        // There is nothing to read any more: the project is taken as it is known, unless the session's own directory says more.
        const auto was = place_that_was(directory);
        const bool says_more = caller->scope && was && caller->scope->root == was->project.root && !is_below(caller->scope->cwd, directory);
        if (was && !says_more) { return decide(was); }
        if (caller->scope) { directory.clear(); }
    }
    if (directory.empty()) { directory = caller->scope ? caller->scope->cwd : "/"; }
    with_known_place(caller->scope, directory, std::move(decide));
}

void Agent::see_project(const Project& project, std::vector<Change>& changes) {
    const auto* known = m_registry.find_project(project.root);
    Project seen = project;
    seen.block = block_for(m_registry, m_config, project, facts());
    if (known == nullptr || !(*known == seen)) { changes.insert(changes.begin(), ProjectSeen{std::move(seen)}); }
}

std::vector<HeardSocket> Agent::heard_sockets(const std::vector<SeenListener>& seen) {
    std::vector<HeardSocket> heard;
    for (const auto& entry : seen) {
        HeardSocket socket{entry.listener.port, entry.listener.protocol, entry.listener.cookie, {}, std::nullopt};
        socket.holder.cwd = entry.cwd;  // of a container's proxy also where its process may not be looked at
        if (entry.process) {
            socket.holder = {*entry.process, entry.command, entry.cwd, entry.started_at.value_or(Time{})};
            if (const auto scope = scope_of(*entry.process)) { socket.session = scope->outermost; }
        }
        heard.push_back(std::move(socket));
    }
    return heard;
}

void Agent::with_heard(const std::vector<const Lease*>& concerned, std::function<void()> then) {
    std::vector<const Lease*> unknown;
    for (const auto* lease : concerned) {
        if (!lease->live() || m_granted.contains(lease->id)) { continue; }
        const bool known = !lease->sockets.empty() && lease->holder && is_alive(lease->holder->process);
        if (!known) { unknown.push_back(lease); }
    }
    // Most ports that nobody is known on are free, which a try tells sooner than a thread of the pool can be woken.
    if (unknown.size() <= k_ports_tried) {
        std::erase_if(unknown, [this](const Lease* lease) {
            // Where nobody listens, a look changes nothing but the end of a conflict. Of ports that we may not bind a try tells nothing.
            return lease->state != LeaseState::conflict && lease->port >= m_first_permitted && !is_port_in_use(lease->port, true, true);
        });
    }
    if (unknown.empty() && !m_minds_unanswered) { return then(); }
    for (const auto* lease : unknown) { m_next_look.leases.insert_or_assign(lease->id, *lease); }
    m_next_look.unanswered = m_next_look.unanswered || m_minds_unanswered;
    m_next_look.then.push_back(std::move(then));
    if (!m_looking) { look_at_heard(); }
}

void Agent::look_at_heard() {
    m_looking = true;
    const auto look = std::make_shared<Look>(std::exchange(m_next_look, {}));
    auto seen = std::make_shared<std::vector<SeenListener>>();
    std::set<Port> ports;
    for (const auto& [id, lease] : look->leases) { ports.insert(lease.port); }
    const auto query = look->unanswered ? std::optional(unanswered_query()) : std::nullopt;
    const auto unanswered = std::make_shared<Unanswered>();
    const auto work = [seen, ports, query, unanswered] {
        if (!ports.empty()) { *seen = look_at_listeners(ports); }
        if (query) { *unanswered = find_unanswered(*query); }
    };
    m_file_jobs.run(FileJobs::Lane::processes, {}, work, [this, look, seen, unanswered] {
        std::vector<Lease> looked_at;
        for (const auto& [id, lease] : look->leases) { looked_at.push_back(lease); }
        (void)commit(decide_heard(m_registry, looked_at, heard_sockets(*seen), facts()));
        record_unanswered(*unanswered, [this, look] {
            m_looking = false;
            for (auto& then : look->then) { std::exchange(then, nullptr)(); }  // each lets go of what it kept
            if (!m_looking && !m_next_look.then.empty()) { look_at_heard(); }
        });
    });
}

void Agent::mind_unanswered() {
    if (m_registry.sessions().empty()) { return; }
    m_more_unanswered = std::exchange(m_minds_unanswered, true);
    if (m_more_unanswered) { return; }
    with_heard({}, [] {});
    (void)m_outside.call_after(k_unanswered_for, [this] {
        m_strangers.clear();
        with_heard({}, [this] {
            m_strangers.clear();
            m_minds_unanswered = false;
            if (m_more_unanswered) { mind_unanswered(); }
        });
    });
}

UnansweredQuery Agent::unanswered_query() const {
    UnansweredQuery query{{}, m_strangers, m_ephemeral};
    for (const auto& [id, session] : m_registry.sessions()) { query.sessions.insert(id); }
    for (const auto id : m_socketed) {
        const auto* lease = m_registry.find(id);
        if (lease == nullptr) { continue; }
        for (const auto& socket : lease->sockets) { query.known.insert(socket.cookie); }
    }
    return query;
}

void Agent::record_unanswered(const Unanswered& found, const std::function<void()>& then) {
    if (m_strangers.size() > k_strangers) { m_strangers.clear(); }
    m_strangers.insert(found.strangers.begin(), found.strangers.end());
    const auto left = std::make_shared<std::size_t>(found.listeners.size());
    if (*left == 0) { return then(); }
    for (const auto& listener : found.listeners) {
        const auto exchange = std::make_shared<Exchange>();
        exchange->peer.pid = listener.process.pid;
        with_caller(exchange, listener.session, [this, listener, left, then](const Caller* caller) {
            if (caller != nullptr && caller->holder.process == listener.process) {
                auto decision = decide_unanswered(m_registry, m_config, *caller, listener.port, listener.cookie, facts());
                commit_listening(std::move(decision), *caller, listener.port, listener.cookie);
            }
            if (--*left == 0) { then(); }
        });
    }
}

void Agent::with_all_heard(std::function<void()> then) {
    refresh();
    std::vector<const Lease*> all;
    for (const auto& [id, lease] : m_registry.leases()) { all.push_back(&lease); }
    with_heard(all, std::move(then));
}

}  // namespace portwrap
