// What the handlers of requests share: checks of words and numbers that come in from outside.
#pragma once

#include <string>

#include "core/types.hpp"
#include "service/wire.hpp"
#include "system/places.hpp"

namespace portwrap {

inline constexpr const char* k_service_rule = "has characters that cannot be shown, or begins or ends with a space";

/// A package's directory can be a service's name, so spaces inside are fine.
[[nodiscard]] inline bool is_service_name(const std::string& name) {
    return !name.empty() && printable(name, 64) == name && name.front() != ' ' && name.back() != ' ';
}

/// A service's name among the parameters; a mistake when it is none.
[[nodiscard]] inline std::optional<std::string> read_service(Params& params, const char* name) {
    auto service = params.text(name, 64);
    if (service && !is_service_name(*service)) { params.fail(name, k_service_rule); }
    return service;
}

}  // namespace portwrap
