// Traps of libuv 1.44 that shape this file: uv_pipe_bind truncates long paths and its close unlinks a successor's socket, so
// the socket is made by hand and only adopted here; a write to a peer that is gone raises SIGPIPE (ignored in main).
#include "loop/server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <spdlog/spdlog.h>

#include "portwrap/protocol.hpp"
#include "system/processes.hpp"

namespace portwrap {

struct Server::Connection {
    Server* server = nullptr;
    HandlePtr<uv_pipe_t> pipe;
    std::shared_ptr<Exchange> exchange = std::make_shared<Exchange>();
    std::string input;              ///< what it has sent
    std::size_t taken = 0;          ///< of `input`, from its beginning: decided already
    std::size_t whole = 0;          ///< of `input`: up to the end of the last line that is complete
    bool busy = false;              ///< a request is being decided
    bool dispatching = false;       ///< next_line is at work further up the stack, and goes on by itself
    bool reading = false;
    bool ending = false;            ///< closes when its last reply is written
    std::string refusal;            ///< why it ends; said once it is this connection's turn
    std::deque<std::string> replies;  ///< that the kernel has not taken yet
    std::size_t sent = 0;           ///< of the first of them
    std::uint64_t read_at = 0;      ///< the loop's time in ms when the kernel last took some of them, or the first of them came
    bool writing = false;           ///< libuv tells when the kernel takes more
    bool waiting = false;           ///< in m_waiting or m_without_room
    std::uint64_t turn = 0;         ///< the last one in which a line of it was decided,
    int decided = 0;                ///< how many then,
    std::uint64_t spent_ns = 0;     ///< and how long they took
    std::list<Connection*>::iterator by_use;  ///< in m_by_use
    std::size_t accounted = 0;      ///< its part of m_input
    std::size_t unread = 0;         ///< its part of m_unwritten
    std::uint64_t partial_since = 0;  ///< the loop's time in ms when the half message began

    [[nodiscard]] bool has_line() const { return taken < whole; }
    [[nodiscard]] bool has_partial() const { return whole < input.size(); }
    [[nodiscard]] bool has_unwritten() const { return writing || !replies.empty(); }
    void forget_input() {
        input.clear();
        taken = whole = 0;
        trim_input();
    }
    /// What a long line took goes back.
    void trim_input() {
        constexpr std::size_t k_kept = 1024;
        if (input.capacity() > k_kept && input.size() < input.capacity() / 4) { input.shrink_to_fit(); }
    }
    /// Nothing has begun that its end would break off.
    [[nodiscard]] bool idle() const { return !busy && !ending && input.empty() && !has_unwritten() && refusal.empty() && exchange->lease == 0; }
};

struct Server::Deadline {
    HandlePtr<uv_timer_t> timer;
    Server* server = nullptr;
    std::uint64_t number = 0;
    std::function<void()> then;
};

struct Server::DescriptorWatch {
    HandlePtr<uv_poll_t> poll;
    std::function<void()> then;
};

struct Server::DirectoryWatch {
    HandlePtr<uv_fs_event_t> events;
    std::function<void(std::string_view)> then;
};

struct Server::ProcessWatch {
    UniqueFd pidfd;  // closed after the poll handle has stopped using it
    HandlePtr<uv_poll_t> poll;
    Server* server = nullptr;
    ProcessId process;
};

namespace {

/// uv_close wants an initialised handle: a failed init leaves nothing to close.
template <typename Handle, typename Init>
HandlePtr<Handle> initialised(void* data, Init&& init) {
    auto handle = std::make_unique<Handle>();
    if (init(handle.get()) != 0) { return nullptr; }
    handle->data = data;
    return HandlePtr<Handle>(handle.release());
}

/// Of the replies that the kernel does not take at once libuv gets no more than this: it tells when more can be written, and
/// all else stays ours, to be counted while it is there and to be freed the moment when its reader is dropped.
constexpr std::size_t k_probe = 256;

/// Small replies are appended to one another up to this size: each in a string of its own would take a multiple of its bytes.
constexpr std::size_t k_reply_block = 16 * 1024;

struct WriteRequest {
    uv_write_t request{};
    std::array<char, k_probe> bytes{};
    std::function<void(int)> done;
};

std::size_t memory_of(const std::string& reply) { return reply.capacity() + sizeof(std::string); }

std::string too_long() { return "a line is longer than " + std::to_string(k_max_line) + " bytes"; }

/// The peer reads no reply any more: what it asked need not be decided, and only its notifications are still heard. One that
/// has only half-closed, as `printf ... | socat -` does, reads on (poll(2): POLLHUP is both directions).
bool has_hung_up(const uv_pipe_t& pipe) {
    pollfd state{};
    return uv_fileno(reinterpret_cast<const uv_handle_t*>(&pipe), &state.fd) == 0 && ::poll(&state, 1, 0) == 1 &&
           (state.revents & (POLLHUP | POLLERR)) != 0;
}

std::string refusal_line(ErrorCode code, const std::string& message) {
    return error_line(nullptr, code == ErrorCode::invalid_request ? k_rpc_invalid_request : k_rpc_refused, message,
                      {{"code", error_code_name(code)}, {"message", message}, {"details", Json::object()}, {"suggestions", Json::array()}});
}

struct PoolJob {
    uv_work_t request{};
    const bool* left = nullptr;  ///< the loop has been left: nobody waits for the result
    std::function<void()> work;
    std::function<void()> done;
};

}  // namespace

Server::Server(spdlog::logger& log) : m_log(log) {
    uv_loop_init(&m_loop);
    m_timer = initialised<uv_timer_t>(this, [this](uv_timer_t* timer) { return uv_timer_init(&m_loop, timer); });
    m_synced = initialised<uv_async_t>(this, [this](uv_async_t* async) {
        return uv_async_init(&m_loop, async, [](uv_async_t* sent) noexcept {
            if (auto* server = static_cast<Server*>(sent->data); server != nullptr && server->m_agent != nullptr) { server->m_agent->on_synced(); }
        });
    });
    m_before_waiting = initialised<uv_prepare_t>(this, [this](uv_prepare_t* prepare) { return uv_prepare_init(&m_loop, prepare); });
    uv_prepare_start(m_before_waiting.get(), [](uv_prepare_t* prepare) noexcept {
        auto* server = static_cast<Server*>(prepare->data);
        if (server == nullptr) { return; }
        ++server->m_turn;
        if (server->m_agent != nullptr) { server->m_agent->on_turn_ended(); }
        server->m_log.flush();
    });
    uv_unref(reinterpret_cast<uv_handle_t*>(m_before_waiting.get()));
    m_between_turns = initialised<uv_idle_t>(this, [this](uv_idle_t* idle) { return uv_idle_init(&m_loop, idle); });
    m_half_messages = initialised<uv_timer_t>(this, [this](uv_timer_t* timer) { return uv_timer_init(&m_loop, timer); });
    rlimit files{};
    m_descriptors_allowed = ::getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : 1024;
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) {
        auto handle = initialised<uv_signal_t>(this, [this](uv_signal_t* watcher) { return uv_signal_init(&m_loop, watcher); });
        uv_signal_start(handle.get(), [](uv_signal_t* watcher, int number) noexcept {
            if (auto* server = static_cast<Server*>(watcher->data)) { server->on_signal(number); }
        }, signal);
        m_signals.push_back(std::move(handle));
    }
}

