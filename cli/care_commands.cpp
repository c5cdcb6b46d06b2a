// portctl audit, health, cleanup: whether what is recorded is true, and the end of what is over.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

std::string number_text(const Json& object, const char* name) { return std::to_string(number_field(object, name).value_or(0)); }

std::string render_audit(const Json& result) {
    std::vector<std::vector<Cell>> rows;
    for (const auto& finding : inner_field(result, "findings")) {
        const auto kind = text_field(finding, "kind");
        std::string who = "-";
        if (const auto& listener = inner_field(finding, "listener"); !listener.empty()) {
            const auto container = text_field(listener, "container");
            const auto pid = number_field(listener, "pid");
            who = (container.empty() ? "" : "container " + container + ", ") + (pid ? "pid " + std::to_string(*pid) + " " : "") + "(" + text_field(listener, "user") + ")";
            if (const auto command = text_field(listener, "command"); !command.empty()) { who += " " + command; }
            if (const auto cwd = text_field(listener, "cwd"); !cwd.empty()) { who += " in " + cwd; }
        }
        rows.push_back({{number_text(finding, "port")},
                        {kind, kind == "not_running" ? Colour::dim : Colour::red},
                        {render_lease_name(inner_field(finding, "lease"))},
                        {who},
                        {text_field(finding, "fix")}});
    }
    const auto& summary = inner_field(result, "summary");
    const auto percent = summary.find("active_percent");
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", percent != summary.end() && percent->is_number() ? percent->get<double>() : 0.0);
    std::string table;
    if (!rows.empty()) {
        table = render_table({{"PORT", true}, {"FINDING"}, {"LEASE", false, 12}, {"LISTENER", false, 12}, {"FIX"}}, rows, style_of_stdout());
    }
    return table + number_text(summary, "allocated") + " ports, " + number_text(summary, "active") + " active (" + text + " %), " +
           number_text(summary, "not_running") + " not running, " + number_text(summary, "conflicts") + " conflicts\n";
}

int run_audit(Globals& globals, const Words& arguments) {
    const auto end = parse_command(globals, "audit [--all] [OPTIONS]",
                                   "Compares the project's ports with what really listens. Exit status 1: two claims on one port, or a stranger on it.",
                                   "  portctl audit --all\n"
                                   "  portctl audit --json | jq -r '.findings[].fix'",
                                   arguments, [](CLI::App&) {});
    if (end) { return *end; }
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    return ask(globals, "lease.audit", *parameters, [&](const Json& result) {
        const int printed = globals.json ? print_json(result) : print_text(render_audit(result));
        bool trouble = false;
        for (const auto& finding : inner_field(result, "findings")) { trouble = trouble || text_field(finding, "kind") != "not_running"; }
        return printed != 0 || !trouble ? printed : 1;
    });
}

int show_health(const Globals& globals, const Json& result) {
    const auto& checks = inner_field(result, "checks");
    bool well = true;
    std::vector<std::vector<Cell>> rows;
    for (const auto& check : checks) {
        const auto health = text_field(check, "health");
        well = well && health != "unhealthy";
        const auto time = check.find("response_ms");
        char took[32] = "-";
        if (time != check.end() && time->is_number()) { std::snprintf(took, sizeof took, "%.1f ms", time->get<double>()); }
        const auto colour = health == "healthy" ? Colour::green : health == "unhealthy" ? Colour::red : Colour::dim;
        rows.push_back({{render_lease_name(inner_field(check, "lease"))}, {number_text(inner_field(check, "lease"), "port")}, {health, colour}, {took}, {text_field(check, "error")}});
    }
    if (!globals.json && rows.empty()) { write_line(STDERR_FILENO, "portctl: this project has no ports to check"); }
    const int printed = globals.json ? print_json(result)
                        : rows.empty() ? 0
                                       : print_text(render_table({{"SERVICE", false, 12}, {"PORT", true}, {"HEALTH"}, {"TOOK", true}, {"ERROR", false, 12}}, rows, style_of_stdout()));
    return printed != 0 || well ? printed : 1;
}

constexpr int k_follow_again_ms = 1000;

/// The stream of the project's events; nothing where there is no agent at the moment.
std::optional<AgentConnection> follow(const Json& parameters) {
    auto connection = reach_agent(Deadline::in_milliseconds(k_portctl_deadline_ms));
    if (!connection) { return std::nullopt; }
    const auto begun = connection->call("lease.watch", parameters);
    if (!begun || !begun->ok) { return std::nullopt; }
    connection->wait_without_limit();
    return std::move(*connection);
}

