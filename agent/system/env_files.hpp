// The .env files of a directory, as dotenv and its kin read them. Blocking file access: for a pool thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/env_cascade.hpp"
#include "core/named_ports.hpp"

namespace portwrap {

/// The assignments of these files of a directory: of each name the one that counts (the later file's). Regular files of at
/// most 1 MB; at most 256 names.
[[nodiscard]] std::vector<EnvValue> read_env_files(const std::string& directory, const std::vector<EnvFile>& files);

/// The assignments of one file's text but for values of more than 4096 bytes: NAME=VALUE, `export NAME=VALUE`, quotes, comments. No expansion of variables.
[[nodiscard]] std::vector<EnvValue> parse_env_file(std::string_view text, const std::string& file);

}  // namespace portwrap