Server::~Server() = default;

Status Server::listen(UniqueFd socket, std::string path, bool owns_file) {
    m_owns_file = owns_file;
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0) { m_socket_inode = st.st_ino; }
    m_socket_path = std::move(path);
    if (!keep_spare()) { return Error{ErrorCode::agent_unavailable, "no descriptors are left to serve anybody (ulimit -n)"}; }
    m_listener = initialised<uv_pipe_t>(this, [this](uv_pipe_t* pipe) { return uv_pipe_init(&m_loop, pipe, 0); });
    if (const int error = uv_pipe_open(m_listener.get(), socket.get()); error != 0) {
        return Error{ErrorCode::agent_unavailable, std::string("cannot adopt the socket: ") + uv_strerror(error)};
    }
    (void)socket.release();
    // Of a socket that was passed to us also anew: from then on SO_PEERCRED names us.
    const int error = uv_listen(reinterpret_cast<uv_stream_t*>(m_listener.get()), 4096, [](uv_stream_t* stream, int status) noexcept {
        auto* server = static_cast<Server*>(stream->data);
        if (server == nullptr) { return; }
        if (status == 0) { server->accept(); }
        if (status == UV_EMFILE || status == UV_ENFILE) { server->spend_descriptor(); }
    });
    if (error != 0) { return Error{ErrorCode::agent_unavailable, std::string("cannot listen: ") + uv_strerror(error)}; }
    watch_socket_file();
    return ok_status();
}

void Server::watch_descriptor(int fd, std::function<void()> then) {
    auto watch = std::make_unique<DescriptorWatch>();
    watch->then = std::move(then);
    watch->poll = initialised<uv_poll_t>(watch.get(), [&](uv_poll_t* poll) { return uv_poll_init(&m_loop, poll, fd); });
    if (!watch->poll) { return; }
    uv_poll_start(watch->poll.get(), UV_READABLE, [](uv_poll_t* poll, int, int) noexcept {
        auto* readable = static_cast<DescriptorWatch*>(poll->data);
        if (readable != nullptr) { readable->then(); }
    });
    uv_unref(reinterpret_cast<uv_handle_t*>(watch->poll.get()));
    m_descriptors.push_back(std::move(watch));
}

