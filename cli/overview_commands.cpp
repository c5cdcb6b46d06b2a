// The table of all commands of portctl, and those that are about it: version, help.
#include <string>
#include <vector>

#include "cli11.hpp"
#include "command.hpp"
#include "portwrap/protocol.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

int unknown_command(const Globals& globals, const std::string& word) {
    std::vector<std::string> names;
    for (const auto& command : all_commands()) { names.emplace_back(command.name); }
    const auto nearest = nearest_word(word, names);
    return report(globals, Error{ErrorCode::invalid_request,
                                 "unknown command '" + printable(word) + "'" +
                                     (nearest ? "; did you mean '" + *nearest + "'?" : " (portctl help lists them)")});
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

}  // namespace

std::vector<Command> all_commands() {
    std::vector<Command> commands;
    for (const auto group : {lease_commands, named_commands, port_commands, range_commands, event_commands, stop_commands, care_commands, worktree_commands,
                             exchange_commands, shell_commands, completion_commands, mcp_commands, config_commands, agent_commands, doctor_commands,
                             overview_commands}) {
        for (const auto& command : group()) { commands.push_back(command); }
    }
    return commands;
}

std::string overview() {
    std::string text =
        "Usage: portctl [GLOBAL OPTIONS] COMMAND [ARG...]\n\n"
        "Asks and commands the agent that gives every project its ports.\n\nCommands:\n";
    for (const auto& command : all_commands()) {
        std::string name = command.name;
        name.resize(12, ' ');
        text += "  " + name + command.summary + '\n';
    }
    CLI::App app;
    Globals globals;
    bool version = false;
    add_first_options(app, globals, version);
    return text + CLI::Formatter().make_groups(&app, CLI::AppFormatMode::Normal) +
           "\nExamples:\n"
           "  curl localhost:$(portctl port)\n"
           "  portctl list --all\n"
           "  portctl help release\n";
}

int run_command(Globals& globals, const std::string& name, const std::vector<std::string>& arguments) {
    for (const auto& command : all_commands()) {
        if (name == command.name) { return command.run(globals, arguments); }
    }
    return unknown_command(globals, name);
}

std::vector<Command> overview_commands() {
    return {{"version", "portctl's version", run_version}, {"help", "this help, or that of a command", run_help}};
}

}  // namespace portwrap
