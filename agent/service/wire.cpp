// Requests are read where they stand (storage/json_text.hpp): most are small and many, and a tree of each costs more than deciding it.
#include "service/wire.hpp"

#include <algorithm>

#include "portwrap/protocol.hpp"
#include "system/places.hpp"

namespace portwrap {

namespace {

/// Each of a request's copies has its own.
constexpr std::size_t k_max_id = 1024;

/// None where it is no id: neither a short string nor an integer nor null.
std::optional<Json> read_id(const JsonValue& value) {
    if (value.is_null()) { return Json(nullptr); }
    if (auto text = value.text()) { return text->size() <= k_max_id ? std::optional(Json(std::move(*text))) : std::nullopt; }
    if (const auto number = value.unsigned_number()) { return Json(*number); }
    if (const auto number = value.number()) { return Json(*number); }
    return std::nullopt;
}

std::string text_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

bool has_room_beside(std::size_t held_bytes, std::string_view line) {
    const auto has_room = [held_bytes](std::size_t bytes) { return held_bytes + 64 * std::min(bytes, k_max_line) <= k_held_bytes; };
    return has_room(line.size()) && has_room(line.size() + JsonText::bytes_at_most(line));
}

std::optional<RequestParams> RequestParams::of(std::string text) {
    auto line = std::make_shared<Line>(Line{std::move(text), {}, {}});
    auto parsed = JsonText::parse(line->text, k_max_json_depth);
    if (!parsed || !parsed->root().is_object()) { return std::nullopt; }
    line->json = std::move(*parsed);
    RequestParams params;
    params.m_object = line->json->root();
    params.m_line = std::move(line);
    return params;
}

std::variant<Request, RequestError> parse_request(std::string_view text, const HeldBytes::Total& held) {
    auto line = std::make_shared<RequestParams::Line>(RequestParams::Line{std::string(text), {}, {}});
    auto parsed = JsonText::parse(line->text, k_max_json_depth);
    if (!parsed) { return RequestError{k_rpc_parse_error, nullptr, parsed.error().message}; }
    if (parsed->has_duplicates()) { return RequestError{k_rpc_invalid_request, nullptr, "a key stands twice"}; }
    if (!parsed->root().is_object()) { return RequestError{k_rpc_invalid_request, nullptr, "not a request object"}; }
    line->json = std::move(*parsed);
    JsonMembers message(line->json->root());

    Request request;
    if (const auto id = message.find("id"); !id.exists()) {
        request.notification = true;
    } else if (auto read = read_id(id)) {
        request.id = std::move(*read);
    } else {
        return RequestError{k_rpc_invalid_request, nullptr, "\"id\" is neither a string of a kilobyte at most nor an integer"};
    }
    if (message.find("jsonrpc").text() != "2.0") { return RequestError{k_rpc_invalid_request, request.id, "\"jsonrpc\" is not \"2.0\""}; }
    auto method = message.find("method").text();
    if (!method) { return RequestError{k_rpc_invalid_request, request.id, "\"method\" is missing"}; }
    request.method = std::move(*method);
    if (const auto params = message.find("params"); params.exists()) {
        if (!params.is_object()) { return RequestError{k_rpc_invalid_params, request.id, "\"params\" is not an object"}; }
        if (held) { line->held = HeldBytes(held, line->text.size() + line->json->bytes()); }
        request.params.m_object = params;
        request.params.m_line = std::move(line);
    }
    return request;
}

std::string result_line(const Json& id, const Json& result) {
    // Without a Json of the whole, which would copy the result.
    return "{\"id\":" + text_of(id) + ",\"jsonrpc\":\"2.0\",\"result\":" + text_of(result) + "}";
}

std::string result_line(const Json& id, const Json& result, std::string_view array, std::size_t count,
                        const std::function<Json(std::size_t index)>& element) {
    auto line = result_line(id, result);
    line.erase(line.size() - 2);  // the ends of the result and of the line
    if (!result.empty()) { line += ','; }
    line += '"';
    line += array;
    line += "\":[";
    for (std::size_t index = 0; index < count; ++index) {
        if (index > 0) { line += ','; }
        line += text_of(element(index));
    }
    return line += "]}}";
}

std::string error_line(const Json& id, int code, const std::string& message, const Json& data) {
    Json error{{"code", code}, {"message", message}};
    if (!data.is_null()) { error["data"] = data; }
    return "{\"error\":" + text_of(error) + ",\"id\":" + text_of(id) + ",\"jsonrpc\":\"2.0\"}";
}

JsonValue Params::find(const char* name) {
    m_read.emplace_back(name);
    const auto value = m_members.find(name);
    return value.is_null() ? JsonValue() : value;
}

void Params::fail(const std::string& name, const std::string& what) {
    if (m_problem.empty()) { m_problem = "\"" + name + "\" " + what; }
}

void Params::require(const char* name) {
    const auto value = m_members.find(name);
    if (!value.exists() || value.is_null()) { fail(name, "is missing"); }
}

std::optional<std::string> Params::text(const char* name, std::size_t limit, bool may_be_empty) {
    const auto value = find(name);
    if (!value.exists()) { return std::nullopt; }
    auto given = value.text();
    if (!given) {
        fail(name, "is not a string");
        return std::nullopt;
    }
    const bool missing = given->empty() && !may_be_empty;
    if (missing || given->size() > limit) {
        fail(name, missing ? "is empty" : "is longer than " + std::to_string(limit) + " bytes");
        return std::nullopt;
    }
    return given;
}

std::optional<std::uint64_t> Params::number(const char* name, std::uint64_t max) {
    const auto value = find(name);
    if (!value.exists()) { return std::nullopt; }
    const auto number = value.unsigned_number();
    if (!number || *number > max) {
        fail(name, "is not an integer from 0 to " + std::to_string(max));
        return std::nullopt;
    }
    return number;
}

std::optional<Port> Params::port(const char* name) {
    const auto value = find(name);
    if (!value.exists()) { return std::nullopt; }
    const auto number = value.unsigned_number();
    if (!number || *number < 1 || *number > 65535) {
        fail(name, "is not a port (an integer from 1 to 65535)");
        return std::nullopt;
    }
    return static_cast<Port>(*number);
}

bool Params::flag(const char* name, bool otherwise) {
    const auto value = find(name);
    if (!value.exists()) { return otherwise; }
    const auto given = value.boolean();
    if (!given) { fail(name, "is not true or false"); }
    return given.value_or(otherwise);
}

std::vector<std::string> Params::texts(const char* name, std::size_t count, std::size_t limit) {
    const auto value = find(name);
    std::vector<std::string> result;
    if (!value.exists()) { return result; }
    for (auto entry = value.first(); entry.exists() && result.size() <= count; entry = entry.next()) {
        auto text = entry.text();
        if (!text || text->size() > limit) {
            fail(name, "is not an array of strings of at most " + std::to_string(limit) + " bytes");
            return {};
        }
        result.push_back(std::move(*text));
    }
    if (!value.is_array() || result.size() > count) {
        fail(name, "is not an array of at most " + std::to_string(count) + " strings");
        return {};
    }
    return result;
}

std::vector<std::uint64_t> Params::numbers(const char* name, std::size_t count) {
    const auto value = find(name);
    if (!value.exists()) { return std::vector<std::uint64_t>(count, 0); }
    std::vector<std::uint64_t> result;
    bool fits = value.is_array();
    for (auto entry = value.first(); fits && entry.exists(); entry = entry.next()) {
        const auto number = entry.unsigned_number();
        fits = number && result.size() < count;
        result.push_back(number.value_or(0));
    }
    if (!fits || result.size() != count) {
        fail(name, "is not an array of " + std::to_string(count) + " integers");
        result.assign(count, 0);
    }
    return result;
}

std::string Params::finish() {
    for (const auto& name : m_members.names()) {
        if (std::find(m_read.begin(), m_read.end(), name) == m_read.end()) { fail(printable(name, 64), "is not a parameter of this method"); }
    }
    return m_problem;
}

}  // namespace portwrap
