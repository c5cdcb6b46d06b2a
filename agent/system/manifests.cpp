// The table of manifests and the little that is read from them. A full TOML parser would be the only use of one, so
// [project] name = "..." is found by a scan of lines.
#include "system/manifests.hpp"

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "system/bounded_read.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

struct Known {
    std::string_view file;
    std::string_view type;
};

// In the order in which they count when one directory has several; index.html means a static site only alone.
constexpr std::array k_known{
    Known{"package.json", "node"},    Known{"deno.json", "node"},           Known{"deno.jsonc", "node"},
    Known{"composer.json", "php"},    Known{"artisan", "php"},              Known{"pyproject.toml", "python"},
    Known{"manage.py", "python"},     Known{"setup.py", "python"},          Known{"Pipfile", "python"},
    Known{"requirements.txt", "python"}, Known{"Cargo.toml", "rust"},       Known{"go.mod", "go"},
    Known{"Gemfile", "ruby"},         Known{"pom.xml", "java"},             Known{"build.gradle", "java"},
    Known{"build.gradle.kts", "java"}, Known{"index.html", "static"},
};

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_space(text.front())) { text.remove_prefix(1); }
    while (!text.empty() && is_space(text.back())) { text.remove_suffix(1); }
    return text;
}

/// name = "..." in the first of the named tables that has one.
std::string toml_name(std::string_view text, const std::vector<std::string_view>& tables) {
    std::string_view table;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.starts_with('[')) {
            const std::size_t close = line.find(']');
            table = close == std::string_view::npos ? std::string_view() : trimmed(line.substr(1, close - 1));
            continue;
        }
        bool wanted = false;
        for (const auto& one : tables) { wanted = wanted || one == table; }
        const std::size_t equals = line.find('=');
        if (!wanted || equals == std::string_view::npos || trimmed(line.substr(0, equals)) != "name") { continue; }
        const std::string_view value = trimmed(line.substr(equals + 1));
        if (value.size() < 2 || (value.front() != '"' && value.front() != '\'')) { continue; }
        const std::size_t close = value.find(value.front(), 1);
        if (close != std::string_view::npos) { return printable(value.substr(1, close - 1)); }
    }
    return {};
}

/// Keeps the one string of a JSON file that is wanted and builds nothing else: a manifest may be a megabyte of
/// brackets, which as a tree of values would take a hundred times as much memory.
class StringReader : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit StringReader(const std::vector<std::string_view>& path) : m_path(path) {}
    std::string found;
    bool present = false;  ///< there is something at the path, of whatever kind but null

    bool null() override { return value(); }
    bool boolean(bool) override { return something(); }
    bool number_integer(number_integer_t) override { return something(); }
    bool number_unsigned(number_unsigned_t) override { return something(); }
    bool number_float(number_float_t, const string_t&) override { return something(); }
    bool binary(binary_t&) override { return something(); }
    bool string(string_t& text) override {
        if (is_wanted()) { found = text; }
        return something();
    }
    bool key(string_t& text) override {
        m_on_path = m_depth == m_matched + 1 && text == m_path[m_matched];
        return true;
    }
    bool start_object(std::size_t) override { return enter(); }
    bool start_array(std::size_t) override { return enter(); }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

private:
    [[nodiscard]] bool is_wanted() const { return m_on_path && m_matched + 1 == m_path.size(); }
    bool something() {
        present = present || is_wanted();
        return value();
    }
    bool value() {
        m_on_path = false;
        return true;
    }
    bool enter() {
        ++m_depth;
        present = present || is_wanted();
        if (m_on_path && m_matched + 1 < m_path.size()) { ++m_matched; }
        return value();
    }
    bool leave() {
        if (m_depth == m_matched + 1 && m_matched > 0) { --m_matched; }
        --m_depth;
        return value();
    }
    const std::vector<std::string_view>& m_path;
    std::size_t m_depth = 0;    // containers that are open
    std::size_t m_matched = 0;  // how many of them, after the outermost, are those of the path
    bool m_on_path = false;     // the last key was the path's next one
};

}  // namespace

std::optional<Manifest> find_manifest(const std::string& directory) {
    std::string path = directory.ends_with('/') ? directory : directory + '/';
    const std::size_t length = path.size();
    for (const auto& [file, type] : k_known) {
        path.resize(length);
        path += file;
        if (is_readable_file(path)) { return Manifest{path, type}; }
    }
    return std::nullopt;
}

std::string manifest_name(const Manifest& manifest) {
    const std::string_view file = file_name(manifest.path);
    const bool json = file == "package.json" || file == "composer.json" || file.starts_with("deno.json");
    const bool toml = file == "pyproject.toml" || file == "Cargo.toml";
    if (!json && !toml) { return {}; }
    const auto text = read_project_file(manifest.path);
    if (!text) { return {}; }
    const auto turn = turn_for(*text);
    if (json) { return printable(json_string_at(*text, {"name"})); }
    if (file == "Cargo.toml") { return toml_name(*text, {"package"}); }
    return toml_name(*text, {"project", "tool.poetry"});
}

std::string json_string_at(std::string_view text, const std::vector<std::string_view>& path) {
    StringReader reader(path);
    // A file that ends in an error says nothing that one should rely on.
    const bool good = nlohmann::json::sax_parse(text, &reader, nlohmann::json::input_format_t::json, true, true);
    return good ? reader.found : std::string();
}

bool has_json_member(std::string_view text, std::string_view name) {
    const std::vector<std::string_view> path{name};
    StringReader reader(path);
    return nlohmann::json::sax_parse(text, &reader, nlohmann::json::input_format_t::json, true, true) && reader.present;
}

std::string manifest_hash(const Manifest& manifest) {
    const auto text = read_project_file(manifest.path);
    if (!text || text->empty()) { return {}; }
    std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a, 64 bits
    for (const char c : *text) { hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL; }
    constexpr std::string_view k_digits = "0123456789abcdef";
    std::string hex(16, '0');
    for (std::size_t i = 16; i-- > 0; hash >>= 4U) { hex[i] = k_digits[hash & 15U]; }
    return hex;
}

}  // namespace portwrap
