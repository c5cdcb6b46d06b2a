// portctl port, url, open, list, release: the ports that a project has. Thin: words to parameters, result to text.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>

#include "browser.hpp"
#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

/// port, url and open: the lease that is meant, by the agent's method.
int ask_for_current(Globals& globals, const Word& target, const char* method, const std::function<int(const Json&)>& show) {
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (target.given) {
        if (auto put = put_target(*parameters, target.value, "requested"); !put) { return report(globals, put.error()); }
    }
    return ask(globals, method, *parameters, show);
}

int run_port(Globals& globals, const Words& arguments) {
    Word target;
    const auto end = parse_command(
        globals, "port [SERVICE|REQUESTED] [OPTIONS]", "Prints the project's current port and nothing else.",
        "  curl localhost:$(portctl port)\n"
        "  portctl port api     the service api's port\n"
        "  portctl port 3000    what a program got that asked for 3000",
        arguments, [&](CLI::App& app) { add_word(app, target, "SERVICE|REQUESTED", "A service, or the port that the program asked for", false); });
    if (end) { return *end; }
    return ask_for_current(globals, target, "lease.port", [&](const Json& result) { return print_ports(globals, result); });
}

int run_url(Globals& globals, const Words& arguments) {
    Word target;
    const auto end = parse_command(
        globals, "url [SERVICE|REQUESTED] [OPTIONS]", "Prints the address of the project's current port.",
        "  curl $(portctl url api)/healthz",
        arguments, [&](CLI::App& app) { add_word(app, target, "SERVICE|REQUESTED", "A service, or the port that the program asked for", false); });
    if (end) { return *end; }
    return ask_for_current(globals, target, "lease.url", [&](const Json& result) {
        return globals.json ? print_json(result) : print_text(text_field(result, "url") + '\n');
    });
}

int run_open(Globals& globals, const Words& arguments) {
    Word target;
    Word patience;
    const auto end = parse_command(
        globals, "open [SERVICE|REQUESTED] [OPTIONS]", "Opens the address in the browser: $BROWSER, else xdg-open.",
        "  portctl open web\n"
        "  portctl open web --wait 1m    when it listens",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "SERVICE|REQUESTED", "A service, or the port that the program asked for", false);
            app.add_option("--wait", patience.value, "Wait until the service listens, so long at most: 30s, 2m")
                ->option_text("DURATION")
                ->take_last()
                ->each([&](const std::string&) { patience.given = true; });
        });
    if (end) { return *end; }
    if (patience.given) {
        auto parameters = project_parameters(globals, false);
        if (!parameters) { return report(globals, parameters.error()); }
        if (auto put = first_mistake({put_service(*parameters, target.value), put_timeout(*parameters, patience.value)}); !put) { return report(globals, put.error()); }
        const auto reply = await_listener(*parameters);
        if (!reply) { return report(globals, reply.error()); }
        if (!reply->ok) { return report(globals, reply->body); }
        if (!is_heard(reply->body)) {
            write_line(STDERR_FILENO, "portctl: nothing listens as " + printable(target.value) + " after " + printable(patience.value));
            return 1;
        }
    }
    return ask_for_current(globals, target, "lease.url", [&](const Json& result) {
        if (const auto opened = open_browser(text_field(result, "url")); !opened) { return report(globals, opened.error()); }
        return globals.json ? print_json(result) : 0;
    });
}

