// The refusal codes, their names on the wire and their exit statuses (the table of refusals in docs/protocol.md).
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace portwrap {

enum class ErrorCode {
    invalid_request,
    port_in_use,
    port_leased,
    system_reserved,
    port_reserved,
    out_of_range,
    not_owner,
    permission_denied,
    not_found,
    unknown_range,
    range_exhausted,
    storage_error,
    agent_unavailable,
    version_mismatch,
};

struct ErrorCodeRow {
    ErrorCode code;
    std::string_view name;
    int exit_status;  ///< of portctl; 69 is EX_UNAVAILABLE of sysexits.h
};

inline constexpr std::array k_error_codes{
    ErrorCodeRow{ErrorCode::invalid_request, "INVALID_REQUEST", 2},
    ErrorCodeRow{ErrorCode::port_in_use, "PORT_IN_USE", 1},
    ErrorCodeRow{ErrorCode::port_leased, "PORT_LEASED", 1},
    ErrorCodeRow{ErrorCode::system_reserved, "SYSTEM_RESERVED", 1},
    ErrorCodeRow{ErrorCode::port_reserved, "PORT_RESERVED", 1},
    ErrorCodeRow{ErrorCode::out_of_range, "OUT_OF_RANGE", 1},
    ErrorCodeRow{ErrorCode::not_owner, "NOT_OWNER", 1},
    ErrorCodeRow{ErrorCode::permission_denied, "PERMISSION_DENIED", 1},
    ErrorCodeRow{ErrorCode::not_found, "NOT_FOUND", 3},
    ErrorCodeRow{ErrorCode::unknown_range, "UNKNOWN_RANGE", 3},
    ErrorCodeRow{ErrorCode::range_exhausted, "RANGE_EXHAUSTED", 4},
    ErrorCodeRow{ErrorCode::storage_error, "STORAGE_ERROR", 5},
    ErrorCodeRow{ErrorCode::agent_unavailable, "AGENT_UNAVAILABLE", 69},
    ErrorCodeRow{ErrorCode::version_mismatch, "VERSION_MISMATCH", 69},
};

[[nodiscard]] constexpr std::string_view error_code_name(ErrorCode code) {
    for (const auto& row : k_error_codes) {
        if (row.code == code) { return row.name; }
    }
    return "INVALID_REQUEST";
}

[[nodiscard]] constexpr int exit_status_of(std::string_view name) {
    for (const auto& row : k_error_codes) {
        if (row.name == name) { return row.exit_status; }
    }
    return 1;
}

[[nodiscard]] constexpr std::optional<ErrorCode> error_code_from_name(std::string_view name) {
    for (const auto& row : k_error_codes) {
        if (row.name == name) { return row.code; }
    }
    return std::nullopt;
}

}  // namespace portwrap
