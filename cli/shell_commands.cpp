// portctl prompt, init: what shells are given for their prompts. None of these starts an agent.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cli11.hpp"
#include "client.hpp"
#include "command.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "portwrap/unique_fd.hpp"
#include "render.hpp"
#include "shell_texts.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

/// For the agent's word on the name of a project.
constexpr int k_agent_deadline_ms = 1'000;

/// The beginning of a regular file; empty when there is none.
std::string read_beginning(const std::string& path) {
    const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) { return {}; }
    std::array<char, 4096> buffer{};
    const auto count = ::read(fd.get(), buffer.data(), buffer.size());
    return {buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0};
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool is_same_directory(const std::string& a, const std::string& b) {
    struct stat one {};
    struct stat two {};
    return ::stat(a.c_str(), &one) == 0 && ::stat(b.c_str(), &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

/// The roots that a directory's project may have, the nearest first: the agent's rules, as far as they can be told by the
/// mere existence of files (shell/prompt.* say the same in their languages).
Words possible_roots(const std::string& directory) {
    if (!directory.starts_with('/')) { return {}; }
    Words all;
    std::string config;
    std::string module;
    for (auto root = directory; !root.empty(); root = root == "/" ? std::string() : directory_of(root)) {
        const auto path = root == "/" ? std::string() : root;
        const bool configured = exists(path + "/.portwrap.json");
        if (configured && config.empty()) { config = root; }
        // Common ground belongs to nobody who works below it.
        const bool common = !configured && (root == "/" || is_same_directory(root, home_directory()));
        if (!common || root == directory) { all.push_back(root); }
        if (common) { continue; }
        if (exists(path + "/.git/HEAD")) { return {root}; }
        const auto pointer = read_beginning(path + "/.git");
        if (!pointer.starts_with("gitdir:")) { continue; }
        const auto modules = pointer.substr(0, pointer.find('\n')).find("/modules/");
        const bool is_submodule = modules != std::string::npos && pointer.find("/.git/") <= modules;
        // A submodule belongs to its superproject, a worktree of a submodule to itself.
        if (!is_submodule || pointer.find("/worktrees/", modules) != std::string::npos) { return {root}; }
        module = root;
    }
    if (!module.empty()) { return {module}; }
    if (!config.empty()) { return {config}; }
    return all;
}

/// Whether the process lives and is an agent: the number of one that died without a word may be another program's by now. (A
/// zombie has a name, and no program.)
bool is_an_agent(const std::string& pid) {
    const auto process = "/proc/" + pid;
    return exists(process + "/exe") && read_beginning(process + "/comm") == "portwrap-agent\n";
}

/// The segment that is published below a runtime directory, empty when there is none or its agent is gone.
std::string published_segment(const std::string& runtime, const Words& roots) {
    const auto prompts = prompts_directory(runtime);
    for (const auto& root : roots) {
        const auto text = read_beginning(prompt_file(prompts, root));
        const auto line = text.find('\n');
        if (line == std::string::npos) { continue; }
        auto segment = text.substr(0, line);
        const auto agent = text.substr(line + 1, text.find('\n', line + 1) - line - 1);
        if (segment.find_first_not_of("0123456789:~+ ") != std::string::npos) { return {}; }
        if (agent.empty() || agent.find_first_not_of("0123456789") != std::string::npos || !is_an_agent(agent)) { return {}; }
        return segment;
    }
    return {};
}

std::string published_segment(const std::string& directory) {
    const auto roots = possible_roots(directory);
    for (const auto& runtime : agent_directories()) {
        if (auto segment = published_segment(runtime, roots); !segment.empty()) { return segment; }
    }
    return {};
}

/// FORMAT with its words and escapes replaced, each where it stands and once.
std::string formatted(std::string_view format, const std::string& segment) {
    const auto first = segment.substr(segment.find(':') + 1);
    const std::pair<std::string_view, std::string> words[] = {
        {"{segment}", segment}, {"{port}", first.substr(0, first.find(' '))}, {"\\n", "\n"}, {"\\t", "\t"}, {"\\\\", "\\"}};
    std::string text;
    while (!format.empty()) {
        std::size_t taken = 0;
        for (const auto& [word, meaning] : words) {
            if (!format.starts_with(word)) { continue; }
            text += meaning;
            taken = word.size();
            break;
        }
        if (taken == 0) {
            text += format.front();
            taken = 1;
        }
        format.remove_prefix(taken);
    }
    return text;
}

/// The directory whose project is meant. A name is the business of the agent that runs, if one does: the names are in the
/// registry alone. Empty: there is none.
Result<std::string> directory_meant(const Globals& globals) {
    if (!globals.directory.empty() && ::chdir(globals.directory.c_str()) != 0) {
        return Error{ErrorCode::invalid_request, globals.directory + ": " + std::strerror(errno)};
    }
    if (globals.project.empty()) {
        char here[PATH_MAX];
        return std::string(::getcwd(here, sizeof here) != nullptr ? here : "");
    }
    auto word = project_word(globals.project);
    if (!word || word->starts_with('/')) { return word; }
    auto agent = find_running_agent(Deadline::in_milliseconds(k_agent_deadline_ms));
    if (!agent || !agent->has_value()) { return std::string(); }
    const auto reply = (*agent)->call("project.show", Json{{"project", *word}});
    if (!reply) { return std::string(); }
    if (!reply->ok) { return Error{ErrorCode::not_found, text_field(reply->body, "message")}; }
    return text_field(inner_field(reply->body, "project"), "root");
}

int run_prompt(Globals& globals, const Words& arguments) {
    std::string format = "{segment}";
    bool given = false;
    const auto end = parse_command(
        globals, "prompt [--format FORMAT] [OPTIONS]",
        "Prints what the shell prompt shows of this directory's project, or nothing. Never starts the agent.\n"
        "A port that listens is :3001, one that is assigned and silent ~:3001, and :3001 +4 are five.",
        "  portctl prompt\n"
        "  portctl prompt --format '[{segment}] '    nothing at all when there is no segment\n"
        "  portctl prompt --format '{port}'          the first port, the number alone\n"
        "  portctl prompt --project shop             of another project; its name is asked of an agent that runs",
        arguments, [&](CLI::App& app) {
            app.add_option("--format", format, "Text with {segment} or {port}; \\n, \\t and \\\\ are a newline, a tab and a backslash")
                ->each([&](const std::string&) { given = true; })
                ->option_text("FORMAT")
                ->take_last();
        });
    if (end) { return *end; }
    const auto directory = directory_meant(globals);
    if (!directory) { return report(globals, directory.error()); }
    const auto segment = published_segment(*directory);
    if (globals.json) {
        return print_json(Json{{"schema", k_json_schema}, {"ok", true}, {"segment", segment.empty() ? Json(nullptr) : Json(segment)}});
    }
    if (segment.empty()) { return 0; }
    const auto text = formatted(format, segment);
    return print_text(given ? text : text + '\n');
}

int unknown_shell(const Globals& globals, const std::string& word, const char* known) {
    return report(globals, Error{ErrorCode::invalid_request, "no such shell: '" + printable(word) + "' (" + known + ")"});
}

int run_init(Globals& globals, const Words& arguments) {
    std::string shell;
    const auto end = parse_command(
        globals, "init bash|zsh|fish|starship", "Prints what a shell needs to show the project's ports in its prompt.",
        "  eval \"$(portctl init bash)\"        at the end of ~/.bashrc\n"
        "  eval \"$(portctl init zsh)\"         at the end of ~/.zshrc\n"
        "  portctl init fish | source         at the end of ~/.config/fish/config.fish\n"
        "  portctl init starship >> ~/.config/starship.toml",
        arguments, [&](CLI::App& app) {
            app.add_option("shell", shell, "The shell")->option_text("bash|zsh|fish|starship")->required();
        });
    if (end) { return *end; }
    if (shell == "starship") { return print_text(shell_text("starship.toml")); }
    const auto text = shell_text("prompt." + shell);
    if (text.empty()) { return unknown_shell(globals, shell, "bash, zsh, fish or starship"); }
    std::string places;
    for (const auto& [name, value] : {std::pair<const char*, std::string>{"__portwrap_runtime", runtime_directory()}, {"__portwrap_lock", own_lock()}}) {
        places += shell == "fish" ? std::string("set -g ") + name + ' ' : std::string(name) + '=';
        // In zsh behind a colon: with auto_name_dirs a parameter that begins with a slash is the name of a directory.
        places += shell_quoted((shell == "zsh" ? ":" : "") + value, shell == "fish") + '\n';
    }
    return print_text(places + (shell == "zsh" ? for_zsh(text) : std::string(text)));
}

}  // namespace

std::vector<Command> shell_commands() {
    return {{"prompt", "what the shell prompt shows of this project", run_prompt},
            {"init", "the prompt for bash, zsh, fish or starship", run_init}};
}

}  // namespace portwrap
