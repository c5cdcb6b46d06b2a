// What all commands of portctl share: the global options, the table entry of a command, asking the agent for a project,
// and the one way in which results and refusals leave the program.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client.hpp"

namespace CLI {
class App;
}

namespace portwrap {

inline constexpr int k_portctl_deadline_ms = 30'000;
/// What `.
inline constexpr int k_exit_not_running = 69;

struct Globals {
    bool json = false;
    bool all = false;
    std::string directory;  ///< -C; empty: the working directory
    std::string project;    ///< --project, as typed; empty: that of the directory
};

/// A command reads its arguments with a parser that it builds itself, so that only this one is ever built.
struct Command {
    const char* name;
    const char* summary;
    int (*run)(Globals& globals, const std::vector<std::string>& arguments);
};

/// The groups; portctl.cpp puts them together.
std::vector<Command> lease_commands();
std::vector<Command> named_commands();
std::vector<Command> port_commands();
std::vector<Command> exchange_commands();
std::vector<Command> event_commands();
std::vector<Command> stop_commands();
std::vector<Command> doctor_commands();
std::vector<Command> shell_commands();
std::vector<Command> agent_commands();

/// Adds the options that every command takes.
void add_global_options(CLI::App& app, Globals& globals);

/// Parses a command's arguments after `configure` has added what it takes. Returns the exit status with which the
/// program ends at once: --help was printed, or the usage is wrong; nothing when the command is to be run.
std::optional<int> parse_command(Globals& globals, const char* usage, const char* summary, const char* examples,
                                 const std::vector<std::string>& arguments,
                                 const std::function<void(CLI::App&)>& configure);

/// The agent's parameters that say which project is meant: exactly one of all, project, cwd. Changes to -C's directory.
Result<Json> project_parameters(const Globals& globals, bool may_be_all);

/// Asks the agent, which is started if need be, and has the result shown. Anything but a result is reported. Returns the
/// exit status.
int ask(const Globals& globals, std::string_view method, const Json& parameters,
        const std::function<int(const Json& result)>& show);

/// Prints a refusal (as JSON on stdout with --json, else on stderr) and returns its exit status.
int report(const Globals& globals, const Json& refusal);
int report(const Globals& globals, const Error& error);

/// A project as the agent takes it: a name, or an absolute path.
Result<std::string> project_word(const std::string& word);

/// The ports of a result's lease or leases, one a line; or its JSON.
int print_ports(const Globals& globals, const Json& result);
/// "updated 3001 (shop/web)", or the JSON.
int print_lease(const Globals& globals, const Json& result, std::string_view verb, std::string_view more = {});

/// Prints the result's JSON, or the text for people.
int print_json(const Json& result);
int print_text(std::string_view text);

}  // namespace portwrap