int run_list(Globals& globals, const Words& arguments) {
    std::vector<std::string> states;
    std::string format = "table";
    bool orphans = false;
    Word worktree;
    std::array<TextOption, 2> texts{{{"--env", "environment", "ENV", "Only of this environment: dev, test or production"},
                                     {"--range", "range", "RANGE", "Only of this range"}}};
    const auto end = parse_command(
        globals, "list [FILTERS] [--format FORMAT] [OPTIONS]", "Lists the project's ports.",
        "  portctl list --all\n"
        "  portctl list --worktree             those of every worktree of this repository\n"
        "  portctl list --worktree fix         of the one with this branch or directory\n"
        "  portctl list --state active,conflict --json\n"
        "  portctl list --all --orphans        of projects whose directory is gone",
        arguments, [&](CLI::App& app) {
            app.add_option("--state", states, "Only these: reserved, allocated, active, released, conflict (default: all but released)")
                ->option_text("STATE,...")
                ->delimiter(',')
                ->check(CLI::IsMember({"reserved", "allocated", "active", "released", "conflict"}))
                ->take_all()
                ->allow_extra_args(false);
            app.add_option("--worktree", worktree.value, "Of the worktree with this branch, directory or path; of all of them")
                ->option_text("[WORKTREE]")
                ->expected(0, 1)
                ->each([&worktree](const std::string&) { worktree.given = true; });
            // Without a name nothing is parsed that could be noted.
            worktree.given = std::find(arguments.begin(), arguments.end(), "--worktree") != arguments.end();
            app.add_flag("--orphans", orphans, "Of projects whose directory is gone");
            add_text_options(app, texts);
            app.add_option("--format", format, "table (default), json, csv or markdown")
                ->option_text("FORMAT")
                ->check(CLI::IsMember({"table", "json", "csv", "markdown"}))
                ->take_last();
        });
    if (end) { return *end; }
    globals.json = globals.json || format == "json";
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    if (auto put = put_text_options(*parameters, texts); !put) { return report(globals, put.error()); }
    if (!states.empty()) { (*parameters)["states"] = states; }
    if (orphans) { (*parameters)["orphans"] = true; }
    if (worktree.given) { (*parameters)["worktree"] = worktree.value; }
    return ask(globals, "lease.list", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        const auto& leases = inner_field(result, "leases");
        const bool with_project = globals.all || orphans || worktree.given;
        if (format == "csv") { return print_text(render_leases(leases, with_project, TableForm::csv, style_of_stdout())); }
        if (format == "markdown") { return print_text(render_leases(leases, with_project, TableForm::markdown, style_of_stdout())); }
        if (!leases.empty()) { return print_text(render_leases(leases, with_project, TableForm::aligned, style_of_stdout())); }
        const bool filtered = !states.empty() || texts[0].given || texts[1].given || worktree.given;
        std::string place = globals.all ? std::string() : " in this project";
        if (!globals.project.empty()) { place = " in " + printable(globals.project); }
        std::string message = "no ports" + place + " yet; `portwrap COMMAND` or `portctl get SERVICE` gives one" + (globals.all ? "" : " (--all: every project)");
        if (filtered) { message = "no such ports" + place; }
        if (orphans) { message = "every project's directory is there"; }
        write_line(STDERR_FILENO, "portctl: " + message);
        return 0;
    });
}

int run_release(Globals& globals, const Words& arguments) {
    Word target;
    bool force = false;
    std::array<TextOption, 1> texts{{{"--protocol", "protocol", "tcp|udp", "Of a number or service that both have: this one only"}}};
    const auto end = parse_command(
        globals, "release PORT|SERVICE|--all [--force] [OPTIONS]",
        "Gives back a port, all instances of a service, or all ports of the project.",
        "  portctl release web\n"
        "  portctl release 3001 --force    though it listens, or is another project's\n"
        "  portctl release --all           everything of this project",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "PORT|SERVICE", "What to give back", false);
            app.add_flag("--force", force, "Although something listens there, or another project has it");
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    if (target.given == globals.all) {
        return report(globals, Error{ErrorCode::invalid_request, "release takes a port, a service or --all (one of them)"});
    }
    // Here --all is everything of one project, never of all of them.
    const bool everything = std::exchange(globals.all, false);
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (everything) {
        (*parameters)["everything"] = true;
    } else if (auto status = put_target(*parameters, target.value, "port"); !status) {
        return report(globals, status.error());
    }
    if (auto put = put_text_options(*parameters, texts); !put) { return report(globals, put.error()); }
    if (force) { (*parameters)["force"] = true; }
    return ask(globals, "lease.release", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        std::string text;
        for (const auto& lease : inner_field(result, "leases")) {
            text += "released " + std::to_string(number_field(lease, "port").value_or(0)) + " (" +
                    render_lease_name(lease) + ")\n";
        }
        if (text.empty()) { write_line(STDERR_FILENO, "portctl: nothing to release"); }
        return print_text(text);
    });
}

}  // namespace

std::vector<Command> lease_commands() {
    return {{"port", "the project's current port, alone", run_port},
            {"url", "the same as an address", run_url},
            {"open", "the same in the browser", run_open},
            {"list", "the ports of the project, or of all", run_list},
            {"release", "give ports back", run_release}};
}

}  // namespace portwrap