bool Server::watch_directory(const std::string& path, std::function<void(std::string_view)> then) {
    if (m_stopping) { return false; }
    auto& watch = m_directories[path];
    if (!watch) {
        watch = std::make_unique<DirectoryWatch>();
        watch->events = initialised<uv_fs_event_t>(watch.get(), [this](uv_fs_event_t* events) { return uv_fs_event_init(&m_loop, events); });
        if (!watch->events) { return false; }
        watch->then = std::move(then);
        uv_unref(reinterpret_cast<uv_handle_t*>(watch->events.get()));
    }
    // From within its own callback, too: the directory may be another one by now.
    uv_fs_event_stop(watch->events.get());
    const auto look = [](uv_fs_event_t* events, const char* name, int, int) noexcept {
        const auto* watched = static_cast<DirectoryWatch*>(events->data);
        if (watched != nullptr) { watched->then(name != nullptr ? name : ""); }
    };
    return uv_fs_event_start(watch->events.get(), look, path.c_str(), 0) == 0;
}

bool Server::socket_file_is_ours() const {
    struct stat st {};
    return ::stat(m_socket_path.c_str(), &st) == 0 && st.st_ino == m_socket_inode;
}

void Server::watch_socket_file() {
    m_socket_events = initialised<uv_fs_event_t>(this, [this](uv_fs_event_t* events) { return uv_fs_event_init(&m_loop, events); });
    const auto look = [](uv_fs_event_t* events, const char*, int, int) noexcept {
        auto* server = static_cast<Server*>(events->data);
        if (server == nullptr || server->m_stopping || server->socket_file_is_ours()) { return; }
        server->m_log.warn("{} was deleted by somebody: making it anew", server->m_socket_path);
        server->m_lost_socket = true;
        server->stop();
    };
    const auto directory = m_socket_path.substr(0, m_socket_path.rfind('/'));
    if (m_socket_events && uv_fs_event_start(m_socket_events.get(), look, directory.c_str(), 0) != 0) {
        m_log.warn("no watch on {}: a socket that somebody deletes is not noticed", directory);
    }
}

bool Server::watch_sockets(bool on) {
    if (m_stopping) { return false; }
    if (!on) {
        if (m_destroyed) { uv_poll_stop(m_destroyed.get()); }
        m_destroyed.reset();
        m_watch.reset();
        return false;
    }
    auto watch = DestroyWatch::open();
    if (!watch) {
        m_log.warn("no socket-destroy notifications ({}): the end of a lease is seen when somebody asks", watch.error().message);
        return false;
    }
    m_watch = std::move(*watch);
    m_destroyed = initialised<uv_poll_t>(this, [this](uv_poll_t* poll) { return uv_poll_init(&m_loop, poll, m_watch->fd()); });
    if (!m_destroyed) { return false; }
    uv_poll_start(m_destroyed.get(), UV_READABLE, [](uv_poll_t* poll, int, int) noexcept {
        auto* server = static_cast<Server*>(poll->data);
        if (server != nullptr && server->m_agent != nullptr) { server->m_agent->on_sockets_destroyed(server->m_watch->drain()); }
    });
    return true;
}

void Server::notify_synced() { uv_async_send(m_synced.get()); }

bool Server::run() {
    uv_run(&m_loop, UV_RUN_DEFAULT);
    while (!m_connections.empty()) { drop(*m_connections.begin()->second); }
    m_left = true;
    // While the store's thread can still call notify_synced().
    if (m_agent != nullptr) { m_agent->close(); }
    m_synced.reset();
    m_before_waiting.reset();
    m_between_turns.reset();
    m_farewell.reset();
    m_half_messages.reset();
    m_deadlines.clear();
    // Close callbacks; nothing else is left, unless something hangs.
    for (int turn = 0; turn < 16 && uv_run(&m_loop, UV_RUN_NOWAIT) != 0; ++turn) {}
    m_clean = uv_loop_close(&m_loop) == 0;
    return m_clean;
}

Time Server::now() { return std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now()); }

void Server::run_in_pool(std::function<void()> work, std::function<void()> done) {
    auto* job = new PoolJob{{}, &m_left, std::move(work), std::move(done)};
    job->request.data = job;
    uv_queue_work(&m_loop, &job->request,
                  [](uv_work_t* request) noexcept { static_cast<PoolJob*>(request->data)->work(); },
                  [](uv_work_t* request, int status) noexcept {
                      const std::unique_ptr<PoolJob> finished(static_cast<PoolJob*>(request->data));
                      if (status == 0 && !*finished->left) { finished->done(); }
                  });
}

