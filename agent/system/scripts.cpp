// Which package script a command runs, so that its text can be searched for servers and for variables that it mentions.
#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "core/env_cascade.hpp"
#include "core/shell_words.hpp"
#include "system/bounded_read.hpp"
#include "system/env_files.hpp"
#include "system/manifests.hpp"
#include "system/scripts.hpp"

namespace portwrap {
namespace {

namespace fs = std::filesystem;

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& words) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

// Options whose value is the next word. Those of the second table lead to another directory, those of the third to
// packages that only the package manager can name.
constexpr std::array<std::string_view, 5> k_valued{"--loglevel", "--script-shell", "--userconfig", "--env-file", "--config"};
constexpr std::array<std::string_view, 4> k_directories{"--prefix", "--cwd", "--dir", "-C"};
constexpr std::array<std::string_view, 5> k_other_packages{"-w", "--workspace", "--filter", "-F", "--workspaces"};

// Commands of yarn, pnpm and bun that are not scripts even where a script has their name.
constexpr std::array<std::string_view, 22> k_own_commands{
    "add",  "audit", "bin",    "cache",  "config", "create", "dlx",     "exec",      "global", "info",   "init",
    "install", "i",  "link",   "list",   "pack",   "publish", "remove", "unlink",    "update", "upgrade", "why"};

struct Reading {
    const std::vector<std::string>& words;
    std::size_t at = 1;
    fs::path directory;
    bool elsewhere = false;

    /// The next word that is no option; empty at the end and at "--".
    std::string_view next() {
        while (at < words.size()) {
            const std::string& word = words[at++];
            if (word == "--") { break; }
            if (!word.starts_with('-') || word == "-") { return word; }
            const std::size_t equals = word.find('=');
            const std::string_view name = std::string_view(word).substr(0, equals);
            if (is_one_of(name, k_other_packages)) {
                elsewhere = true;
                return {};
            }
            const bool valued = is_one_of(name, k_valued) || is_one_of(name, k_directories);
            if (!valued) { continue; }
            std::string value;
            if (equals != std::string::npos) {
                value = word.substr(equals + 1);
            } else if (at < words.size()) {
                value = words[at++];
            }
            if (is_one_of(name, k_directories)) { directory /= value; }
        }
        return {};
    }
};

std::string_view npm_script(std::string_view word, Reading& reading) {
    constexpr std::array<std::string_view, 4> k_run{"run", "run-script", "rum", "urn"};
    constexpr std::array<std::string_view, 4> k_lifecycle{"start", "test", "stop", "restart"};
    if (is_one_of(word, k_run)) { return reading.next(); }
    if (word == "t" || word == "tst") { return "test"; }
    return is_one_of(word, k_lifecycle) ? word : std::string_view();
}

std::string_view script_name(std::string_view program, Reading& reading) {
    if (program == "node") {
        const auto& words = reading.words;
        if (words.size() >= 3 && words[1] == "--run") { return words[2]; }
        if (words.size() >= 2 && words[1].starts_with("--run=")) { return std::string_view(words[1]).substr(6); }
        return {};
    }
    const std::string_view word = reading.next();
    if (word.empty()) { return {}; }
    if (program == "npm") { return npm_script(word, reading); }
    if (program != "yarn" && program != "pnpm" && program != "bun") { return {}; }
    if (word == "run" || (program == "pnpm" && word == "run-script")) { return reading.next(); }
    if (program == "bun" && (word == "test" || word == "build" || word == "x")) { return {}; }
    if (program == "pnpm" && word == "t") { return "test"; }
    return is_one_of(word, k_own_commands) ? std::string_view() : word;
}

// A script leads to another ("dev": "npm run dev:web"), and a mistake leads in a circle.
constexpr int k_max_scripts = 8;

/// What may still be looked up for one launch.
struct Allowance {
    int scripts = k_max_scripts;
    std::size_t bytes = k_max_shell_text;
    std::vector<std::pair<std::string, std::string>> seen;  ///< directory and name
};

/// A script of the nearest package.json; the command's other words may lead to another directory. The file's text is not kept: it may be
/// long, and such scripts may lead to others.
struct PackageScript {
    std::string directory;  ///< of the package.json, empty: there is none
    std::string text;
    bool workspaces = false;  ///< the package is a root of workspaces
};
PackageScript package_script(const fs::path& directory, std::string_view name) {
    for (fs::path path = directory.lexically_normal();; path = path.parent_path()) {
        if (const auto text = read_project_file((path / "package.json").string())) {
            const bool has_list = is_readable_file((path / "pnpm-workspace.yaml").string());
            const auto turn = turn_for(*text);
            const bool workspaces = has_list || has_json_member(*text, "workspaces");
            return {path.string(), json_string_at(*text, {"scripts", name}), workspaces};
        }
        if (path.empty() || path == path.parent_path()) { return {}; }
    }
}

PackageScript find_script(const std::vector<std::string>& command, const std::string& directory, Allowance& left) {
    if (command.empty()) { return {}; }
    Reading reading{command, 1, directory, false};
    const std::string program = fs::path(command.front()).filename().string();
    const std::string_view name = script_name(program, reading);
    if (name.empty() || reading.elsewhere || left.scripts-- <= 0) { return {}; }
    auto found = package_script(reading.directory, name);
    const auto key = std::make_pair(found.directory, std::string(name));
    const bool is_new = std::find(left.seen.begin(), left.seen.end(), key) == left.seen.end();
    if (!is_new || found.text.size() >= left.bytes) { found.text.clear(); }
    left.seen.push_back(key);
    left.bytes -= found.text.size();
    std::string further;
    for (const auto& one : simple_commands(found.text)) {
        if (left.scripts <= 0) { break; }
        const auto next = find_script(one.words, found.directory, left);
        if (next.text.empty()) { continue; }
        further += "\n" + next.text;
        left.bytes -= std::min<std::size_t>(left.bytes, 1);
    }
    found.text += further;
    return found;
}

/// The script of what was typed, also behind a program that only runs it (`timeout 60 npm start`).
PackageScript script_of_typed(const std::vector<std::string>& command, const std::string& directory) {
    Allowance left;
    const auto typed = simple_commands(command);
    return typed.size() == 1 ? find_script(typed.front().words, directory, left) : PackageScript{};
}

}  // namespace

std::string script_of_command(const std::vector<std::string>& command, const std::string& directory) { return script_of_typed(command, directory).text; }

LaunchFiles read_launch_files(const std::vector<std::string>& command, const std::string& directory) {
    LaunchFiles files;
    const auto found = script_of_typed(command, directory);
    files.script = found.text;
    const std::string home = found.directory.empty() ? directory : found.directory;
    constexpr std::array<std::string_view, 6> k_manifests{"package.json", "pom.xml", "build.gradle", "build.gradle.kts", "pyproject.toml", "requirements.txt"};
    std::vector<std::string_view> packages;
    for (const auto name : k_manifests) {
        if (const auto text = read_project_file((fs::path(home) / name).string())) {
            const auto more = packages_in(*text);
            packages.insert(packages.end(), more.begin(), more.end());
        }
    }
    files.traits = traits_of_launch(command, files.script, packages, found.workspaces);
    files.env = read_env_files(home, env_files_of(files.traits.commands));
    return files;
}

}  // namespace portwrap
