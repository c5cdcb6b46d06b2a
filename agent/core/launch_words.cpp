#include "core/launch_words.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/ranges.hpp"

namespace portwrap {
namespace {

// Programs whose first argument names a script or target of the project.
constexpr std::array<std::string_view, 10> k_script_runners{"npm", "pnpm", "yarn", "bun", "make", "gmake", "just", "rake", "task", "composer"};
constexpr std::array<std::string_view, 5> k_run_words{"run", "run-script", "rum", "urn", "task"};
// Those of them that run a recipe, and the shells: what they do is written where nothing here reads it.
constexpr std::array<std::string_view, 5> k_makes{"make", "gmake", "just", "rake", "task"};
constexpr std::array<std::string_view, 4> k_shells{"sh", "bash", "dash", "zsh"};
// Programs whose first argument names the program text that they run, beside those that `type_of_program` knows.
constexpr std::array<std::string_view, 9> k_interpreters{"tsx", "ts-node", "ts-node-esm", "ts-node-dev", "tsnd", "nodemon", "perl", "cargo", "go"};

// Words before the name of what they run: `tsx watch src/api.ts`, `go run ./cmd/api`.
constexpr std::array<std::string_view, 3> k_interpreter_words{"run", "watch", "task"};
// Options before a program text on the command line itself.
constexpr std::array<std::string_view, 5> k_text_options{"-c", "-e", "-p", "--eval", "--print"};

constexpr std::array<std::string_view, 10> k_start_words{"dev", "develop", "development", "start", "serve", "run", "watch", "up", "preview", "debug"};
// What a server's file is called that is the only one.
constexpr std::array<std::string_view, 6> k_server_words{"server", "app", "main", "index", "www", "local"};
// Where program texts lie, and what they end in.
constexpr std::array<std::string_view, 26> k_noise{"src", "bin", "lib", "dist", "build", "out", "apps", "packages", "services", "cmd", "target", "release", "js",
                                                   "ts",  "mjs", "cjs", "mts",  "cts",   "jsx", "tsx",  "py",       "rb",       "php", "pl",     "sh",      "exe"};
constexpr std::array<std::string_view, 12> k_plain_services{"web", "app", "main", "server", "site", "www", "frontend", "front", "client", "ui", "dev", "http"};
// Those of them that no file called server.js is.
constexpr std::array<std::string_view, 6> k_pages{"site", "www", "frontend", "front", "client", "ui"};
// Parts of the names of scripts that run no server, and words that say the same of npm, vite and others.
constexpr std::array<std::string_view, 26> k_other_work{"build",  "test",     "t",       "lint",    "format",   "typecheck", "check",   "install", "i",
                                                        "ci",     "add",      "remove",  "generate", "migrate", "deploy",    "publish", "optimize", "coverage",
                                                        "seed",   "clean",    "codegen", "compile", "release", "bench",     "e2e",     "docs"};

// What is longer is a program text and no name.
constexpr std::size_t k_max_role = 1024;

template <typename Words>
bool has(const Words& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

/// What a command runs, by its name.
struct Role {
    std::string_view name;
    bool is_script = false;  ///< a package script or a target; else a file, a module or a program
};

bool runs_own_text(const SimpleCommand& command) { return command.words.size() > 1 && has(k_text_options, command.words[1]); }

Role role_of(const SimpleCommand& command) {
    const auto& program = command.words.front();
    if (const auto script = script_name_of(command); !script.empty() || has(k_script_runners, program)) {
        return {script, script.find_first_of("./") == std::string_view::npos};  // bun src/api.ts
    }
    if ((has(k_interpreters, program) || !type_of_program(program, command.words).empty()) && !runs_own_text(command)) {
        auto at = first_operand(command);
        if (at < command.words.size() && has(k_interpreter_words, command.words[at])) { at = first_operand(command, at + 1); }
        if (at < command.words.size()) { return {command.words[at]}; }
    }
    return {program};
}

/// Does a part of a role say nothing of which service it is? Where files lie and what they end in counts for files alone:
/// `release:api` releases it.
bool says_nothing(const Role& role, std::string_view part) { return is_start_word(part) || has(k_server_words, part) || (!role.is_script && has(k_noise, part)); }

/// `npm run dev`, `node server.js`. What a makefile, a shell script or a file called dev.js starts cannot be read.
bool is_plain(const SimpleCommand& command) {
    const auto& program = command.words.front();
    if (has(k_makes, program) || has(k_shells, program) || program == "composer") { return false; }
    const auto role = role_of(command);
    const auto parts = name_parts(role.name);
    const auto is_file_that_starts = [](const std::string& part) { return is_start_word(part) || part == "sh"; };
    if (!role.is_script && std::any_of(parts.begin(), parts.end(), is_file_that_starts)) { return false; }
    const bool starts = std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return is_start_word(part) || has(k_server_words, part); });
    return starts && std::all_of(parts.begin(), parts.end(), [&](const std::string& part) { return says_nothing(role, part); });
}

}  // namespace

