// JSON-RPC lines in and out: strict reading of requests and their parameters.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/policy.hpp"
#include "portwrap/result.hpp"
#include "storage/json_text.hpp"

namespace portwrap {

using Json = nlohmann::json;

struct Exchange;
struct Request;
struct RequestError;

/// Codes of JSON-RPC 2.0; k_rpc_refused is the first of its range for applications.
inline constexpr int k_rpc_parse_error = -32700;
inline constexpr int k_rpc_invalid_request = -32600;
inline constexpr int k_rpc_unknown_method = -32601;
inline constexpr int k_rpc_invalid_params = -32602;
inline constexpr int k_rpc_refused = -32000;

/// Bytes that are counted for as long as this lives.
class HeldBytes {
public:
    using Total = std::shared_ptr<std::atomic<std::size_t>>;
    HeldBytes() = default;
    HeldBytes(Total total, std::size_t bytes) : m_total(std::move(total)), m_bytes(bytes) { *m_total += m_bytes; }
    HeldBytes(HeldBytes&& other) noexcept = default;
    HeldBytes& operator=(HeldBytes&& other) noexcept {
        std::swap(m_total, other.m_total);
        std::swap(m_bytes, other.m_bytes);
        return *this;
    }
    HeldBytes(const HeldBytes&) = delete;
    HeldBytes& operator=(const HeldBytes&) = delete;
    ~HeldBytes() {
        if (m_total) { *m_total -= m_bytes; }
    }

private:
    Total m_total;
    std::size_t m_bytes = 0;
};

/// What lines of requests that wait for something may take together.
inline constexpr std::size_t k_held_bytes = 7 * 1024 * 1024;
/// Whether one more may be decided, and wait in its turn: there must be room for 64 that take as much as it will at most. So the largest leave
/// much of the room to smaller ones, and no number of them keeps out what is much smaller: a launch, whose variables' names take a kilobyte
/// or two, or a bind. One that is full of small elements takes more than the longest line, and waits no longer than that.
[[nodiscard]] bool has_room_beside(std::size_t held_bytes, std::string_view line);

/// The object of a request's parameters, where it stands in the request's line, which all copies share.
class RequestParams {
public:
    RequestParams() = default;
    /// Of an object's text; nothing for anything else. For what has no line of its own.
    [[nodiscard]] static std::optional<RequestParams> of(std::string text);
    [[nodiscard]] JsonValue object() const { return m_object; }

private:
    friend std::variant<Request, RequestError> parse_request(std::string_view line, const HeldBytes::Total& held);
    struct Line {
        std::string text;
        std::optional<JsonText> json;
        HeldBytes held;
    };
    std::shared_ptr<const Line> m_line;
    JsonValue m_object;  ///< does not exist where none were given
};

struct Request {
    Json id;  ///< null when absent
    bool notification = false;
    std::shared_ptr<const Exchange> from;  ///< whose it is; null until somebody has taken it
    std::string method;
    RequestParams params;
    bool again = false;  ///< it was put off until the store had another try

    /// What a reply needs of it: who waits for long keeps no more.
    [[nodiscard]] Request without_params() const { return {id, notification, from, method, {}, again}; }
};

struct RequestError {
    int code = k_rpc_parse_error;
    Json id;
    std::string message;
};

/// Refuses what is not JSON, not a request, has duplicate keys, invalid UTF-8, nests deeper than k_max_json_depth, or has an id
/// that is longer than a kilobyte. What the parameters take of memory is counted in `held`, if that is given, until their last copy is gone.
[[nodiscard]] std::variant<Request, RequestError> parse_request(std::string_view line, const HeldBytes::Total& held = nullptr);

[[nodiscard]] std::string result_line(const Json& id, const Json& result);
/// With one more member, a long array, which is written element by element: a tree of all of them takes a multiple of their text.
[[nodiscard]] std::string result_line(const Json& id, const Json& result, std::string_view array, std::size_t count,
                                      const std::function<Json(std::size_t index)>& element);
/// `data` may be null.
[[nodiscard]] std::string error_line(const Json& id, int code, const std::string& message, const Json& data);

/// Reads parameters by name, kind and range. The first mistake is kept; finish() also refuses names that nobody read.
class Params {
public:
    explicit Params(const RequestParams& params) : m_params(params), m_members(params.object()) {}
    /// Whether it was given, be it null.
    [[nodiscard]] bool has(const char* name) { return m_members.find(name).exists(); }
    /// Absent and null are the same.
    [[nodiscard]] std::optional<std::string> text(const char* name, std::size_t limit = 256, bool may_be_empty = false);
    [[nodiscard]] std::optional<std::uint64_t> number(const char* name, std::uint64_t max);
    [[nodiscard]] std::optional<Port> port(const char* name);
    [[nodiscard]] bool flag(const char* name, bool otherwise = false);
    [[nodiscard]] std::vector<std::string> texts(const char* name, std::size_t count, std::size_t limit);
    [[nodiscard]] std::vector<std::uint64_t> numbers(const char* name, std::size_t count);
    template <typename E>
    [[nodiscard]] std::optional<E> choice(const char* name) {
        const auto given = text(name);
        if (!given) { return std::nullopt; }
        const auto value = from_word<E>(*given);
        if (!value) {
            std::string words;
            for (const auto& known : Words<E>::k_words) { words += (words.empty() ? "" : ", ") + std::string(known); }
            fail(name, "is not one of " + words);
        }
        return value;
    }
    void require(const char* name);
    void fail(const std::string& name, const std::string& what);
    /// Empty when all is well.
    [[nodiscard]] std::string finish();

private:
    JsonValue find(const char* name);
    RequestParams m_params;
    JsonMembers m_members;
    std::vector<std::string_view> m_read;  ///< names of ours, which live as long as the program
    std::string m_problem;
};

}  // namespace portwrap
