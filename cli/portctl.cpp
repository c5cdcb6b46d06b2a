// portctl: `portctl [GLOBAL OPTIONS] COMMAND [ARG...]`. Finds the command in the groups' tables and leaves the rest to it.
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli11.hpp"
#include "command.hpp"
#include "portwrap/protocol.hpp"
#include "text.hpp"

namespace portwrap {
namespace {

int run_portctl(std::vector<std::string> arguments) {
    Globals globals;
    // So that a refusal of the very first word comes in the form that was asked for.
    globals.json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
    if (arguments.empty()) {
        write_line(STDERR_FILENO, overview());
        return exit_status_of("INVALID_REQUEST");
    }
    if (arguments[0] == k_complete_command) { return run_complete({arguments.begin() + 1, arguments.end()}); }
    if (arguments[0].starts_with('-')) {
        // Global options before the command; the usual call without them is spared this second parser.
        bool version = false;
        CLI::App app{"", "portctl"};
        add_first_options(app, globals, version);
        app.prefix_command();
        try {
            app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
        } catch (const CLI::CallForHelp&) {
            return print_text(overview());
        } catch (const CLI::ParseError& error) {
            return report(globals, Error{ErrorCode::invalid_request, error.what()});
        }
        if (version) { return run_command(globals, "version", {}); }
        arguments = app.remaining();
        if (arguments.empty()) { return report(globals, Error{ErrorCode::invalid_request, "no command (portctl help)"}); }
        if (arguments[0].starts_with('-')) {
            return report(globals, Error{ErrorCode::invalid_request, "unknown option " + arguments[0] + " (portctl help)"});
        }
    }
    return run_command(globals, arguments[0], {arguments.begin() + 1, arguments.end()});
}

}  // namespace
}  // namespace portwrap

int main(int count, char** arguments) {
    return portwrap::run_portctl(std::vector<std::string>(arguments + (count > 0 ? 1 : 0), arguments + count));
}
