// The agent's program: options, the lock that makes it the only one, the socket, and the wiring of the rooms.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "loop/server.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "storage/recovery.hpp"
#include "storage/snapshot.hpp"
#include "storage/store.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"
#include "system/service_manager.hpp"

namespace {

/// Directories and services are named by whoever makes them; the log is shown on terminals.
constexpr std::size_t k_longest_log_line = 16 * 1024;


using namespace portwrap;

#ifndef SO_NETNS_COOKIE
constexpr int SO_NETNS_COOKIE = 71;  // Linux 5.14
#endif

/// Tells the client that started us that it may connect now, or why it cannot ("!CODE message"); closed without a word it says
/// that there is no agent.
class Readiness {
public:
    explicit Readiness(int fd) : m_fd(fd) {
        if (fd >= 0) { ::fcntl(fd, F_SETFD, FD_CLOEXEC); }
    }
    void tell(std::string_view word) {
        if (m_fd.valid()) {
            [[maybe_unused]] const auto written = ::write(m_fd.get(), word.data(), word.size());
            m_fd.reset();
        }
    }

private:
    UniqueFd m_fd;
};

std::string host_name() {
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    return name;
}

std::uint64_t own_netns() {
    const UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return socket.valid() && ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

/// Whose registry lies in the state directory itself. Who comes first writes it down; O_EXCL decides between two hosts that
/// come at once. A registry from before that file existed names its machine in its snapshot.
/// A file that was damaged, or written before this machine had an id, is mended (`loss` says so), where the snapshot names us.
std::string machine_of_registry(const std::string& state, const std::string& own, std::string& loss) {
    const auto path = machine_path(state);
    const auto written_down = [&path] {
        const auto text = read_file(system_files(), path).text;
        return text.substr(0, text.find('\n'));
    };
    auto owner = written_down();
    if (owner == own) { return owner; }
    std::string snapshots;
    if (const auto snapshot = decode_snapshot(read_file(system_files(), state + "/" + std::string(k_snapshot_name)).text)) { snapshots = snapshot->machine; }
    if (!owner.empty()) {
        const bool other = is_machine_id(owner) && snapshots != own;
        const bool others = is_machine_id(snapshots) && snapshots != own;
        if (other || others) { return other ? owner : snapshots; }
        const UniqueFd file{::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW)};
        if (file.valid()) { (void)write_all(system_files(), file.get(), own + "\n"); }
        if (owner != k_unknown_machine) { loss = path + " named no machine, or a wrong one; it is written anew"; }
        return own;
    }
    owner = snapshots.empty() ? own : snapshots;
    const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (file.valid()) {
        (void)write_all(system_files(), file.get(), owner + "\n");
        return owner;
    }
    const auto winner = written_down();
    return winner.empty() ? owner : winner;
}

/// What makes an agent the only one of its registry, held for life.
struct Locks {
    UniqueFd file;       ///< agent.lock, whose text tells clients where the agent listens; none where nothing can be written
    UniqueFd directory;  ///< the registry's directory itself (the runtime directory where there is none): needs no room on the disk
};

Error another_agent() { return Error{ErrorCode::agent_unavailable, "another agent has this registry"}; }

Result<Locks> take_locks(const std::string& state, const std::string& runtime, const std::string& socket) {
    Locks locks;
    for (const auto& directory : {state, runtime}) {
        locks.directory.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
        if (locks.directory.valid()) { break; }
    }
    if (locks.directory.valid() && ::flock(locks.directory.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) { return another_agent(); }
        locks.directory.reset();  // a network's file system without locks on directories
    }
    const auto path = lock_path(state);
    locks.file.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    const int error = errno;
    // A full or read-only disk: the agent serves on without a journal. A lock needs no writing.
    if (!locks.file.valid()) { locks.file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)); }
    if (!locks.file.valid()) {
        if (locks.directory.valid() && error != ELOOP) { return locks; }
        return Error{ErrorCode::storage_error, "cannot open " + path + ": " + std::strerror(error)};
    }
    // Twice: a client that looks whether an agent runs has the lock for a moment.
    constexpr int k_moment_ms = 5;
    if (::flock(locks.file.get(), LOCK_EX | LOCK_NB) != 0 && (::poll(nullptr, 0, k_moment_ms), ::flock(locks.file.get(), LOCK_EX | LOCK_NB)) != 0) {
        return another_agent();
    }
    // Over what an earlier agent wrote there, which needs no room on a full disk.
    if (::pwrite(locks.file.get(), socket.data(), socket.size(), 0) == static_cast<ssize_t>(socket.size())) {
        [[maybe_unused]] const auto cut = ::ftruncate(locks.file.get(), static_cast<off_t>(socket.size()));
    }
    return locks;
}

