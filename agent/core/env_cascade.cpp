#include "core/env_cascade.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace portwrap {
namespace {

// Vite and what is made of it: a mode's file counts more than .env.local. With next, react-scripts and the others it is the other way.
constexpr std::array<std::string_view, 7> k_vites{"vite", "astro", "svelte-kit", "react-router", "vitest", "vinxi", "vitepress"};

// Those of the others that read a mode's files, and those that read .env alone.
constexpr std::array<std::string_view, 4> k_by_mode{"next", "react-scripts", "craco", "react-app-rewired"};
constexpr std::array<std::string_view, 4> k_nuxts{"nuxt", "nuxi", "nitro", "nitropack"};

/// The value of an option, `--mode x` or `--mode=x`.
std::optional<std::string> value_of(const SimpleCommand& command, std::string_view option) {
    for (std::size_t i = 1; i < command.words.size(); ++i) {
        const std::string& word = command.words[i];
        if (word == option && i + 1 < command.words.size()) { return command.words[i + 1]; }
        if (word.size() > option.size() && word.starts_with(option) && word[option.size()] == '=') { return word.substr(option.size() + 1); }
    }
    return std::nullopt;
}

bool has_argument(const SimpleCommand& command, std::string_view word) {
    return std::find(command.words.begin() + 1, command.words.end(), word) != command.words.end();
}

/// A mode becomes part of a file's name.
bool is_mode(const std::string& mode) { return !mode.empty() && mode.size() <= 64 && mode.find_first_of("/$ ") == std::string::npos; }

}  // namespace

std::vector<EnvFile> env_files_of(const std::vector<SimpleCommand>& commands) {
    std::string mode;
    bool vite = false;
    bool flask = false;
    bool nuxt = false;
    bool by_mode = false;
    std::optional<std::string> instead;
    std::vector<EnvFile> named;
    for (const auto& command : commands) {
        const std::string& program = command.words.front();
        const bool is_vite = std::find(k_vites.begin(), k_vites.end(), program) != k_vites.end();
        vite = vite || is_vite;
        const bool is_nuxt = std::find(k_nuxts.begin(), k_nuxts.end(), program) != k_nuxts.end();
        flask = flask || program == "flask";
        nuxt = nuxt || is_nuxt;
        by_mode = by_mode || is_vite || std::find(k_by_mode.begin(), k_by_mode.end(), program) != k_by_mode.end();
        for (const auto& [name, value] : command.assignments) {
            if (name == "NODE_ENV" && is_mode(value)) { mode = value; }
        }
        if ((program == "next" && has_argument(command, "start")) || (program == "vite" && has_argument(command, "preview"))) { mode = "production"; }
        if (program == "react-scripts" && has_argument(command, "start")) { mode = "development"; }
        if (const auto said = is_vite ? value_of(command, "--mode") : std::nullopt; said && is_mode(*said)) { mode = *said; }
        for (const auto& file : command.env_files) { named.push_back({file, true}); }
        if (is_nuxt) { instead = value_of(command, "--dotenv"); }
        if (auto file = value_of(command, is_nuxt ? "--dotenv" : "--env-file")) { named.push_back({std::move(*file), true}); }
    }
    if (mode.empty()) { mode = "development"; }
    std::vector<EnvFile> files;
    if (flask) { files.push_back({".flaskenv"}); }
    if (!nuxt || !instead || by_mode || flask) { files.push_back({".env"}); }
    const bool has_modes = by_mode || !(flask || nuxt);
    const EnvFile of_mode{".env." + mode};
    const EnvFile local{".env.local"};
    if (!has_modes) {
        // flask, nuxt and nitro know no other
    } else if (vite) {
        files.insert(files.end(), {local, of_mode});
    } else {
        files.push_back(of_mode);
        if (mode != "test") { files.push_back(local); }  // tests give everybody the same result
    }
    if (has_modes) { files.push_back({".env." + mode + ".local"}); }
    if (named.size() > k_max_named_env_files) { named.erase(named.begin(), named.end() - static_cast<std::ptrdiff_t>(k_max_named_env_files)); }
    for (auto& file : named) {
        std::erase_if(files, [&](const EnvFile& other) { return other.name == file.name; });
        files.push_back(std::move(file));
    }
    return files;
}

}  // namespace portwrap
