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
// Programs whose first argument names the program text that they run, beside those that `type_of_program` knows.
constexpr std::array<std::string_view, 8> k_interpreters{"tsx", "ts-node", "ts-node-dev", "tsnd", "nodemon", "perl", "cargo", "go"};

constexpr std::array<std::string_view, 10> k_start_words{"dev", "develop", "development", "start", "serve", "run", "watch", "up", "preview", "debug"};
// What a server's file is called that is the only one.
constexpr std::array<std::string_view, 6> k_server_words{"server", "app", "main", "index", "www", "local"};
// Where program texts lie, and what they end in.
constexpr std::array<std::string_view, 26> k_noise{"src", "bin", "lib", "dist", "build", "out", "apps", "packages", "services", "cmd", "target", "release", "js",
                                                   "ts",  "mjs", "cjs", "mts",  "cts",   "jsx", "tsx",  "py",       "rb",       "php", "pl",     "sh",      "exe"};
constexpr std::array<std::string_view, 12> k_plain_services{"web", "app", "main", "server", "site", "www", "frontend", "front", "client", "ui", "dev", "http"};

template <typename Words>
bool has(const Words& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

bool says_nothing(std::string_view part) { return is_start_word(part) || has(k_server_words, part) || has(k_noise, part); }

std::string_view first_argument(const SimpleCommand& command, std::size_t from = 1) {
    for (std::size_t i = from; i < command.words.size(); ++i) {
        if (!command.words[i].starts_with('-')) { return command.words[i]; }
    }
    return {};
}

/// The word that names what a command runs.
std::string_view role_of(const SimpleCommand& command) {
    const auto& program = command.words.front();
    if (has(k_script_runners, program)) { return script_name_of(command); }
    if (has(k_interpreters, program) || !type_of_program(program, command.words).empty()) {
        auto name = first_argument(command);
        if (has(k_run_words, name)) { name = first_argument(command, 2); }
        if (!name.empty()) { return name; }
    }
    return program;
}

bool is_plain(const SimpleCommand& command) {
    const auto parts = name_parts(role_of(command));
    const bool starts = std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return is_start_word(part) || has(k_server_words, part); });
    return starts && std::all_of(parts.begin(), parts.end(), says_nothing);
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
    std::size_t at = 1;
    while (at < words.size() && (words[at].starts_with('-') || has(k_run_words, words[at]))) { ++at; }
    return at < words.size() ? std::string_view(words[at]) : std::string_view();
}

bool names_service(const SimpleCommand& command, std::string_view service) {
    auto parts = name_parts(role_of(command));
    const auto wanted = name_parts(service);
    const auto found = std::search(parts.begin(), parts.end(), wanted.begin(), wanted.end());
    if (wanted.empty() || found == parts.end()) { return false; }
    parts.erase(found, found + static_cast<std::ptrdiff_t>(wanted.size()));
    return std::all_of(parts.begin(), parts.end(), says_nothing);
}

bool is_plain_start(const std::vector<SimpleCommand>& commands) {
    if (commands.empty() || !is_plain(commands.back())) { return false; }
    // What is prepared before (`tsc && node dist/server.js`) says nothing; another script that is run does.
    return std::all_of(commands.begin(), commands.end(), [](const SimpleCommand& command) { return script_name_of(command).empty() || is_plain(command); });
}

bool is_plain_service(std::string_view service, std::string_view project) {
    const auto parts = name_parts(project);
    return has(k_plain_services, service) || has(parts, service);
}

}  // namespace portwrap