/// A directory that is not there although it was to be made: the disk is full or read-only, or its parent not ours to write in.
bool is_missing(const std::string& directory) {
    struct stat st {};
    return ::lstat(directory.c_str(), &st) != 0;
}

/// For an agent whose socket listens already: clients wait there, so it cannot leave the field to the agent that has the
/// registry's lock. That one has just lost its socket's file to ours, or is its process's earlier image and leaves anyway;
/// or it serves another runtime directory (a login by su or cron) and is asked to leave. The registry is as it left it.
Result<Locks> take_over_locks(const std::string& state, const std::string& runtime, const std::string& socket) {
    constexpr int k_patience_ms = 10'000;
    constexpr int k_pause_ms = 10;
    UniqueFd other;
    if (const auto text = read_file(system_files(), lock_path(state)).text; text != socket && text.size() < sizeof(sockaddr_un::sun_path)) {
        other.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
        constexpr std::string_view k_stop = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.stop\",\"params\":{}}\n";
        if (::connect(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
            (void)write_all(system_files(), other.get(), k_stop);
        }
    }
    auto locks = take_locks(state, runtime, socket);
    for (int waited = 0; !locks && locks.error().code == ErrorCode::agent_unavailable && waited < k_patience_ms; waited += k_pause_ms) {
        ::poll(nullptr, 0, k_pause_ms);
        locks = take_locks(state, runtime, socket);
    }
    return locks;
}

Result<UniqueFd> make_socket(const std::string& path) {
    const auto impossible = [&path] { return Error{ErrorCode::agent_unavailable, "cannot bind " + path + ": " + std::strerror(errno)}; };
    UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket.valid()) { return impossible(); }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    // We hold the registry's lock, but another registry's agent may live in this runtime directory.
    {
        const UniqueFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        if (::connect(probe.get(), where, sizeof address) == 0) {
            return Error{ErrorCode::agent_unavailable, "another agent (of another registry) listens on " + path};
        }
    }
    ::unlink(path.c_str());
    if (::bind(socket.get(), where, sizeof address) != 0 || ::chmod(path.c_str(), 0600) != 0) { return impossible(); }
    return socket;
}

std::shared_ptr<spdlog::logger> make_log(const std::string& state, bool foreground) {
    constexpr std::size_t k_log_bytes = 1 << 20;
    constexpr std::size_t k_log_files = 3;
    const auto path = state + "/agent.log";
    struct stat there {};
    const bool is_file = ::stat(path.c_str(), &there) != 0 || S_ISREG(there.st_mode);  // opening a FIFO would wait for its reader
    std::shared_ptr<spdlog::logger> log;
    try {
        log = foreground || !is_file ? spdlog::stderr_logger_st("agent") : spdlog::rotating_logger_st("agent", path, k_log_bytes, k_log_files);
    } catch (const spdlog::spdlog_ex&) {
        log = spdlog::stderr_logger_st("agent");  // a full or read-only disk must not keep the agent from serving
    }
    log->set_error_handler([](const std::string&) {});
    log->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    // The rest is written once for all that a turn of the loop has logged.
    log->flush_on(spdlog::level::warn);
    return log;
}

/// What run() asks of main() besides an exit status; `kept` may then be the socket to go on with.
constexpr int k_start_anew = -1;

