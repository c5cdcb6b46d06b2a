// portctl check, who: what is known of a port number, whoever has it.
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "render.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

int run_check(Globals& globals, const Words& arguments) {
    Word word;
    const auto end = parse_command(
        globals, "check PORT [OPTIONS]", "Says whether a port is free and all that is known about it; exit status 1: taken.",
        "  portctl check 3000\n"
        "  portctl check 3000 --json | jq '.suggestions[0]'",
        arguments,
        [&](CLI::App& app) { add_word(app, word, "PORT", "The port", true); });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (auto put = put_port(*parameters, "port", word); !put) { return report(globals, put.error()); }
    return ask(globals, "port.check", *parameters, [&](const Json& result) {
        const int printed = globals.json ? print_json(result) : print_text(render_check(result, style_of_stdout()));
        const auto available = result.find("available");
        const bool taken = available != result.end() && *available == false;
        return printed != 0 || !taken ? printed : 1;
    });
}

int run_who(Globals& globals, const Words& arguments) {
    Word word;
    const auto end = parse_command(
        globals, "who PORT [OPTIONS]", "Says which programs listen on a port, and who started them; exit status 1: nobody.",
        "  portctl who 3000",
        arguments, [&](CLI::App& app) { add_word(app, word, "PORT", "The port", true); });
    if (end) { return *end; }
    Json parameters = Json::object();
    if (auto put = put_port(parameters, "port", word); !put) { return report(globals, put.error()); }
    return ask(globals, "port.who", parameters, [&](const Json& result) {
        const int printed = globals.json ? print_json(result) : print_text(render_who(result, style_of_stdout()));
        return printed != 0 || !inner_field(result, "listeners").empty() ? printed : 1;
    });
}

}  // namespace

std::vector<Command> port_commands() {
    return {{"check", "is a port free, and who has it", run_check}, {"who", "who listens on a port", run_who}};
}

}  // namespace portwrap