/// Until a port's state changes, or the pause is over; false: the stream has ended.
bool await_change(AgentConnection& events, const Deadline& pause) {
    for (;;) {
        while (!events.has_message()) {
            pollfd waiting{events.fd(), POLLIN, 0};
            const int ready = ::poll(&waiting, 1, pause.left());
            if (ready == 0) { return true; }
            if (ready > 0) { break; }
        }
        const auto message = events.next_message();
        if (!message) { return false; }
        // "updated" is what a check itself gives when the answer is another one.
        if (text_field(inner_field(*message, "params"), "event") != "updated") { return true; }
    }
}

/// "2.5", "2s", "500ms", "1m"
CLI::AsNumberWithUnit as_seconds() {
    return CLI::AsNumberWithUnit(std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"m", 60}});
}

int run_health(Globals& globals, const Words& arguments) {
    Word service;
    bool watch = false;
    std::optional<double> timeout;
    double interval = 5;
    const auto end = parse_command(
        globals, "health [SERVICE] [--watch] [OPTIONS]",
        "Checks whether the project's ports answer: a connection, or an HTTP GET where .portwrap.json names a path (\"health\"). Exit status 1: one listens and does not answer.",
        "  portctl health\n"
        "  portctl health api --watch --json",
        arguments, [&](CLI::App& app) {
            add_word(app, service, "SERVICE", "Only this one", false);
            app.add_flag("--watch", watch, "Again when a port's state changes, and every few seconds, until interrupted");
            app.add_option("--interval", interval, "Seconds between two checks while nothing changes (5)")->option_text("SECONDS")->transform(as_seconds())->check(CLI::Range(0.1, 86400.0))->take_last();
            app.add_option("--timeout", timeout, "Seconds to wait for an answer (else as configured, 5)")->option_text("SECONDS")->transform(as_seconds())->check(CLI::Range(0.01, 20.0))->take_last();
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (service.given) {
        if (const auto put = put_service(*parameters, service.value); !put) { return report(globals, put.error()); }
    }
    if (timeout) { (*parameters)["timeout_ms"] = static_cast<int>(*timeout * 1000); }
    const auto check = [&] { return ask(globals, "lease.health", *parameters, [&](const Json& result) { return show_health(globals, result); }); };
    if (!watch) { return check(); }
    auto followed = *parameters;
    for (const auto* name : {"service", "timeout_ms"}) { followed.erase(name); }
    auto events = follow(followed);
    for (bool first = true;; first = false) {
        // Later a service that has no port at the moment, or an agent that is being restarted, may come back.
        if (const int status = check(); first && status > 1) { return status; }
        const auto pause = Deadline::in_milliseconds(static_cast<int>(interval * 1000));
        if (events && !await_change(*events, pause)) { events.reset(); }
        if (!events) {
            // The agent is being restarted, say: what has happened meanwhile is seen by the next check.
            ::poll(nullptr, 0, std::min(pause.left(), k_follow_again_ms));
            events = follow(followed);
        }
    }
}

int run_cleanup(Globals& globals, const Words& arguments) {
    bool dry_run = false;
    bool yes = false;
    const auto end = parse_command(
        globals, "cleanup [--dry-run] [--all --yes] [OPTIONS]",
        "Ends what is over in this project and its worktrees: ports of removed worktrees, expired reservations, leases of dead programs, what was not used for long. Never what listens.",
        "  portctl cleanup --dry-run\n"
        "  portctl cleanup --all --yes",
        arguments, [&](CLI::App& app) {
            app.add_flag("--dry-run,-n", dry_run, "Only say what would happen");
            app.add_flag("--yes,-y", yes, "Also in other projects (with --all)");
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    (*parameters)["dry_run"] = dry_run;
    (*parameters)["yes"] = yes;
    return ask(globals, "lease.cleanup", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        std::string text;
        for (const auto& entry : inner_field(result, "released")) {
            const auto& lease = inner_field(entry, "lease");
            text += std::string(dry_run ? "would release " : "released ") + number_text(lease, "port") + " (" + render_lease_name(lease) + "): " + text_field(entry, "reason") + '\n';
        }
        if (text.empty()) { write_line(STDERR_FILENO, "portctl: nothing to clean up"); }
        return print_text(text);
    });
}

}  // namespace

std::vector<Command> care_commands() {
    return {{"audit", "do the ports belong to whom they should", run_audit},
            {"health", "do the services answer", run_health},
            {"cleanup", "end what is over, and say why", run_cleanup}};
}

}  // namespace portwrap
