// Which .env files the programs of a launch read by themselves, and in which order. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/shell_words.hpp"

namespace portwrap {

struct EnvFile {
    std::string name;    ///< relative to the package's directory
    bool named = false;  ///< on the command line (`node --env-file=.env.dev`): its values reach any program
};

/// At most so many that command lines name count, the last ones.
inline constexpr std::size_t k_max_named_env_files = 16;

/// The last one that has a variable counts. Of a mode's files (.env.development, .env.test, .env.staging) only those of the
/// mode that the command runs in: `--mode`, NODE_ENV, else production for `next start` and `vite preview`, else development.
/// flask reads .flaskenv and .env alone, nuxt and nitro .env or the file that `--dotenv` names.
[[nodiscard]] std::vector<EnvFile> env_files_of(const std::vector<SimpleCommand>& commands);

}  // namespace portwrap