int run(const std::string& level, bool foreground, Readiness& ready, PassedSocket& kept) {
    const auto fail = [&ready](const Error& error, int status = 1) {
        std::fprintf(stderr, "portwrap-agent: %s\n", error.message.c_str());
        ready.tell(k_cannot_start + std::string(error_code_name(error.code)) + " " + error.message);
        return status;
    };
    const auto runtime = runtime_directory();
    auto state = state_directory();
    if (const auto made = ensure_private_directory(runtime); !made) { return fail(made.error()); }
    // Where there can be no registry, names are refused and running programs get ports all the same.
    if (const auto made = ensure_private_directory(state); !made && !is_missing(state)) { return fail(made.error()); }
    const auto machine = read_machine_id();
    std::string machine_loss;
    const auto first_machine = machine_of_registry(state, machine, machine_loss);
    state = registry_directory(state, first_machine, machine);
    if (const auto made = ensure_private_directory(state); !made && !is_missing(state)) { return fail(made.error()); }
    const auto socket_file = socket_path(runtime);
    if (!socket_file) { return fail(socket_file.error()); }

    auto passed = take_passed_socket(*socket_file);
    const bool was_passed = passed.socket.valid();
    const auto locks = was_passed ? take_over_locks(state, runtime, *socket_file) : take_locks(state, runtime, *socket_file);
    if (!locks) {
        // Losing the race is no failure: the winner serves.
        if (locks.error().code == ErrorCode::agent_unavailable && !was_passed) {
            ready.tell(".");
            return 0;
        }
        return fail(locks.error());
    }
    const auto log = make_log(state, foreground);
    log->set_level(spdlog::level::from_str(level.empty() ? "info" : level));

    Agent::Options options;
    options.config_path = config_directory() + "/config.json";
    options.variables = config_variables();
    if (auto user = read_user_config(options.config_path, options.variables, read_ephemeral_range()); user) {
        options.user = std::move(*user);
    } else {
        // A mistake in a file must not leave anybody without ports: the built-in values serve, and everybody is told.
        options.config_problem = user.error().message;
        options.user.config = default_config();
        log->error("config: {}; the built-in values are in use", options.config_problem);
    }
    options.log_level_given = !level.empty();
    if (first_machine != machine) { log->info("a home of several hosts: this machine's registry is {} (the first one's was machine {})", state, first_machine); }

    Server server(*log);
    Store::Options store_options;
    store_options.directory = state;
    store_options.machine_id = machine;
    store_options.now = server.now();
    store_options.history_days = static_cast<int>(options.user.config.history.count() / 24);
    store_options.notify = [&server] { server.notify_synced(); };
    auto opened = Store::open(system_files(), std::move(store_options));
    if (!opened) {
        log->error("registry: {}", opened.error().message);
        return fail(opened.error(), exit_status_of(error_code_name(opened.error().code)));
    }
    if (!machine_loss.empty()) { opened->losses.push_back(machine_loss); }
    for (const auto& loss : opened->losses) { log->error("registry: {}", loss); }

    auto listening = was_passed ? Result<UniqueFd>(std::move(passed.socket)) : make_socket(*socket_file);
    if (!listening) {
        log->error("{}", listening.error().message);
        return fail(listening.error());
    }

    options.home = home_directory();
    options.user_at_host = user_name(::geteuid()) + "@" + host_name();
    options.boot_id = read_boot_id();
    options.socket = *socket_file;
    options.state = state;
    options.losses = opened->losses;
    options.set_log_level = [&log](const std::string& wanted) { log->set_level(spdlog::level::from_str(wanted)); };
    options.tables = tables_directory(runtime);
    options.prompts = prompts_directory(runtime);
    options.netns = own_netns();
    options.log = [&log](const std::string& line) { log->info("{}", printable(line, k_longest_log_line)); };
    options.log_trouble = [&log](const std::string& line) { log->warn("{}", printable(line, k_longest_log_line)); };
    Agent agent(server, std::move(opened->store), std::move(opened->registry), std::move(options));
    server.serve(agent);
    agent.start();
    if (const auto serving = server.listen(std::move(*listening), *socket_file, !passed.is_managers); !serving) { return fail(serving.error()); }
    log->info("started version={} pid={} socket={} leases={}", k_version, ::getpid(), *socket_file, agent.registry().leases().size());
    ready.tell("+");
    tell_manager("READY=1");
    const bool clean = server.run();
    log->info("stopped clean={}", clean);
    log->flush();
    kept = {server.take_kept_socket(), passed.is_managers};
    if (kept.socket.valid()) { return k_start_anew; }
    // Without its parent (the directory of a login that has ended) the runtime directory is not made again; and where
    // somebody else's socket is now (a service manager's), that one serves.
    struct stat there {};
    if (server.lost_its_socket() && ::stat(runtime.substr(0, runtime.rfind('/')).c_str(), &there) == 0 && ::stat(socket_file->c_str(), &there) != 0) {
        return k_start_anew;
    }
    if (!clean) { ::_exit(0); }
    return 0;
}

