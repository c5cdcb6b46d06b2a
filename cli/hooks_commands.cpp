// portctl hooks install|uninstall|run: git's post-checkout hook gives a new worktree its ports at once. Where the hook lies is
// git's own word (core.hooksPath). A relative one means another directory in each worktree, and files that the repository may
// share: one's own worktree gets the hook, what git makes of that is said, and it is taken out of all.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli11.hpp"
#include "command.hpp"
#include "guarded_block.hpp"
#include "hook_script.hpp"
#include "portwrap/protocol.hpp"
#include "portwrap/unique_fd.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

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

/// What `git rev-parse WORDS` says in that worktree, as an absolute path.
Result<std::string> ask_git_path(const std::string& worktree, const std::vector<std::string>& words) {
    constexpr std::string_view k_repeated = "--path-format=absolute\n";
    std::vector<std::string> all{"-C", worktree, "rev-parse", "--path-format=absolute"};
    all.insert(all.end(), words.begin(), words.end());
    auto said = ask_git(std::move(all));
    if (!said || !said->starts_with(k_repeated)) { return said; }
    // Git before 2.31 does not know the option: it repeats that, and the path may begin at the worktree.
    said->erase(0, k_repeated.size());
    char directory[PATH_MAX];
    if (said->starts_with('/') || ::realpath(worktree.c_str(), directory) == nullptr) { return said; }
    return std::string(directory) + "/" + *said;
}

/// The worktrees that are there, as git knows them, with the bare repository they may belong to.
std::vector<std::string> list_worktrees() {
    constexpr std::size_t k_most = 200;
    constexpr std::string_view k_word = "worktree ";
    std::vector<std::string> roots;
    auto listed = ask_git({"worktree", "list", "--porcelain", "-z"});
    if (!listed) {  // git before 2.36: a line each, where a name that has a newline is not found
        listed = ask_git({"worktree", "list", "--porcelain"});
        if (listed) { std::replace(listed->begin(), listed->end(), '\n', '\0'); }
    }
    if (!listed) {
        if (auto here = ask_git({"rev-parse", "--show-toplevel"}); here && !here->empty()) { roots.push_back(std::move(*here)); }
    }
    std::string_view rest = listed ? std::string_view(*listed) : std::string_view();
    while (!rest.empty() && roots.size() < k_most) {
        const auto end = rest.find('\0');
        const auto field = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (!field.starts_with(k_word)) { continue; }
        std::string root(field.substr(k_word.size()));
        if (::access(root.c_str(), F_OK) == 0) { roots.push_back(std::move(root)); }
    }
    return roots;
}

/// What git runs in that worktree.
Result<HookPlace> find_hook(const std::string& worktree) {
    auto directory = ask_git_path(worktree, {"--git-path", "hooks"});
    if (!directory) { return directory.error(); }
    bool generated = ::access((*directory + "/h").c_str(), R_OK) == 0;
    // A new worktree has none of Husky's own files yet; another one shows what the directory is.
    const auto configured = ask_git({"config", "--type=path", "core.hooksPath"});
    if (!generated && configured && configured->ends_with("/_")) {
        for (const auto& root : list_worktrees()) { generated = generated || ::access((root + "/" + *configured + "/h").c_str(), R_OK) == 0; }
    }
    return hook_place(std::move(*directory), generated);
}

/// Where hooks lie by themselves, whatever core.hooksPath says.
Result<HookPlace> find_plain_hook() {
    const auto common = ask_git_path(".", {"--git-common-dir"});
    if (!common) { return common.error(); }
    return HookPlace{*common + "/hooks/post-checkout", false};
}

/// What a file is to git; "outside" for one in no worktree, as those in .git/hooks.
std::string_view standing_of(const std::string& path) {
    const auto directory = directory_of(path);
    const auto name = path.substr(directory.size() + 1);
    const auto inside = ask_git({"-C", directory, "rev-parse", "--is-inside-work-tree"});
    if (!inside || *inside != "true") { return "outside"; }
    if (ask_git({"-C", directory, "ls-files", "--error-unmatch", "--", name})) { return "tracked"; }
    return ask_git({"-C", directory, "check-ignore", "-q", "--", name}) ? "ignored" : "untracked";
}

/// core.hooksPath of the user or the machine, which holds for every repository without one of its own.
bool serves_all_repositories() {
    const auto scope = ask_git({"config", "--show-scope", "--get", "core.hooksPath"});
    return scope && (scope->starts_with("global") || scope->starts_with("system"));
}

/// What becomes of the hook beyond this worktree, where that is not plain.
void say_standing(const HookPlace& hook, std::string_view standing, bool relative) {
    const auto say = [](const std::string& line) { write_line(STDERR_FILENO, "portctl: " + line); };
    const auto path = printable(hook.path);
    if (standing == "tracked") { say(path + " is tracked by git: commit the change, or keep it to yourself"); }
    if (standing == "untracked") { say(path + " is a new file of the working tree: commit it, or name it in .git/info/exclude"); }
    if (standing == "tracked" || standing == "untracked") { say("committed, the hook is in everybody's clones, and does nothing where portctl is not installed"); }
    if (relative && standing != "outside") { say("core.hooksPath is relative, so each worktree runs hooks of its own: this one serves worktrees that are made from here"); }
    // Its own files are ignored by git, so that a new worktree has none.
    if (hook.husky && ::access((directory_of(hook.path) + "/_/post-checkout").c_str(), X_OK) != 0) {
        write_line(STDERR_FILENO, "portctl: git runs Husky's hooks in this worktree when Husky has made its own files here (npm install)");
    }
}

