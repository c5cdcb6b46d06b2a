// portctl agent start|stop|restart|status. Status and stop never start an agent.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

Deadline patience() { return Deadline::in_milliseconds(k_portctl_deadline_ms); }

Json not_running() {
    const auto socket = socket_path(runtime_directory());
    Json agent{{"running", false},  {"pid", nullptr},    {"version", nullptr},  {"protocol", nullptr},
               {"socket", nullptr}, {"uptime_s", nullptr}, {"leases", nullptr}, {"sessions", nullptr},
               {"last_cleanup", nullptr}};
    if (socket) { agent["socket"] = *socket; }
    return Json{{"schema", k_json_schema}, {"ok", true}, {"agent", std::move(agent)}};
}

int show_status(const Globals& globals, const Json& result) {
    const auto& agent = inner_field(result, "agent");
    const auto version = text_field(agent, "version");
    if (version != k_version) {
        write_line(STDERR_FILENO, "portctl: warning: the agent is version " + version + ", portctl is " + k_version +
                                      "; `portctl agent restart` replaces it and keeps every lease");
    }
    if (globals.json) { return print_json(result); }
    const auto number = [&](const char* name) { return std::to_string(number_field(agent, name).value_or(0)); };
    return print_text("agent: running, pid " + number("pid") + ", version " + version + ", up " +
                      render_age(static_cast<std::time_t>(number_field(agent, "uptime_s").value_or(0))) + '\n' +
                      "socket: " + text_field(agent, "socket") + '\n' + "leases: " + number("leases") +
                      ", sessions: " + number("sessions") + '\n');
}

int start(const Globals& globals) {
    return ask(globals, "agent.status", Json::object(), [&](const Json& result) { return show_status(globals, result); });
}

int status(const Globals& globals) {
    auto found = find_running_agent(patience());
    if (!found) { return report(globals, found.error()); }
    if (!found->has_value()) {
        const int printed = globals.json ? print_json(not_running()) : print_text("agent: not running\n");
        return printed != 0 ? printed : k_exit_not_running;
    }
    const auto reply = (*found)->call("agent.status", Json::object());
    if (!reply) { return report(globals, reply.error()); }
    return reply->ok ? show_status(globals, reply->body) : report(globals, reply->body);
}

/// Waits until the process is gone, and with it its lock. False when it did not go in time.
bool await_end(pid_t pid, const UniqueFd& process, const Deadline& deadline) {
    while (deadline.left() > 0) {
        if (process.valid()) {
            pollfd waiting{process.get(), POLLIN, 0};
            if (::poll(&waiting, 1, deadline.left()) > 0) { return true; }
        } else {
            // No pidfds (before Linux 5.3), or an agent in another pid namespace.
            if (pid <= 0 || (::kill(pid, 0) != 0 && errno == ESRCH)) { return true; }
            ::poll(nullptr, 0, 10);
        }
    }
    return false;
}

/// Nothing when no agent ran.
Result<std::optional<Json>> end_agent() {
    const auto deadline = patience();
    auto found = find_running_agent(deadline);
    if (!found) { return found.error(); }
    if (!found->has_value()) { return std::optional<Json>(); }
    auto& connection = **found;
    const pid_t pid = connection.agent_pid();
    // The system call itself: glibc 2.36 declares its wrapper without C linkage.
    const UniqueFd process(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1);
    auto reply = connection.call("agent.stop", Json::object());
    // An agent that ends before its reply has got through has stopped all the same.
    if (!reply && !connection.hung_up()) { return reply.error(); }
    if (reply && !reply->ok) {
        return Error{error_code_from_name(text_field(reply->body, "code")).value_or(ErrorCode::agent_unavailable),
                     text_field(reply->body, "message")};
    }
    if (!await_end(pid, process, deadline)) {
        return Error{ErrorCode::agent_unavailable, "the agent, pid " + std::to_string(pid) + ", does not end"};
    }
    return std::optional<Json>(reply ? std::move(reply->body) : not_running());
}

int stop(const Globals& globals) {
    const auto ended = end_agent();
    if (!ended) { return report(globals, ended.error()); }
    if (globals.json) { return print_json(ended->has_value() ? **ended : not_running()); }
    return print_text(ended->has_value() ? "agent: stopped\n" : "agent: not running\n");
}

