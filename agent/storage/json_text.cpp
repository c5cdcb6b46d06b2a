// The parser notes a node of 16 bytes for each value and each name. Strings are looked through eight bytes at a time; their escapes
// are checked here and resolved only for who wants the text.
#include "storage/json_text.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

namespace portwrap {
namespace {

constexpr std::uint64_t k_ones = 0x0101010101010101U;
constexpr std::uint64_t k_highs = 0x8080808080808080U;

/// The high bit of each of eight bytes of a string that is not plain. Exact up to the first of them in the order of
/// significance (Hacker's Delight, 6-1).
std::uint64_t not_plain(std::uint64_t bytes) {
    const auto zeros = [](std::uint64_t x) { return (x - k_ones) & ~x & k_highs; };
    const auto is = [&](char c) { return zeros(bytes ^ (k_ones * static_cast<unsigned char>(c))); };
    const auto controls = (bytes - k_ones * 0x20U) & ~bytes & k_highs;
    return (bytes & k_highs) | controls | is('"') | is('\\') | is('\x7F');
}

bool is_plain(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\';
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The value of four hex digits at `at`, or -1.
int hex_unit(std::string_view text, std::size_t at) {
    if (text.size() < at + 4) { return -1; }
    unsigned value = 0;
    const auto read = std::from_chars(text.data() + at, text.data() + at + 4, value, 16);
    return read.ec == std::errc() && read.ptr == text.data() + at + 4 ? static_cast<int>(value) : -1;
}

bool is_high_surrogate(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool is_low_surrogate(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

void append_utf8(std::string& out, unsigned code) {
    const auto add = [&out](unsigned byte) { out += static_cast<char>(byte); };
    if (code < 0x80) { return add(code); }
    if (code < 0x800) {
        add(0xC0U | code >> 6U);
    } else if (code < 0x10000) {
        add(0xE0U | code >> 12U);
        add(0x80U | (code >> 6U & 0x3FU));
    } else {
        add(0xF0U | code >> 18U);
        add(0x80U | (code >> 12U & 0x3FU));
        add(0x80U | (code >> 6U & 0x3FU));
    }
    add(0x80U | (code & 0x3FU));
}

/// A string's text, whose escapes were checked.
std::string resolve(std::string_view raw) {
    std::string out;
    out.reserve(raw.size());
    for (std::size_t i = 0; i < raw.size(); ++i) {
        if (raw[i] != '\\') {
            out += raw[i];
            continue;
        }
        switch (raw[++i]) {
            case 'b': out += '\b'; break;
            case 'f': out += '\f'; break;
            case 'n': out += '\n'; break;
            case 'r': out += '\r'; break;
            case 't': out += '\t'; break;
            case 'u': {
                auto code = static_cast<unsigned>(hex_unit(raw, i + 1));
                i += 4;
                if (is_high_surrogate(static_cast<int>(code))) {
                    code = 0x10000U + ((code - 0xD800U) << 10U) + (static_cast<unsigned>(hex_unit(raw, i + 3)) - 0xDC00U);
                    i += 6;
                }
                append_utf8(out, code);
                break;
            }
            default: out += raw[i];
        }
    }
    return out;
}

}  // namespace

std::size_t plain_prefix(std::string_view text) {
    std::size_t at = 0;
    std::uint64_t bytes = 0;
    while (at + sizeof bytes <= text.size()) {
        std::memcpy(&bytes, text.data() + at, sizeof bytes);
        const auto odd = not_plain(bytes);
        if (odd != 0) {
            if constexpr (std::endian::native == std::endian::little) { return at + static_cast<std::size_t>(std::countr_zero(odd)) / 8; }
            break;
        }
        at += sizeof bytes;
    }
    while (at < text.size() && is_plain(text[at])) { ++at; }
    return at;
}

bool is_utf8(std::string_view text) {
    const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = at(i);
        if (lead < 0x80) {
            ++i;
            continue;
        }
        std::size_t more = 0;
        unsigned char low = 0x80;
        unsigned char high = 0xBF;
        if (lead >= 0xC2 && lead <= 0xDF) {
            more = 1;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            more = 2;
            if (lead == 0xE0) { low = 0xA0; }
            if (lead == 0xED) { high = 0x9F; }
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            more = 3;
            if (lead == 0xF0) { low = 0x90; }
            if (lead == 0xF4) { high = 0x8F; }
        } else {
            return false;
        }
        if (text.size() - i <= more || at(i + 1) < low || at(i + 1) > high) { return false; }
        for (std::size_t k = 2; k <= more; ++k) {
            if (at(i + k) < 0x80 || at(i + k) > 0xBF) { return false; }
        }
        i += more + 1;
    }
    return true;
}

class JsonParser {
public:
    JsonParser(std::string_view text, int depth, JsonText& into) : m_text(text), m_depth(depth), m_nodes(into.m_nodes) {}

    /// True when the text is one good value.
    bool run() {
        skip_blanks();
        if (!read_value(m_depth)) { return false; }
        skip_blanks();
        return m_at == m_text.size();
    }
    [[nodiscard]] bool is_too_deep() const { return m_too_deep; }

private:
    using Kind = JsonText::Kind;

    [[nodiscard]] char here() const { return m_at < m_text.size() ? m_text[m_at] : '\0'; }
    bool take(char c) {
        if (here() != c || m_at == m_text.size()) { return false; }
        ++m_at;
        return true;
    }
    void skip_blanks() {
        while (m_at < m_text.size() && (m_text[m_at] == ' ' || m_text[m_at] == '\n' || m_text[m_at] == '\t' || m_text[m_at] == '\r')) { ++m_at; }
    }

    std::size_t begin_node(Kind kind, std::size_t begin) {
        m_nodes.push_back({static_cast<std::uint32_t>(begin), 0, 0, kind});
        return m_nodes.size() - 1;
    }
    void end_node(std::size_t node, std::size_t end) {
        m_nodes[node].size = static_cast<std::uint32_t>(end - m_nodes[node].begin);
        m_nodes[node].next = static_cast<std::uint32_t>(m_nodes.size());
    }

    bool read_value(int depth) {
        switch (here()) {
            case '{': return read_container(Kind::object, '}', depth);
            case '[': return read_container(Kind::array, ']', depth);
            case '"': return read_string();
            case 't': return read_word("true", Kind::yes);
            case 'f': return read_word("false", Kind::no);
            case 'n': return read_word("null", Kind::null);
            default: return read_number();
        }
    }

    bool read_container(Kind kind, char close, int depth) {
        if (depth == 0) {
            m_too_deep = true;
            return false;
        }
        const auto node = begin_node(kind, m_at++);
        skip_blanks();
        if (!take(close)) {
            do {
                skip_blanks();
                if (kind == Kind::object) {
                    if (here() != '"' || !read_string()) { return false; }
                    skip_blanks();
                    if (!take(':')) { return false; }
                    skip_blanks();
                }
                if (!read_value(depth - 1)) { return false; }
                skip_blanks();
            } while (take(','));
            if (!take(close)) { return false; }
        }
        end_node(node, m_at);
        return true;
    }

    bool read_word(std::string_view word, Kind kind) {
        if (m_text.substr(m_at, word.size()) != word) { return false; }
        const auto node = begin_node(kind, m_at);
        m_at += word.size();
        end_node(node, m_at);
        return true;
    }

    bool read_number() {
        const auto begin = m_at;
        auto kind = Kind::integer;
        const auto take_digits = [this] {
            const auto first = m_at;
            while (is_digit(here())) { ++m_at; }
            return m_at > first;
        };
        take('-');
        if (!take('0') && !take_digits()) { return false; }
        if (take('.')) {
            kind = Kind::real;
            if (!take_digits()) { return false; }
        }
        if (take('e') || take('E')) {
            kind = Kind::real;
            if (!take('+')) { take('-'); }
            if (!take_digits()) { return false; }
        }
        end_node(begin_node(kind, begin), m_at);
        return true;
    }

    bool read_string() {
        const auto node = begin_node(Kind::plain_string, ++m_at);
        bool ascii = true;
        for (;;) {
            m_at += plain_prefix(m_text.substr(m_at));
            if (m_at >= m_text.size()) { return false; }
            const auto c = static_cast<unsigned char>(m_text[m_at]);
            if (c == '"') { break; }
            if (c < 0x20) { return false; }
            if (c == '\\') {
                m_nodes[node].kind = Kind::escaped_string;
                if (!skip_escape()) { return false; }
                continue;
            }
            ascii = ascii && c < 0x80;
            ++m_at;
        }
        end_node(node, m_at);
        const auto& read = m_nodes[node];
        ++m_at;
        return ascii || is_utf8(m_text.substr(read.begin, read.size));
    }

    bool skip_escape() {
        ++m_at;
        if (here() != 'u') {
            if (here() == '\0' || std::string_view("\"\\/bfnrt").find(here()) == std::string_view::npos) { return false; }
            ++m_at;
            return true;
        }
        const auto unit = hex_unit(m_text, m_at + 1);
        m_at += 5;
        if (unit < 0 || is_low_surrogate(unit)) { return false; }
        if (!is_high_surrogate(unit)) { return true; }
        if (m_text.substr(m_at < m_text.size() ? m_at : m_text.size(), 2) != "\\u" || !is_low_surrogate(hex_unit(m_text, m_at + 2))) { return false; }
        m_at += 6;
        return true;
    }

    const std::string_view m_text;
    const int m_depth;
    std::vector<JsonText::Node>& m_nodes;
    std::size_t m_at = 0;
    bool m_too_deep = false;
};

Result<JsonText> JsonText::parse(std::string_view text, int depth) {
    if (text.size() > std::numeric_limits<std::uint32_t>::max()) { return Error{ErrorCode::storage_error, "too long"}; }
    JsonText result;
    result.m_text = text;
    result.m_nodes.reserve(nodes_at_first(text));
    JsonParser parser(text, depth, result);
    if (!parser.run()) { return Error{ErrorCode::storage_error, parser.is_too_deep() ? "nested deeper than " + std::to_string(depth) + " levels" : "not JSON"}; }
    return result;
}

std::size_t JsonText::bytes_at_most(std::string_view text) {
    const auto is_mark = [](char c) { return c == ',' || c == ':' || c == '{' || c == '}' || c == '[' || c == ']'; };
    const auto nodes = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), is_mark)) + 1;
    return std::max(nodes_at_first(text), 2 * nodes) * sizeof(Node);  // a vector doubles when it grows
}

