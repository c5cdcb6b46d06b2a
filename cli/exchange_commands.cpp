// portctl export, import, template: the agent formats and parses, these carry the text between it and files.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "guarded_block.hpp"
#include "options.hpp"
#include "portwrap/protocol.hpp"
#include "portwrap/unique_fd.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

Error trouble(const std::string& what) { return Error{ErrorCode::storage_error, what + ": " + std::strerror(errno)}; }

/// Standard input as a file that the agent can open; the descriptor must live until it has.
Result<UniqueFd> memory_file() {
    UniqueFd memory(::memfd_create("portctl-import", MFD_CLOEXEC));
    if (!memory.valid()) { return trouble("standard input"); }
    char buffer[65536];
    for (std::size_t total = 0;;) {
        const auto count = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) { continue; }
        if (count < 0) { return trouble("standard input"); }
        if (count == 0) { return memory; }
        total += static_cast<std::size_t>(count);
        if (total > k_import_bytes) { return Error{ErrorCode::invalid_request, "standard input: larger than 6 MB"}; }
        if (::write(memory.get(), buffer, static_cast<std::size_t>(count)) != count) { return trouble("standard input"); }
    }
}

/// Where the agent reads the file that a command names; `-` is standard input, kept in `memory` until it has.
Result<std::string> path_for_agent(const std::string& file, UniqueFd& memory) {
    if (file == "-") {
        auto copied = memory_file();
        if (!copied) { return copied.error(); }
        memory = std::move(*copied);
        return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory.get());
    }
    char resolved[PATH_MAX];
    if (::realpath(file.c_str(), resolved) == nullptr) { return Error{ErrorCode::not_found, printable(file) + ": " + std::strerror(errno)}; }
    return std::string(resolved);
}

