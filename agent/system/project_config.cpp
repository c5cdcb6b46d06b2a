// .portwrap.json: a strict reader of a file that comes with a repository and is therefore not trusted. Every key is
// known, every value has its kind and bounds, and an error says the line.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_max_depth = 16;
constexpr std::size_t k_max_text = 4096;    // bytes in one string: they end up in command lines and environments
constexpr std::size_t k_max_entries = 256;  // services, arguments of one, variables

/// A value of the file with the line of its key (its own for elements of arrays and the outermost).
struct Node {
    enum class Kind { null, boolean, integer, fraction, string, array, object };
    Kind kind = Kind::null;
    std::size_t line = 1;
    bool boolean = false;
    std::int64_t integer = 0;  // clamped: nothing here is near the limits
    std::string text;          // of strings
    std::string key;           // in an object
    std::vector<Node> children;
};

/// Counts lines as the parser takes the bytes; copies share the counter. A line end counts when the byte after it is
/// taken, because the parser looks one byte beyond a number.
struct LineCounter {
    std::size_t line = 1;
    bool at_end = false;
};
class CountingIterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    CountingIterator(const char* at, LineCounter& counter) : m_at(at), m_counter(&counter) {}
    reference operator*() const { return *m_at; }
    CountingIterator& operator++() {
        if (m_counter->at_end) { ++m_counter->line; }
        m_counter->at_end = *m_at == '\n';
        ++m_at;
        return *this;
    }
    CountingIterator operator++(int) {
        CountingIterator before = *this;
        ++*this;
        return before;
    }
    bool operator==(const CountingIterator& other) const { return m_at == other.m_at; }
    bool operator!=(const CountingIterator& other) const { return m_at != other.m_at; }

private:
    const char* m_at;
    LineCounter* m_counter;
};

/// Builds the tree. nlohmann's own would keep the last of two equal keys and tell no lines.
class TreeBuilder : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit TreeBuilder(const std::size_t& line) : m_line(line) {}
    Node root;
    std::string problem;

    bool null() override {
        add(Node::Kind::null);
        return within_bounds();
    }
    bool boolean(bool value) override {
        add(Node::Kind::boolean)->boolean = value;
        return within_bounds();
    }
    bool number_integer(number_integer_t value) override {
        add(Node::Kind::integer)->integer = value;
        return within_bounds();
    }
    bool number_unsigned(number_unsigned_t value) override {
        add(Node::Kind::integer)->integer = value > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(value);
        return within_bounds();
    }
    bool number_float(number_float_t, const string_t&) override {
        add(Node::Kind::fraction);
        return within_bounds();
    }
    bool string(string_t& value) override {
        add(Node::Kind::string)->text = value;
        return within_bounds();
    }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return enter(Node::Kind::object); }
    bool start_array(std::size_t) override { return enter(Node::Kind::array); }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }
    bool key(string_t& name) override {
        for (const auto& child : m_open.back()->children) {
            if (child.key == name) { return fail("the key \"" + printable(name, 64) + "\" is there twice"); }
        }
        m_key = name;
        m_key_line = m_line;
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& exception) override {
        // "[json.exception.parse_error.101] parse error at line 3, column 5: syntax error while parsing ..."
        std::string_view what = exception.what();
        if (const auto close = what.find("] "); close != std::string_view::npos) { what.remove_prefix(close + 2); }
        std::string line = std::to_string(m_line);
        constexpr std::string_view k_at_line = "at line ";
        if (const auto at = what.find(k_at_line); at != std::string_view::npos) {
            const std::string_view rest = what.substr(at + k_at_line.size());
            line = std::string(rest.substr(0, rest.find_first_not_of("0123456789")));
            if (const auto colon = rest.find(": "); colon != std::string_view::npos) { what = rest.substr(colon + 2); }
        }
        problem = line + ": " + printable(what);
        return false;
    }

private:
    Node* add(Node::Kind kind) {
        Node* node = &root;
        if (!m_open.empty()) {
            const bool member = m_open.back()->kind == Node::Kind::object;
            node = &m_open.back()->children.emplace_back();
            if (member) { node->key = std::move(m_key); }
            node->line = member ? m_key_line : m_line;
        }
        node->kind = kind;
        return node;
    }
    // A pointer to an open container stays good: its parent gets no further child before it is closed.
    bool enter(Node::Kind kind) {
        if (m_open.size() >= k_max_depth) { return fail("nested too deeply"); }
        m_open.push_back(add(kind));
        return m_open.size() == 1 || bounded(*m_open[m_open.size() - 2]);
    }
    bool within_bounds() { return m_open.empty() || bounded(*m_open.back()); }
    bool bounded(const Node& node) {
        return node.children.size() <= k_max_entries || fail("more than 256 entries in one object or array");
    }
    bool leave() {
        m_open.pop_back();
        return true;
    }
    bool fail(const std::string& what) {
        problem = std::to_string(m_line) + ": " + what;
        return false;
    }

    const std::size_t& m_line;
    std::vector<Node*> m_open;
    std::string m_key;
    std::size_t m_key_line = 1;
};

