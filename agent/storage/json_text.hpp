// Reads JSON where it stands: one pass that checks the whole text and notes where each value is, no tree of copies. A registry of
// thousands of leases is read at every start of the agent, and a tree of it costs several times what its text does.
//
// Strict: RFC 8259, well-formed UTF-8, nothing after the value, nesting bounded. Which of two members with one name counts is not
// said; who must refuse them asks has_duplicates().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "portwrap/result.hpp"

namespace portwrap {

/// Well-formed by table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool is_utf8(std::string_view text);

/// How many bytes at the beginning are plain: printable ASCII, no quote, no backslash.
[[nodiscard]] std::size_t plain_prefix(std::string_view text);

class JsonText;

/// A look at one value; good as long as the JsonText and its text. A default one is of no kind.
class JsonValue {
public:
    JsonValue() = default;
    [[nodiscard]] bool is_null() const;
    [[nodiscard]] bool is_object() const;
    [[nodiscard]] bool is_array() const;
    [[nodiscard]] std::optional<bool> boolean() const;
    /// An integer without sign, fraction and exponent that fits.
    [[nodiscard]] std::optional<std::uint64_t> unsigned_number() const;
    /// An integer without fraction and exponent that fits.
    [[nodiscard]] std::optional<std::int64_t> number() const;
    /// A string with its escapes resolved.
    [[nodiscard]] std::optional<std::string> text() const;
    /// A string without escapes, as it stands; nothing for one with escapes.
    [[nodiscard]] std::optional<std::string_view> plain_text() const;
    /// The value as it stands, whatever it is; a string without its quotes.
    [[nodiscard]] std::string_view source() const;

    /// Of an array: `for (auto item = v.first(); item.exists(); item = item.next())`.
    [[nodiscard]] JsonValue first() const;
    [[nodiscard]] JsonValue next() const;
    [[nodiscard]] bool exists() const { return m_text != nullptr; }

private:
    friend class JsonText;
    friend class JsonMembers;
    JsonValue(const JsonText* text, std::uint32_t node, std::uint32_t end) : m_text(text), m_node(node), m_end(end) {}
    const JsonText* m_text = nullptr;
    std::uint32_t m_node = 0;
    std::uint32_t m_end = 0;  ///< the node after its parent's last
};

class JsonText {
public:
    /// STORAGE_ERROR for what is no JSON or nests deeper than `depth` levels. The text must outlive what is returned.
    [[nodiscard]] static Result<JsonText> parse(std::string_view text, int depth);
    JsonText(JsonText&&) noexcept = default;
    JsonText& operator=(JsonText&&) noexcept = default;
    JsonText(const JsonText&) = delete;
    JsonText& operator=(const JsonText&) = delete;
    ~JsonText() = default;

    /// Does a name stand twice in any of its objects?
    [[nodiscard]] bool has_duplicates() const;
    /// What it takes of memory besides its text.
    [[nodiscard]] std::size_t bytes() const { return m_nodes.capacity() * sizeof(Node); }
    /// What that of such a text will be at most, without reading it: each value and name ends at a mark.
    [[nodiscard]] static std::size_t bytes_at_most(std::string_view text);
    [[nodiscard]] JsonValue root() const { return {this, 0, static_cast<std::uint32_t>(m_nodes.size())}; }

private:
    friend class JsonValue;
    friend class JsonMembers;
    friend class JsonParser;
    enum class Kind : std::uint8_t { null, yes, no, integer, real, plain_string, escaped_string, array, object };
    struct Node {
        std::uint32_t begin = 0;  ///< of its text; of a string without the quotes
        std::uint32_t size = 0;
        std::uint32_t next = 0;   ///< the node after it and all that is in it
        Kind kind = Kind::null;
    };
    JsonText() = default;
    /// What the records of the registry have; a text of nothing but brackets lets it grow.
    [[nodiscard]] static std::size_t nodes_at_first(std::string_view text) { return text.size() / 12 + 4; }
    [[nodiscard]] std::string_view slice(const Node& node) const { return m_text.substr(node.begin, node.size); }
    [[nodiscard]] bool is_named(std::uint32_t key, std::string_view name) const;
    [[nodiscard]] std::string name_at(std::uint32_t key) const;

    std::string_view m_text;
    std::vector<Node> m_nodes;  ///< in the order of the text; of an object's member its name, then its value
};

/// Finds an object's members by name; quickest in the order in which they stand.
class JsonMembers {
public:
    /// Of no object: there are no members.
    explicit JsonMembers(const JsonValue& object);
    /// exists() is false where there is none.
    [[nodiscard]] JsonValue find(std::string_view name);
    /// All of them, in the order in which they stand.
    [[nodiscard]] std::vector<std::string> names() const;

private:
    const JsonText* m_text = nullptr;
    std::uint32_t m_begin = 0;
    std::uint32_t m_end = 0;
    std::uint32_t m_at = 0;  ///< the name to try first
};

}  // namespace portwrap