/// The same process begins again: the runtime directory, the socket (if it was not kept) and all that is published there are
/// made as at any start.
int start_anew(const std::string& level, bool foreground, PassedSocket kept) {
    if (kept.socket.valid() && !pass_on(std::move(kept.socket), kept.is_managers)) { return 1; }
    std::vector<std::string> words{"portwrap-agent"};
    if (!level.empty()) { words.insert(words.end(), {"--log-level", level}); }
    if (foreground) { words.emplace_back("--foreground"); }
    std::vector<char*> arguments;
    arguments.reserve(words.size() + 1);
    for (auto& word : words) { arguments.push_back(word.data()); }
    arguments.push_back(nullptr);
    // By its path, so that the process keeps its name, and an upgrade has put the next version there; where the file is
    // gone, what runs here still is.
    char path[4096] = "";
    std::string program(path, ::readlink("/proc/self/exe", path, sizeof path - 1) > 0 ? std::strlen(path) : 0);
    constexpr std::string_view k_replaced = " (deleted)";
    if (program.ends_with(k_replaced)) { program.resize(program.size() - k_replaced.size()); }
    ::execv(program.c_str(), arguments.data());
    ::execv("/proc/self/exe", arguments.data());
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    // What the prompts know an agent by (its number may be another program's one day), also when it was run by another name.
    ::prctl(PR_SET_NAME, "portwrap-agent");
    CLI::App app{"The per-user agent of portwrap: owns the registry of leases. Started on demand by portwrap and portctl.", "portwrap-agent"};
    app.set_version_flag("--version", std::string("portwrap-agent ") + k_version, "Print the version");
    std::string level;
    bool foreground = false;
    int ready_fd = -1;
    // In the words and the order of its manual page.
    app.set_help_flag("--help,-h", "Print this help");
    app.add_flag("--foreground", foreground, "Log to standard error instead of agent.log");
    app.add_option("--log-level", level, "Log debug, info, warn or error and above; else what the config says, else info")
        ->option_text("LEVEL")
        ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
    app.add_option("--ready-fd", ready_fd, "Write one byte to this descriptor as soon as the socket can be connected to, or why it cannot")
        ->option_text("FD")
        ->check(CLI::Range(3, 1 << 20));
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& end) {
        return app.exit(end) == 0 ? 0 : exit_status_of(error_code_name(ErrorCode::invalid_request));
    }

    ::umask(077);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes that we inherited is a failed write like any other
    std::signal(SIGUSR2, SIG_IGN);  // until the loop handles it
    // Hanging file systems must not fill the pool: more threads than libuv's four. Set before the pool's first use.
    // And each would have a heap of its own, made and touched anew by whichever of them is woken.
    ::mallopt(M_ARENA_MAX, 2);
    // Large buffers (files of projects, long replies) go back to the system when they are freed; glibc would else raise this
    // threshold with the first of them, and keep all later ones.
    ::mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    ::setenv("UV_THREADPOOL_SIZE", std::to_string(FileJobs::k_at_once + 4).c_str(), 1);
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
    Readiness ready(ready_fd);
    PassedSocket kept;  // outlives all that run() has open: pass_on puts it where one of those may be
    const int status = run(level, foreground, ready, kept);
    return status == k_start_anew ? start_anew(level, foreground, std::move(kept)) : status;
}
