// See client.hpp.
#include "client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <ctime>
#include <vector>

#include "portwrap/config_variables.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "text.hpp"

extern char** environ;

namespace portwrap {

namespace {

/// More than any list of leases; an agent that sends more is not ours.
constexpr std::size_t k_max_reply = std::size_t{64} * 1024 * 1024;
/// The grandchild's end of the pipe on which the agent says that it listens.
constexpr int k_ready_fd = 3;

Error unavailable(std::string message) { return Error{ErrorCode::agent_unavailable, std::move(message)}; }

long long now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<long long>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

void sleep_ms(int milliseconds) { ::poll(nullptr, 0, milliseconds); }

UniqueFd above_standard_streams(int fd) {
    if (fd < 0 || fd > STDERR_FILENO) { return UniqueFd(fd); }
    const UniqueFd low(fd);
    return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

/// A small file's text, empty when it cannot be read.
std::string read_small_file(const std::string& path) {
    const UniqueFd fd = above_standard_streams(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) { return {}; }
    std::string text(8192, '\0');
    const auto size = ::read(fd.get(), text.data(), text.size());
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
}

std::string first_line(const std::string& path) {
    const auto text = read_small_file(path);
    return text.substr(0, text.find('\n'));
}

/// Where this machine's agent keeps its registry.
std::string own_registry() {
    auto state = state_directory();
    const auto owner = first_line(machine_path(state));
    if (owner.empty()) { return state; }
    auto machine = first_line("/etc/machine-id");
    if (machine.empty() || machine == "uninitialized") { machine = first_line("/var/lib/dbus/machine-id"); }
    return registry_directory(state, owner, machine.empty() ? k_unknown_machine : machine);
}

/// The socket of the agent that has the registry's lock, or had it last; empty when the file says none.
std::string socket_of_lock(const std::string& lock) {
    auto socket = read_small_file(lock);
    while (!socket.empty() && (socket.back() == '\n' || socket.back() == '\0')) { socket.pop_back(); }
    return socket.starts_with('/') ? socket : std::string();
}

/// Whether a process was stopped (SIGSTOP, a debugger) and cannot answer. proc(5): the state follows the command, which may
/// contain ')'. One that has ended is no reason to give up: its connections hang up by themselves, unless a service manager
/// has the socket, too, and starts the next agent for whoever waits.
bool is_stopped(pid_t pid) {
    const auto text = read_small_file("/proc/" + std::to_string(pid) + "/stat");
    const auto end = text.rfind(") ");
    return end != std::string::npos && end + 2 < text.size() && (text[end + 2] == 'T' || text[end + 2] == 't');
}

/// Whether somebody holds the registry's lock. Looking takes it, shared and for a moment: an agent that is just starting
/// tries twice for that.
bool is_locked(const std::string& path) {
    const UniqueFd fd = above_standard_streams(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    return fd.valid() && ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/// The caller's environment without what would tie the agent to one caller, or to the service that the caller is.
std::vector<char*> agent_environment() {
    static constexpr std::string_view k_dropped[] = {"LD_PRELOAD=", "PORT=", "PORTWRAP_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_"};
    std::vector<char*> kept;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        if (std::any_of(std::begin(k_dropped), std::end(k_dropped), [text](auto dropped) { return text.starts_with(dropped); })) { continue; }
        kept.push_back(*entry);
    }
    kept.push_back(nullptr);
    return kept;
}

void close_from(int first) {
    if (::close_range(static_cast<unsigned>(first), ~0U, 0) == 0) { return; }
    for (int fd = first; fd < 65536; ++fd) { ::close(fd); }
}

/// In a child: nothing of the caller's, neither its directory and descriptors (from `first_closed` on; the standard streams
/// lead nowhere) nor its mask and signals. Only async-signal-safe calls.
void leave_caller(int first_closed) {
    ::umask(077);
    if (::chdir("/") != 0) { ::_exit(127); }
    close_from(first_closed);
    const int null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
        if (fd != null) { ::dup2(null, fd); }
    }
    if (null >= first_closed) { ::close(null); }
    for (int number = 1; number < NSIG; ++number) { ::signal(number, SIG_DFL); }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// In the grandchild: becomes the agent or ends. Only async-signal-safe calls.
[[noreturn]] void become_agent(const char* program, int ready, char* const* environment) {
    // The pipe first: descriptor 3 may be something else of the caller's, and 0 to 2 may be closed.
    if (ready == k_ready_fd) {
        ::fcntl(ready, F_SETFD, 0);
    } else {
        ::dup2(ready, k_ready_fd);
    }
    leave_caller(k_ready_fd + 1);
    const char* const arguments[] = {"portwrap-agent", "--ready-fd", "3", nullptr};
    ::execve(program, const_cast<char* const*>(arguments), environment);
    ::_exit(127);
}

/// Between two tries to start an agent while another one still has the registry's lock and no socket.
constexpr int k_respawn_ms = 100;
/// An agent writes down where it listens as soon as it has the lock.
constexpr int k_nameless_ms = 1000;

enum class Readiness { listening, ended, silent };

/// Starts an agent that is nobody's child and waits until it says that it, or another one, is there, or why it cannot be.
Result<Readiness> spawn_agent(const Deadline& deadline) {
    const auto own = own_program();
    if (own.empty()) { return unavailable(k_no_proc); }
    const auto program = directory_of(own) + "/portwrap-agent";
    if (::access(program.c_str(), X_OK) != 0) { return unavailable(program + ": " + std::strerror(errno)); }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) { return unavailable(std::string("pipe: ") + std::strerror(errno)); }
    UniqueFd reading = above_standard_streams(ends[0]);
    UniqueFd writing = above_standard_streams(ends[1]);
    const auto environment = agent_environment();
    const pid_t child = ::fork();
    if (child < 0) { return unavailable(std::string("fork: ") + std::strerror(errno)); }
    if (child == 0) {
        ::setsid();
        const pid_t grandchild = ::fork();
        if (grandchild == 0) { become_agent(program.c_str(), writing.get(), environment.data()); }
        ::_exit(grandchild < 0 ? 1 : 0);
    }
    writing.reset();
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {}
    while (true) {
        pollfd waiting{reading.get(), POLLIN, 0};
        const int ready = ::poll(&waiting, 1, deadline.left());
        if (ready < 0 && errno == EINTR) { continue; }
        if (ready <= 0) { return Readiness::silent; }
        char word[1024];
        const auto size = ::read(reading.get(), word, sizeof word);
        if (size <= 0) { return Readiness::ended; }
        if (word[0] != k_cannot_start) { return Readiness::listening; }
        // "!CODE message"
        const std::string_view said(word + 1, static_cast<std::size_t>(size) - 1);
        const auto blank = std::min(said.find(' '), said.size());
        auto code = error_code_from_name(said.substr(0, blank)).value_or(ErrorCode::agent_unavailable);
        if (code != ErrorCode::storage_error && code != ErrorCode::version_mismatch) { code = ErrorCode::agent_unavailable; }
        return Error{code, printable(std::string(said.substr(std::min(blank + 1, said.size()))))};
    }
}

/// The runtime directory of the user's service manager, if one runs there that can listen on our socket; else empty.
std::string managers_directory() {
    const auto base = directory_of(runtime_directory());
    struct stat st {};
    return ::stat((base + "/systemd/private").c_str(), &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == ::geteuid() ? base : std::string();
}

/// Whether an agent that the service manager starts would be the one that we would start: these units belong to this
/// installation, and nothing in our environment, which the manager does not see, says anything else to the agent.
bool is_same_as_managers() {
    const auto prefix = directory_of(directory_of(own_program()));
    if (::access((prefix + "/lib/systemd/user/portwrap-agent.socket").c_str(), R_OK) != 0) { return false; }
    const auto home = home_directory();
    if (state_directory() != home + "/.local/state/portwrap" || config_directory() != home + "/.config/portwrap") { return false; }
    return std::none_of(std::begin(k_config_variables), std::end(k_config_variables), [](const char* name) { return std::getenv(name) != nullptr; });
}

/// Asks the user's service manager to listen on the agent's socket. False: it does not, for whatever reason.
bool start_socket_unit(const Deadline& deadline) {
    const auto base = managers_directory();
    if (base.empty() || !is_same_as_managers()) { return false; }
    auto environment = agent_environment();
    std::string directory = "XDG_RUNTIME_DIR=" + base;
    environment.insert(environment.begin(), directory.data());
    const pid_t child = ::fork();
    if (child < 0) { return false; }
    if (child == 0) {
        leave_caller(STDERR_FILENO + 1);
        const char* const arguments[] = {"systemctl", "--user", "--quiet", "start", "portwrap-agent.socket", nullptr};
        for (const char* program : {"/usr/bin/systemctl", "/bin/systemctl"}) { ::execve(program, const_cast<char* const*>(arguments), environment.data()); }
        ::_exit(127);
    }
    // A manager that hangs must leave time for starting the agent without it.
    const auto limit = Deadline::in_milliseconds(deadline.left() / 2);
    int status = 0;
    pid_t ended = 0;
    while ((ended = ::waitpid(child, &status, WNOHANG)) == 0 && limit.left() > 0) { sleep_ms(1); }
    if (ended == 0) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
    }
    // Nobody hears the status where SIGCHLD is ignored: then the socket tells.
    return ended < 0 || (ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

Deadline Deadline::in_milliseconds(int milliseconds) {
    Deadline deadline;
    deadline.m_at_ms = now_ms() + milliseconds;
    return deadline;
}

int Deadline::left() const {
    const auto left = m_at_ms - now_ms();
    return left > 0 ? static_cast<int>(left) : 0;
}

Json refusal_object(std::string_view code, std::string_view message) {
    return Json{{"code", code}, {"message", message}, {"details", nullptr}, {"suggestions", Json::array()}};
}

Json refusal_object(const Error& error) { return refusal_object(error_code_name(error.code), error.message); }

std::string own_lock() { return lock_path(own_registry()); }

std::vector<std::string> agent_directories() {
    std::vector<std::string> all{runtime_directory()};
    if (auto other = directory_of(socket_of_lock(own_lock())); !other.empty() && other != all[0]) { all.push_back(std::move(other)); }
    return all;
}

std::string own_program() {
    std::string path(PATH_MAX, '\0');
    const auto size = ::readlink("/proc/self/exe", path.data(), path.size());
    path.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return path;
}

Result<std::optional<AgentConnection>> AgentConnection::connect_to(const std::string& socket,
                                                                   const Deadline& deadline) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket.size() >= sizeof(address.sun_path)) { return unavailable("the socket's path is too long: " + socket); }
    std::memcpy(address.sun_path, socket.c_str(), socket.size() + 1);
    UniqueFd fd = above_standard_streams(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) { return unavailable(std::string("socket: ") + std::strerror(errno)); }
    // A blocking connect with a time limit: a non-blocking one fails with EAGAIN on a full backlog and nothing tells
    // when to try again.
    const timeval slice{0, k_patience_ms * 1000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice));
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice));
    while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        const int error = errno;
        if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) { return std::optional<AgentConnection>(); }
        if (error != EINTR && error != EAGAIN) { return unavailable(socket + ": " + std::strerror(error)); }
        if (deadline.left() == 0) { return unavailable("it accepts no connections"); }
    }
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        return unavailable(std::string("SO_PEERCRED: ") + std::strerror(errno));
    }
    if (peer.uid != ::geteuid()) { return unavailable(socket + " belongs to another user's process"); }
    return std::optional<AgentConnection>(AgentConnection(std::move(fd), peer.pid, socket, deadline));
}

