// What the handlers of requests share: checks of words and numbers that come in from outside.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "core/types.hpp"
#include "service/wire.hpp"
#include "system/places.hpp"

namespace portwrap {

inline constexpr const char* k_service_rule = "is a number, has characters that cannot be shown, or begins or ends with a space";

/// A package's directory can be a service's name, so spaces inside are fine. A number means a port wherever a service may stand.
[[nodiscard]] inline bool is_service_name(const std::string& name) {
    return name.find_first_not_of("0123456789") != std::string::npos && printable(name, 64) == name && name.front() != ' ' && name.back() != ' ';
}

inline constexpr const char* k_hostname_rule = "is not a host's name (letters, digits, \".\", \"-\", \"_\" and \"*\", at most 253)";

/// What may stand in a URL and in a proxy's configuration as it is.
[[nodiscard]] inline bool is_hostname(std::string_view name) {
    return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == '*';
    });
}

/// A hostname among the parameters; "" only where that takes the value away.
[[nodiscard]] inline std::optional<std::string> read_hostname(Params& params, const char* name, bool may_be_empty = false) {
    auto hostname = params.text(name, 253, may_be_empty);
    if (hostname && !hostname->empty() && !is_hostname(*hostname)) { params.fail(name, k_hostname_rule); }
    return hostname;
}

/// A service's name among the parameters; a mistake when it is none.
[[nodiscard]] inline std::optional<std::string> read_service(Params& params, const char* name) {
    auto service = params.text(name, 64);
    if (service && !is_service_name(*service)) { params.fail(name, k_service_rule); }
    return service;
}

}  // namespace portwrap