std::function<void()> Server::call_after(std::chrono::milliseconds delay, std::function<void()> then) {
    const auto number = ++m_next_deadline;
    auto deadline = std::make_unique<Deadline>();
    deadline->server = this;
    deadline->number = number;
    deadline->then = std::move(then);
    deadline->timer = initialised<uv_timer_t>(deadline.get(), [this](uv_timer_t* timer) { return uv_timer_init(&m_loop, timer); });
    uv_timer_start(deadline->timer.get(), [](uv_timer_t* timer) noexcept {
        auto* passed = static_cast<Deadline*>(timer->data);
        if (passed == nullptr) { return; }
        const auto node = passed->server->m_deadlines.extract(passed->number);
        if (!node.empty()) { node.mapped()->then(); }
    }, static_cast<std::uint64_t>(delay.count()), 0);
    // Whoever is waited for keeps the loop alive; the waiting does not.
    uv_unref(reinterpret_cast<uv_handle_t*>(deadline->timer.get()));
    m_deadlines.emplace(number, std::move(deadline));
    return [this, number] { m_deadlines.erase(number); };
}

void Server::wake_at(Time time) {
    if (!m_timer) { return; }
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(time - now()).count();
    // At most an hour, so that a jump of the wall clock is noticed.
    const auto delay = std::clamp<long>(wait, 0, 3600 * 1000);
    uv_timer_start(m_timer.get(), [](uv_timer_t* timer) noexcept {
        auto* server = static_cast<Server*>(timer->data);
        if (server != nullptr && server->m_agent != nullptr) { server->m_agent->on_timer(); }
    }, static_cast<std::uint64_t>(delay), 0);
}

void Server::watch_process(const ProcessId& process) {
    if (m_stopping || m_processes.contains(process)) { return; }
    auto watch = std::make_unique<ProcessWatch>();
    watch->server = this;
    watch->process = process;
    watch->pidfd = open_pidfd(process.pid);
    // The pid may be somebody else's by now; a zombie's pidfd is readable at once.
    const auto stat = read_process(process.pid);
    const bool same = stat && stat->id == process;
    if (!watch->pidfd.valid() || !same) {
        run_in_pool([] {}, [this, process] { if (m_agent != nullptr) { m_agent->on_process_ended(process); } });
        return;
    }
    watch->poll = initialised<uv_poll_t>(watch.get(), [&](uv_poll_t* poll) { return uv_poll_init(&m_loop, poll, watch->pidfd.get()); });
    if (!watch->poll) { return; }
    uv_poll_start(watch->poll.get(), UV_READABLE, [](uv_poll_t* poll, int, int) noexcept {
        auto* ended = static_cast<ProcessWatch*>(poll->data);
        if (ended == nullptr) { return; }
        auto* server = ended->server;
        const auto process_id = ended->process;
        uv_poll_stop(poll);
        server->m_processes.erase(process_id);
        if (server->m_agent != nullptr) { server->m_agent->on_process_ended(process_id); }
    });
    m_processes.emplace(process, std::move(watch));
}