Result<std::optional<AgentConnection>> find_agent(const Deadline& deadline) {
    const auto socket = socket_path(runtime_directory());
    if (!socket) { return socket.error(); }
    auto connection = AgentConnection::connect_to(*socket, deadline);
    if (!connection || connection->has_value()) { return connection; }
    // Another runtime directory than the agent's (su, cron, a container's shell), but the same registry.
    const auto lock = own_lock();
    const auto elsewhere = socket_of_lock(lock);
    if (elsewhere.empty() || elsewhere == *socket) { return connection; }
    auto other = AgentConnection::connect_to(elsewhere, deadline);
    if (other && other->has_value() && is_locked(lock)) { return other; }
    return connection;
}

Result<std::optional<AgentConnection>> find_running_agent(const Deadline& deadline) {
    // A service manager that listens for an agent would start one if we connected.
    if (!managers_directory().empty()) {
        const auto lock = own_lock();
        if (::access(lock.c_str(), F_OK) != 0 || !is_locked(lock)) { return std::optional<AgentConnection>(); }
    }
    return find_agent(deadline);
}

Result<AgentConnection> reach_agent(const Deadline& deadline, bool through_manager) {
    auto found = find_agent(deadline);
    if (!found) { return found.error(); }
    if (found->has_value()) { return std::move(**found); }
    if (through_manager && start_socket_unit(deadline)) {
        found = find_agent(deadline);
        if (found && found->has_value()) { return std::move(**found); }
    }
    const auto readiness = spawn_agent(deadline);
    if (!readiness) {
        // Somebody else's may have come meanwhile.
        found = find_agent(deadline);
        return found && found->has_value() ? Result<AgentConnection>(std::move(**found)) : readiness.error();
    }
    if (*readiness == Readiness::silent) { return unavailable("it did not start in time"); }
    // "listening" may also mean that another agent holds the lock and opens its socket any moment. An agent that ended
    // without a word will hardly have left another one behind.
    const auto patience = *readiness == Readiness::listening ? deadline.left() : std::min(deadline.left(), k_patience_ms);
    const auto limit = Deadline::in_milliseconds(patience);
    auto again = Deadline::in_milliseconds(k_respawn_ms);
    auto nameless = Deadline::in_milliseconds(k_nameless_ms);
    for (int pause = 1;; pause = std::min(pause * 2, 16)) {
        found = find_agent(deadline);
        if (!found) { return found.error(); }
        if (found->has_value()) { return std::move(**found); }
        if (limit.left() == 0) { return unavailable("it did not start; see " + own_registry() + "/agent.log"); }
        if (nameless.left() == 0 && socket_of_lock(own_lock()).empty() && (is_locked(own_lock()) || is_locked(own_registry()))) {
            return unavailable("an agent of another login has the registry, and " + own_lock() + " does not say where it listens (was the disk full, or the directory deleted?)");
        }
        // The one that had the lock was leaving: it has closed its socket and saves the registry. Ours gave way to it.
        if (*readiness == Readiness::listening && again.left() == 0) {
            if (const auto other = spawn_agent(deadline); !other) { return other.error(); }
            again = Deadline::in_milliseconds(k_respawn_ms);
        }
        sleep_ms(pause);
    }
}

