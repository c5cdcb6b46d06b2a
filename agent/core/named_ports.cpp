#include "core/named_ports.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace portwrap {
namespace {

// Prefixes of variables that bundlers put into browser code.
constexpr std::array<std::string_view, 9> k_public{"VITE_",  "NEXT_PUBLIC_", "REACT_APP_", "NUXT_PUBLIC_", "VUE_APP_",
                                                   "GATSBY_", "PUBLIC_",     "EXPO_PUBLIC_", "NG_APP_"};
constexpr std::array<std::string_view, 4> k_loopback{"localhost:", "127.0.0.1:", "[::1]:", "0.0.0.0:"};

bool is_name_part(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.'; }

/// The number at the start of `text` and how many characters it has; 0 when there is none that can be a port.
std::pair<Port, std::size_t> number_at(std::string_view text) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value > 65535) { return {0, 0}; }
    return {static_cast<Port>(value), static_cast<std::size_t>(end - text.data())};
}

}  // namespace

std::optional<NamedPort> named_moved_port(const EnvValue& entry, const std::map<Port, Port>& moved) {
    NamedPort found;
    found.value = entry.value;
    const auto replace = [&](std::size_t at) -> std::size_t {
        const auto [port, length] = number_at(std::string_view(found.value).substr(at));
        const auto known = moved.find(port);
        if (length == 0 || known == moved.end()) { return at; }
        if (found.from == 0) { found.from = port, found.to = known->second; }
        const auto text = std::to_string(known->second);
        found.value.replace(at, length, text);
        return at + text.size();
    };
    const bool is_public = std::any_of(k_public.begin(), k_public.end(), [&](std::string_view prefix) { return entry.name.starts_with(prefix); });
    if (is_public && entry.name.ends_with("PORT") && number_at(entry.value).second == entry.value.size() && !entry.value.empty()) { (void)replace(0); }
    for (const auto host : k_loopback) {
        for (auto at = found.value.find(host); at != std::string::npos; at = found.value.find(host, at)) {
            const bool whole = at == 0 || !is_name_part(found.value[at - 1]);
            at += host.size();
            if (whole) { at = replace(at); }
        }
    }
    if (found.from == 0) { return std::nullopt; }
    return found;
}

}  // namespace portwrap
