// portctl doctor: what is wrong with the installation, the runtime directory and the agent, in one table. The agent looks at
// its own house; the rest is looked at here, so that it works when no agent can be reached.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
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

class Findings {
public:
    void add(const char* name, const char* status, const std::string& detail) {
        m_checks.push_back(Json{{"name", name}, {"status", status}, {"detail", detail}});
    }
    void add_all(const Json& checks) {
        for (const auto& check : checks) { m_checks.push_back(check); }
    }
    [[nodiscard]] Json& checks() { return m_checks; }
    [[nodiscard]] bool has_error() const {
        return std::any_of(m_checks.begin(), m_checks.end(), [](const Json& check) { return text_field(check, "status") == "error"; });
    }

private:
    Json m_checks = Json::array();
};

void look_at_installation(Findings& findings) {
    const auto program = own_program();
    if (program.empty()) { return findings.add("/proc", "error", k_no_proc); }
    const auto bin = directory_of(program);
    const auto prefix = directory_of(bin);
    for (const char* name : {"portwrap", "portwrap-agent"}) {
        const auto path = bin + "/" + name;
        const bool there = ::access(path.c_str(), X_OK) == 0;
        findings.add(name, there ? "ok" : "error", there ? path : path + ": " + std::strerror(errno) + "; install portwrap again");
    }
    const auto shim = prefix + "/lib/portwrap/" + k_shim_name;
    const bool readable = ::access(shim.c_str(), R_OK) == 0;
    findings.add("shim", readable ? "ok" : "error", readable ? shim : shim + ": " + std::strerror(errno) + "; programs would run unmanaged");
    if (std::getenv("PORTWRAP_DISABLE") != nullptr) { findings.add("PORTWRAP_DISABLE", "warning", "is set: no program is intercepted"); }
}

void look_at_directories(Findings& findings) {
    const auto runtime = runtime_directory();
    const auto socket = socket_path(runtime);
    findings.add("socket", socket ? "ok" : "error", socket ? *socket : socket.error().message);
    for (const auto& [name, path] : {std::pair("runtime directory", runtime), std::pair("state directory", state_directory())}) {
        struct stat st {};
        if (::lstat(path.c_str(), &st) != 0) {
            findings.add(name, errno == ENOENT ? "ok" : "error", path + (errno == ENOENT ? " (made when it is needed)" : std::string(": ") + std::strerror(errno)));
        } else if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 0077) != 0) {
            findings.add(name, "error", path + " must be a directory of your own with mode 0700");
        } else {
            findings.add(name, "ok", path);
        }
    }
}

/// The project that is meant: a .portwrap.json with a mistake in it is ignored whole, and only a start says so.
void look_at_project(const Globals& globals, Findings& findings, Deadline deadline) {
    const auto here = project_parameters(globals, true);
    if (globals.all) { return; }
    if (!here) { return findings.add("project", "warning", here.error().message); }
    const auto shown = ask_agent("project.show", *here, deadline);
    if (!shown || !shown->reply.ok) {
        return findings.add("project", "warning", shown ? text_field(shown->reply.body, "message") : shown.error().message);
    }
    const auto& project = inner_field(shown->reply.body, "project");
    const auto problem = text_field(project, "problem");
    const auto root = text_field(project, "root");
    findings.add("project", problem.empty() ? "ok" : "warning", problem.empty() ? text_field(project, "name") + ": " + root : problem + " (the file is ignored)");
}

int run_doctor(Globals& globals, const std::vector<std::string>& arguments) {
    const auto end = parse_command(globals, "doctor [OPTIONS]",
                                   "Finds and explains what is wrong with the installation, the registry and the agent; exit status 1: an error.",
                                   "  portctl doctor\n  portctl doctor --json | jq '.checks[] | select(.status != \"ok\")'", arguments, [](CLI::App&) {});
    if (end) { return *end; }
    Findings findings;
    look_at_installation(findings);
    look_at_directories(findings);
    const auto deadline = Deadline::in_milliseconds(k_portctl_deadline_ms);
    const auto status = ask_agent("agent.status", Json::object(), deadline);
    if (!status || !status->reply.ok) {
        findings.add("agent", "error", (status ? text_field(status->reply.body, "message") : status.error().message) + "; see " + state_directory() + "/agent.log");
    } else {
        const auto& agent = inner_field(status->reply.body, "agent");
        const auto version = text_field(agent, "version");
        const auto pid = std::to_string(number_field(agent, "pid").value_or(0));
        const bool same = version == k_version;
        findings.add("agent", same ? "ok" : "warning",
                     same ? "pid " + pid + ", version " + version
                          : "pid " + pid + " is version " + version + ", portctl is " + k_version + "; `portctl agent restart` replaces it and keeps every lease");
        const auto checks = ask_agent("agent.doctor", Json::object(), deadline);
        if (checks && checks->reply.ok) { findings.add_all(inner_field(checks->reply.body, "checks")); }
        look_at_project(globals, findings, deadline);
    }
    const int result = findings.has_error() ? 1 : 0;
    if (globals.json) {
        const int printed = print_json(Json{{"schema", k_json_schema}, {"ok", true}, {"checks", findings.checks()}});
        return printed != 0 ? printed : result;
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& check : findings.checks()) {
        const auto grade = text_field(check, "status");
        rows.push_back({{text_field(check, "name")},
                        {grade, grade == "ok" ? Colour::green : grade == "warning" ? Colour::yellow : Colour::red},
                        {text_field(check, "detail")}});
    }
    // Nothing of an explanation is cut.
    auto style = style_of_stdout();
    style.width = 0;
    const int printed = print_text(render_table({{"CHECK"}, {"STATUS"}, {"DETAIL"}}, rows, style));
    return printed != 0 ? printed : result;
}

}  // namespace

std::vector<Command> doctor_commands() { return {{"doctor", "find out what is wrong", run_doctor}}; }

}  // namespace portwrap