/// After each slice of waiting: may it go on?
Status AgentConnection::wait_on(std::string_view what) const {
    if (m_pid > 0 && is_stopped(m_pid)) { return unavailable("the agent, pid " + std::to_string(m_pid) + ", is stopped"); }
    if (m_deadline.left() == 0) {
        return unavailable("the agent, pid " + std::to_string(m_pid) + ", " + std::string(what) + " in time");
    }
    return ok_status();
}

Status AgentConnection::send_line(std::string_view line) {
    while (!line.empty()) {
        const auto sent = ::send(m_fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
        if (sent >= 0) {
            line.remove_prefix(static_cast<std::size_t>(sent));
            continue;
        }
        if (errno == EINTR) { continue; }
        if (errno != EAGAIN) {
            m_hung_up = true;
            return unavailable(std::string("the agent hung up: ") + std::strerror(errno));
        }
        if (auto status = wait_on("reads nothing"); !status) { return status; }
    }
    return ok_status();
}

/// Until there is something to receive.
Status AgentConnection::await_message() const {
    while (true) {
        pollfd waiting[2] = {{m_fd.get(), POLLIN, 0}, {m_interruption->fd, POLLIN, 0}};
        const int ready = ::poll(waiting, 2, k_patience_ms);
        if (ready < 0 && errno != EINTR) { return unavailable(std::string("poll: ") + std::strerror(errno)); }
        if (ready > 0 && waiting[1].revents != 0 && !m_interruption->go_on()) { return unavailable("the request was taken back"); }
        if (ready > 0 && waiting[0].revents != 0) { return ok_status(); }
        if (ready != 0) { continue; }
        if (auto status = wait_on("did not answer"); !status) { return status; }
    }
}

Result<std::string> AgentConnection::receive_line() {
    std::size_t searched = 0;
    while (true) {
        if (const auto end = m_buffer.find('\n', searched); end != std::string::npos) {
            auto line = m_buffer.substr(0, end);
            m_buffer.erase(0, end + 1);
            return line;
        }
        searched = m_buffer.size();
        if (searched > k_max_reply) { return unavailable("the agent's reply is too long"); }
        if (m_interruption != nullptr) {
            if (auto status = await_message(); !status) { return status.error(); }
        }
        char chunk[16384];
        const auto size = ::recv(m_fd.get(), chunk, sizeof(chunk), 0);
        if (size > 0) {
            m_buffer.append(chunk, static_cast<std::size_t>(size));
            continue;
        }
        if (size < 0 && errno == EINTR) { continue; }
        if (size == 0 || errno != EAGAIN) {
            m_hung_up = true;
            return unavailable("the agent hung up");
        }
        if (auto status = wait_on("did not answer"); !status) { return status.error(); }
    }
}

void AgentConnection::wait_without_limit() {
    m_deadline = Deadline::in_milliseconds(INT_MAX);
    const timeval slice{10, 0};
    ::setsockopt(m_fd.get(), SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice));
}