std::vector<std::string> name_parts(std::string_view name) {
    std::vector<std::string> parts;
    std::string part;
    for (const char c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
            part += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        } else if (!part.empty()) {
            parts.push_back(std::exchange(part, {}));
        }
    }
    if (!part.empty()) { parts.push_back(std::move(part)); }
    return parts;
}

bool is_start_word(std::string_view part) { return has(k_start_words, part); }

std::string_view script_name_of(const SimpleCommand& command) {
    const auto& words = command.words;
    if (words.size() >= 2 && words[0] == "node" && words[1].starts_with("--run")) {
        return words[1].size() > 6 ? std::string_view(words[1]).substr(6) : words.size() > 2 ? std::string_view(words[2]) : std::string_view();
    }
    if (!has(k_script_runners, words.front())) { return {}; }
    auto at = first_operand(command);
    if (at < words.size() && has(k_run_words, words[at])) { at = first_operand(command, at + 1); }
    return at < words.size() ? std::string_view(words[at]) : std::string_view();
}

bool is_other_work_word(std::string_view word) { return has(k_other_work, word); }

bool is_other_work(std::string_view script) {
    const auto words = name_parts(script);
    return !words.empty() && !is_start_word(words.front()) && std::any_of(words.begin(), words.end(), is_other_work_word);
}

bool hands_arguments_on(std::string_view program, const std::vector<std::string>& command) {
    return !has(k_makes, program) && !(has(k_shells, program) && std::find(command.begin(), command.end(), "-c") != command.end());
}

bool names_service(const SimpleCommand& command, std::string_view service) {
    const auto role = role_of(command);
    if (role.name.size() > k_max_role || (role.is_script && is_other_work(role.name))) { return false; }
    auto parts = name_parts(role.name);
    const auto wanted = name_parts(service);
    const auto found = std::search(parts.begin(), parts.end(), wanted.begin(), wanted.end());
    if (wanted.empty() || found == parts.end()) { return false; }
    parts.erase(found, found + static_cast<std::ptrdiff_t>(wanted.size()));
    return std::all_of(parts.begin(), parts.end(), [&](const std::string& part) { return says_nothing(role, part); });
}

bool is_plain_start(const std::vector<SimpleCommand>& commands, std::string_view service) {
    if (commands.empty() || !is_plain(commands.back())) { return false; }
    // What is prepared before (`tsc && node dist/server.js`) says nothing; another script that is run does.
    if (!std::all_of(commands.begin(), commands.end(), [](const SimpleCommand& command) { return script_name_of(command).empty() || is_plain(command); })) { return false; }
    return !has(k_pages, service) || std::none_of(commands.begin(), commands.end(), [](const SimpleCommand& command) {
        const auto parts = name_parts(role_of(command).name);
        return has(parts, "server");
    });
}

bool is_plain_service(std::string_view service, std::string_view project) {
    const auto parts = name_parts(project);
    return has(k_plain_services, service) || has(parts, service);
}

}  // namespace portwrap
