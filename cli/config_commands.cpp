// portctl config show|path|validate|edit: the user's config, as the running agent has it. The agent reads and judges it.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

std::string config_path() { return config_directory() + "/config.json"; }

constexpr const char* k_template =
    "// portwrap's config: JSON with comments. `portctl config show` lists every key with its value.\n"
    "{\n"
    "  // \"reserved\": [3000, 5432],        // never given automatically\n"
    "  // \"ranges\": {\"ruby\": \"12000-12999\"},\n"
    "  // \"preset\": \"types\"                // or services, environments, localdb, blocks\n"
    "}\n";

/// A value on one line; of a range its ports first.
std::string shown_value(const Json& value) {
    if (value.is_string()) { return printable(value.get<std::string>()); }
    if (value.is_object() && value.contains("start") && value.contains("end")) {
        auto text = value["start"].dump() + "-" + value["end"].dump() + " " + text_field(value, "kind");
        if (const auto exclusive = value.find("exclusive"); exclusive != value.end() && *exclusive == true) { text += ", exclusive"; }
        const auto fallback = text_field(value, "fallback");
        return fallback.empty() ? text : text + ", then " + fallback;
    }
    if (value.is_object() && value.contains("ports")) {
        std::string text;
        for (const auto& part : inner_field(value, "ports")) { text += (text.empty() ? "" : ", ") + part["start"].dump() + "-" + part["end"].dump(); }
        return text + " " + text_field(value, "kind");
    }
    return value.dump();
}

int show_values(const Globals& globals, const Json& result) {
    if (globals.json) { return print_json(result); }
    std::vector<std::vector<Cell>> rows;
    for (const auto& entry : inner_field(result, "values")) {
        const auto origin = text_field(entry, "origin");
        const auto value = entry.find("value");
        rows.push_back({{text_field(entry, "key"), Colour::bold}, {value != entry.end() ? shown_value(*value) : ""}, {origin, origin == "default" ? Colour::dim : Colour::none}});
    }
    const auto printed = print_text("# " + text_field(result, "path") + '\n' +
                                    render_table({{"KEY", false, 0}, {"VALUE", false, 16}, {"ORIGIN", false, 7}}, rows, style_of_stdout()));
    for (const auto& warning : inner_field(result, "warnings")) { write_line(STDERR_FILENO, "portctl: warning: " + printable(warning.get<std::string>())); }
    if (const auto problem = text_field(result, "problem"); !problem.empty()) {
        write_line(STDERR_FILENO, "portctl: " + problem + " (the file is not in use; shown is what is)");
        return exit_status_of("INVALID_REQUEST");
    }
    return printed;
}

int show(const Globals& globals, const std::string&) {
    return ask(globals, "config.show", Json::object(), [&](const Json& result) { return show_values(globals, result); });
}

int path(const Globals& globals, const std::string&) {
    if (globals.json) { return print_json(Json{{"schema", k_json_schema}, {"ok", true}, {"path", config_path()}}); }
    return print_text(config_path() + '\n');
}

int validate(const Globals& globals, const std::string& file) {
    Json parameters = Json::object();
    if (!file.empty()) {
        char* absolute = ::realpath(file.c_str(), nullptr);
        if (absolute == nullptr) { return report(globals, Error{ErrorCode::not_found, "cannot read " + printable(file) + ": " + std::strerror(errno)}); }
        parameters["path"] = absolute;
        std::free(absolute);
    }
    return ask(globals, "config.validate", parameters, [&](const Json& result) {
        const auto problem = text_field(result, "problem");
        const int status = problem.empty() ? 0 : exit_status_of("INVALID_REQUEST");
        if (globals.json) {
            const int printed = print_json(result);
            return printed != 0 ? printed : status;
        }
        for (const auto& warning : inner_field(result, "warnings")) { write_line(STDERR_FILENO, "portctl: warning: " + printable(warning.get<std::string>())); }
        if (status != 0) {
            write_line(STDERR_FILENO, "portctl: " + problem);
            return status;
        }
        return print_text(text_field(result, "path") + ": good\n");
    });
}

int edit(const Globals& globals, const std::string&) {
    const auto file = config_path();
    if (::access(file.c_str(), F_OK) != 0) {
        if (const auto made = ensure_private_directory(config_directory()); !made) { return report(globals, made.error()); }
        std::ofstream(file) << k_template;
    }
    const char* editor = nullptr;
    for (const char* name : {"VISUAL", "EDITOR"}) {
        const char* value = std::getenv(name);
        if (editor == nullptr && value != nullptr && *value != '\0') { editor = value; }
    }
    // An editor may be named with options, as for git: the shell reads it.
    const std::string command = std::string(editor != nullptr ? editor : "vi") + " \"$1\"";
    const pid_t child = ::fork();
    if (child == 0) {
        ::execl("/bin/sh", "sh", "-c", command.c_str(), "sh", file.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    int status = 0;
    while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return report(globals, Error{ErrorCode::permission_denied, "the editor did not end well; the config was not read again"});
    }
    return ask(globals, "config.reload", Json::object(), [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        const auto problem = text_field(result, "problem");
        if (problem.empty()) { return print_text("config: in use\n"); }
        write_line(STDERR_FILENO, "portctl: " + problem + " (the last good config stays in use)");
        return exit_status_of("INVALID_REQUEST");
    });
}

int run_config(Globals& globals, const std::vector<std::string>& arguments) {
    struct Action {
        const char* name;
        int (*run)(const Globals&, const std::string& file);
    };
    static constexpr Action k_actions[] = {{"show", show}, {"path", path}, {"validate", validate}, {"edit", edit}};
    std::string word;
    std::string file;
    const auto end = parse_command(globals, "config show|path|validate [FILE]|edit [OPTIONS]", "The user's config.",
                                   "  portctl config show               every value, and where it comes from\n"
                                   "  portctl config validate FILE      exit status 2: not good",
                                   arguments, [&](CLI::App& app) {
                                       app.add_option("action", word, "What to do")->option_text("show|path|validate|edit")->required();
                                       app.add_option("file", file, "With validate: another file than the user's config")->option_text("FILE");
                                   });
    if (end) { return *end; }
    for (const auto& action : k_actions) {
        if (word != action.name) { continue; }
        if (!file.empty() && word != "validate") { return report(globals, Error{ErrorCode::invalid_request, "config " + word + " takes no file"}); }
        return action.run(globals, file);
    }
    return report(globals, unknown_action(word, {"show", "path", "validate", "edit"}));
}

}  // namespace

std::vector<Command> config_commands() {
    return {{"config", "show, path, validate, edit: the user's config", run_config}};
}

}  // namespace portwrap
