// Small pure rules about words that both programs share: ports as people type them, names of variables, terminal-safe
// text, the nearest known word. Nothing here reads the system, except write_line() and write_out(), which write.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "portwrap/result.hpp"

namespace portwrap {

/// 1-65535 in plain decimal digits. No sign, blank, leading zero, exponent or hexadecimal: what a person did not clearly
/// mean as a port is refused.
Result<std::uint16_t> parse_port(std::string_view word);

/// Whether a word was meant as a number (digits with blanks, signs, points, exponents): such a word is a port or an
/// error, never the name of a service.
[[nodiscard]] bool looks_like_number(std::string_view word);

/// "90s", "30m", "2h", "1d12h", "2w": seconds, from 1 s to ten years. A number without a unit is refused.
Result<long long> parse_duration(std::string_view word);

/// [A-Za-z_][A-Za-z0-9_]*
[[nodiscard]] bool is_variable_name(std::string_view name);

[[nodiscard]] bool is_utf8(std::string_view text);

/// Control characters (of ASCII, and U+0080-U+009F) and broken UTF-8 become '?': names come from files that are not
/// trusted, and terminals obey what is written to them.
[[nodiscard]] std::string printable(std::string_view text);

/// Columns that a terminal shows it in: two for a wide character (CJK, most emoji), none for a combining one.
[[nodiscard]] std::size_t display_width(std::string_view text);

/// At most `width` columns; what was cut is shown as an ellipsis.
[[nodiscard]] std::string shorten(std::string_view text, std::size_t width);

/// The known word that `word` is probably a slip of: at most two edits away, at most a third of it.
[[nodiscard]] std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known);

/// The directory of an absolute path (of the path itself when it has no slash).
[[nodiscard]] std::string directory_of(const std::string& path);

/// Text and a newline to a descriptor in one write, so that lines of several processes do not mix.
void write_line(int fd, std::string_view text);
/// To standard output; false when that failed (full disk, closed).
bool write_out(std::string_view text);

}  // namespace portwrap
