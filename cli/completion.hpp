// What can stand at the cursor of a command line, read off the same CLI11 parser that reads the line when it is run: so the
// completions of the shells offer what is accepted, and no list of it is kept by hand. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace portwrap {

struct CursorPlace {
    enum class What {
        nothing,
        value,    ///< of `option`, which may be a word of its own (a positional)
        option,   ///< an option's name
        command,  ///< the command that portwrap runs
    };
    What what = What::nothing;
    const CLI::Option* option = nullptr;
    std::string kept;              ///< what of the word at the cursor is settled: "--format=", "active,"
    std::string typed;             ///< the rest of it
    std::size_t command_at = 0;    ///< where the command begins in the words; with `command`
    /// The options that stand before the cursor, with their values.
    std::vector<std::pair<const CLI::Option*, std::string>> given;

    /// The last value of an option, empty when it was not given.
    [[nodiscard]] std::string value_of(const CLI::App& app, const std::string& name) const;
};

/// `words` is everything up to the cursor; the last one is being typed and may be empty. With `is_prefix` the first word
/// that is no option begins another command, as portwrap's and the one of `portctl [OPTIONS] COMMAND` do: when it stands
/// before the cursor, `what` is `command` and command_at says where.
CursorPlace find_cursor(const CLI::App& app, std::span<const std::string> words, bool is_prefix);

/// What a value of the option may be, by the label that --help shows ("start|stop", "PORT|SERVICE", "STATE,...") and the
/// set that it is checked against: words in small letters stand for themselves, those in capitals for a kind of value.
struct ValueForm {
    std::vector<std::string> literals;
    std::vector<std::string> kinds;
    bool is_list = false;  ///< several, separated by commas
};
ValueForm value_form(const CLI::Option& option);

/// "--port" for -p,--port: the names that completions offer, the long ones first.
std::vector<std::string> option_names(const CLI::Option& option);
bool takes_value(const CLI::Option& option);

}  // namespace portwrap
