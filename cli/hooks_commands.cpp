// portctl hooks install|uninstall|run: git's post-checkout hook gives a new worktree its ports at once. Where the hook lies is
// git's own word (core.hooksPath). Husky keeps generated files in that directory and the user's scripts one above: ours goes
// there. Other people's scripts get a guarded block behind their first line, so that their own `exit` does not skip it;
// what is no shell script is never changed.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "command.hpp"
#include "guarded_block.hpp"
#include "portwrap/unique_fd.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

constexpr std::string_view k_block = "if command -v portctl >/dev/null 2>&1; then portctl hooks run </dev/null || :; fi\n";
constexpr std::string_view k_shebang = "#!/bin/sh\n";

/// What `git ARGUMENTS` prints, without its newline; an error when git fails.
Result<std::string> ask_git(std::vector<std::string> words) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) { return Error{ErrorCode::storage_error, std::strerror(errno)}; }
    const UniqueFd in(ends[0]);
    UniqueFd out(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) { return Error{ErrorCode::storage_error, std::strerror(errno)}; }
    if (child == 0) {
        ::dup2(out.get(), STDOUT_FILENO);
        std::vector<char*> arguments;
        std::string git = "git";
        arguments.push_back(git.data());
        for (auto& word : words) { arguments.push_back(word.data()); }
        arguments.push_back(nullptr);
        ::execvp("git", arguments.data());
        ::_exit(127);
    }
    out.reset();
    std::string text;
    char buffer[4096];
    for (;;) {
        const auto count = ::read(in.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) { continue; }
        if (count <= 0) { break; }
        text.append(buffer, static_cast<std::size_t>(count));
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return Error{ErrorCode::not_found, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "git is not installed" : "this is no git repository"};
    }
    while (!text.empty() && text.back() == '\n') { text.pop_back(); }
    return text;
}

/// Absolute; in Husky's layout the user's own script.
Result<std::string> hook_path() {
    auto directory = ask_git({"rev-parse", "--path-format=absolute", "--git-path", "hooks"});
    if (!directory) { return directory.error(); }
    if (directory->ends_with("/.husky/_")) { directory->resize(directory->size() - 2); }
    return *directory + "/post-checkout";
}

bool is_husky(const std::string& path) { return path.ends_with("/.husky/post-checkout"); }

/// A script that /bin/sh can read: what its first line says, or Husky's without one.
bool is_shell_script(std::string_view text) {
    if (!text.starts_with("#!")) { return true; }
    const auto line = text.substr(0, text.find('\n'));
    const auto slash = line.find_last_of("/ ");
    const auto shell = line.substr(slash == std::string_view::npos ? 2 : slash + 1);
    for (const auto* name : {"sh", "bash", "dash", "zsh", "ksh", "ash"}) {
        if (shell == name || line.find(std::string("/") + name + " ") != std::string_view::npos) { return true; }
    }
    return false;
}

Json hook_result(const std::string& path, bool installed) {
    return Json{{"schema", 1}, {"ok", true}, {"hook", path}, {"installed", installed}};
}

int install(const Globals& globals) {
    const auto path = hook_path();
    if (!path) { return report(globals, path.error()); }
    const auto old = read_whole_file(*path);
    if (!old) { return report(globals, old.error()); }
    if (!is_shell_script(*old)) {
        return report(globals, Error{ErrorCode::invalid_request, printable(*path) + " is no shell script; have it run `portctl hooks run` itself"});
    }
    const auto changed = with_block(old->empty() && !is_husky(*path) ? k_shebang : std::string_view(*old), k_block, BlockPlace::after_shebang);
    if (!changed) { return report(globals, Error{changed.error().code, printable(*path) + ": " + changed.error().message}); }
    const auto directory = directory_of(*path);
    if (::mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) { return report(globals, Error{ErrorCode::storage_error, printable(directory) + ": " + std::strerror(errno)}); }
    if (*changed != *old) {
        if (const auto written = replace_file(*path, *changed, 0755); !written) { return report(globals, written.error()); }
    }
    struct stat status {};
    if (::stat(path->c_str(), &status) == 0 && (status.st_mode & 0100U) == 0 && ::chmod(path->c_str(), status.st_mode | 0111U) != 0) {
        return report(globals, Error{ErrorCode::permission_denied, printable(*path) + ": " + std::strerror(errno)});
    }
    if (globals.json) { return print_json(hook_result(*path, true)); }
    return print_text("installed " + printable(*path) + '\n');
}

int uninstall(const Globals& globals) {
    const auto path = hook_path();
    if (!path) { return report(globals, path.error()); }
    const auto old = read_whole_file(*path);
    if (!old) { return report(globals, old.error()); }
    const auto changed = with_block(*old, "", BlockPlace::after_shebang);
    if (!changed) { return report(globals, Error{changed.error().code, printable(*path) + ": " + changed.error().message}); }
    if (*changed != *old) {
        // A file of nothing but our own lines was made by us.
        if (changed->empty() || *changed == k_shebang) {
            if (::unlink(path->c_str()) != 0) { return report(globals, Error{ErrorCode::storage_error, printable(*path) + ": " + std::strerror(errno)}); }
        } else if (const auto written = replace_file(*path, *changed); !written) {
            return report(globals, written.error());
        }
    }
    if (globals.json) { return print_json(hook_result(*path, false)); }
    return print_text((*changed == *old ? "not installed in " : "removed from ") + printable(*path) + '\n');
}

/// What the hook runs: one line when there is something new, and status 0 whatever happens, for a checkout must not fail.
int run_hook(const Globals& globals) {
    const auto parameters = project_parameters(globals, false);
    if (!parameters) { return 0; }
    const auto answer = ask_agent("project.provision", *parameters, Deadline::in_milliseconds(5000));
    if (!answer || !answer->reply.ok) { return 0; }
    const auto& result = answer->reply.body;
    if (globals.json) { return print_json(result), 0; }
    const auto fresh = result.find("new");
    if (fresh == result.end() || *fresh != true) { return 0; }
    std::string line = "portwrap: " + text_field(inner_field(result, "project"), "name");
    if (const auto branch = text_field(inner_field(result, "project"), "branch"); !branch.empty()) { line += " (" + branch + ")"; }
    const char* separator = ": ";
    for (const auto& service : inner_field(result, "services")) {
        line += separator + text_field(service, "service") + " " + std::to_string(number_field(service, "port").value_or(0));
        separator = ", ";
    }
    write_line(STDERR_FILENO, line);
    return 0;
}

int run_hooks(Globals& globals, const std::vector<std::string>& arguments) {
    std::string word;
    const auto end = parse_command(globals, "hooks install|uninstall|run [OPTIONS]",
                                   "Git's post-checkout hook: a new worktree has its ports at once. `run` is what the hook does.",
                                   "  portctl hooks install     in the repository of the directory, for all its worktrees\n"
                                   "  portctl hooks uninstall",
                                   arguments, [&](CLI::App& app) {
                                       app.add_option("action", word, "What to do")->option_text("install|uninstall|run")->required();
                                   });
    if (end) { return *end; }
    if (word == "run") { return run_hook(globals); }
    if (const auto place = project_parameters(globals, false); !place) { return report(globals, place.error()); }
    if (word == "install") { return install(globals); }
    if (word == "uninstall") { return uninstall(globals); }
    return report(globals, unknown_action(word, {"install", "uninstall", "run"}));
}

}  // namespace

std::vector<Command> worktree_commands() { return {{"hooks", "git's hook that gives new worktrees their ports", run_hooks}}; }

}  // namespace portwrap