Json hook_result(const std::string& path, bool installed, std::string_view standing) {
    return Json{{"schema", k_json_schema}, {"ok", true}, {"hook", path}, {"installed", installed}, {"git", standing}};
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

/// The worktrees that exist have their ports from now on, too.
void provide_for_worktrees() {
    for (const auto& root : list_worktrees()) {
        if (::access((root + "/.git").c_str(), F_OK) != 0) { continue; }  // bare
        const auto answer = ask_agent("project.provision", Json{{"cwd", root}}, Deadline::in_milliseconds(k_portctl_deadline_ms));
        if (!answer) { return; }
        if (!answer->reply.ok) { continue; }
        if (const auto line = provided_line(answer->reply.body); !line.empty()) { write_line(STDERR_FILENO, line); }
    }
}

Error trouble_with(const std::string& path) { return Error{errno == EACCES || errno == EPERM ? ErrorCode::permission_denied : ErrorCode::storage_error, printable(path) + ": " + std::strerror(errno)}; }

/// Of a symbolic link that leads nowhere, where it leads to; none for anything else.
std::optional<std::string> dangling_target(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 || ::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) { return std::nullopt; }
    char target[PATH_MAX];
    const auto size = ::readlink(path.c_str(), target, sizeof target);
    return std::string(target, size > 0 ? static_cast<std::size_t>(size) : 0);
}

/// Puts our block into the file, which is made if there is none.
Status put_in(const HookPlace& hook) {
    const auto& path = hook.path;
    const auto directory = directory_of(path);
    struct stat status {};
    if (::stat(directory.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
        return Error{ErrorCode::invalid_request, "core.hooksPath is " + printable(directory) + ", which is no directory: git runs no hooks here"};
    }
    if (const auto target = dangling_target(path)) {
        return Error{ErrorCode::invalid_request, printable(path) + " is a symbolic link to " + printable(*target) + ", which is not there: make that file, or move the link away"};
    }
    const bool exists = ::stat(path.c_str(), &status) == 0;
    std::optional<std::string> old;
    if (exists) {
        auto text = read_whole_file(path);
        if (!text) { return text.error(); }
        old = std::move(*text);
        if (!is_shell_script(*old)) { return Error{ErrorCode::invalid_request, printable(path) + " is no shell script; have it run `portctl hooks run` itself"}; }
        if (!hook.husky && (status.st_mode & 0100U) == 0) {
            return Error{ErrorCode::invalid_request, printable(path) + " is not executable, so git leaves it out; chmod +x it or move it away"};
        }
    }
    const auto changed = with_hook(old);
    if (!changed) { return Error{changed.error().code, printable(path) + ": " + changed.error().message}; }
    if (!make_directories(directory)) { return trouble_with(directory); }
    return old == *changed ? ok_status() : replace_file(path, *changed, 0755);
}

int install(const Globals& globals) {
    const auto hook = find_hook(".");
    if (!hook) { return report(globals, hook.error()); }
    if (const auto done = put_in(*hook); !done) { return report(globals, done.error()); }
    const auto configured = ask_git({"config", "--type=path", "core.hooksPath"});
    const auto standing = standing_of(hook->path);
    const bool relative = configured && !configured->empty() && configured->front() != '/';
    say_standing(*hook, standing, relative);
    if (!relative && serves_all_repositories()) { write_line(STDERR_FILENO, "portctl: core.hooksPath is set for all repositories: this hook serves every one of them"); }
    const int printed = globals.json ? print_json(hook_result(hook->path, true, standing)) : print_text("installed " + printable(hook->path) + '\n');
    provide_for_worktrees();
    return printed;
}

/// Takes our block out of one file; true if there was one.
Result<bool> take_out(const std::string& path) {
    struct stat there {};
    if (::stat(path.c_str(), &there) != 0) { return false; }
    const auto old = read_whole_file(path);
    if (!old) { return old.error(); }
    const auto changed = without_hook(*old);
    if (!changed) { return Error{changed.error().code, printable(path) + ": " + changed.error().message}; }
    if (*changed == *old) { return false; }
    if (!*changed) {
        if (::unlink(path.c_str()) != 0) { return trouble_with(path); }
    } else if (const auto written = replace_file(path, **changed); !written) {
        return written.error();
    }
    return true;
}

/// Wherever git looks in any of the worktrees, and where it looked before core.hooksPath was set (Husky came later).
int uninstall(const Globals& globals) {
    const auto hook = find_hook(".");
    const auto plain = find_plain_hook();
    for (const auto* found : {&hook, &plain}) {
        if (!*found) { return report(globals, found->error()); }
    }
    std::set<std::string> paths{hook->path, plain->path};
    for (const auto& root : list_worktrees()) {
        if (const auto its = find_hook(root)) { paths.insert(its->path); }
    }
    std::string removed;
    for (const auto& path : paths) {
        const auto taken = take_out(path);
        if (!taken) { return report(globals, taken.error()); }
        if (!*taken) { continue; }
        removed += "removed from " + printable(path) + '\n';
        if (path == hook->path && path != plain->path && serves_all_repositories()) {
            write_line(STDERR_FILENO, "portctl: core.hooksPath is set for all repositories: none of them has this hook any more");
        }
        if (standing_of(path) == "tracked") { write_line(STDERR_FILENO, "portctl: " + printable(path) + " is tracked by git: commit the change where the hook was committed"); }
    }
    if (globals.json) { return print_json(hook_result(hook->path, false, standing_of(hook->path))); }
    return print_text(removed.empty() ? "not installed in " + printable(hook->path) + '\n' : removed);
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
