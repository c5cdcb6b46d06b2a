// Configuration files as a tree that remembers lines: JSON with comments, every key once, within bounds. And the readers of
// single values that .portwrap.json and the user's config share: each checks kind and range, and says "LINE: KEY: what".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "portwrap/result.hpp"

namespace portwrap::json_tree {

/// A value of the file with the line of its key (its own for elements of arrays and the outermost).
struct Node {
    enum class Kind { null, boolean, integer, fraction, string, array, object };
    Kind kind = Kind::null;
    std::size_t line = 1;
    bool boolean = false;
    std::int64_t integer = 0;  ///< clamped: nothing here is near the limits
    std::string text;          ///< of strings
    std::string key;           ///< in an object
    std::vector<Node> children;
};

/// At most 16 levels, 256 entries in one object or array, 8192 values altogether. The error's message is "LINE: what".
[[nodiscard]] Result<Node> parse(std::string_view text);

using Problem = std::optional<std::string>;  ///< "LINE: KEY: what"; none means that all is well

[[nodiscard]] std::string path_of(const std::string& parent, const std::string& key);
[[nodiscard]] std::string problem_at(const Node& node, const std::string& path, const std::string& what);

/// Any text of at most 4096 bytes without NUL.
[[nodiscard]] Problem read_text(const Node& node, const std::string& path, std::string& into);
/// Text for people's eyes: what is not printable is dropped.
[[nodiscard]] Problem read_shown_name(const Node& node, const std::string& path, std::optional<std::string>& into);
/// 1 to 64 letters, digits or any of . _ - @ / :
[[nodiscard]] bool is_word(std::string_view text);
inline constexpr const char* k_word_rule = "must be 1 to 64 letters, digits or any of . _ - @ / :";
[[nodiscard]] Problem read_word(const Node& node, const std::string& path, std::optional<std::string>& into);
[[nodiscard]] Problem read_port(const Node& node, const std::string& path, std::optional<Port>& into);
/// A whole number from `min` to `max`.
[[nodiscard]] Problem read_number(const Node& node, const std::string& path, std::int64_t min, std::int64_t max, std::int64_t& into);
[[nodiscard]] Problem read_boolean(const Node& node, const std::string& path, std::optional<bool>& into);
/// One of these words; `into` is its place among them.
[[nodiscard]] Problem read_choice(const Node& node, const std::string& path, const std::vector<std::string_view>& words, std::size_t& into);
[[nodiscard]] Problem read_texts(const Node& node, const std::string& path, std::vector<std::string>& into);
/// "90s", "30m", "2h", "7d"; none when it is not one of these.
[[nodiscard]] std::optional<std::chrono::seconds> parse_duration(std::string_view text);
/// How long a service may take to answer a health check: "1s" to "20s", for the clients' patience is 30 s.
[[nodiscard]] Problem read_health_timeout(const Node& node, const std::string& path, std::chrono::seconds& into);

}  // namespace portwrap::json_tree