bool JsonText::is_named(std::uint32_t key, std::string_view name) const {
    const auto& node = m_nodes[key];
    if (node.kind == Kind::plain_string) { return slice(node) == name; }
    return resolve(slice(node)) == name;
}

std::string JsonText::name_at(std::uint32_t key) const {
    const auto& node = m_nodes[key];
    return node.kind == Kind::plain_string ? std::string(slice(node)) : resolve(slice(node));
}

bool JsonText::has_duplicates() const {
    // What is not hostile has so few members that comparing each with each is the quickest.
    constexpr std::size_t k_few = 24;
    for (std::uint32_t node = 0; node < m_nodes.size(); ++node) {
        if (m_nodes[node].kind != Kind::object) { continue; }
        std::uint32_t keys[k_few];
        std::size_t count = 0;
        bool escaped = false;
        for (auto key = node + 1; key < m_nodes[node].next; key = m_nodes[key + 1].next) {
            escaped = escaped || m_nodes[key].kind == Kind::escaped_string;
            if (count < k_few) { keys[count] = key; }
            ++count;
        }
        if (count <= k_few && !escaped) {
            for (std::size_t i = 1; i < count; ++i) {
                const auto name = slice(m_nodes[keys[i]]);
                if (std::any_of(keys, keys + i, [&](auto other) { return slice(m_nodes[other]) == name; })) { return true; }
            }
            continue;
        }
        auto names = JsonMembers({this, node, m_nodes[node].next}).names();
        std::sort(names.begin(), names.end());
        if (std::adjacent_find(names.begin(), names.end()) != names.end()) { return true; }
    }
    return false;
}

