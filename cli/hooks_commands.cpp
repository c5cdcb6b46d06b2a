// portctl hooks install|uninstall|run: git's post-checkout hook gives a new worktree its ports at once. Where the hook lies is
// git's own word (core.hooksPath). Husky keeps generated files in that directory and the user's scripts one above: ours goes
// there. Other people's scripts get a guarded block behind their first line, so that their own `exit` does not skip it;
// what is no shell script is never changed.
#include <fcntl.h>
#include <sys/mman.h>
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

/// git says in the third argument what was checked out: 1 a branch, 0 files, which changes no worktree's ports.
constexpr std::string_view k_block = "if [ \"${3-1}\" != 0 ] && command -v portctl >/dev/null 2>&1; then portctl hooks run </dev/null || :; fi\n";
constexpr std::string_view k_shebang = "#!/bin/sh\n";

/// What `git ARGUMENTS` prints, without its newline; an error with git's own words when it fails.
Result<std::string> ask_git(std::vector<std::string> words) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) { return Error{ErrorCode::storage_error, std::strerror(errno)}; }
    const UniqueFd in(ends[0]);
    UniqueFd out(ends[1]);
    const UniqueFd complaints(::memfd_create("git", MFD_CLOEXEC));
    const pid_t child = ::fork();
    if (child < 0) { return Error{ErrorCode::storage_error, std::strerror(errno)}; }
    if (child == 0) {
        ::dup2(out.get(), STDOUT_FILENO);
        ::dup2(complaints.get(), STDERR_FILENO);
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
    while (!text.empty() && text.back() == '\n') { text.pop_back(); }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) { return text; }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) { return Error{ErrorCode::not_found, "git is not installed"}; }
    const auto count = ::pread(complaints.get(), buffer, sizeof buffer, 0);
    const std::string_view said(buffer, count > 0 ? static_cast<std::size_t>(count) : 0);
    return Error{ErrorCode::not_found, "git says: " + printable(said.substr(0, said.find('\n')))};
}

/// Absolute, of the directory where git looks; in Husky's layout the user's own script. `configured` false: where hooks lie by
/// themselves, whatever core.hooksPath says.
Result<std::string> hook_path(bool configured = true) {
    std::vector<std::string> words{"rev-parse", "--path-format=absolute", "--git-path", "hooks"};
    if (!configured) { words = {"rev-parse", "--path-format=absolute", "--git-common-dir"}; }
    auto directory = ask_git(std::move(words));
    if (!directory) { return directory.error(); }
    if (!configured) { *directory += "/hooks"; }
    if (directory->ends_with("/.husky/_")) { directory->resize(directory->size() - 2); }
    return *directory + "/post-checkout";
}

bool is_husky(const std::string& path) { return path.ends_with("/.husky/post-checkout"); }

/// A script that /bin/sh can read: what its first line says, or Husky's without one. A program may be linked there, too.
bool is_shell_script(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) { return false; }
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

/// As mkdir -p.
bool make_directories(const std::string& path) {
    if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) { return true; }
    if (errno != ENOENT || path.size() <= 1) { return false; }
    return make_directories(directory_of(path)) && (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST);
}

/// "portwrap: shop (fix): web 3002, api 3003" for what project.provision gave; empty where there was nothing new.
std::string provided_line(const Json& result) {
    const auto fresh = result.find("new");
    if (fresh == result.end() || *fresh != true) { return {}; }
    const auto& project = inner_field(result, "project");
    std::string line = "portwrap: " + text_field(project, "name");
    if (const auto branch = text_field(project, "branch"); !branch.empty()) { line += " (" + branch + ")"; }
    const char* separator = ": ";
    for (const auto& service : inner_field(result, "services")) {
        line += separator + text_field(service, "service") + " " + std::to_string(number_field(service, "port").value_or(0));
        separator = ", ";
    }
    return line;
}

/// The worktrees that exist have their ports from now on, too, as far as git knows them and they are there.
void provide_for_worktrees() {
    constexpr int k_most = 200;
    const auto listed = ask_git({"worktree", "list", "--porcelain", "-z"});
    if (!listed) { return; }
    int count = 0;
    constexpr std::string_view k_word = "worktree ";
    std::string_view rest = *listed;
    while (!rest.empty() && count < k_most) {
        const auto end = rest.find('\0');
        const auto field = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (!field.starts_with(k_word)) { continue; }
        const std::string root(field.substr(k_word.size()));
        if (::access((root + "/.git").c_str(), F_OK) != 0) { continue; }  // gone, or bare
        ++count;
        const auto answer = ask_agent("project.provision", Json{{"cwd", root}}, Deadline::in_milliseconds(k_portctl_deadline_ms));
        if (!answer) { return; }
        if (!answer->reply.ok) { continue; }
        if (const auto line = provided_line(answer->reply.body); !line.empty()) { write_line(STDERR_FILENO, line); }
    }
}

