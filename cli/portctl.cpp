// portctl: `portctl [GLOBAL OPTIONS] COMMAND [ARG...]`. Finds the command in the groups' tables and leaves the rest to it.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "command.hpp"
#include "portwrap/protocol.hpp"
#include "text.hpp"

namespace portwrap {
namespace {

int run_version(Globals& globals, const std::vector<std::string>& arguments);
int run_help(Globals& globals, const std::vector<std::string>& arguments);

std::vector<Command> all_commands() {
    std::vector<Command> commands;
    for (const auto group : {lease_commands, named_commands, port_commands, event_commands, stop_commands, exchange_commands, shell_commands, agent_commands,
                             doctor_commands}) {
        for (const auto& command : group()) { commands.push_back(command); }
    }
    commands.push_back({"version", "portctl's version", run_version});
    commands.push_back({"help", "this help, or that of a command", run_help});
    return commands;
}

std::string overview() {
    std::string text =
        "Usage: portctl [GLOBAL OPTIONS] COMMAND [ARG...]\n\n"
        "Asks and commands the agent that gives every project its ports.\n\nCommands:\n";
    for (const auto& command : all_commands()) {
        std::string name = command.name;
        name.resize(10, ' ');
        text += "  " + name + command.summary + '\n';
    }
    return text +
           "\nGlobal options:\n"
           "  --json               print JSON\n"
           "  -C DIR               as if started in DIR\n"
           "  --project NAME|PATH  another project than that of the directory\n"
           "  --all                every project; with release: every port of the project\n"
           "\nExamples:\n"
           "  curl localhost:$(portctl port)\n"
           "  portctl list --all\n"
           "  portctl help release\n";
}

int unknown_command(const Globals& globals, const std::string& word) {
    std::vector<std::string> names;
    for (const auto& command : all_commands()) { names.emplace_back(command.name); }
    const auto nearest = nearest_word(word, names);
    return report(globals, Error{ErrorCode::invalid_request,
                                 "unknown command '" + printable(word) + "'" +
                                     (nearest ? "; did you mean '" + *nearest + "'?" : " (portctl help lists them)")});
}

int run_command(Globals& globals, const std::string& name, const std::vector<std::string>& arguments) {
    for (const auto& command : all_commands()) {
        if (name == command.name) { return command.run(globals, arguments); }
    }
    return unknown_command(globals, name);
}

int run_version(Globals& globals, const std::vector<std::string>& arguments) {
    const auto end = parse_command(globals, "version [OPTIONS]", "Prints portctl's version.",
                                   "  portctl version --json", arguments, [](CLI::App&) {});
    if (end) { return *end; }
    if (globals.json) {
        return print_json(
            Json{{"schema", k_json_schema}, {"ok", true}, {"version", k_version}, {"protocol", k_protocol_version}});
    }
    return print_text(std::string("portctl ") + k_version + '\n');
}

int run_help(Globals& globals, const std::vector<std::string>& arguments) {
    std::string word;
    const auto end = parse_command(globals, "help [COMMAND]", "Explains a command, or lists them.", "  portctl help release",
                                   arguments, [&](CLI::App& app) {
                                       app.add_option("command", word, "The command")->option_text("COMMAND");
                                   });
    if (end) { return *end; }
    return word.empty() ? print_text(overview()) : run_command(globals, word, {"--help"});
}

int run_portctl(std::vector<std::string> arguments) {
    Globals globals;
    // So that a refusal of the very first word comes in the form that was asked for.
    globals.json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
    if (arguments.empty()) {
        write_line(STDERR_FILENO, overview());
        return exit_status_of("INVALID_REQUEST");
    }
    if (arguments[0].starts_with('-')) {
        // Global options before the command; the usual call without them is spared this second parser.
        bool version = false;
        CLI::App app{"", "portctl"};
        app.set_help_flag("--help,-h");
        app.add_flag("--version", version);
        add_global_options(app, globals);
        app.prefix_command();
        try {
            app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
        } catch (const CLI::CallForHelp&) {
            return print_text(overview());
        } catch (const CLI::ParseError& error) {
            return report(globals, Error{ErrorCode::invalid_request, error.what()});
        }
        if (version) { return run_version(globals, {}); }
        arguments = app.remaining();
        if (arguments.empty()) { return report(globals, Error{ErrorCode::invalid_request, "no command (portctl help)"}); }
        if (arguments[0].starts_with('-')) {
            return report(globals, Error{ErrorCode::invalid_request, "unknown option " + arguments[0] + " (portctl help)"});
        }
    }
    return run_command(globals, arguments[0], {arguments.begin() + 1, arguments.end()});
}

}  // namespace
}  // namespace portwrap

int main(int count, char** arguments) {
    return portwrap::run_portctl(std::vector<std::string>(arguments + (count > 0 ? 1 : 0), arguments + count));
}
