// Text of files and command lines in which ports are looked for. Pure.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>

#include "core/types.hpp"

namespace portwrap {

/// Without the blanks around it, in a line of a file.
[[nodiscard]] inline std::string_view trimmed(std::string_view text) {
    constexpr std::string_view k_blank = " \t\r";
    const auto first = text.find_first_not_of(k_blank);
    if (first == std::string_view::npos) { return {}; }
    return text.substr(first, text.find_last_not_of(k_blank) - first + 1);
}

/// Digits and nothing else that are a port, 1 to 65535.
[[nodiscard]] inline std::optional<Port> port_in(std::string_view text) {
    Port port = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), port);
    return read.ec == std::errc() && read.ptr == text.data() + text.size() && port != 0 ? std::optional(port) : std::nullopt;
}

}  // namespace portwrap
