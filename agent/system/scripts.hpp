// What the files of a directory say of a command that is given in it: the package script that it runs, the manifests
// beside it, the .env files. Blocking file access and long texts: for a pool thread.
#pragma once

#include <string>
#include <vector>

#include "core/frameworks.hpp"
#include "core/named_ports.hpp"

namespace portwrap {

/// The text of the package.json script that `command` runs (npm run X, npm start, yarn X, pnpm X, bun run X...), looked
/// up in the nearest package.json of `directory`; empty when it runs none. A script that runs another one is followed by
/// that one's text, a line each, once; 8 scripts at most, and what would make the text longer than k_max_shell_text is left out.
[[nodiscard]] std::string script_of_command(const std::vector<std::string>& command, const std::string& directory);

struct LaunchFiles {
    std::string script;      ///< see script_of_command
    LaunchTraits traits;     ///< of the command and the script
    std::vector<EnvValue> env;    ///< of the .env files that the command's programs read
};
[[nodiscard]] LaunchFiles read_launch_files(const std::vector<std::string>& command, const std::string& directory);

}  // namespace portwrap
