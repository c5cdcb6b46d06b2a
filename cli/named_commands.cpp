// portctl allocate, register, reserve, update, transfer: what is asked for by name or number and stays until it is released.
#include <unistd.h>

#include <array>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

/// A function: clang 14 has no std::string in constant expressions.
TextOption description_option() { return {"--description", "description", "TEXT", "Shown in lists"}; }
constexpr const char* k_force_help = "Although something listens there, it is out of the range, or reserved in the config";

std::array<TextOption, 7> naming_options() {
    return {{{"--type", "type", "TYPE", "node, python, php, static, ..."},
             {"--kind", "kind", "KIND", "web, api, database, cache, ..."},
             {"--env", "environment", "ENV", "dev (default), test or production"},
             {"--range", "range", "RANGE", "The range to choose from"},
             {"--hostname", "hostname", "HOST", "Under which the service is reached, e.g. a tunnel's"},
             {"--protocol", "protocol", "tcp|udp", "tcp (default) or udp"},
             {"--description", "description", "TEXT", "Shown in lists"}}};
}

std::string port_of(const Json& lease) { return std::to_string(number_field(lease, "port").value_or(0)); }

int run_get(Globals& globals, const Words& arguments) {
    Word service;
    auto texts = naming_options();
    const auto end = parse_command(
        globals, "get SERVICE [OPTIONS]", "Prints the service's port, which is allocated first if it has none.",
        "  PORT=$(portctl get web) node server.js\n"
        "  portctl get db --kind database --description 'the shop'",
        arguments, [&](CLI::App& app) {
            add_word(app, service, "SERVICE", "The service's name", true);
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    const auto put = first_mistake({put_service(*parameters, service.value), put_text_options(*parameters, texts)});
    if (!put) { return report(globals, put.error()); }
    return ask(globals, "lease.get", *parameters, [&](const Json& result) { return print_ports(globals, result); });
}

int run_allocate(Globals& globals, const Words& arguments) {
    Word service;
    Word port;
    Word preferred;
    Word count;
    bool block = false;
    bool force = false;
    auto texts = naming_options();
    const auto end = parse_command(
        globals, "allocate SERVICE [PORT|auto] [OPTIONS]",
        "Allocates a new port for a service, even if it has one, and prints it. `get` gives the one that it has.",
        "  portctl allocate worker                      the next free port of the range\n"
        "  portctl allocate web 3000                    this one, or a refusal with the reason\n"
        "  portctl allocate web --preferred 3000        this one if it is free\n"
        "  portctl allocate shard --count 4 --block     four neighbours",
        arguments, [&](CLI::App& app) {
            add_word(app, service, "SERVICE", "The service's name", true);
            add_word(app, port, "PORT|auto", "This port, or any of the range (the default)", false);
            app.add_option("--preferred", preferred.value, "This port if it is free")
                ->option_text("PORT")
                ->take_last()
                ->each([&](const std::string&) { preferred.given = true; });
            app.add_option("--count", count.value, "So many ports, each an instance of its own")
                ->option_text("N")
                ->take_last()
                ->each([&](const std::string&) { count.given = true; });
            app.add_flag("--block", block, "With --count: neighbours");
            app.add_flag("--force", force, k_force_help);
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (port.value == "auto") { port.given = false; }
    const auto put = first_mistake({put_service(*parameters, service.value), put_port(*parameters, "port", port),
                            put_port(*parameters, "preferred", preferred), put_text_options(*parameters, texts)});
    if (!put) { return report(globals, put.error()); }
    if (count.given) {
        const auto number = parse_port(count.value);
        if (!number) { return report(globals, Error{ErrorCode::invalid_request, "--count: not a number from 1 to 1000: " + printable(count.value)}); }
        (*parameters)["count"] = *number;
    }
    if (block) { (*parameters)["block"] = true; }
    if (force) { (*parameters)["force"] = true; }
    return ask(globals, "lease.allocate", *parameters, [&](const Json& result) { return print_ports(globals, result); });
}

int run_register(Globals& globals, const Words& arguments) {
    Word service;
    Word port;
    auto texts = naming_options();
    const auto end = parse_command(
        globals, "register SERVICE PORT [OPTIONS]",
        "Records a port that is managed elsewhere, such as a production service's: nobody else gets it.",
        "  portctl register web 9080 --env production --hostname shop.example.org\n"
        "  portctl register db 5432 --kind database --description 'the system database'",
        arguments, [&](CLI::App& app) {
            add_word(app, service, "SERVICE", "The service's name", true);
            add_word(app, port, "PORT", "Its port; something may listen there already", true);
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    const auto put = first_mistake({put_service(*parameters, service.value), put_port(*parameters, "port", port), put_text_options(*parameters, texts)});
    if (!put) { return report(globals, put.error()); }
    return ask(globals, "lease.register", *parameters, [&](const Json& result) {
        if (const auto warning = text_field(result, "warning"); !warning.empty()) { write_line(STDERR_FILENO, "portctl: warning: " + warning); }
        return print_lease(globals, result, "registered");
    });
}

int run_reserve(Globals& globals, const Words& arguments) {
    Word target;
    Word ttl;
    bool force = false;
    std::array<TextOption, 5> texts{{{"--type", "type", "TYPE", "node, python, php, static, ..."},
                                     {"--kind", "kind", "KIND", "web, api, database, cache, ..."},
                                     {"--env", "environment", "ENV", "dev (default), test or production"},
                                     {"--range", "range", "RANGE", "The range to choose from"},
                                     description_option()}};
    const auto end = parse_command(
        globals, "reserve PORT|SERVICE [--ttl DURATION] [OPTIONS]", "Claims a port in advance, so that nobody else gets it.",
        "  portctl reserve 3000 --ttl 2h    for what asks for 3000 here, during two hours\n"
        "  portctl reserve web              a port for the service, until it is released",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "PORT|SERVICE", "What to reserve", true);
            app.add_option("--ttl", ttl.value, "For so long: 90s, 30m, 2h, 1d12h, 2w")
                ->option_text("DURATION")
                ->take_last()
                ->each([&](const std::string&) { ttl.given = true; });
            app.add_flag("--force", force, "Although something listens there, or it is reserved in the config");
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    const auto put = first_mistake({put_target(*parameters, target.value, "port"), put_text_options(*parameters, texts)});
    if (!put) { return report(globals, put.error()); }
    if (ttl.given) {
        const auto seconds = parse_duration(ttl.value);
        if (!seconds) { return report(globals, seconds.error()); }
        (*parameters)["ttl_s"] = *seconds;
    }
    if (force) { (*parameters)["force"] = true; }
    return ask(globals, "lease.reserve", *parameters, [&](const Json& result) {
        const auto& lease = inner_field(result, "lease");
        const auto until = render_moment(text_field(lease, "expires_at"), style_of_stdout().now);
        const bool is_reserved = text_field(lease, "state") == "reserved";
        return print_lease(globals, result, is_reserved ? "reserved" : "already yours:", until.empty() ? "" : ", until " + until);
    });
}

int run_update(Globals& globals, const Words& arguments) {
    Word target;
    Word port;
    bool force = false;
    std::array<TextOption, 7> texts{{{"--description", "description", "TEXT", "Shown in lists ('' takes it away)"},
                                     {"--hostname", "hostname", "HOST", "Under which it is reached ('' takes it away)"},
                                     {"--kind", "kind", "KIND", "web, api, database, cache, ... ('' takes it away)"},
                                     {"--env", "environment", "ENV", "dev, test or production"},
                                     {"--service", "new_service", "NAME", "Its new name"},
                                     {"--range", "range", "RANGE", "With --port: the range that is meant"},
                                     {"--protocol", "protocol", "tcp|udp", "Of a number that both have: which one"}}};
    const auto end = parse_command(
        globals, "update PORT|SERVICE [OPTIONS]", "Changes what is recorded for a port.",
        "  portctl update web --description 'the storefront'\n"
        "  portctl update 3001 --hostname shop.example.org\n"
        "  portctl update web --port 3050    the service's port from now on",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "PORT|SERVICE", "What to change", true);
            app.add_option("--port", port.value, "Its new port")
                ->option_text("PORT")
                ->take_last()
                ->each([&](const std::string&) { port.given = true; });
            app.add_flag("--force", force, "Also another project's; and a new port that is taken or out of the range");
            add_text_options(app, texts);
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    const auto put = first_mistake({put_target(*parameters, target.value, "port"), put_port(*parameters, "new_port", port),
                            put_text_options(*parameters, texts)});
    if (!put) { return report(globals, put.error()); }
    if (force) { (*parameters)["force"] = true; }
    return ask(globals, "lease.update", *parameters, [&](const Json& result) { return print_lease(globals, result, "updated"); });
}

int run_transfer(Globals& globals, const Words& arguments) {
    Word target;
    std::string to;
    bool force = false;
    const auto end = parse_command(
        globals, "transfer PORT|SERVICE --to PROJECT [--force] [OPTIONS]", "Hands a port over to another project.",
        "  portctl transfer 3001 --to blog\n"
        "  portctl transfer web --to ../shop-fix",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "PORT|SERVICE", "What to hand over", true);
            app.add_option("--to", to, "The other project")->option_text("NAME|PATH")->required()->take_last();
            app.add_flag("--force", force, "Although it is another project's, or something listens there");
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (auto put = put_target(*parameters, target.value, "port"); !put) { return report(globals, put.error()); }
    const auto other = project_word(to);
    if (!other) { return report(globals, other.error()); }
    (*parameters)["to"] = *other;
    if (force) { (*parameters)["force"] = true; }
    return ask(globals, "lease.transfer", *parameters, [&](const Json& result) { return print_lease(globals, result, "transferred"); });
}

}  // namespace

int print_ports(const Globals& globals, const Json& result) {
    if (globals.json) { return print_json(result); }
    std::string text;
    for (const auto& lease : inner_field(result, "leases")) { text += port_of(lease) + '\n'; }
    if (text.empty() && number_field(inner_field(result, "lease"), "port")) { text = port_of(inner_field(result, "lease")) + '\n'; }
    if (text.empty()) { return report(globals, Error{ErrorCode::agent_unavailable, "the agent's reply is not understood"}); }
    const auto& lease = inner_field(result, "lease");
    if (text_field(lease, "state") == "conflict") {
        const auto port = port_of(lease);
        const auto line = "portctl: another program listens on " + port + " (portctl who " + port + "); portctl update " + port +
                          " --port $(portctl next) moves it\n";
        std::fputs(line.c_str(), stderr);
    }
    return print_text(text);
}

int print_lease(const Globals& globals, const Json& result, std::string_view verb, std::string_view more) {
    if (globals.json) { return print_json(result); }
    const auto& lease = inner_field(result, "lease");
    return print_text(std::string(verb) + ' ' + port_of(lease) + " (" + render_lease_name(lease) + ")" + std::string(more) + '\n');
}

std::vector<Command> named_commands() {
    return {{"get", "a service's port, allocated if it has none", run_get},
            {"allocate", "a new port for a service", run_allocate},
            {"register", "record a port that is managed elsewhere", run_register},
            {"reserve", "claim a port in advance", run_reserve},
            {"update", "change a port's description, name, number, ...", run_update},
            {"transfer", "hand a port over to another project", run_transfer}};
}

}  // namespace portwrap