int restart(const Globals& globals) {
    const auto ended = end_agent();
    if (!ended) { return report(globals, ended.error()); }
    return start(globals);
}

/// The log that is there now. What is no file (a FIFO would be waited for) is refused.
Result<UniqueFd> open_log(const std::string& path) {
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.valid()) { return Error{ErrorCode::not_found, path + ": " + std::strerror(errno)}; }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) { return Error{ErrorCode::not_found, path + " is no regular file"}; }
    return file;
}

/// The log's last lines; with `follow` also what is written from now on, also into a new file after a rotation.
int show_log(const Globals& globals, std::size_t lines, bool follow) {
    const auto path = state_directory() + "/agent.log";
    auto file = open_log(path);
    if (!file) { return report(globals, file.error()); }
    const UniqueFd watch(follow ? ::inotify_init1(IN_CLOEXEC) : -1);
    if (follow) { ::inotify_add_watch(watch.get(), state_directory().c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO); }
    std::string text;
    const auto read_on = [&] {
        char chunk[16384];
        for (ssize_t size; (size = ::read(file->get(), chunk, sizeof(chunk))) > 0;) { text.append(chunk, static_cast<std::size_t>(size)); }
    };
    read_on();
    std::size_t start = text.size();
    for (std::size_t seen = 0; start > 0; --start) {
        if (text[start - 1] == '\n' && start != text.size() && ++seen == lines) { break; }
    }
    int printed = print_text(std::string_view(text).substr(lines == 0 ? text.size() : start));
    while (follow && printed == 0) {
        alignas(inotify_event) char events[4096];
        if (::read(watch.get(), events, sizeof(events)) <= 0 && errno != EINTR) { break; }
        text.clear();
        read_on();
        struct stat named {};
        struct stat opened {};
        if (::stat(path.c_str(), &named) == 0 && ::fstat(file->get(), &opened) == 0 && named.st_ino != opened.st_ino) {
            if (auto next = open_log(path)) {
                file = std::move(next);
                read_on();
            }
        }
        printed = print_text(text);
    }
    return printed;
}

int run_agent(Globals& globals, const std::vector<std::string>& arguments) {
    struct Action {
        const char* name;
        int (*run)(const Globals&);
    };
    static constexpr Action k_actions[] = {{"start", start}, {"stop", stop}, {"restart", restart}, {"status", status}};
    std::string word;
    std::string level;
    std::size_t lines = 20;
    bool follow = false;
    const auto end = parse_command(globals, "agent start|stop|restart|status|log [OPTIONS]",
                                   "The background agent: other commands start it when it is needed.",
                                   "  portctl agent status     exit status 69: not running\n"
                                   "  portctl agent restart    after an upgrade; every lease is kept\n"
                                   "  portctl agent log -f     what it does, as it happens\n"
                                   "  portctl agent log --level debug",
                                   arguments, [&](CLI::App& app) {
                                       app.add_option("action", word, "What to do")
                                           ->option_text("start|stop|restart|status|log")
                                           ->required();
                                       app.add_flag("-f,--follow", follow, "log: go on as it is written");
                                       app.add_option("-n,--lines", lines, "log: so many lines (20)")->option_text("N")->check(CLI::Range(0, 100000));
                                       app.add_option("--level", level, "log: write from now on debug, info, warn or error")
                                           ->option_text("LEVEL")
                                           ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
                                   });
    if (end) { return *end; }
    if (word == "log" && !level.empty()) {
        return ask(globals, "agent.log_level", Json{{"level", level}}, [&](const Json& result) {
            return globals.json ? print_json(result) : print_text("agent: logs " + level + " and above\n");
        });
    }
    if (word == "log") { return show_log(globals, lines, follow); }
    for (const auto& action : k_actions) {
        if (word == action.name) { return action.run(globals); }
    }
    return report(globals, unknown_action(word, {"start", "stop", "restart", "status", "log"}));
}

}  // namespace

std::vector<Command> agent_commands() {
    return {{"agent", "start, stop, restart, status, log of the background agent", run_agent}};
}

}  // namespace portwrap
