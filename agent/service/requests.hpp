// What the handlers of requests share: checks of words and numbers that come in from outside.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "core/types.hpp"
#include "service/wire.hpp"
#include "system/places.hpp"

namespace portwrap {

inline constexpr const char* k_service_rule = "has characters that cannot be shown, or begins or ends with a space";

/// A package's directory can be a service's name, so spaces inside are fine.
[[nodiscard]] inline bool is_service_name(const std::string& name) {
    return !name.empty() && printable(name, 64) == name && name.front() != ' ' && name.back() != ' ';
}

inline constexpr const char* k_hostname_rule = "is not a host's name (letters, digits, \".\", \"-\", \"_\" and \"*\", at most 253)";

/// What may stand in a URL and in a proxy's configuration as it is.
[[nodiscard]] inline bool is_hostname(std::string_view name) {
    return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == '*';
    });
}

/// A service's name among the parameters; a mistake when it is none.
[[nodiscard]] inline std::optional<std::string> read_service(Params& params, const char* name) {
    auto service = params.text(name, 64);
    if (service && !is_service_name(*service)) { params.fail(name, k_service_rule); }
    return service;
}

}  // namespace portwrap
