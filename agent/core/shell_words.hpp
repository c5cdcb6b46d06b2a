// What a shell text (a package script) runs, as far as that can be told without a shell: its simple commands, without the
// programs that only run another one (env, npx, poetry run, ...). Pure; what is not understood is left as it stands.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace portwrap {

struct SimpleCommand {
    std::vector<std::pair<std::string, std::string>> assignments;  ///< NAME=VALUE before the program, also those of env(1)
    std::vector<std::string> words;                                ///< the program's file name without directories, then its arguments
    std::vector<std::string> env_files;                            ///< given to dotenv and its kin (`dotenv -e FILE -- COMMAND`)
    bool beside = false;                                           ///< started with `&`: the next one runs at the same time
};

/// A text that is longer, or that holds more words than this, is nobody's script: nothing is read in it. Texts that its commands give
/// to shells count, and so does what such commands get from it.
inline constexpr std::size_t k_max_shell_text = 65536;
inline constexpr std::size_t k_max_shell_words = 1024;

/// The simple commands of a POSIX shell text, in its order. Quotes are taken off, expansions stay as text.
[[nodiscard]] std::vector<SimpleCommand> simple_commands(std::string_view text);

/// Those of each line by itself; the limits are for all of them together.
[[nodiscard]] std::vector<std::vector<SimpleCommand>> simple_commands_of_lines(std::string_view text);

/// Those of an argument vector: one, or those of the text that it gives to a shell (`sh -c TEXT`).
[[nodiscard]] std::vector<SimpleCommand> simple_commands(const std::vector<std::string>& words);

/// The place of the first argument from `from` on that is neither an option nor the value of one (`npm --prefix api run` has
/// `run`); the number of words where there is none.
[[nodiscard]] std::size_t first_operand(const SimpleCommand& command, std::size_t from = 1);

/// What a shell puts in the place of the variable where it is not set: "4000" of ${PORT:-4000} and ${PORT-4000}. The last one of the
/// text counts; empty where there is none. One that names a further variable is left out.
[[nodiscard]] std::string_view variable_default(std::string_view text, std::string_view name);

}  // namespace portwrap