int run_export(Globals& globals, const Words& arguments) {
    std::string format = "json";
    std::string output;
    std::string compose_file;
    const auto end = parse_command(
        globals, "export [--format FORMAT] [--output FILE] [--all] [OPTIONS]", "Writes the project's ports for other programs and for people.",
        "  portctl export --format env --output .env.local    only a managed block of the file is changed\n"
        "  portctl export --format compose > compose.override.yaml\n"
        "  docker compose config | portctl export --format compose --compose-file -\n"
        "                                                     with anchors, extends and includes resolved\n"
        "  portctl export --all > ports.json                  portctl import reads it",
        arguments, [&](CLI::App& app) {
            app.add_option("--format", format, "json (default), csv, markdown, env or compose")
                ->option_text("FORMAT")
                ->check(CLI::IsMember({"json", "csv", "markdown", "env", "compose"}))
                ->take_last();
            app.add_option("--output,-o", output, "Write to FILE, which is replaced as a whole (with env: its managed block alone)")
                ->option_text("FILE")
                ->take_last();
            app.add_option("--compose-file", compose_file, "With compose: read the services' ports from FILE (- is standard input) instead of the project's compose file")
                ->option_text("FILE")
                ->take_last();
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    (*parameters)["format"] = format;
    UniqueFd input;
    if (!compose_file.empty()) {
        const auto path = path_for_agent(compose_file, input);
        if (!path) { return report(globals, path.error()); }
        (*parameters)["compose_file"] = *path;
    }
    return ask(globals, "exchange.export", *parameters, [&](const Json& result) {
        const auto found = result.find("text");
        if (found == result.end() || !found->is_string()) { return report(globals, Error{ErrorCode::agent_unavailable, "the agent's reply is not understood"}); }
        const auto& text = found->get_ref<const std::string&>();
        if (output.empty()) { return globals.json && format != "json" ? print_json(result) : print_text(text); }
        const auto written = format == "env" ? put_block(output, text, BlockPlace::end) : replace_file(output, text);
        if (!written) { return report(globals, written.error()); }
        return globals.json ? print_json(result) : 0;
    });
}

std::string render_import(const Json& result) {
    std::string text;
    const auto dry_run = result.find("dry_run");
    const char* verb = dry_run != result.end() && *dry_run == true ? "would import " : "imported ";
    for (const auto& lease : inner_field(result, "imported")) {
        text += verb + std::to_string(number_field(lease, "port").value_or(0)) + " (" + render_lease_name(lease) + ")\n";
    }
    return text;
}

int run_import(Globals& globals, const Words& arguments) {
    std::string file;
    std::string format;
    bool dry_run = false;
    bool strict = false;
    std::vector<std::string> maps;
    const auto end = parse_command(
        globals, "import FILE [--format FORMAT] [--map NAME=DIR]... [--dry-run] [--strict] [OPTIONS]",
        "Takes in ports from a file: portctl's own export, or the registry of another tool. Exit status 1: rows were refused.",
        "  portctl import ports.json --dry-run\n"
        "  portctl import registry.csv --map shop=~/src/shop --strict\n"
        "  ssh host portctl export --all | portctl import -",
        arguments, [&](CLI::App& app) {
            app.add_option("file", file, "The file; - is standard input")->option_text("FILE")->required();
            app.add_option("--format", format, "json, csv, markdown, env, worktrees, applications or ports (default: what it looks like)")
                ->option_text("FORMAT")
                ->check(CLI::IsMember({"json", "csv", "markdown", "env", "worktrees", "applications", "ports"}))
                ->take_last();
            app.add_option("--map", maps, "The directory of a project that the file only names")->option_text("NAME=DIR")->take_all()->allow_extra_args(false);
            app.add_flag("--dry-run", dry_run, "Only say what would happen");
            app.add_flag("--strict", strict, "All rows or none");
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    Json entries = Json::array();
    for (const auto& map : maps) {
        const auto equals = map.rfind('=');
        if (equals == std::string::npos || equals == 0) { return report(globals, Error{ErrorCode::invalid_request, "--map: '" + printable(map) + "' is not NAME=DIR"}); }
        auto directory = map.substr(equals + 1);
        if (directory.starts_with("~/")) { directory = std::string(std::getenv("HOME") != nullptr ? std::getenv("HOME") : "") + directory.substr(1); }
        char resolved[PATH_MAX];
        if (::realpath(directory.c_str(), resolved) == nullptr) { return report(globals, Error{ErrorCode::not_found, "--map: " + printable(directory) + ": " + std::strerror(errno)}); }
        entries.push_back(map.substr(0, equals) + "=" + resolved);
    }
    UniqueFd input;
    const auto path = path_for_agent(file, input);
    if (!path) { return report(globals, path.error()); }
    (*parameters)["path"] = *path;
    if (!entries.empty()) { (*parameters)["map"] = std::move(entries); }
    if (!format.empty()) { (*parameters)["format"] = format; }
    (*parameters)["dry_run"] = dry_run;
    (*parameters)["strict"] = strict;
    return ask(globals, "exchange.import", *parameters, [&](const Json& result) {
        const auto& refused = inner_field(result, "refused");
        const int printed = globals.json ? print_json(result) : print_text(render_import(result));
        if (!globals.json) {
            for (const auto& row : refused) {
                write_line(STDERR_FILENO, "portctl: row " + std::to_string(number_field(row, "row").value_or(0)) + ": " + text_field(row, "reason"));
            }
            if (strict && !refused.empty()) { write_line(STDERR_FILENO, "portctl: nothing was imported (--strict)"); }
            if (refused.empty() && inner_field(result, "imported").empty()) { write_line(STDERR_FILENO, "portctl: the file has no rows"); }
        }
        return printed != 0 || refused.empty() ? printed : 1;
    });
}

int run_template(Globals& globals, const Words& arguments) {
    Word kind;
    Word service;
    bool list = false;
    const auto end = parse_command(
        globals, "template KIND [SERVICE] [OPTIONS] | template --list", "Prints a snippet of configuration with the project's real port in it.",
        "  portctl template vite > vite.config.js\n"
        "  portctl template nginx api\n"
        "  portctl template --list",
        arguments, [&](CLI::App& app) {
            add_word(app, kind, "KIND", "express, vite, flask, nginx, ...", false);
            add_word(app, service, "SERVICE", "Whose port (default: the project's)", false);
            app.add_flag("--list", list, "What there is");
        });
    if (end) { return *end; }
    if (list == kind.given) { return report(globals, Error{ErrorCode::invalid_request, "template takes a KIND or --list"}); }
    auto parameters = list ? Result<Json>(Json::object()) : project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (kind.given) { (*parameters)["kind"] = kind.value; }
    if (service.given) {
        if (const auto put = put_service(*parameters, service.value); !put) { return report(globals, put.error()); }
    }
    return ask(globals, "exchange.template", *parameters, [&](const Json& result) {
        if (globals.json) { return print_json(result); }
        if (!list) {
            const auto text = result.find("text");
            return print_text(text != result.end() && text->is_string() ? text->get_ref<const std::string&>() : std::string());
        }
        std::vector<std::vector<Cell>> rows;
        for (const auto& entry : inner_field(result, "templates")) { rows.push_back({{text_field(entry, "kind")}, {text_field(entry, "description")}}); }
        return print_text(render_table({{"KIND"}, {"DESCRIPTION", false, 12}}, rows, style_of_stdout()));
    });
}

}  // namespace

std::vector<Command> exchange_commands() {
    return {{"export", "the ports as JSON, CSV, markdown, .env or compose file", run_export},
            {"import", "ports from a file, also of other tools", run_import},
            {"template", "configuration snippets with the real port", run_template}};
}

}  // namespace portwrap
