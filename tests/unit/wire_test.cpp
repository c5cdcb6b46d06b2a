// Strict reading of requests: nothing is coerced, nothing odd gets through.
#include <catch2/catch.hpp>

#include "service/wire.hpp"

using namespace portwrap;

namespace {
int code_of(std::string_view line) {
    const auto parsed = parse_request(line);
    const auto* error = std::get_if<RequestError>(&parsed);
    return error != nullptr ? error->code : 0;
}

RequestParams params_of(const std::string& text) {
    auto params = RequestParams::of(text);
    REQUIRE(params);
    return *params;
}
}  // namespace

TEST_CASE("a request is read whole", "[wire]") {
    const auto parsed = parse_request(R"({"jsonrpc":"2.0","id":7,"method":"agent.status","params":{"a":[1,{"b":null}]}})");
    const auto& request = std::get<Request>(parsed);
    CHECK(request.id == 7);
    CHECK(request.method == "agent.status");
    CHECK_FALSE(request.notification);
    CHECK(std::get<Request>(parse_request(R"({"jsonrpc":"2.0","method":"x"})")).notification);
}

TEST_CASE("what is no request is refused with the code of its kind", "[wire]") {
    CHECK(code_of("") == k_rpc_parse_error);
    CHECK(code_of("{") == k_rpc_parse_error);
    CHECK(code_of("GET / HTTP/1.1") == k_rpc_parse_error);
    CHECK(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}") == k_rpc_parse_error);
    CHECK(code_of(std::string(60000, '[')) == k_rpc_parse_error);
    CHECK(code_of("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}}") == k_rpc_parse_error);
    CHECK(code_of("[]") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","method":"x","id":")" + std::string(1024, 'i') + R"("})") == 0);
    CHECK(code_of(R"({"jsonrpc":"2.0","method":"x","id":")" + std::string(1025, 'i') + R"("})") == k_rpc_invalid_request);
    CHECK(code_of("7") == k_rpc_invalid_request);
    CHECK(code_of(R"({"id":1,"method":"x"})") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1.5,"method":"x"})") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1,"method":7})") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1,"id":2,"method":"x"})") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1,"method":"x","params":{"a":{"b":1,"b":2}}})") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"\u0061":1}})") == k_rpc_invalid_request);
    std::string many = R"({"jsonrpc":"2.0","id":1,"method":"x","params":{)";
    for (int i = 0; i < 300; ++i) { many += "\"p" + std::to_string(i) + "\":0,"; }
    CHECK(code_of(many + "\"q\":0}}") == 0);
    CHECK(code_of(many + "\"p7\":0}}") == k_rpc_invalid_request);
    CHECK(code_of(R"({"jsonrpc":"2.0","id":1,"method":"x","params":[]})") == k_rpc_invalid_params);
}

TEST_CASE("a port is an integer from 1 to 65535 and nothing else", "[wire]") {
    for (const auto* text : {"70000", "-1", "80.9", "true", "\"3000\"", "0", "65536", "[3000]", "1e400", "18446744073709551617"}) {
        Params params(params_of(std::string("{\"port\":") + text + "}"));
        CHECK_FALSE(params.port("port"));
        CHECK_FALSE(params.finish().empty());
    }
    Params params(params_of(R"({"port":65535})"));
    CHECK(params.port("port") == Port{65535});
    CHECK(params.finish().empty());
}

TEST_CASE("parameters that nobody knows and that are missing are named", "[wire]") {
    const auto given = params_of(R"({"porT":1})");
    Params params(given);
    (void)params.port("port");
    CHECK(params.finish().find("porT") != std::string::npos);
    Params needed(given);
    needed.require("service");
    CHECK(needed.finish().find("service") != std::string::npos);
}

TEST_CASE("bad bytes in a reply are replaced, not thrown about", "[wire]") {
    CHECK(result_line(1, Json{{"a", "\xff"}}).find("\xEF\xBF\xBD") != std::string::npos);
}

TEST_CASE("a long array of a reply is written element by element", "[wire]") {
    const std::vector<Json> elements{Json{{"port", 3000}}, Json("b"), Json(nullptr)};
    const auto element = [&](std::size_t index) { return elements[index]; };
    for (std::size_t count = 0; count <= elements.size(); ++count) {
        const Json array(std::vector<Json>(elements.begin(), elements.begin() + static_cast<std::ptrdiff_t>(count)));
        for (const auto& rest : {Json{{"ok", true}, {"zero", 0}}, Json::object()}) {
            auto whole = rest;
            whole["list"] = count == 0 ? Json::array() : array;
            CHECK(Json::parse(result_line("a", rest, "list", count, element)) == Json::parse(result_line("a", whole)));
        }
    }
}