bool JsonValue::is_null() const { return exists() && m_text->m_nodes[m_node].kind == JsonText::Kind::null; }
bool JsonValue::is_object() const { return exists() && m_text->m_nodes[m_node].kind == JsonText::Kind::object; }
bool JsonValue::is_array() const { return exists() && m_text->m_nodes[m_node].kind == JsonText::Kind::array; }

std::optional<bool> JsonValue::boolean() const {
    if (!exists()) { return std::nullopt; }
    const auto kind = m_text->m_nodes[m_node].kind;
    if (kind != JsonText::Kind::yes && kind != JsonText::Kind::no) { return std::nullopt; }
    return kind == JsonText::Kind::yes;
}

namespace {
template <typename T>
std::optional<T> integer_in(std::string_view text) {
    T value = 0;
    const auto* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    return read.ec == std::errc() && read.ptr == end ? std::optional<T>(value) : std::nullopt;
}
}  // namespace

std::optional<std::uint64_t> JsonValue::unsigned_number() const {
    if (!exists() || m_text->m_nodes[m_node].kind != JsonText::Kind::integer) { return std::nullopt; }
    return integer_in<std::uint64_t>(m_text->slice(m_text->m_nodes[m_node]));
}

std::optional<std::int64_t> JsonValue::number() const {
    if (!exists() || m_text->m_nodes[m_node].kind != JsonText::Kind::integer) { return std::nullopt; }
    return integer_in<std::int64_t>(m_text->slice(m_text->m_nodes[m_node]));
}