using Problem = std::optional<std::string>;  ///< "LINE: what"; none means that all is well

std::string path_of(const std::string& parent, const std::string& key) {
    return parent.empty() ? printable(key, 64) : parent + "." + printable(key, 64);
}

std::string problem_at(const Node& node, const std::string& path, const std::string& what) {
    return std::to_string(node.line) + ": " + path + ": " + what;
}

Problem read_text(const Node& node, const std::string& path, std::string& into) {
    if (node.kind != Node::Kind::string) { return problem_at(node, path, "must be a string"); }
    if (node.text.size() > k_max_text) { return problem_at(node, path, "is longer than 4096 bytes"); }
    // Nothing in a command line or an environment can carry it: what follows would be cut off silently.
    if (node.text.find('\0') != std::string::npos) { return problem_at(node, path, "must not contain NUL"); }
    into = node.text;
    return std::nullopt;
}

Problem read_shown_name(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    into = printable(text);
    if (into->empty()) { return problem_at(node, path, "must not be empty"); }
    return std::nullopt;
}

bool is_word(std::string_view text) {
    constexpr std::string_view k_punctuation = "._-@/:";
    return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               k_punctuation.find(c) != std::string_view::npos;
    });
}

constexpr const char* k_word_rule = "must be 1 to 64 letters, digits or any of . _ - @ / :";

Problem read_word(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    if (!is_word(text)) { return problem_at(node, path, k_word_rule); }
    into = text;
    return std::nullopt;
}

Problem read_port(const Node& node, const std::string& path, std::optional<Port>& into) {
    if (node.kind != Node::Kind::integer || node.integer < 1 || node.integer > 65535) {
        return problem_at(node, path, "must be a whole number from 1 to 65535");
    }
    into = static_cast<Port>(node.integer);
    return std::nullopt;
}

Problem read_boolean(const Node& node, const std::string& path, std::optional<bool>& into) {
    if (node.kind != Node::Kind::boolean) { return problem_at(node, path, "must be true or false"); }
    into = node.boolean;
    return std::nullopt;
}

Problem check_choice(const Node& node, const std::string& path, std::string_view first, std::string_view second) {
    if (node.kind == Node::Kind::string && (node.text == first || node.text == second)) { return std::nullopt; }
    return problem_at(node, path, "must be \"" + std::string(first) + "\" or \"" + std::string(second) + "\"");
}

Problem check_variable(const Node& node, const std::string& path, const std::string& name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const bool good = !name.empty() && name.size() <= 128 && letter(name.front()) &&
                      std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
    if (!good) { return problem_at(node, path, "is not the name of an environment variable"); }
    if (is_refused_variable(name)) { return problem_at(node, path, "a repository may not set " + name); }
    return std::nullopt;
}

Problem read_arguments(const Node& node, const std::string& path, std::vector<std::string>& into) {
    if (node.kind != Node::Kind::array) { return problem_at(node, path, "must be an array of strings"); }
    for (const auto& child : node.children) {
        std::string text;
        if (auto problem = read_text(child, path + "[" + std::to_string(into.size()) + "]", text)) { return problem; }
        into.push_back(std::move(text));
    }
    return std::nullopt;
}

Problem read_directory(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    if (text.starts_with('/')) { return problem_at(node, path, "must be relative to the project's root"); }
    std::string clean;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t slash = rest.find('/');
        const std::string_view part = rest.substr(0, slash);
        rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
        if (part == "..") { return problem_at(node, path, "must not leave the project's root"); }
        if (part.empty() || part == ".") { continue; }
        if (!clean.empty()) { clean += '/'; }
        clean += part;
    }
    into = clean;
    return std::nullopt;
}

/// It becomes part of a request line.
Problem read_health(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    const bool good = text.starts_with('/') && text.size() <= 1024 &&
                      std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
    if (!good) { return problem_at(node, path, "must be a path that begins with / and has no spaces"); }
    into = text;
    return std::nullopt;
}