void Server::on_signal(int signal) {
    if (signal == SIGHUP) {
        if (m_agent != nullptr) { m_agent->reload_config(); }
        return;
    }
    m_log.info("stop signal={}", signal);
    int listener = -1;
    if (signal == SIGUSR2 && !m_stopping && m_listener && uv_fileno(reinterpret_cast<uv_handle_t*>(m_listener.get()), &listener) == 0) {
        m_kept_socket.reset(::fcntl(listener, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    }
    stop();
}

void Server::stop() {
    if (m_stopping) { return; }
    m_stopping = true;
    // New clients must find a new agent, not one that is leaving; or wait for it, where somebody else keeps the socket.
    if (m_owns_file && !m_kept_socket.valid() && socket_file_is_ours()) { ::unlink(m_socket_path.c_str()); }
    m_socket_events.reset();
    m_listener.reset();
    m_timer.reset();
    if (m_destroyed) { uv_poll_stop(m_destroyed.get()); }
    m_destroyed.reset();
    m_signals.clear();
    m_processes.clear();
    m_descriptors.clear();
    m_directories.clear();
    std::vector<std::shared_ptr<Connection>> connections;
    for (const auto& [key, connection] : m_connections) { connections.push_back(connection); }
    for (const auto& connection : connections) {
        connection->ending = true;
        if (!connection->busy && !connection->has_line() && !connection->has_unwritten()) { drop(*connection); }
    }
    // A peer that does not read, a mount that does not answer: the registry is safe, so they are not waited for.
    m_half_messages.reset();
    m_deadlines.clear();
    m_farewell = initialised<uv_timer_t>(this, [this](uv_timer_t* timer) { return uv_timer_init(&m_loop, timer); });
    uv_timer_start(m_farewell.get(), [](uv_timer_t* timer) noexcept {
        if (auto* server = static_cast<Server*>(timer->data)) { uv_stop(&server->m_loop); }
    }, Limits{}.farewell_ms, 0);
    uv_unref(reinterpret_cast<uv_handle_t*>(m_farewell.get()));
    leave_when_idle();
}

void Server::leave_when_idle() {
    // The store's word for a waiting reply still wakes the loop while a connection waits for it.
    if (m_stopping && m_connections.empty()) { uv_unref(reinterpret_cast<uv_handle_t*>(m_synced.get())); }
}

bool Server::keep_spare() {
    if (!m_spare.valid()) { m_spare.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
    return m_spare.valid();
}

/// libuv accepts again and again until it succeeds, and has no descriptor of its own left to do that with.
void Server::spend_descriptor() {
    if (make_room(0)) { return; }
    if (m_spare.valid()) { return m_spare.reset(); }
    m_log.error("no descriptors are left: stopping");
    stop();
}

void Server::accept() {
    auto connection = std::make_shared<Connection>();
    connection->server = this;
    connection->pipe = initialised<uv_pipe_t>(connection.get(), [this](uv_pipe_t* pipe) { return uv_pipe_init(&m_loop, pipe, 0); });
    if (uv_accept(reinterpret_cast<uv_stream_t*>(m_listener.get()), reinterpret_cast<uv_stream_t*>(connection->pipe.get())) != 0) { return; }
    int fd = -1;
    ucred peer{};
    socklen_t size = sizeof peer;
    const bool known = uv_fileno(reinterpret_cast<uv_handle_t*>(connection->pipe.get()), &fd) == 0 &&
                       ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    const bool stranger = !known || peer.uid != ::geteuid();
    if (stranger || (is_crowded() && !make_room(peer.pid)) || !keep_spare()) {
        const auto line = stranger ? refusal_line(ErrorCode::permission_denied, "this agent serves its own user alone")
                                   : refusal_line(ErrorCode::agent_unavailable, m_spare.valid() ? "too many connections" : "the agent has no descriptors left");
        [[maybe_unused]] const auto sent = ::send(fd, (line + "\n").data(), line.size() + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        warn_rarely(m_refused, "refused a connection pid=" + std::to_string(peer.pid) + " uid=" + std::to_string(peer.uid) +
                                   " connections=" + std::to_string(m_connections.size()));
        connection.reset();
        (void)keep_spare();
        return;
    }
    connection->exchange->peer.pid = peer.pid;
    connection->by_use = m_by_use.insert(m_by_use.end(), connection.get());
    m_connections.emplace(connection.get(), connection);
    start_reading(*connection);
}

bool Server::is_crowded() const {
    const Limits limits;
    // Each session has a descriptor, too. Where they take all, a few connections are let in all the same.
    const auto taken = limits.spare_descriptors + m_processes.size();
    const auto left = m_descriptors_allowed > taken ? m_descriptors_allowed - taken : 0;
    return m_connections.size() >= std::clamp(left, limits.connections_always, limits.connections);
}

bool Server::make_room(pid_t newcomer) {
    const auto drop_for_newcomer = [this](Connection& connection, std::string_view why) {
        const auto line = refusal_line(ErrorCode::agent_unavailable, "too many connections; " + std::string(why)) + "\n";
        // Not into the midst of a reply.
        if (int fd = -1; !connection.has_unwritten() && uv_fileno(reinterpret_cast<const uv_handle_t*>(connection.pipe.get()), &fd) == 0) {
            [[maybe_unused]] const auto sent = ::send(fd, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        warn_rarely(m_made_room, "dropped a connection for a new one pid=" + std::to_string(connection.exchange->peer.pid) +
                                     " connections=" + std::to_string(m_connections.size()));
        drop(connection);
    };
    for (auto* connection : m_by_use) {
        pollfd state{};
        state.events = POLLIN;
        if (!connection->idle() || uv_fileno(reinterpret_cast<const uv_handle_t*>(connection->pipe.get()), &state.fd) != 0) { continue; }
        // It has asked something that this turn of the loop has not come to.
        if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLIN | POLLHUP)) == POLLIN) { continue; }
        drop_for_newcomer(*connection, "of those that wait for nothing this was idle longest");
        return true;
    }
    if (uv_now(&m_loop) >= m_next_roll_call) {
        m_next_roll_call = uv_now(&m_loop) + Limits{}.roll_call_ms;
        // Those whose reading pauses have not been heard to hang up.
        std::vector<std::shared_ptr<Connection>> gone;
        for (const auto& [key, connection] : m_connections) {
            if (has_hung_up(*connection->pipe)) { gone.push_back(connection); }
        }
        for (const auto& connection : gone) { drop(*connection); }
        if (!gone.empty()) { return true; }
    }
    // All have something under way: the process that has most of them, if that is more than the newcomer's own, gives up the one
    // that has waited longest.
    std::map<pid_t, std::size_t> of_process;
    for (const auto* connection : m_by_use) { ++of_process[connection->exchange->peer.pid]; }
    const auto has = of_process[newcomer];
    const auto greediest = std::max_element(of_process.begin(), of_process.end(), [](const auto& one, const auto& other) { return one.second < other.second; });
    if (greediest->second <= std::max(Limits{}.connections_of_one, has + 1)) { return false; }
    for (auto* connection : m_by_use) {
        if (connection->exchange->peer.pid != greediest->first || connection->exchange->lease != 0) { continue; }
        drop_for_newcomer(*connection, "this process has most of them");
        return true;
    }
    return false;
}

void Server::warn_rarely(Rare& rare, const std::string& text) {
    const auto now = uv_now(&m_loop);
    if (now < rare.next_at) {
        ++rare.left_out;
        return;
    }
    m_log.warn("{}{}", text, rare.left_out == 0 ? "" : " (and " + std::to_string(rare.left_out) + " like it)");
    rare = {now + Limits{}.warning_ms, 0};
}

void Server::start_reading(Connection& connection) {
    connection.reading = true;
    uv_read_start(reinterpret_cast<uv_stream_t*>(connection.pipe.get()),
                  [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) noexcept {
                      auto* owner = static_cast<Connection*>(handle->data);
                      if (owner == nullptr) { return void(*buffer = uv_buf_init(nullptr, 0)); }
                      auto& shared = owner->server->m_buffer;
                      *buffer = uv_buf_init(shared.data(), static_cast<unsigned>(shared.size()));
                  },
                  [](uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) noexcept {
                      auto* owner = static_cast<Connection*>(stream->data);
                      if (owner == nullptr || count == 0) { return; }
                      if (count < 0) { return owner->server->on_end_of_input(*owner, count != UV_EOF); }
                      owner->server->on_bytes(*owner, {buffer->base, static_cast<std::size_t>(count)});
                  });
}

void Server::on_end_of_input(Connection& connection, bool reset) {
    connection.ending = true;
    connection.reading = false;
    uv_read_stop(reinterpret_cast<uv_stream_t*>(connection.pipe.get()));
    connection.input.resize(connection.whole);
    account(connection);
    if (reset) { return drop(connection); }
    connection.exchange->closed = has_hung_up(*connection.pipe);
    if (connection.exchange->closed && !connection.has_line()) { return drop(connection); }
    next_line(m_connections.at(&connection));
}

void Server::turn_away(Connection& connection, std::string why) {
    connection.refusal = std::move(why);
    connection.forget_input();
    if (connection.reading) { uv_read_stop(reinterpret_cast<uv_stream_t*>(connection.pipe.get())); }
    connection.reading = false;
    account(connection);
    next_line(m_connections.at(&connection));
}

void Server::account(Connection& connection) {
    if (connection.taken == connection.input.size()) { connection.forget_input(); }
    const auto held = connection.input.empty() ? 0 : connection.input.capacity();
    m_input = m_input - connection.accounted + held;
    connection.accounted = held;
}

void Server::bound_input() {
    while (m_input > Limits{}.all_input) {
        Connection* oldest = nullptr;
        for (const auto& [key, connection] : m_connections) {
            if (!connection->has_partial()) { continue; }
            if (oldest == nullptr || connection->partial_since < oldest->partial_since) { oldest = key; }
        }
        if (oldest != nullptr) {
            turn_away(*oldest, "too many unfinished messages at once");
            continue;
        }
        for (const auto& [key, connection] : m_connections) {
            if (oldest == nullptr || connection->accounted > oldest->accounted) { oldest = key; }
        }
        if (oldest == nullptr || oldest->accounted == 0) { return; }
        turn_away(*oldest, "too many messages wait at once");
    }
}

void Server::bound_replies() {
    // Whose reading stands still for longest: most bytes may be those of somebody who has just asked for much. Those with little do not help.
    const auto is_slower = [](const Connection& one, const Connection& other) {
        const bool has_much = one.unread > Limits{}.unread;
        if (has_much != (other.unread > Limits{}.unread)) { return has_much; }
        return has_much ? one.read_at < other.read_at : one.unread > other.unread;
    };
    while (m_unwritten > Limits{}.all_queued_bytes) {
        Connection* slowest = nullptr;
        for (const auto& [key, connection] : m_connections) {
            if (slowest == nullptr || is_slower(*connection, *slowest)) { slowest = key; }
        }
        // A single reply may be longer than all are allowed: who reads it alone gets it.
        if (slowest == nullptr || slowest->unread == 0 || slowest->unread == m_unwritten) { return; }
        warn_rarely(m_slow_readers, "dropped a connection that does not read pid=" + std::to_string(slowest->exchange->peer.pid) +
                                        " bytes=" + std::to_string(slowest->unread));
        drop(*slowest);
    }
}

void Server::arm_half_messages(std::uint64_t delay_ms) {
    if (m_stopping || uv_is_active(reinterpret_cast<const uv_handle_t*>(m_half_messages.get())) != 0) { return; }
    uv_timer_start(m_half_messages.get(), [](uv_timer_t* timer) noexcept {
        if (auto* server = static_cast<Server*>(timer->data)) { server->end_half_messages(); }
    }, delay_ms, 0);
}

void Server::end_half_messages() {
    const auto patience = Limits{}.half_message_ms;
    const auto now = uv_now(&m_loop);
    std::vector<std::shared_ptr<Connection>> overdue;
    std::uint64_t next = 0;
    for (const auto& [key, connection] : m_connections) {
        if (!connection->has_partial()) { continue; }
        const auto age = now - connection->partial_since;
        if (age >= patience) {
            overdue.push_back(connection);
        } else {
            next = next == 0 ? patience - age : std::min(next, patience - age);
        }
    }
    for (const auto& connection : overdue) {
        if (connection->pipe) { turn_away(*connection, "the message was not finished within " + std::to_string(patience / 1000) + " s"); }
    }
    if (next != 0) { arm_half_messages(next); }
}

void Server::drop(Connection& connection) {
    const auto node = m_connections.extract(&connection);
    if (node.empty()) { return; }
    const auto kept = node.mapped();
    m_by_use.erase(kept->by_use);
    m_input -= kept->accounted;
    m_unwritten -= kept->unread;
    kept->accounted = kept->unread = 0;
    kept->replies.clear();
    kept->pipe.reset();
    leave_when_idle();
    if (m_agent != nullptr) { m_agent->on_closed(kept->exchange); }
}

void Server::on_bytes(Connection& connection, std::string_view bytes) {
    const auto self = m_connections.at(&connection);
    if (connection.ending) { return; }  // what follows its last request
    const Limits limits;
    m_by_use.splice(m_by_use.end(), m_by_use, connection.by_use);
    connection.input.erase(0, connection.taken);
    connection.trim_input();
    connection.whole -= connection.taken;
    connection.taken = 0;
    if (!connection.has_partial()) { connection.partial_since = uv_now(&m_loop); }
    const auto newline = bytes.rfind('\n');
    if (newline != std::string_view::npos) {
        connection.whole = connection.input.size() + newline + 1;
        if (newline + 1 < bytes.size()) { connection.partial_since = uv_now(&m_loop); }
    }
    connection.input += bytes;
    if (connection.input.size() - connection.whole >= k_max_line) {
        connection.refusal = too_long();
        connection.input.resize(connection.whole);
    }
    if (!connection.refusal.empty() || connection.whole > limits.queued_input) {
        connection.reading = false;
        uv_read_stop(reinterpret_cast<uv_stream_t*>(connection.pipe.get()));
    }
    account(connection);
    if (connection.has_partial()) { arm_half_messages(limits.half_message_ms); }
    if (!connection.waiting) { next_line(self); }
    bound_input();
}

bool Server::has_had_its_turn(Connection& connection) const {
    const Limits limits;
    if (connection.turn != m_turn) {
        connection.turn = m_turn;
        connection.decided = 0;
        connection.spent_ns = 0;
    }
    return connection.decided >= limits.lines_a_turn || connection.spent_ns >= limits.ns_a_turn;
}

void Server::wait_for_turn(const std::shared_ptr<Connection>& connection) {
    if (std::exchange(connection->waiting, true)) { return; }
    m_waiting.push_back(connection);
    uv_idle_start(m_between_turns.get(), [](uv_idle_t* idle) noexcept {
        if (auto* server = static_cast<Server*>(idle->data)) { server->serve_waiting(); }
    });
}

void Server::wait_for_room(const std::shared_ptr<Connection>& connection) {
    if (std::exchange(connection->waiting, true)) { return; }
    if (m_without_room.empty()) {
        (void)call_after(std::chrono::milliseconds(Limits{}.room_ms), [this] {
            for (const auto& waiting : std::exchange(m_without_room, {})) {
                const auto again = waiting.lock();
                if (!again) { continue; }
                again->waiting = false;
                wait_for_turn(again);
            }
        });
    }
    m_without_room.push_back(connection);
}

void Server::serve_waiting() {
    ++m_turn;
    const auto until = uv_hrtime() + Limits{}.ns_of_all_a_turn;
    // Each that waits now once, or those that there is time for: who has more waits behind the others.
    for (auto left = m_waiting.size(); left > 0 && uv_hrtime() < until; --left) {
        const auto connection = m_waiting.front().lock();
        m_waiting.pop_front();
        if (!connection) { continue; }
        connection->waiting = false;
        next_line(connection);
    }
    if (m_waiting.empty()) { uv_idle_stop(m_between_turns.get()); }
}

void Server::next_line(const std::shared_ptr<Connection>& connection) {
    while (!connection->busy && connection->pipe && connection->has_line() && connection->unread <= Limits{}.unread) {
        if (has_had_its_turn(*connection)) { return wait_for_turn(connection); }
        const auto begun = uv_hrtime();
        const auto end = connection->input.find('\n', connection->taken);
        const auto next = std::string_view(connection->input).substr(connection->taken, end - connection->taken);
        if (!m_agent->has_room_for(next)) { return wait_for_room(connection); }
        const std::string line(next);
        connection->taken = end + 1;
        const bool fits = line.size() < k_max_line;
        if (!fits) {
            connection->refusal = too_long();
            connection->forget_input();
        }
        account(*connection);
        if (!fits) { break; }
        connection->busy = true;
        connection->exchange->closed = has_hung_up(*connection->pipe);
        const std::weak_ptr<Connection> weak = connection;
        connection->dispatching = true;
        m_agent->on_line(connection->exchange, line, [this, weak](Reply reply) {
            const auto self = weak.lock();
            if (!self || !self->pipe) { return; }
            self->busy = reply.more;
            if (reply.close) {
                self->forget_input();
                self->ending = true;
                account(*self);
            }
            write(self, std::move(reply));
        });
        connection->dispatching = false;
        ++connection->decided;
        connection->spent_ns += uv_hrtime() - begun;
    }
    if (!connection->pipe || connection->busy || connection->has_line()) { return; }
    if (!connection->refusal.empty()) {
        const auto why = std::exchange(connection->refusal, {});
        connection->ending = true;
        return write(connection, {refusal_line(ErrorCode::invalid_request, why), true});
    }
    if (connection->ending && !connection->has_unwritten()) { return drop(*connection); }
    if (!connection->reading && !connection->ending) {
        start_reading(*connection);
    }
}

void Server::write(const std::shared_ptr<Connection>& connection, Reply reply) {
    const auto go_on = [&] {
        if (!connection->dispatching) { next_line(connection); }
    };
    if (reply.line.empty()) { return go_on(); }
    reply.line += '\n';
    if (!connection->has_unwritten()) {
        connection->read_at = uv_now(&m_loop);
        // Most replies fit into the socket's buffer: no request, no allocation, no turn of the loop.
        uv_buf_t whole = uv_buf_init(reply.line.data(), static_cast<unsigned>(reply.line.size()));
        const int written = uv_try_write(reinterpret_cast<uv_stream_t*>(connection->pipe.get()), &whole, 1);
        if (written < 0 && written != UV_EAGAIN) { return drop(*connection); }
        connection->sent = written < 0 ? std::size_t{0} : static_cast<std::size_t>(written);
        if (connection->sent == reply.line.size()) {
            connection->sent = 0;
            return go_on();
        }
    }
    if (connection->unread > (reply.more ? Limits{}.queued_stream : Limits{}.queued_bytes)) { return drop(*connection); }
    auto& replies = connection->replies;
    const auto before = replies.empty() ? std::size_t{0} : memory_of(replies.back());
    std::size_t after = 0;
    if (!replies.empty() && replies.back().size() + reply.line.size() <= k_reply_block) {
        replies.back() += reply.line;
        after = memory_of(replies.back()) - before;
    } else {
        replies.push_back(std::move(reply.line));
        after = memory_of(replies.back());
    }
    connection->unread += after;
    m_unwritten += after;
    if (!flush(connection)) { return drop(*connection); }
    bound_replies();
}

bool Server::flush(const std::shared_ptr<Connection>& connection) {
    if (connection->writing) { return true; }
    auto* stream = reinterpret_cast<uv_stream_t*>(connection->pipe.get());
    auto& replies = connection->replies;
    const auto forget_what_is_sent = [&] {
        if (connection->sent < replies.front().size()) { return; }
        const auto freed = memory_of(replies.front());
        connection->unread -= freed;
        m_unwritten -= freed;
        connection->sent = 0;
        replies.pop_front();
    };
    while (!replies.empty()) {
        uv_buf_t rest = uv_buf_init(replies.front().data() + connection->sent, static_cast<unsigned>(replies.front().size() - connection->sent));
        const int written = uv_try_write(stream, &rest, 1);
        if (written < 0 && written != UV_EAGAIN) { return false; }
        if (written <= 0) { break; }
        connection->read_at = uv_now(&m_loop);
        connection->sent += static_cast<std::size_t>(written);
        forget_what_is_sent();
    }
    if (replies.empty()) { return true; }
    auto request = std::make_unique<WriteRequest>();
    const auto size = replies.front().copy(request->bytes.data(), k_probe, connection->sent);
    const std::weak_ptr<Connection> weak = connection;
    request->done = [this, weak](int status) {
        const auto self = weak.lock();
        if (!self || !self->pipe) { return; }
        self->writing = false;
        if (status < 0 || !flush(self)) { return drop(*self); }
        next_line(self);
    };
    request->request.data = request.get();
    uv_buf_t probe = uv_buf_init(request->bytes.data(), static_cast<unsigned>(size));
    const int error = uv_write(&request->request, stream, &probe, 1, [](uv_write_t* finished, int status) noexcept {
        const std::unique_ptr<WriteRequest> owner(static_cast<WriteRequest*>(finished->data));
        owner->done(status);
    });
    if (error != 0) { return false; }
    (void)request.release();
    connection->writing = true;
    connection->sent += size;
    forget_what_is_sent();
    return true;
}

}  // namespace portwrap
