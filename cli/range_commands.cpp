// portctl ranges, next, summary: how full the ranges are and what comes next.
#include <unistd.h>

#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

int run_ranges(Globals& globals, const Words& arguments) {
    bool gaps = false;
    const auto end = parse_command(
        globals, "ranges [OPTIONS]",
        "Lists the ranges: how many ports are used and active, how many this project could get, and the next one.",
        "  portctl ranges\n"
        "  portctl ranges --gaps    the free stretches of each",
        arguments, [&](CLI::App& app) { app.add_flag("--gaps", gaps, "List the free stretches"); });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (gaps) { (*parameters)["gaps"] = true; }
    return ask(globals, "range.list", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        const auto& ranges = inner_field(result, "ranges");
        const int printed = print_text(render_ranges(ranges, gaps, style_of_stdout()));
        for (const auto& range : ranges) {
            const auto full = range.find("nearly_full");
            if (full == range.end() || *full != true) { continue; }
            write_line(STDERR_FILENO, "portctl: the range \"" + text_field(range, "name") + "\" is " + percent_field(range, "utilization") + " % full");
        }
        return printed;
    });
}

int run_next(Globals& globals, const Words& arguments) {
    Word range;
    const auto end = parse_command(
        globals, "next [RANGE] [OPTIONS]", "Prints the next free port, without allocating it.",
        "  portctl next           of the range that serves this project\n"
        "  portctl next python",
        arguments, [&](CLI::App& app) { add_word(app, range, "RANGE", "A range's name (portctl ranges)", false); });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (range.given) {
        if (range.value.empty() || !is_utf8(range.value)) { return report(globals, Error{ErrorCode::invalid_request, "that is no range's name"}); }
        (*parameters)["range"] = range.value;
    }
    return ask(globals, "range.next", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        const auto port = number_field(result, "port");
        if (!port) { return report(globals, Error{ErrorCode::agent_unavailable, "the agent's reply is not understood"}); }
        return print_text(std::to_string(*port) + '\n');
    });
}

int run_summary(Globals& globals, const Words& arguments) {
    Word project;
    const auto end = parse_command(
        globals, "summary [PROJECT] [OPTIONS]", "Shows a project's range or block and how much of it the project uses.",
        "  portctl summary\n"
        "  portctl summary shop --json",
        arguments, [&](CLI::App& app) { add_word(app, project, "PROJECT", "A project's name or path", false); });
    if (end) { return *end; }
    if (project.given) {
        if (project.value.empty()) { return report(globals, Error{ErrorCode::invalid_request, "the project's name is empty"}); }
        if (!globals.project.empty()) { return report(globals, Error{ErrorCode::invalid_request, "the project is named twice"}); }
        globals.project = project.value;
    }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    return ask(globals, "range.summary", *parameters, [&](const Json& result) {
        return globals.json ? print_json(result) : print_text(render_summary(result, style_of_stdout()));
    });
}

}  // namespace

std::vector<Command> range_commands() {
    return {{"next", "the next free port, not allocated", run_next},
            {"ranges", "every range and how full it is", run_ranges},
            {"summary", "a project's range and its use of it", run_summary}};
}

}  // namespace portwrap
