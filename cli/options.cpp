// See options.hpp.
#include "options.hpp"

#include <string_view>

#include "cli11.hpp"
#include "text.hpp"

namespace portwrap {

void add_text_options(CLI::App& app, std::span<TextOption> options) {
    for (auto& option : options) {
        auto* added = app.add_option(option.option, option.value, option.help)
                          ->option_text(option.label)
                          ->take_last()
                          ->each([&option](const std::string&) { option.given = true; });
        if (std::string_view(option.parameter) == "environment") { added->check(CLI::IsMember({"dev", "test", "production"})); }
    }
}

Status put_text_options(Json& parameters, std::span<const TextOption> options) {
    for (const auto& option : options) {
        if (!option.given) { continue; }
        if (!is_utf8(option.value)) { return Error{ErrorCode::invalid_request, std::string(option.option) + ": not UTF-8 text"}; }
        parameters[option.parameter] = option.value;
    }
    return ok_status();
}

void add_word(CLI::App& app, Word& word, const char* label, const char* help, bool required) {
    app.add_option(label, word.value, help)
        ->option_text(label)
        ->required(required)
        ->take_last()
        ->each([&word](const std::string&) { word.given = true; });
}

Status put_port(Json& parameters, const char* name, const Word& word) {
    if (!word.given) { return ok_status(); }
    const auto port = parse_port(word.value);
    if (!port) { return port.error(); }
    parameters[name] = *port;
    return ok_status();
}

Status put_service(Json& parameters, const std::string& word) {
    if (word.empty()) { return Error{ErrorCode::invalid_request, "the service's name is empty"}; }
    if (!is_utf8(word)) { return Error{ErrorCode::invalid_request, "'" + printable(word) + "' is not a service's name: no UTF-8"}; }
    if (looks_like_number(word)) {
        return Error{ErrorCode::invalid_request, "'" + printable(word) + "' is a number, not a service's name"};
    }
    parameters["service"] = word;
    return ok_status();
}

Status put_target(Json& parameters, const std::string& word, const char* number_name) {
    return looks_like_number(word) ? put_port(parameters, number_name, Word{word, true}) : put_service(parameters, word);
}

Status first_mistake(std::initializer_list<Status> steps) {
    for (const auto& step : steps) {
        if (!step) { return step; }
    }
    return ok_status();
}

}  // namespace portwrap
