// portctl's commands about leases and ports: port, get, list, release, check. Thin: words to parameters, result to text.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <string>

#include "command.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

/// Adds a word that means a port (under `number_name`) or a service to the parameters.
Status add_target(Json& parameters, const std::string& word, const char* number_name) {
    if (word.empty()) { return Error{ErrorCode::invalid_request, "the service's name is empty"}; }
    if (!looks_like_number(word)) {
        parameters["service"] = word;
        return ok_status();
    }
    const auto port = parse_port(word);
    if (!port) { return port.error(); }
    parameters[number_name] = *port;
    return ok_status();
}

int print_port(const Globals& globals, const Json& result) {
    if (globals.json) { return print_json(result); }
    const auto port = number_field(inner_field(result, "lease"), "port");
    if (!port) { return report(globals, Error{ErrorCode::agent_unavailable, "the agent's reply is not understood"}); }
    return print_text(std::to_string(*port) + '\n');
}

int run_port(Globals& globals, const Words& arguments) {
    std::string target;
    bool given = false;
    const auto end = parse_command(
        globals, "port [SERVICE|REQUESTED] [OPTIONS]", "Prints the project's current port and nothing else.",
        "  curl localhost:$(portctl port)\n"
        "  portctl port api     the service api's port\n"
        "  portctl port 3000    what a program got that asked for 3000",
        arguments, [&](CLI::App& app) {
            app.add_option("target", target, "A service, or the port that the program asked for")
                ->option_text("SERVICE|REQUESTED")
                ->each([&given](const std::string&) { given = true; });
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (given) {
        if (auto status = add_target(*parameters, target, "requested"); !status) { return report(globals, status.error()); }
    }
    return ask(globals, "lease.port", *parameters, [&](const Json& result) { return print_port(globals, result); });
}

int run_get(Globals& globals, const Words& arguments) {
    struct Text {
        const char* option;
        const char* parameter;
        const char* label;
        const char* help;
        std::string value = {};
    };
    std::array<Text, 6> texts{{
        {"--type", "type", "TYPE", "node, python, php, static, ..."},
        {"--kind", "kind", "KIND", "web, api, database, cache, ..."},
        {"--env", "environment", "NAME", "dev (default), test or production"},
        {"--range", "range", "NAME", "The range to choose from"},
        {"--description", "description", "TEXT", "Shown in lists"},
        {"--hostname", "hostname", "NAME", "Under which the service is reached, e.g. a tunnel's"},
    }};
    std::string service;
    const auto end = parse_command(
        globals, "get SERVICE [OPTIONS]", "Prints the service's port, which is allocated first if it has none.",
        "  PORT=$(portctl get web) node server.js\n"
        "  portctl get db --kind database --description 'the shop'",
        arguments, [&](CLI::App& app) {
            app.add_option("service", service, "The service's name")->option_text("SERVICE")->required();
            for (auto& text : texts) {
                app.add_option(text.option, text.value, text.help)->option_text(text.label)->take_last();
            }
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (service.empty() || looks_like_number(service)) {
        return report(globals, Error{ErrorCode::invalid_request, "'" + printable(service) + "' is not a service's name"});
    }
    (*parameters)["service"] = service;
    for (const auto& text : texts) {
        if (!text.value.empty()) { (*parameters)[text.parameter] = text.value; }
    }
    return ask(globals, "lease.get", *parameters, [&](const Json& result) { return print_port(globals, result); });
}

int run_list(Globals& globals, const Words& arguments) {
    std::vector<std::string> states;
    const auto end = parse_command(
        globals, "list [--state STATE]... [--all] [OPTIONS]", "Lists the project's ports.",
        "  portctl list --all\n"
        "  portctl list --state active,conflict --json",
        arguments, [&](CLI::App& app) {
            app.add_option("--state", states, "Only these (default: all but released)")
                ->option_text("STATE,...")
                ->delimiter(',')
                ->check(CLI::IsMember({"reserved", "allocated", "active", "released", "conflict"}))
                ->take_all()
                ->allow_extra_args(false);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    if (!states.empty()) { (*parameters)["states"] = states; }
    return ask(globals, "lease.list", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        const auto& leases = inner_field(result, "leases");
        if (!leases.empty()) { return print_text(render_leases(leases, globals.all, style_of_stdout())); }
        std::string place = globals.all ? std::string() : " in this project";
        if (!globals.project.empty()) { place = " in " + printable(globals.project); }
        write_line(STDERR_FILENO, states.empty() ? "portctl: no ports" + place +
                                                       " yet; `portwrap COMMAND` or `portctl get SERVICE` gives one" +
                                                       (globals.all ? "" : " (--all: every project)")
                                                 : "portctl: no ports in that state" + place);
        return 0;
    });
}

int run_release(Globals& globals, const Words& arguments) {
    std::string target;
    bool given = false;
    bool force = false;
    const auto end = parse_command(
        globals, "release PORT|SERVICE|--all [--force] [OPTIONS]",
        "Gives back a port, all instances of a service, or all ports of the project.",
        "  portctl release web\n"
        "  portctl release 3001 --force    though it listens, or is another project's\n"
        "  portctl release --all           everything of this project",
        arguments, [&](CLI::App& app) {
            app.add_option("target", target, "What to give back")
                ->option_text("PORT|SERVICE")
                ->each([&given](const std::string&) { given = true; });
            app.add_flag("--force", force, "Although something listens there, or another project has it");
        });
    if (end) { return *end; }
    if (given == globals.all) {
        return report(globals, Error{ErrorCode::invalid_request, "release takes a port, a service or --all (one of them)"});
    }
    // Here --all is everything of one project, never of all of them.
    const bool everything = std::exchange(globals.all, false);
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (everything) {
        (*parameters)["everything"] = true;
    } else if (auto status = add_target(*parameters, target, "port"); !status) {
        return report(globals, status.error());
    }
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

int run_check(Globals& globals, const Words& arguments) {
    std::string word;
    const auto end = parse_command(
        globals, "check PORT [OPTIONS]", "Says whether a port is free and all that is known about it; exit status 1: taken.",
        "  portctl check 3000\n"
        "  portctl check 3000 --json | jq '.suggestions[0]'",
        arguments,
        [&](CLI::App& app) { app.add_option("port", word, "The port")->option_text("PORT")->required(); });
    if (end) { return *end; }
    const auto port = parse_port(word);
    if (!port) { return report(globals, port.error()); }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    (*parameters)["port"] = *port;
    return ask(globals, "port.check", *parameters, [&](const Json& result) {
        const int printed = globals.json ? print_json(result) : print_text(render_check(result, style_of_stdout()));
        const auto available = result.find("available");
        const bool taken = available != result.end() && *available == false;
        return printed != 0 || !taken ? printed : 1;
    });
}

}  // namespace

std::vector<Command> lease_commands() {
    return {{"port", "the project's current port, alone", run_port},
            {"get", "a service's port, allocated if it has none", run_get},
            {"list", "the ports of the project, or of all", run_list},
            {"release", "give ports back", run_release},
            {"check", "is a port free, and who has it", run_check}};
}

}  // namespace portwrap
