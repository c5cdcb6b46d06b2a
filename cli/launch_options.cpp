// portwrap's options: see launch.hpp.
#include "cli11.hpp"
#include "help_format.hpp"
#include "launch.hpp"
#include "portwrap/protocol.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

constexpr const char* k_examples = R"(Examples:
  portwrap npm run dev              each project, worktree and clone gets its own ports, the same every day
  portwrap -p 3000 npm run dev      port 3000 or a refusal
  portwrap vite --port {port}       the assigned port as an argument
  portwrap -n npm run dev           what would happen)";

}  // namespace

Result<LaunchOptions> parse_launch_options(const std::vector<std::string>& arguments, const std::function<void(const CLI::App& app)>& inspect) {
    LaunchOptions options;
    std::string port;
    bool version = false;
    bool no_connect = false;
    CLI::App app{"Runs a command whose servers get ports of their own.", "portwrap"};
    set_usage(app, "portwrap [OPTIONS] [--] COMMAND [ARG...]");
    app.set_help_flag("--help,-h", "Print this help");
    app.add_flag("--version", version, "Print the version");
    const auto text = [&app](const char* names, std::string& value, const char* label, const char* help) {
        app.add_option(names, value, help)->option_text(label)->take_last();
    };
    text("-p,--port", port, "PORT", "This port, or refuse");
    text("-s,--service", options.service, "SERVICE", "The service's name (default: by config or directory)");
    text("-t,--type", options.type, "TYPE", "node, python, php, static, ... (default: by program and manifest)");
    text("-e,--env", options.environment, "ENV", "dev, test or production");
    text("-r,--range", options.range, "RANGE", "The range to choose from");
    text("-k,--kind", options.kind, "KIND", "web, api, database, cache, ...");
    app.add_flag("-n,--dry-run", options.dry_run, "Print on stderr what would happen, run nothing");
    app.add_flag("--open", options.open, "Open the browser when it listens");
    app.add_flag("-q,--quiet", options.quiet, "No messages (also PORTWRAP_QUIET=1)");
    app.add_flag("-v,--verbose", options.verbose, "Explain on stderr what is done");
    app.add_flag("--no-connect", no_connect, "Leave the command's connections to localhost alone");
    app.footer(k_examples);
    if (inspect) {
        inspect(app);
        return options;
    }
    // Everything from the first word on that is not an option is the command, its options included.
    app.prefix_command();
    try {
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::CallForHelp&) {
        options.show = app.help();
        return options;
    } catch (const CLI::ParseError& error) {
        return Error{ErrorCode::invalid_request, error.what()};
    }
    if (version) {
        options.show = std::string("portwrap ") + k_version + '\n';
        return options;
    }
    options.connect = !no_connect;
    options.command = app.remaining();
    if (!options.command.empty() && options.command[0] == "--") {
        options.command.erase(options.command.begin());
    } else if (!options.command.empty() && options.command[0].size() > 1 && options.command[0][0] == '-') {
        return Error{ErrorCode::invalid_request, "unknown option " + options.command[0] + " (portwrap --help)"};
    }
    if (app.count("--port") > 0) {
        const auto number = parse_port(port);
        if (!number) { return number.error(); }
        options.port = *number;
    }
    for (const char* name : {"--service", "--type", "--env", "--range", "--kind"}) {
        if (app.count(name) > 0 && app.get_option(name)->as<std::string>().empty()) {
            return Error{ErrorCode::invalid_request, std::string(name) + " is empty"};
        }
    }
    if (options.command.empty()) {
        return Error{ErrorCode::invalid_request, "no command; usage: portwrap [OPTIONS] [--] COMMAND [ARG...]"};
    }
    if (options.command[0].empty()) { return Error{ErrorCode::invalid_request, "the command is empty"}; }
    return options;
}

}  // namespace portwrap
