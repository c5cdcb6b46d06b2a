// portwrap: from its arguments to the exec of the command. The agent decides (session.open); this asks it, prepares the
// environment, and steps aside. Nothing here may keep a command from running: without an agent, or without the shim, it
// runs as it would have without portwrap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client.hpp"
#include "portwrap/result.hpp"

namespace CLI {
class App;
}

namespace portwrap {

/// portwrap's own refusals and those of exec, as env(1) and nice(1) have them.
inline constexpr int k_exit_refused = 125;
inline constexpr int k_exit_cannot_run = 126;
inline constexpr int k_exit_not_found = 127;

struct LaunchOptions {
    std::optional<std::uint16_t> port;
    std::string service, type, environment, range, kind;  ///< empty: not given
    bool dry_run = false;
    bool quiet = false;
    bool verbose = false;
    bool connect = true;
    bool open = false;                 ///< the browser, when it listens
    std::string show;                  ///< help or version: to be printed on stdout, nothing runs
    std::vector<std::string> command;  ///< never empty when `show` is
};

/// Splits portwrap's own options from the command: they end at the first word that is not one, or at `--`.
/// `arguments` without the program's name.
/// With `inspect` nothing is parsed: it is shown the options, for completions and the manual.
Result<LaunchOptions> parse_launch_options(const std::vector<std::string>& arguments,
                                           const std::function<void(const CLI::App& app)>& inspect = {});

/// LD_PRELOAD with the shim in it, once and last (sanitizer runtimes insist on being first); entries are kept as they
/// are, and so is the separator. Another copy of the shim is replaced: two would rewrite each port twice.
[[nodiscard]] std::string merge_preload(std::string_view present, std::string_view shim);

/// Whether ld.so(8) can take the path in LD_PRELOAD: no separators, no dynamic string tokens.
[[nodiscard]] bool is_preloadable(std::string_view path);

/// NAME=PORT of the user's variables that end in PORT and have one as their value, at most 32: what they ask a program to
/// listen on, or where to connect to. No other value leaves the program.
[[nodiscard]] std::vector<std::string> told_ports(const std::vector<std::string_view>& environment);

/// Those of the user's variables (entries NAME=VALUE) that session.open tells the agent: names that portwrap may well
/// set come first, at most 200 names and 12 KiB.
[[nodiscard]] std::vector<std::string> told_names(const std::vector<std::string_view>& environment);

/// As much of the command as fits into one request; words that are not UTF-8 are blanked.
[[nodiscard]] std::vector<std::string> told_command(const std::vector<std::string>& command);

/// The command to run: what the agent changed of `told` (placeholders, added arguments), the rest byte for byte.
[[nodiscard]] std::vector<std::string> command_to_run(const std::vector<std::string>& command,
                                                      const std::vector<std::string>& told,
                                                      const std::vector<std::string>& returned);

/// What portwrap itself has set for a command, as PORTWRAP_SET carries it: NAME=HASH of the value, separated by commas.
[[nodiscard]] std::string record_of(const std::vector<std::pair<std::string, std::string>>& set);

/// The names of a record whose variables still have the value that portwrap gave them: they are not the user's.
[[nodiscard]] std::vector<std::string> names_of_record(std::string_view record, const std::function<const char*(const char*)>& value_of);

/// ASAN_OPTIONS for programs that were built with gcc's address sanitizer: they refuse to start when a library comes before
/// its own, which they check for no other reason than to warn.
[[nodiscard]] std::string asan_options(std::string_view present);

/// Runs portwrap; returns only when the command did not start.
int launch(const LaunchOptions& options);

}  // namespace portwrap
