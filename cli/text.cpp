// See text.hpp. No iostream and no locale for what is ASCII: they would be a quarter of a static program's start.
#include "text.hpp"

#include <locale.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

namespace portwrap {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

/// Bytes of the valid sequence at `at` (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF), 0 when broken.
std::size_t sequence_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const auto first = byte(0);
    if (first < 0x80) { return 1; }
    const std::size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                               : first >= 0xE0 && first <= 0xEF ? 3
                               : first >= 0xF0 && first <= 0xF4 ? 4
                                                                : 0;
    if (length == 0 || at + length > text.size()) { return 0; }
    for (std::size_t i = 1; i < length; ++i) {
        if (!is_continuation(text[at + i])) { return 0; }
    }
    const auto second = byte(1);
    const bool bad = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                     (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
    return bad ? 0 : length;
}

/// Bytes of the character at `at`; a broken one is a byte by itself.
std::size_t character_length(std::string_view text, std::size_t at) { return std::max<std::size_t>(sequence_length(text, at), 1); }

/// Columns that a terminal gives to a character: two to wide ones, none to combining ones. wcwidth(3) knows them, whatever the
/// user's locale is; without the locale that every C library since glibc 2.35 has, each counts as one.
std::size_t columns_of(std::string_view character) {
    if (character.size() == 1) { return 1; }
    static const locale_t s_utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (s_utf8 == nullptr) { return 1; }
    auto code_point = static_cast<wchar_t>(static_cast<unsigned char>(character[0]) & (0x7FU >> character.size()));
    for (const char c : character.substr(1)) { code_point = (code_point << 6) | static_cast<wchar_t>(static_cast<unsigned char>(c) & 0x3FU); }
    const locale_t before = ::uselocale(s_utf8);
    const int columns = ::wcwidth(code_point);
    ::uselocale(before);
    return columns < 0 ? 1 : static_cast<std::size_t>(columns);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = std::exchange(row[j], std::min({substituted, row[j] + 1, row[j - 1] + 1}));
        }
    }
    return row[b.size()];
}

bool write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const auto written = ::write(fd, text.data(), text.size());
        if (written < 0) {
            if (errno == EINTR) { continue; }
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

}  // namespace

Result<std::uint16_t> parse_port(std::string_view word) {
    const Error refusal{ErrorCode::invalid_request, "not a port (1 to 65535): " + printable(word)};
    if (word.empty() || word.size() > 5 || word[0] == '0' || !std::all_of(word.begin(), word.end(), is_digit)) {
        return refusal;
    }
    std::uint32_t value = 0;
    for (const char c : word) { value = value * 10 + static_cast<std::uint32_t>(c - '0'); }
    if (value > 65535) { return refusal; }
    return static_cast<std::uint16_t>(value);
}

bool looks_like_number(std::string_view word) {
    const auto skip = [&word](std::string_view letters) {
        const auto end = std::min(word.find_first_not_of(letters), word.size());
        word.remove_prefix(end);
        return end;
    };
    skip(" \t\n+-");
    if (word.starts_with("0x") || word.starts_with("0X")) { return true; }
    constexpr std::string_view k_digits = "0123456789_.,";
    if (skip(k_digits) == 0) { return false; }
    if (word.size() > 1 && (word[0] == 'e' || word[0] == 'E')) {
        word.remove_prefix(1);
        skip("+-");
        if (skip(k_digits) == 0) { return false; }
    }
    skip(" \t\n");
    return word.empty();
}

Result<long long> parse_duration(std::string_view word) {
    constexpr long long k_longest = 10LL * 366 * 24 * 3600;
    const Error refusal{ErrorCode::invalid_request, "not a duration such as 90s, 30m, 2h, 1d12h or 2w (ten years at most): " + printable(word)};
    long long total = 0;
    for (std::size_t at = 0; at < word.size(); ++at) {
        long long value = 0;
        const auto first = at;
        for (; at < word.size() && is_digit(word[at]) && value <= k_longest; ++at) { value = value * 10 + (word[at] - '0'); }
        constexpr std::string_view k_units = "smhdw";
        constexpr long long k_seconds[] = {1, 60, 3600, 86400, 7 * 86400};
        const auto unit = at < word.size() ? k_units.find(word[at]) : std::string_view::npos;
        if (at == first || unit == std::string_view::npos || value > k_longest) { return refusal; }
        total += value * k_seconds[unit];
        if (total > k_longest) { return refusal; }
    }
    if (total == 0) { return refusal; }
    return total;
}

bool is_variable_name(std::string_view name) {
    return !name.empty() && !is_digit(name[0]) &&
           std::all_of(name.begin(), name.end(), [](char c) { return is_digit(c) || is_letter(c) || c == '_'; });
}

bool is_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
        const auto length = sequence_length(text, at);
        if (length == 0) { return false; }
        at += length;
    }
    return true;
}

std::string printable(std::string_view text) {
    std::string shown;
    shown.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const auto length = sequence_length(text, at);
        const auto first = static_cast<unsigned char>(text[at]);
        const bool control = (length == 1 && (first < 0x20 || first == 0x7F)) ||
                             (length == 2 && first == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0);
        if (length == 0 || control) {
            shown += '?';
        } else {
            shown += text.substr(at, length);
        }
        at += std::max<std::size_t>(length, 1);
    }
    return shown;
}

std::size_t display_width(std::string_view text) {
    std::size_t width = 0;
    for (std::size_t at = 0; at < text.size();) {
        const auto length = character_length(text, at);
        width += columns_of(text.substr(at, length));
        at += length;
    }
    return width;
}

std::string shorten(std::string_view text, std::size_t width) {
    if (display_width(text) <= width) { return std::string(text); }
    if (width == 0) { return {}; }
    std::size_t at = 0;
    for (std::size_t kept = 0;;) {
        const auto length = character_length(text, at);
        kept += columns_of(text.substr(at, length));
        if (kept >= width) { break; }  // the ellipsis takes one
        at += length;
    }
    return std::string(text.substr(0, at)) + "\u2026";
}

std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known) {
    if (word.empty() || word.size() > 64) { return std::nullopt; }
    std::optional<std::string> nearest;
    std::size_t limit = std::min<std::size_t>(2, (word.size() + 2) / 3);
    for (const auto& candidate : known) {
        const auto distance = edit_distance(word, candidate);
        if (distance > limit || (nearest && distance == limit)) { continue; }
        nearest = candidate;
        limit = distance;
    }
    return nearest;
}

std::string directory_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return path.substr(0, std::max<std::size_t>(slash, 1));
}

void write_line(int fd, std::string_view text) { write_all(fd, std::string(text) + '\n'); }

bool write_out(std::string_view text) { return write_all(STDOUT_FILENO, text); }

}  // namespace portwrap