std::optional<std::string> JsonValue::text() const {
    if (const auto plain = plain_text()) { return std::string(*plain); }
    if (!exists() || m_text->m_nodes[m_node].kind != JsonText::Kind::escaped_string) { return std::nullopt; }
    return resolve(m_text->slice(m_text->m_nodes[m_node]));
}

std::optional<std::string_view> JsonValue::plain_text() const {
    if (!exists() || m_text->m_nodes[m_node].kind != JsonText::Kind::plain_string) { return std::nullopt; }
    return m_text->slice(m_text->m_nodes[m_node]);
}

std::string_view JsonValue::source() const { return exists() ? m_text->slice(m_text->m_nodes[m_node]) : std::string_view(); }

JsonValue JsonValue::first() const {
    if (!is_array() || m_text->m_nodes[m_node].next == m_node + 1) { return {}; }
    return {m_text, m_node + 1, m_text->m_nodes[m_node].next};
}

JsonValue JsonValue::next() const {
    const auto after = m_text->m_nodes[m_node].next;
    return after < m_end ? JsonValue{m_text, after, m_end} : JsonValue{};
}

JsonMembers::JsonMembers(const JsonValue& object) {
    if (!object.is_object()) { return; }
    m_text = object.m_text;
    m_begin = m_at = object.m_node + 1;
    m_end = m_text->m_nodes[object.m_node].next;
}

JsonValue JsonMembers::find(std::string_view name) {
    if (m_at >= m_end) { m_at = m_begin; }
    for (const auto start = m_at; m_begin < m_end;) {
        const auto value = m_at + 1;
        const auto after = m_text->m_nodes[value].next;
        const bool found = m_text->is_named(m_at, name);
        m_at = after < m_end ? after : m_begin;
        if (found) { return {m_text, value, after}; }
        if (m_at == start) { break; }
    }
    return {};
}

std::vector<std::string> JsonMembers::names() const {
    std::vector<std::string> names;
    for (auto key = m_begin; key < m_end; key = m_text->m_nodes[key + 1].next) { names.push_back(m_text->name_at(key)); }
    return names;
}

}  // namespace portwrap