Problem read_service(const Node& node, const std::string& path, ServiceConfig& service) {
    if (node.kind != Node::Kind::object) { return problem_at(node, path, "must be an object"); }
    for (const auto& child : node.children) {
        const std::string where = path_of(path, child.key);
        Problem problem;
        if (child.key == "port") {
            problem = read_port(child, where, service.port);
        } else if (child.key == "args") {
            problem = read_arguments(child, where, service.args);
        } else if (child.key == "env") {
            std::string name;
            problem = read_text(child, where, name);
            if (!problem) { problem = check_variable(child, where, name); }
            service.env = name;
        } else if (child.key == "dir") {
            problem = read_directory(child, where, service.dir);
        } else if (child.key == "kind") {
            problem = read_word(child, where, service.kind);
        } else if (child.key == "type") {
            problem = read_word(child, where, service.type);
        } else if (child.key == "health") {
            problem = read_health(child, where, service.health);
        } else if (child.key == "shared") {
            problem = read_boolean(child, where, service.shared);
        } else if (child.key == "sockname") {
            problem = check_choice(child, where, "requested", "real");
            service.sockname_requested = child.text == "requested";
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    return std::nullopt;
}

Problem read_services(const Node& node, std::vector<ServiceConfig>& into) {
    if (node.kind != Node::Kind::object) { return problem_at(node, "services", "must be an object"); }
    for (const auto& child : node.children) {
        const std::string path = path_of("services", child.key);
        if (!is_word(child.key)) { return problem_at(child, path, std::string("the name ") + k_word_rule); }
        ServiceConfig service;
        service.name = child.key;
        if (auto problem = read_service(child, path, service)) { return problem; }
        into.push_back(std::move(service));
    }
    return std::nullopt;
}

Problem read_environment(const Node& node, std::vector<std::pair<std::string, std::string>>& into) {
    if (node.kind != Node::Kind::object) { return problem_at(node, "env", "must be an object"); }
    for (const auto& child : node.children) {
        const std::string path = path_of("env", child.key);
        if (auto problem = check_variable(child, path, child.key)) { return problem; }
        std::string value;
        if (auto problem = read_text(child, path, value)) { return problem; }
        into.emplace_back(child.key, std::move(value));
    }
    return std::nullopt;
}

Problem read_config(const Node& node, ProjectConfig& config) {
    if (node.kind != Node::Kind::object) { return std::to_string(node.line) + ": the file must be a JSON object"; }
    for (const auto& child : node.children) {
        const std::string where = path_of("", child.key);
        Problem problem;
        std::string ignored;
        if (child.key == "name") {
            problem = read_shown_name(child, where, config.name);
        } else if (child.key == "type") {
            problem = read_word(child, where, config.type);
        } else if (child.key == "services") {
            problem = read_services(child, config.services);
        } else if (child.key == "env") {
            problem = read_environment(child, config.env);
        } else if (child.key == "connect") {
            problem = check_choice(child, where, "project", "off");
            config.connect = child.text != "off";
        } else if (child.key == "port_zero") {
            problem = check_choice(child, where, "range", "kernel");
        } else if (child.key == "rewrite_env") {
            std::optional<bool> rewrite;
            problem = read_boolean(child, where, rewrite);
            config.rewrite_env = rewrite.value_or(false);
        } else if (child.key == "sticky") {
            problem = check_choice(child, where, "claim", "prefer");
        } else if (child.key == "$schema") {
            problem = read_text(child, where, ignored);
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    return std::nullopt;
}

}  // namespace

Result<ProjectConfig> parse_project_config(std::string_view text) {
    LineCounter counter;
    TreeBuilder builder(counter.line);
    using Format = nlohmann::json::input_format_t;
    const bool good = nlohmann::json::sax_parse(CountingIterator(text.data(), counter),
                                                CountingIterator(text.data() + text.size(), counter), &builder,
                                                Format::json, true, true);
    if (!good) { return Error{ErrorCode::invalid_request, builder.problem}; }
    ProjectConfig config;
    if (auto problem = read_config(builder.root, config)) { return Error{ErrorCode::invalid_request, *problem}; }
    return config;
}

bool is_refused_variable(std::string_view name) {
    // What makes programs load code, find other programs, or read other configuration.
    constexpr std::array<std::string_view, 10> k_prefixes{"LD_",  "DYLD_",  "PYTHON",       "PERL5", "RUBY",
                                                         "GIT_", "BASH_",  "PORTWRAP_",    "npm_config_", "NPM_CONFIG_"};
    constexpr std::array<std::string_view, 27> k_names{
        "PATH",    "ENV",      "IFS",       "SHELL",       "SHELLOPTS", "BASHOPTS", "HOME",       "ZDOTDIR",  "NODE_PATH",
        "PS4",     "PROMPT_COMMAND", "EDITOR", "VISUAL",   "PAGER",     "BROWSER",  "CLASSPATH",  "GOFLAGS",  "PERLLIB",
        "GEM_PATH", "GEM_HOME", "RUSTC",    "RUSTC_WRAPPER", "SSH_ASKPASS", "PHPRC", "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME", "XDG_STATE_HOME"};
    const auto is_prefix = [name](std::string_view prefix) { return name.starts_with(prefix); };
    return std::any_of(k_prefixes.begin(), k_prefixes.end(), is_prefix) || name.ends_with("_OPTIONS") ||
           name.ends_with("OPTS") || name.ends_with("_PRELOAD") ||
           std::find(k_names.begin(), k_names.end(), name) != k_names.end();
}

}  // namespace portwrap
