// nlohmann/json coerces (70000 becomes 4464, true becomes 1) and lets the last duplicate key win; nothing here relies on it.
#include "service/wire.hpp"

#include <algorithm>

#include "portwrap/protocol.hpp"
#include "system/places.hpp"

namespace portwrap {

std::variant<Request, RequestError> parse_request(std::string_view line) {
    bool too_deep = false;
    bool duplicate = false;
    std::vector<std::vector<std::string>> keys;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth > k_max_json_depth) { too_deep = true; }
        if (event == Json::parse_event_t::object_start) { keys.emplace_back(); }
        if (event == Json::parse_event_t::object_end && !keys.empty()) { keys.pop_back(); }
        if (event == Json::parse_event_t::key && !keys.empty()) {
            auto& seen = keys.back();
            const auto& name = parsed.get_ref<const std::string&>();
            if (std::find(seen.begin(), seen.end(), name) != seen.end()) { duplicate = true; }
            if (seen.size() < 256) { seen.push_back(name); }
        }
        return !too_deep;
    };
    Json message = Json::parse(line.begin(), line.end(), watch, false);
    if (too_deep) { return RequestError{k_rpc_parse_error, nullptr, "nested deeper than " + std::to_string(k_max_json_depth) + " levels"}; }
    if (message.is_discarded()) { return RequestError{k_rpc_parse_error, nullptr, "not JSON"}; }
    if (duplicate) { return RequestError{k_rpc_invalid_request, nullptr, "a key stands twice"}; }
    if (!message.is_object()) { return RequestError{k_rpc_invalid_request, nullptr, "not a request object"}; }

    Request request;
    if (const auto id = message.find("id"); id == message.end()) {
        request.notification = true;
    } else if (id->is_string() || id->is_number_integer() || id->is_null()) {
        request.id = *id;
    } else {
        return RequestError{k_rpc_invalid_request, nullptr, "\"id\" is neither a string nor an integer"};
    }
    const auto version = message.find("jsonrpc");
    const auto method = message.find("method");
    if (version == message.end() || *version != "2.0") { return RequestError{k_rpc_invalid_request, request.id, "\"jsonrpc\" is not \"2.0\""}; }
    if (method == message.end() || !method->is_string()) { return RequestError{k_rpc_invalid_request, request.id, "\"method\" is missing"}; }
    request.method = method->get<std::string>();
    if (const auto params = message.find("params"); params != message.end()) {
        if (!params->is_object()) { return RequestError{k_rpc_invalid_params, request.id, "\"params\" is not an object"}; }
        request.params = std::move(*params);
    }
    return request;
}

std::string result_line(const Json& id, const Json& result) {
    return Json{{"jsonrpc", "2.0"}, {"id", id}, {"result", result}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string error_line(const Json& id, int code, const std::string& message, const Json& data) {
    Json error{{"code", code}, {"message", message}};
    if (!data.is_null()) { error["data"] = data; }
    return Json{{"jsonrpc", "2.0"}, {"id", id}, {"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const Json* Params::find(const char* name) {
    m_read.emplace_back(name);
    const auto it = m_params.find(name);
    return it == m_params.end() || it->is_null() ? nullptr : &*it;
}

void Params::fail(const std::string& name, const std::string& what) {
    if (m_problem.empty()) { m_problem = "\"" + name + "\" " + what; }
}

void Params::require(const char* name) {
    const auto it = m_params.find(name);
    if (it == m_params.end() || it->is_null()) { fail(name, "is missing"); }
}

std::optional<std::string> Params::text(const char* name, std::size_t limit, bool may_be_empty) {
    const auto* value = find(name);
    if (value == nullptr) { return std::nullopt; }
    if (!value->is_string()) {
        fail(name, "is not a string");
        return std::nullopt;
    }
    const auto& given = value->get_ref<const std::string&>();
    const bool missing = given.empty() && !may_be_empty;
    if (missing || given.size() > limit) {
        fail(name, missing ? "is empty" : "is longer than " + std::to_string(limit) + " bytes");
        return std::nullopt;
    }
    return given;
}

namespace {
std::optional<std::uint64_t> unsigned_value(const Json& value) {
    if (value.is_number_unsigned()) { return value.get<std::uint64_t>(); }
    return std::nullopt;
}
}  // namespace

std::optional<std::uint64_t> Params::number(const char* name, std::uint64_t max) {
    const auto* value = find(name);
    if (value == nullptr) { return std::nullopt; }
    const auto number = unsigned_value(*value);
    if (!number || *number > max) {
        fail(name, "is not an integer from 0 to " + std::to_string(max));
        return std::nullopt;
    }
    return number;
}

std::optional<Port> Params::port(const char* name) {
    const auto* value = find(name);
    if (value == nullptr) { return std::nullopt; }
    const auto number = unsigned_value(*value);
    if (!number || *number < 1 || *number > 65535) {
        fail(name, "is not a port (an integer from 1 to 65535)");
        return std::nullopt;
    }
    return static_cast<Port>(*number);
}

bool Params::flag(const char* name, bool otherwise) {
    const auto* value = find(name);
    if (value == nullptr) { return otherwise; }
    if (!value->is_boolean()) {
        fail(name, "is not true or false");
        return otherwise;
    }
    return value->get<bool>();
}

std::vector<std::string> Params::texts(const char* name, std::size_t count, std::size_t limit) {
    const auto* value = find(name);
    std::vector<std::string> result;
    if (value == nullptr) { return result; }
    if (!value->is_array() || value->size() > count) {
        fail(name, "is not an array of at most " + std::to_string(count) + " strings");
        return result;
    }
    for (const auto& entry : *value) {
        if (!entry.is_string() || entry.get_ref<const std::string&>().size() > limit) {
            fail(name, "is not an array of strings of at most " + std::to_string(limit) + " bytes");
            return {};
        }
        result.push_back(entry.get<std::string>());
    }
    return result;
}

std::vector<std::uint64_t> Params::numbers(const char* name, std::size_t count) {
    const auto* value = find(name);
    std::vector<std::uint64_t> result(count, 0);
    if (value == nullptr) { return result; }
    const bool fits = value->is_array() && value->size() == count &&
                      std::all_of(value->begin(), value->end(), [](const Json& entry) { return entry.is_number_unsigned(); });
    if (!fits) {
        fail(name, "is not an array of " + std::to_string(count) + " integers");
        return result;
    }
    for (std::size_t i = 0; i < count; ++i) { result[i] = (*value)[i].get<std::uint64_t>(); }
    return result;
}

std::string Params::finish() {
    for (const auto& [name, value] : m_params.items()) {
        if (std::find(m_read.begin(), m_read.end(), name) == m_read.end()) { fail(printable(name, 64), "is not a parameter of this method"); }
    }
    return m_problem;
}

}  // namespace portwrap