TEST_CASE("what a request's parameters take is counted until their last copy is gone", "[wire]") {
    const auto held = std::make_shared<std::atomic<std::size_t>>(0);
    const auto line = R"({"jsonrpc":"2.0","id":"a","method":"x","params":{"service":")" + std::string(5000, 's') + R"("}})";
    auto parsed = std::make_unique<std::variant<Request, RequestError>>(parse_request(line, held));
    auto copy = std::get<Request>(*parsed).params;
    CHECK(*held > line.size());
    CHECK(*held < 3 * line.size());
    parsed.reset();
    CHECK(*held > line.size());
    copy = {};
    CHECK(*held == 0);
}

TEST_CASE("lines that wait leave room for shorter ones", "[wire]") {
    constexpr std::size_t k_launch = 2000;
    constexpr std::size_t k_bind = 300;
    const auto request = [](std::size_t size, const std::string& unit) {
        std::string line = R"({"jsonrpc":"2.0","id":1,"method":"x","params":{"words":[)";
        while (line.size() + unit.size() < size - 4) { line += unit + ","; }
        return line + "\"\"]}}";
    };
    const auto words = [&](std::size_t size) { return request(size, '"' + std::string(40, 'w') + '"'); };
    const auto digits = [&](std::size_t size) { return request(size, "1"); };
    const auto fill = [](std::size_t held, const std::string& line) {
        const auto counted = std::make_shared<std::atomic<std::size_t>>(0);
        const auto parsed = parse_request(line, counted);
        REQUIRE(std::holds_alternative<Request>(parsed));
        while (has_room_beside(held, line)) { held += *counted; }
        return held;
    };
    const auto launch = words(k_launch);
    const auto bind = words(k_bind);
    for (const auto size : {64UL * 1024, 16UL * 1024, 4UL * 1024, 2000UL, 641UL, 300UL}) {
        for (const auto& line : {words(size), digits(size)}) {
            const auto held = fill(0, line);
            CHECK(held <= k_held_bytes);
            if (size > k_launch || line == digits(k_launch)) { CHECK(fill(held, launch) >= held + 60 * k_launch); }
            if (size > k_bind || line == digits(k_bind)) { CHECK(fill(held, bind) >= held + 60 * k_bind); }
        }
    }
    const auto longest = fill(0, words(64 * 1024));
    CHECK(longest <= k_held_bytes / 2 + 64 * 1024);
    const auto full = fill(longest, launch);
    CHECK_FALSE(has_room_beside(full, launch));
    CHECK(fill(full, bind) >= full + 60 * k_bind);
    CHECK(fill(full, bind) <= k_held_bytes);
}

TEST_CASE("what a line will take at most is known before it is read", "[wire]") {
    for (const auto* text : {"1", "[]", "{}", R"({"a":1})", "[1,2,3]", "[[[[]]]]", R"({"a":{"b":[{"c":null},[true,"x,y:{}"]]}})", R"([{},{},{"a":[]}])"}) {
        std::string padded = text;
        for (int spaces = 0; spaces < 3; ++spaces, padded.append(100, ' ')) {
            const auto parsed = JsonText::parse(padded, 16);
            REQUIRE(parsed);
            CHECK(parsed->bytes() <= JsonText::bytes_at_most(padded));
        }
    }
    for (std::size_t count : {1UL, 5UL, 17UL, 1000UL, 30000UL}) {
        std::string text = "[1";
        for (std::size_t i = 1; i < count; ++i) { text += ",1"; }
        text += "]";
        const auto parsed = JsonText::parse(text, 4);
        REQUIRE(parsed);
        CHECK(parsed->bytes() <= JsonText::bytes_at_most(text));
    }
}

TEST_CASE("a request's parameters outlive the request and its line", "[wire]") {
    auto line = std::make_unique<std::string>(R"({"jsonrpc":"2.0","id":"a","method":"x","params":{"service":"caf\u00e9","command":["a","b"],"session":[1,2],"force":true,"cwd":null}})");
    auto request = std::make_unique<Request>(std::get<Request>(parse_request(*line)));
    const auto copy = request->params;
    line.reset();
    request.reset();
    Params params(copy);
    CHECK(params.text("service") == "caf\xc3\xa9");
    CHECK(params.texts("command", 2, 8) == std::vector<std::string>{"a", "b"});
    CHECK(params.numbers("session", 2) == std::vector<std::uint64_t>{1, 2});
    CHECK(params.flag("force"));
    CHECK_FALSE(params.text("cwd"));
    CHECK(params.has("cwd"));
    CHECK(params.finish().empty());
    CHECK(params.texts("command", 1, 8).empty());
    CHECK(params.finish().find("at most 1 strings") != std::string::npos);
    Params none(RequestParams{});
    CHECK_FALSE(none.text("service"));
    CHECK(none.finish().empty());
}