int install(const Globals& globals) {
    const auto path = hook_path();
    if (!path) { return report(globals, path.error()); }
    const auto directory = directory_of(*path);
    struct stat there {};
    if (::stat(directory.c_str(), &there) == 0 && !S_ISDIR(there.st_mode)) {
        return report(globals, Error{ErrorCode::invalid_request, "core.hooksPath is " + printable(directory) + ", which is no directory: git runs no hooks here"});
    }
    const auto old = read_whole_file(*path);
    if (!old) { return report(globals, old.error()); }
    if (!is_shell_script(*old)) {
        return report(globals, Error{ErrorCode::invalid_request, printable(*path) + " is no shell script; have it run `portctl hooks run` itself"});
    }
    struct stat status {};
    const bool disabled = !old->empty() && !is_husky(*path) && ::stat(path->c_str(), &status) == 0 && (status.st_mode & 0100U) == 0;
    if (disabled) {
        return report(globals, Error{ErrorCode::invalid_request, printable(*path) + " is not executable, so git leaves it out; chmod +x it or move it away"});
    }
    const auto changed = with_block(old->empty() && !is_husky(*path) ? k_shebang : std::string_view(*old), k_block, BlockPlace::after_shebang);
    if (!changed) { return report(globals, Error{changed.error().code, printable(*path) + ": " + changed.error().message}); }
    if (!make_directories(directory)) { return report(globals, Error{ErrorCode::storage_error, printable(directory) + ": " + std::strerror(errno)}); }
    if (*changed != *old) {
        if (const auto written = replace_file(*path, *changed, 0755); !written) { return report(globals, written.error()); }
    }
    if (::stat(path->c_str(), &status) == 0 && (status.st_mode & 0100U) == 0 && ::chmod(path->c_str(), status.st_mode | 0111U) != 0) {
        return report(globals, Error{ErrorCode::permission_denied, printable(*path) + ": " + std::strerror(errno)});
    }
    if (is_husky(*path) && ::access((directory + "/_/post-checkout").c_str(), X_OK) != 0) {
        write_line(STDERR_FILENO, "portctl: git runs Husky's hooks in this worktree when Husky has made its own files here (npm install)");
    }
    const auto configured = ask_git({"config", "--type=path", "core.hooksPath"});
    if (configured && !configured->empty() && configured->front() != '/' && !is_husky(*path)) {
        write_line(STDERR_FILENO, "portctl: core.hooksPath is relative, so each worktree has hooks of its own: commit " + printable(*path) + ", and the others have it, too");
    }
    const int printed = globals.json ? print_json(hook_result(*path, true)) : print_text("installed " + printable(*path) + '\n');
    provide_for_worktrees();
    return printed;
}

/// Takes our block out of one file; true if there was one.
Result<bool> take_out(const std::string& path) {
    struct stat there {};
    if (::stat(path.c_str(), &there) != 0) { return false; }
    const auto old = read_whole_file(path);
    if (!old) { return old.error(); }
    const auto changed = with_block(*old, "", BlockPlace::after_shebang);
    if (!changed) { return Error{changed.error().code, printable(path) + ": " + changed.error().message}; }
    if (*changed == *old) { return false; }
    // A file of nothing but our own lines was made by us.
    if (changed->empty() || *changed == k_shebang) {
        if (::unlink(path.c_str()) != 0) { return Error{ErrorCode::storage_error, printable(path) + ": " + std::strerror(errno)}; }
    } else if (const auto written = replace_file(path, *changed); !written) {
        return written.error();
    }
    return true;
}

/// Where git looks now, and where it looked before core.hooksPath was set (Husky came later).
int uninstall(const Globals& globals) {
    const auto path = hook_path();
    const auto plain = hook_path(false);
    for (const auto* found : {&path, &plain}) {
        if (!*found) { return report(globals, found->error()); }
    }
    std::string removed;
    for (const auto* found : {&path, &plain}) {
        const auto taken = take_out(**found);
        if (!taken) { return report(globals, taken.error()); }
        if (*taken) { removed += "removed from " + printable(**found) + '\n'; }
    }
    if (globals.json) { return print_json(hook_result(*path, false)); }
    return print_text(removed.empty() ? "not installed in " + printable(*path) + '\n' : removed);
}

/// What the hook runs: one line when there is something new, and status 0 whatever happens, for a checkout must not fail.
int run_hook(const Globals& globals) {
    const auto parameters = project_parameters(globals, false);
    if (!parameters) { return 0; }
    const auto answer = ask_agent("project.provision", *parameters, Deadline::in_milliseconds(5000));
    if (!answer || !answer->reply.ok) { return 0; }
    const auto& result = answer->reply.body;
    if (globals.json) { return print_json(result), 0; }
    if (const auto line = provided_line(result); !line.empty()) { write_line(STDERR_FILENO, line); }
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
    const auto place = project_parameters(globals, false);
    if (!place) { return report(globals, place.error()); }
    if (place->contains("project")) { return report(globals, Error{ErrorCode::invalid_request, "hooks are of the repository of the directory; -C names another one"}); }
    if (word == "install") { return install(globals); }
    if (word == "uninstall") { return uninstall(globals); }
    return report(globals, unknown_action(word, {"install", "uninstall", "run"}));
}

}  // namespace

std::vector<Command> worktree_commands() { return {{"hooks", "git's hook that gives new worktrees their ports", run_hooks}}; }

}  // namespace portwrap
