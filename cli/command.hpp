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
/// Of `portctl agent status` where none runs.
inline constexpr int k_exit_not_running = 69;

/// What a command says of itself: what --help prints, the completions offer and the manual lists.
struct CommandForm {
    const CLI::App& app;  ///< with the options and words that it takes
    const char* usage;    ///< without "portctl"
    const char* summary;
    const char* examples;
};

struct Globals {
    bool json = false;
    bool all = false;
    std::string directory;  ///< -C; empty: the working directory
    std::string project;    ///< --project, as typed; empty: that of the directory
    /// When set, a command is not run: it shows its form to this and ends.
    std::function<void(const CommandForm& form)> inspect = {};
};

/// A command reads its arguments with a parser that it builds itself, so that only this one is ever built.
struct Command {
    const char* name;
    const char* summary;
    int (*run)(Globals& globals, const std::vector<std::string>& arguments);
};

/// All that `portctl help` lists.
std::vector<Command> all_commands();
/// What `portctl help` prints.
std::string overview();
/// Runs the command of this name.
int run_command(Globals& globals, const std::string& name, const std::vector<std::string>& arguments);

/// What the completions of the shells call, in no list: `_complete portctl|portwrap WORD...` up to the cursor.
inline constexpr const char* k_complete_command = "_complete";
int run_complete(const std::vector<std::string>& arguments);

/// The groups of which all_commands() is made.
std::vector<Command> lease_commands();
std::vector<Command> named_commands();
std::vector<Command> port_commands();
std::vector<Command> exchange_commands();
std::vector<Command> range_commands();
std::vector<Command> shell_commands();
std::vector<Command> completion_commands();
std::vector<Command> care_commands();
std::vector<Command> worktree_commands();
std::vector<Command> mcp_commands();
std::vector<Command> event_commands();
std::vector<Command> stop_commands();
std::vector<Command> doctor_commands();
std::vector<Command> overview_commands();
std::vector<Command> config_commands();
std::vector<Command> agent_commands();

/// Adds the options that every command takes; those that may stand before a command.
void add_global_options(CLI::App& app, Globals& globals);
void add_first_options(CLI::App& app, Globals& globals, bool& version);

/// Parses a command's arguments after `configure` has added what it takes. Returns the exit status with which the
/// program ends at once: --help was printed, or the usage is wrong; nothing when the command is to be run.
std::optional<int> parse_command(Globals& globals, const char* usage, const char* summary, const char* examples,
                                 const std::vector<std::string>& arguments,
                                 const std::function<void(CLI::App&)>& configure);

/// The agent's parameters that say which project is meant: exactly one of all, project, cwd. Changes to -C's directory.
Result<Json> project_parameters(const Globals& globals, bool may_be_all);

/// lease.wait with these parameters, for as long as they say.
Result<Reply> await_listener(Json parameters);
/// Does the result of a wait say that somebody listens?
[[nodiscard]] bool is_heard(const Json& result);
/// "30s", as lease.wait takes it (a week at most).
Status put_timeout(Json& parameters, const std::string& duration);

/// For a word that is none of a command's actions.
[[nodiscard]] Error unknown_action(const std::string& word, const std::vector<std::string>& actions);

/// Asks the agent, which is started if need be, and has the result shown. Anything but a result is reported. Returns the
/// exit status.
int ask(const Globals& globals, std::string_view method, const Json& parameters,
        const std::function<int(const Json& result)>& show);

/// Prints a refusal (as JSON on stdout with --json, else on stderr) and returns its exit status.
int report(const Globals& globals, Json refusal);
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
