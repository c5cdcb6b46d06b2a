// Result<T>: a value or an Error, with std::expected's names (clang 14 ships no std::expected).
#pragma once

#include <cassert>
#include <string>
#include <utility>
#include <variant>

#include "portwrap/error_code.hpp"

namespace portwrap {

/// What went wrong, as a user may read it. `code` is one of SPEC's refusal codes.
struct Error {
    ErrorCode code = ErrorCode::invalid_request;
    std::string message;
};

template <typename T>
class [[nodiscard]] Result {
public:
    Result(T value) : m_state(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : m_state(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool has_value() const noexcept { return m_state.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    [[nodiscard]] T& value() & { assert(has_value()); return *std::get_if<0>(&m_state); }
    [[nodiscard]] const T& value() const& { assert(has_value()); return *std::get_if<0>(&m_state); }
    [[nodiscard]] T&& value() && { assert(has_value()); return std::move(*std::get_if<0>(&m_state)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    [[nodiscard]] const Error& error() const { assert(!has_value()); return *std::get_if<1>(&m_state); }

private:
    std::variant<T, Error> m_state;
};

/// For operations without a value.
using Status = Result<std::monostate>;
inline Status ok_status() { return Status{std::monostate{}}; }

}  // namespace portwrap
