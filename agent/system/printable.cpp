// Text from repositories and command lines, made safe to show on a terminal and to put into JSON.
#include <cstdint>

#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::string_view k_replacement = "\xEF\xBF\xBD";  // U+FFFD

struct CodePoint {
    std::uint32_t value = 0;
    std::size_t length = 1;
    bool valid = false;
};

unsigned byte_at(std::string_view text, std::size_t at) { return static_cast<unsigned char>(text[at]); }

/// Well-formed UTF-8 after table 3-7 of the Unicode standard: no overlong forms, no surrogates.
CodePoint decode(std::string_view text, std::size_t at) {
    const unsigned first = byte_at(text, at);
    if (first < 0x80) { return {first, 1, true}; }
    std::size_t length = 0;
    std::uint32_t value = 0;
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
        value = first & 0x1FU;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        value = first & 0x0FU;
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        value = first & 0x07U;
    } else {
        return {};
    }
    for (std::size_t i = 1; i < length; ++i) {
        if (at + i >= text.size() || (byte_at(text, at + i) & 0xC0U) != 0x80U) { return {0, i, false}; }
        value = (value << 6U) | (byte_at(text, at + i) & 0x3FU);
    }
    if ((length == 3 && value < 0x800) || (length == 4 && value < 0x10000) || value > 0x10FFFF ||
        (value >= 0xD800 && value <= 0xDFFF)) {
        return {0, length, false};
    }
    return {value, length, true};
}

/// Controls, line and paragraph separators, and what reorders the text around it.
bool is_stripped(std::uint32_t value) {
    return value < 0x20 || (value >= 0x7F && value <= 0x9F) || value == 0x061C || value == 0x200E || value == 0x200F ||
           (value >= 0x2028 && value <= 0x202E) || (value >= 0x2066 && value <= 0x2069) || value == 0xFEFF;
}

}  // namespace

std::string printable(std::string_view text, std::size_t limit) {
    std::string shown;
    shown.reserve(text.size() < limit ? text.size() : limit);
    for (std::size_t at = 0; at < text.size();) {
        const CodePoint point = decode(text, at);
        const std::string_view bytes = point.valid ? text.substr(at, point.length) : k_replacement;
        at += point.length;
        if (point.valid && is_stripped(point.value)) { continue; }
        if (shown.size() + bytes.size() > limit) { break; }
        shown += bytes;
    }
    return shown;
}

}  // namespace portwrap
