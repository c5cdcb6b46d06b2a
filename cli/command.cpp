// See command.hpp.
#include "command.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>

#include "cli11.hpp"
#include "help_format.hpp"
#include "portwrap/protocol.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

/// JSON carries no other text: two directories would become one.
Result<std::string> in_utf8(std::string path, const char* what) {
    if (!is_utf8(path)) { return Error{ErrorCode::invalid_request, std::string(what) + " is not UTF-8"}; }
    return path;
}

Result<std::string> working_directory() {
    std::string path(PATH_MAX, '\0');
    if (::getcwd(path.data(), path.size()) == nullptr || path[0] != '/') {
        return Error{ErrorCode::invalid_request, std::string("no working directory: ") + std::strerror(errno)};
    }
    path.resize(std::strlen(path.c_str()));
    return in_utf8(std::move(path), "the working directory's path");
}

}  // namespace

void add_global_options(CLI::App& app, Globals& globals) {
    app.add_flag("--json", globals.json, "Print JSON")->group(k_global_options);
    app.add_option("-C", globals.directory, "As if started in DIR")
        ->option_text("DIR")
        ->take_last()
        ->group(k_global_options);
    app.add_option("--project", globals.project, "Another project than that of the directory")
        ->option_text("NAME|PATH")
        ->take_last()
        ->check([](const std::string& word) { return std::string(word.empty() ? "is empty" : ""); })
        ->group(k_global_options);
    app.add_flag("--all", globals.all, "Every project; with release: every port of the project")->group(k_global_options);
}

void add_first_options(CLI::App& app, Globals& globals, bool& version) {
    app.set_help_flag("--help,-h", "Print this help")->group(k_global_options);
    app.add_flag("--version", version, "Print the version")->group(k_global_options);
    add_global_options(app, globals);
}

std::optional<int> parse_command(Globals& globals, const char* usage, const char* summary, const char* examples,
                                 const std::vector<std::string>& arguments,
                                 const std::function<void(CLI::App&)>& configure) {
    CLI::App app{summary, "portctl"};
    set_usage(app, std::string("portctl ") + usage);
    app.set_help_flag("--help,-h", "Print this help")->group(k_global_options);
    configure(app);
    add_global_options(app, globals);
    if (globals.inspect) {
        globals.inspect(CommandForm{app, usage, summary, examples});
        return 0;
    }
    app.footer(std::string("Examples:\n") + examples);
    try {
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::CallForHelp&) {
        return print_text(app.help());
    } catch (const CLI::ParseError& error) {
        return report(globals, Error{ErrorCode::invalid_request, std::string(error.what()) + " (usage: portctl " + usage + ")"});
    }
    return std::nullopt;
}

Result<std::string> project_word(const std::string& word) {
    // A word with a slash, or that begins with a dot, is a path; the agent knows nothing of our directory.
    if (word[0] == '/' || (word[0] != '.' && word.find('/') == std::string::npos)) { return in_utf8(word, "the project"); }
    char resolved[PATH_MAX];
    if (::realpath(word.c_str(), resolved) == nullptr) { return Error{ErrorCode::not_found, word + ": " + std::strerror(errno)}; }
    return in_utf8(resolved, "the project's path");
}

Result<Json> project_parameters(const Globals& globals, bool may_be_all) {
    if (!globals.directory.empty() && ::chdir(globals.directory.c_str()) != 0) {
        return Error{ErrorCode::invalid_request, globals.directory + ": " + std::strerror(errno)};
    }
    if (globals.all) {
        if (!may_be_all) { return Error{ErrorCode::invalid_request, "--all does not apply here"}; }
        if (!globals.project.empty()) { return Error{ErrorCode::invalid_request, "--all and --project exclude each other"}; }
        return Json{{"all", true}};
    }
    const auto cwd = working_directory();
    if (!globals.project.empty()) {
        const auto project = project_word(globals.project);
        if (!project) { return project.error(); }
        return Json{{"project", *project}};
    }
    if (!cwd) { return cwd.error(); }
    return Json{{"cwd", *cwd}};
}

Result<Reply> await_listener(Json parameters) {
    constexpr int k_max_agents = 5;
    const auto limit = parameters.value("timeout_ms", -1LL);
    const auto begin = std::chrono::steady_clock::now();
    for (int agents = 1;; ++agents) {
        auto connection = reach_agent(Deadline::in_milliseconds(k_portctl_deadline_ms));
        if (!connection) { return connection.error(); }
        connection->wait_without_limit();
        auto reply = connection->call("lease.wait", parameters);
        // An agent that is restarted or replaced leaves those who wait to the next one.
        if (reply || !connection->hung_up() || agents == k_max_agents) { return reply; }
        const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
        if (limit >= 0) { parameters["timeout_ms"] = std::max<long long>(limit - waited, 0); }
    }
}

bool is_heard(const Json& result) {
    const auto listening = result.find("listening");
    return listening != result.end() && *listening == true;
}

Status put_timeout(Json& parameters, const std::string& duration) {
    constexpr long long k_longest_s = 7LL * 24 * 3600;
    const auto seconds = parse_duration(duration);
    if (!seconds) { return seconds.error(); }
    parameters["timeout_ms"] = std::min(*seconds, k_longest_s) * 1000;
    return ok_status();
}

Error unknown_action(const std::string& word, const std::vector<std::string>& actions) {
    std::string choice;
    for (const auto& action : actions) { choice += (choice.empty() ? "" : action == actions.back() ? " or " : ", ") + action; }
    const auto nearest = nearest_word(word, actions);
    return {ErrorCode::invalid_request, "unknown action '" + printable(word) + "' (" + choice + ")" + (nearest ? "; did you mean '" + *nearest + "'?" : "")};
}

int ask(const Globals& globals, std::string_view method, const Json& parameters,
        const std::function<int(const Json& result)>& show) {
    const auto answer = ask_agent(method, parameters, Deadline::in_milliseconds(k_portctl_deadline_ms));
    if (!answer) { return report(globals, answer.error()); }
    if (!answer->reply.ok) { return report(globals, answer->reply.body); }
    if (const auto problem = text_field(answer->reply.body, "config_problem"); !problem.empty()) {
        write_line(STDERR_FILENO, "portctl: " + problem + " (this config is not in use)");
    }
    return show(answer->reply.body);
}

int report(const Globals& globals, Json refusal) {
    // The options that a remedy names are portctl's: here it is a part of what is said.
    if (const auto remedy = text_field(inner_field(refusal, "details"), "remedy"); !remedy.empty()) {
        refusal["message"] = text_field(refusal, "message") + "; " + remedy;
        refusal["details"].erase("remedy");
    }
    if (globals.json) {
        print_json(Json{{"schema", k_json_schema}, {"ok", false}, {"error", refusal}});
    } else {
        write_line(STDERR_FILENO, "portctl: " + render_refusal(refusal));
    }
    return exit_status_of(text_field(refusal, "code"));
}

int report(const Globals& globals, const Error& error) { return report(globals, refusal_object(error)); }

int print_json(const Json& result) {
    return print_text(result.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n');
}

int print_text(std::string_view text) {
    if (write_out(text)) { return 0; }
    write_line(STDERR_FILENO, std::string("portctl: standard output: ") + std::strerror(errno));
    return 1;
}

}  // namespace portwrap
