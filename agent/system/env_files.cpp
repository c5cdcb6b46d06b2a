#include "system/env_files.hpp"

#include <algorithm>
#include <filesystem>

#include "core/port_text.hpp"
#include "system/bounded_read.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_max_names = 256;
// No port is named in what is longer than a path.
constexpr std::size_t k_max_name = 256;
constexpr std::size_t k_max_value = 4096;

std::string_view unquoted(std::string_view value) {
    if (!value.empty() && (value.front() == '"' || value.front() == '\'' || value.front() == '`')) {
        const auto close = value.find(value.front(), 1);
        if (close != std::string_view::npos) { return value.substr(1, close - 1); }
    }
    const auto comment = value.find(" #");
    return trimmed(value.substr(0, comment));
}

}  // namespace

std::vector<EnvValue> parse_env_file(std::string_view text, const std::string& file) {
    std::vector<EnvValue> values;
    while (!text.empty() && values.size() < k_max_names) {
        const auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.starts_with("export ")) { line = trimmed(line.substr(7)); }
        const auto equals = line.find('=');
        if (line.starts_with('#') || equals == std::string_view::npos) { continue; }
        const auto name = trimmed(line.substr(0, equals));
        const bool good = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        });
        const auto value = unquoted(trimmed(line.substr(equals + 1)));
        if (good && name.size() <= k_max_name && value.size() <= k_max_value) { values.push_back({file, std::string(name), std::string(value)}); }
    }
    return values;
}

std::vector<EnvValue> read_env_files(const std::string& directory, const std::vector<EnvFile>& files) {
    std::vector<EnvValue> values;
    for (const auto& file : files) {
        const auto text = read_project_file((std::filesystem::path(directory) / file.name).string());
        if (!text) { continue; }
        for (auto& entry : parse_env_file(*text, file.name)) {
            entry.named = file.named;
            const auto known = std::find_if(values.begin(), values.end(), [&](const EnvValue& other) { return other.name == entry.name; });
            if (known != values.end()) {
                *known = std::move(entry);
            } else if (values.size() < k_max_names) {
                values.push_back(std::move(entry));
            }
        }
    }
    return values;
}

}  // namespace portwrap