Result<Json> AgentConnection::next_message() {
    const auto line = receive_line();
    if (!line) { return line.error(); }
    auto message = Json::parse(*line, nullptr, false);
    if (!message.is_object()) { return unavailable("the agent's message is not understood"); }
    return message;
}

Result<Reply> AgentConnection::call(std::string_view method, Json params) {
    const int id = ++m_last_id;
    const Json request{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", std::move(params)}};
    const auto line = request.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    if (line.size() > k_max_line) { return Error{ErrorCode::invalid_request, "the request is longer than 64 KiB"}; }
    if (auto status = send_line(line); !status) {
        // The refusal of an over-long or unwanted connection may be there although the agent has hung up.
        if (!m_hung_up) { return status.error(); }
    }
    const auto answer = receive_line();
    if (!answer) { return answer.error(); }
    m_hung_up = false;
    auto message = Json::parse(*answer, nullptr, false);
    if (!message.is_object()) { return unavailable("the agent's reply is not understood"); }
    if (message.contains("result") && message["result"].is_object()) {
        if (message.contains("id") && message["id"] != id) { return unavailable("the agent answered another request"); }
        return Reply{true, std::move(message["result"])};
    }
    if (!message.contains("error") || !message["error"].is_object()) {
        return unavailable("the agent's reply is not understood");
    }
    auto& error = message["error"];
    const bool unknown_method = error.contains("code") && error["code"] == -32601;
    const std::string said = error.contains("message") && error["message"].is_string()
                                 ? error["message"].get<std::string>()
                                 : "the agent refused without a message";
    if (unknown_method) {
        return Reply{false, refusal_object("VERSION_MISMATCH", "the agent does not know " + std::string(method) +
                                                                   " (another version; portctl agent restart)")};
    }
    auto refusal = refusal_object("INVALID_REQUEST", said);
    if (error.contains("data") && error["data"].is_object()) {
        for (auto& [name, value] : error["data"].items()) { refusal[name] = value; }
    }
    if (!refusal["code"].is_string()) { refusal["code"] = "INVALID_REQUEST"; }
    if (!refusal["message"].is_string()) { refusal["message"] = said; }
    if (!refusal["suggestions"].is_array()) { refusal["suggestions"] = Json::array(); }
    return Reply{false, std::move(refusal)};
}

Result<Answer> ask_agent(std::string_view method, const Json& params, const Deadline& deadline, const Interruption* interruption) {
    constexpr int k_agents_tried = 2;
    constexpr int k_leaving_ms = 1000;
    int tried = 0;
    pid_t leaving = 0;
    auto limit = deadline;
    for (;;) {
        // A manager that has given up on its service closes the socket before anybody answers.
        auto connection = reach_agent(deadline, tried == 0);
        if (!connection) { return connection.error(); }
        connection->heed(interruption);
        auto reply = connection->call(method, params);
        if (reply) { return Answer{std::move(*reply), connection->socket()}; }
        if (!connection->hung_up() || limit.left() == 0) { return reply.error(); }
        // One that is being killed may still take connections for a while; a manager that starts agents in vain is another matter.
        const auto pid = connection->agent_pid();
        if (pid != leaving || first_line("/proc/" + std::to_string(pid) + "/comm") != "portwrap-agent") {
            if (++tried == k_agents_tried) { return reply.error(); }
            leaving = pid;
            limit = Deadline::in_milliseconds(std::min(deadline.left(), k_leaving_ms));
        }
        sleep_ms(1);
    }
}

}  // namespace portwrap
