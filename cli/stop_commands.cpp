// portctl stop: ends a running service of the own project. The agent says which processes belong to it; the signals are sent
// from here, through pidfds, so that a recycled pid is never hit and Ctrl-C ends the stopping.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "portwrap/protocol.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

/// Fields 4 and 22 of /proc/PID/stat (proc(5)), counted from the last parenthesis: a program's name may have any.
struct Stat {
    pid_t parent = 0;
    unsigned long long start_ticks = 0;
};
std::optional<Stat> read_stat(pid_t pid) {
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    std::FILE* file = std::fopen(path, "re");
    if (file == nullptr) { return std::nullopt; }
    char text[1024];
    const auto size = std::fread(text, 1, sizeof(text) - 1, file);
    std::fclose(file);
    text[size] = '\0';
    const char* name_end = std::strrchr(text, ')');
    Stat stat;
    char state = 0;
    const bool read = name_end != nullptr && std::sscanf(name_end + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                                                         &state, &stat.parent, &stat.start_ticks) == 3;
    return read ? std::optional<Stat>(stat) : std::nullopt;
}

struct Process {
    pid_t pid = 0;
    UniqueFd pidfd;
    std::string command;
    int signal = 0;  ///< the last one sent
    [[nodiscard]] bool has_ended(int wait_ms) const {
        pollfd ended{pidfd.get(), POLLIN, 0};
        return ::poll(&ended, 1, wait_ms) == 1;
    }
};

/// The processes that still are those that the agent named; never this one or one that it was started by.
std::vector<Process> open_processes(const Json& list, const std::set<pid_t>& spared, std::set<pid_t>& known) {
    std::vector<Process> processes;
    for (const auto& entry : list) {
        const auto pid = static_cast<pid_t>(number_field(entry, "pid").value_or(0));
        const auto ticks = number_field(entry, "start_ticks").value_or(-1);
        if (pid <= 1 || spared.contains(pid) || !known.insert(pid).second) { continue; }
        Process process{pid, UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))), text_field(entry, "command"), 0};
        const auto stat = read_stat(pid);
        // The descriptor first, then the look: what it names cannot change any more.
        if (process.pidfd.valid() && stat && stat->start_ticks == static_cast<unsigned long long>(ticks)) { processes.push_back(std::move(process)); }
    }
    return processes;
}

std::set<pid_t> own_ancestry() {
    std::set<pid_t> pids;
    for (pid_t pid = ::getpid(); pid > 1 && pids.insert(pid).second;) {
        const auto stat = read_stat(pid);
        pid = stat ? stat->parent : 0;
    }
    return pids;
}

/// Signals all that live and waits until they have ended, at most until the deadline. True when all have.
bool end_all(std::vector<Process*>& processes, int signal, const Deadline& deadline) {
    for (auto* process : processes) {
        if (!process->has_ended(0) && ::syscall(SYS_pidfd_send_signal, process->pidfd.get(), signal, nullptr, 0) == 0) { process->signal = signal; }
    }
    bool ended = true;
    for (const auto* process : processes) { ended = process->has_ended(deadline.left()) && ended; }
    return ended;
}

int run_stop(Globals& globals, const std::vector<std::string>& arguments) {
    Word target;
    Word grace;
    bool only = false;
    const auto end = parse_command(
        globals, "stop SERVICE|PORT [--only] [--grace DURATION] [OPTIONS]",
        "Stops a running service of this project: SIGTERM to the command of the innermost portwrap run that it belongs to, then to the rest of that run, "
        "SIGKILL to what is left.",
        "  portctl stop web\n"
        "  portctl stop api --only     the program that has the port, not what started it\n"
        "  portctl stop web --grace 30s",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "SERVICE|PORT", "What to stop", true);
            app.add_flag("--only", only, "Only the program that has the port");
            app.add_option("--grace", grace.value, "So long before SIGKILL (5s)")
                ->option_text("DURATION")
                ->take_last()
                ->each([&](const std::string&) { grace.given = true; });
        });
    if (end) { return *end; }
    if (!globals.project.empty()) { return report(globals, Error{ErrorCode::not_owner, "stop ends programs of the directory's own project only"}); }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (auto put = put_target(*parameters, target.value, "port"); !put) { return report(globals, put.error()); }
    long long grace_s = 5;
    if (grace.given) {
        const auto seconds = parse_duration(grace.value);
        if (!seconds) { return report(globals, seconds.error()); }
        grace_s = std::min(*seconds, 3600LL);
    }
    return ask(globals, "session.members", *parameters, [&](const Json& result) {
        const auto spared = own_ancestry();
        std::set<pid_t> known;
        std::vector<Process> commands;
        if (!only) { commands = open_processes(inner_field(result, "commands"), spared, known); }
        std::vector<Process> rest;
        if (only) {
            // The holders of the leases that are meant, not of the whole session.
            Json holders = Json::array();
            for (const auto& holder : inner_field(result, "holders")) {
                for (const auto& lease : inner_field(result, "leases")) {
                    if (number_field(inner_field(lease, "holder"), "pid") == number_field(holder, "pid")) { holders.push_back(holder); }
                }
            }
            rest = open_processes(holders, spared, known);
        } else {
            for (const char* group : {"holders", "others"}) {
                for (auto& process : open_processes(inner_field(result, group), spared, known)) { rest.push_back(std::move(process)); }
            }
        }
        const auto grace_ms = static_cast<int>(grace_s * 1000);
        const auto deadline = Deadline::in_milliseconds(grace_ms);
        // The command ends what it started in good order, if it is one that does.
        std::vector<Process*> first;
        first.reserve(commands.size());
        for (auto& process : commands) { first.push_back(&process); }
        if (!first.empty()) { (void)end_all(first, SIGTERM, Deadline::in_milliseconds(grace_ms / 2)); }
        std::vector<Process*> everybody;
        everybody.reserve(rest.size() + commands.size());
        for (auto& process : rest) { everybody.push_back(&process); }
        bool ended = end_all(everybody, SIGTERM, deadline);
        everybody.insert(everybody.end(), first.begin(), first.end());
        for (const auto* process : first) { ended = process->has_ended(deadline.left()) && ended; }
        if (!ended) { ended = end_all(everybody, SIGKILL, Deadline::in_milliseconds(2000)); }

        Json stopped = Json::array();
        std::string text;
        std::sort(everybody.begin(), everybody.end(), [](const Process* a, const Process* b) { return a->pid < b->pid; });
        for (const auto* process : everybody) {
            if (process->signal == 0) { continue; }
            const char* name = process->signal == SIGKILL ? "KILL" : "TERM";
            stopped.push_back(Json{{"pid", process->pid}, {"signal", name}});
            text += "stopped pid " + std::to_string(process->pid) + " (" + process->command + ")" + (process->signal == SIGKILL ? ", killed" : "") + '\n';
        }
        if (everybody.empty()) { return report(globals, Error{ErrorCode::not_found, "nothing is left to stop but what this command runs in"}); }
        if (!ended) { write_line(STDERR_FILENO, "portctl: some of it does not end"); }
        const int printed = globals.json ? print_json(Json{{"schema", k_json_schema}, {"ok", true}, {"stopped", std::move(stopped)}}) : print_text(text);
        return printed != 0 || ended ? printed : 1;
    });
}

}  // namespace

std::vector<Command> stop_commands() { return {{"stop", "end a running service of this project", run_stop}}; }

}  // namespace portwrap
