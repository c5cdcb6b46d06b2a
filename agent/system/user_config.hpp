// The user's config: $XDG_CONFIG_HOME/portwrap/config.json (JSON with comments) and the environment variables of other tools
// of this kind, over the built-in values. docs/configuration.md describes every key.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ranges.hpp"
#include "portwrap/result.hpp"

namespace portwrap {

/// Variables that the agent reads when it starts, by name.
using ConfigVariables = std::map<std::string, std::string>;
[[nodiscard]] ConfigVariables config_variables();

struct UserConfig {
    Config config;
    /// Where a value comes from: "file" or "environment NAME", by key ("strategy", "ranges.node"); absent: built in.
    std::map<std::string, std::string> origins;
    std::vector<std::string> warnings;  ///< one line each, with the file's line where there is one
};

/// Pure. `text` is the file's content, none where there is no file; `path` is for messages alone. The error's message is
/// "PATH:LINE: KEY: what", or "environment NAME: what".
[[nodiscard]] Result<UserConfig> parse_user_config(const std::optional<std::string>& text, const std::string& path, const ConfigVariables& variables,
                                                   const PortInterval& ephemeral);

/// Reads the file first. Blocking file access.
[[nodiscard]] Result<UserConfig> read_user_config(const std::string& path, const ConfigVariables& variables, const PortInterval& ephemeral);

}  // namespace portwrap
