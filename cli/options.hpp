// The options that several commands about leases have in common, from words to the agent's parameters.
#pragma once

#include <initializer_list>
#include <span>
#include <string>

#include "client.hpp"

namespace CLI {
class App;
}

namespace portwrap {

/// An option with a text: `--description TEXT` is sent as "description".
struct TextOption {
    const char* option;
    const char* parameter;
    const char* label;
    const char* help;
    std::string value = {};
    bool given = false;
};
void add_text_options(CLI::App& app, std::span<TextOption> options);
/// Those that were given. Text that is not UTF-8 is refused: the agent would get something else than was typed.
Status put_text_options(Json& parameters, std::span<const TextOption> options);

/// An optional positional word.
struct Word {
    std::string value;
    bool given = false;
};
void add_word(CLI::App& app, Word& word, const char* label, const char* help, bool required);

/// A port option or word as a number under `name`; nothing is sent when it was not given.
Status put_port(Json& parameters, const char* name, const Word& word);
/// A word that means a port (sent as `number_name`) or a service.
Status put_target(Json& parameters, const std::string& word, const char* number_name);
/// A service's name; a number is not one.
Status put_service(Json& parameters, const std::string& word);

/// The first mistake of several steps.
Status first_mistake(std::initializer_list<Status> steps);

}  // namespace portwrap
