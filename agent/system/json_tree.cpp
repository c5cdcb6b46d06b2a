#include "system/json_tree.hpp"

#include <charconv>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "system/places.hpp"

namespace portwrap::json_tree {
namespace {

constexpr std::size_t k_max_depth = 16;
constexpr std::size_t k_max_text = 4096;    // bytes in one string: they end up in command lines and environments
constexpr std::size_t k_max_values = 8192;   // many files are read at once, and a tree takes a multiple of its text
constexpr std::size_t k_max_entries = 256;  // services, arguments of one, variables

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
        if (node.children.size() > k_max_entries) { return fail("more than 256 entries in one object or array"); }
        return ++m_values <= k_max_values || fail("more than 8192 values altogether");
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
    std::size_t m_values = 0;
};

}  // namespace

Result<Node> parse(std::string_view text) {
    LineCounter counter;
    TreeBuilder builder(counter.line);
    using Format = nlohmann::json::input_format_t;
    const bool good = nlohmann::json::sax_parse(CountingIterator(text.data(), counter),
                                                CountingIterator(text.data() + text.size(), counter), &builder,
                                                Format::json, true, true);
    if (!good) { return Error{ErrorCode::invalid_request, builder.problem}; }
    return std::move(builder.root);
}

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

Problem read_word(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    if (!is_word(text)) { return problem_at(node, path, k_word_rule); }
    into = text;
    return std::nullopt;
}

Problem read_boolean(const Node& node, const std::string& path, std::optional<bool>& into) {
    if (node.kind != Node::Kind::boolean) { return problem_at(node, path, "must be true or false"); }
    into = node.boolean;
    return std::nullopt;
}

Problem read_number(const Node& node, const std::string& path, std::int64_t min, std::int64_t max, std::int64_t& into) {
    if (node.kind != Node::Kind::integer || node.integer < min || node.integer > max) {
        return problem_at(node, path, "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    }
    into = node.integer;
    return std::nullopt;
}

Problem read_choice(const Node& node, const std::string& path, const std::vector<std::string_view>& words, std::size_t& into) {
    std::string all;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (node.kind == Node::Kind::string && node.text == words[i]) {
            into = i;
            return std::nullopt;
        }
        all += (i == 0 ? "\"" : i + 1 == words.size() ? " or \"" : ", \"") + std::string(words[i]) + "\"";
    }
    return problem_at(node, path, "must be " + all);
}

Problem read_port(const Node& node, const std::string& path, std::optional<Port>& into) {
    std::int64_t number = 0;
    if (auto problem = read_number(node, path, 1, 65535, number)) { return problem; }
    into = static_cast<Port>(number);
    return std::nullopt;
}

Problem read_texts(const Node& node, const std::string& path, std::vector<std::string>& into) {
    if (node.kind != Node::Kind::array) { return problem_at(node, path, "must be an array of strings"); }
    for (const auto& child : node.children) {
        std::string text;
        if (auto problem = read_text(child, path + "[" + std::to_string(into.size()) + "]", text)) { return problem; }
        into.push_back(std::move(text));
    }
    return std::nullopt;
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
    if (text.size() < 2) { return std::nullopt; }
    std::int64_t number = 0;
    const auto* end = text.data() + text.size() - 1;
    const auto read = std::from_chars(text.data(), end, number);
    constexpr std::int64_t k_most = 1'000'000;
    if (read.ec != std::errc() || read.ptr != end || number < 1 || number > k_most) { return std::nullopt; }
    switch (text.back()) {
        case 's': return std::chrono::seconds(number);
        case 'm': return std::chrono::minutes(number);
        case 'h': return std::chrono::hours(number);
        case 'd': return std::chrono::hours(24 * number);
        default: return std::nullopt;
    }
}

Problem read_health_timeout(const Node& node, const std::string& path, std::chrono::seconds& into) {
    constexpr std::chrono::seconds k_longest(20);  // the clients' patience is 30 s
    const auto time = node.kind == Node::Kind::string ? parse_duration(node.text) : std::nullopt;
    if (!time || *time > k_longest) { return problem_at(node, path, "must be a time from \"1s\" to \"20s\""); }
    into = *time;
    return std::nullopt;
}

}  // namespace portwrap::json_tree
