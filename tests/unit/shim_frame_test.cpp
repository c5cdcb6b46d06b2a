#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "portwrap/shim_frame.hpp"

namespace frame = portwrap::shim_frame;
using frame::Reply;
using frame::ReplyKind;
using nlohmann::json;

namespace {

constexpr std::uint64_t k_largest = UINT64_MAX;

// The line is copied to memory of exactly its size, so that a sanitizer sees every read beyond the end.
ReplyKind read(const std::string& line, Reply& reply, std::uint32_t id = 1) {
    const std::vector<char> exact(line.begin(), line.end());
    const auto kind = frame::read_reply(exact.data(), exact.size(), id, reply);
    reply.notice = nullptr;
    return kind;
}

ReplyKind read_port(const std::string& line, std::uint32_t asked = 3000) {
    Reply reply;
    return frame::read_port_reply(line.data(), line.size(), 1, asked, reply);
}

std::string result(const std::string& members) { return R"({"jsonrpc":"2.0","id":1,"result":{)" + members + "}}\n"; }

std::string notice_of(const std::string& line) {
    std::string memory = line;
    Reply reply;
    REQUIRE(frame::read_notice_reply(memory.data(), memory.size(), 1, reply) == ReplyKind::result);
    const auto size = frame::copy_notice(reply, memory.data());
    return memory.substr(0, size);
}

}  // namespace

TEST_CASE("the requests are the lines of the protocol, byte for byte", "[shim]") {
    char out[frame::k_max_request];
    frame::BindRequest bind;
    bind.port = 3000;
    bind.family = 10;
    bind.protocol = 6;
    bind.cookie = 77;
    bind.netns = 1;
    bind.session = {4242, 1234567};
    CHECK(std::string(out, frame::write_bind(out, sizeof out, bind)) ==
          R"({"jsonrpc":"2.0","id":1,"method":"shim.bind","params":{"port":3000,"family":10,"scope":0,"protocol":6,"reuseport":0,"cookie":77,"netns":1,"session":[4242,1234567]}})"
          "\n");
    CHECK(std::string(out, frame::write_failed(out, sizeof out, {2, 17, 3001, 98})) ==
          R"({"jsonrpc":"2.0","id":2,"method":"shim.failed","params":{"lease":17,"port":3001,"errno":98}})"
          "\n");
    CHECK(std::string(out, frame::write_bound(out, sizeof out, {17, 3001, 77})) ==
          R"({"jsonrpc":"2.0","method":"shim.bound","params":{"lease":17,"port":3001,"cookie":77}})"
          "\n");
    CHECK(std::string(out, frame::write_listening(out, sizeof out, {3001, 0, 77, 10, 0, {4242, 1234567}, 5, 6})) ==
          R"({"jsonrpc":"2.0","id":1,"method":"shim.listening","params":{"port":3001,"errno":0,"cookie":77,"family":10,"scope":0,"session":[4242,1234567],"stderr":[5,6]}})"
          "\n");
}

TEST_CASE("the largest numbers fit into a request and survive a JSON reader", "[shim]") {
    char out[frame::k_max_request];
    const std::uint32_t most = UINT32_MAX;
    const frame::BindRequest bind{most, most, most, most, most, k_largest, k_largest, {k_largest, k_largest}};
    const auto size = frame::write_bind(out, sizeof out, bind);
    REQUIRE(size > 0);
    CHECK(json::parse(out, out + size)["params"]["cookie"].get<std::uint64_t>() == k_largest);
    const frame::ListeningRequest listening{most, most, k_largest, most, most, {k_largest, k_largest}, k_largest, k_largest};
    CHECK(frame::write_listening(out, sizeof out, listening) > 0);
}

TEST_CASE("a request that does not fit is not written, whatever the room", "[shim]") {
    std::vector<char> out;
    char whole[frame::k_max_request];
    const auto size = frame::write_bound(whole, sizeof whole, {17, 3001, 77});
    for (std::size_t room = 0; room < size; ++room) {
        out.assign(room, '\0');
        CHECK(frame::write_bound(out.data(), room, {17, 3001, 77}) == 0);
    }
    out.assign(size, '\0');
    CHECK(frame::write_bound(out.data(), size, {17, 3001, 77}) == size);
}

TEST_CASE("a reply is read whatever the order of its members", "[shim]") {
    for (const std::string line : {R"({"id":1,"jsonrpc":"2.0","result":{"lease":17,"port":3001}})",
                                   R"({"jsonrpc":"2.0","id":1,"result":{"port":3001,"lease":17}})",
                                   R"( { "result" : {"port":3001 ,"lease": 17 } , "jsonrpc":"2.0","id" :1 } )"}) {
        Reply reply;
        REQUIRE(read(line + "\n", reply) == ReplyKind::result);
        CHECK(reply.lease == 17);
        CHECK(reply.port == 3001);
        CHECK_FALSE(reply.has_notice);
    }
}

TEST_CASE("what a JSON library writes is read", "[shim]") {
    const json message = {{"jsonrpc", "2.0"}, {"id", 7}, {"result", {{"lease", k_largest}, {"port", 65535}, {"ok", true}}}};
    Reply reply;
    REQUIRE(read(message.dump() + "\n", reply, 7) == ReplyKind::result);
    CHECK(reply.lease == k_largest);
    CHECK(reply.port == 65535);
}

TEST_CASE("unknown members are skipped, nested ones too", "[shim]") {
    CHECK(read_port(result(
              R"("a":[],"b":{},"c":[1,-2.5e+3,{"port":9,"x":[null,true,false,"]}\"\u00e9"]}],"lease":1,"d":{"e":{"lease":2}},"port":3)")) ==
          ReplyKind::result);
    Reply reply;
    REQUIRE(read(R"({"extra":{"result":{"port":1}},"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":3},"more":0})"
                 "\n",
                 reply) == ReplyKind::result);
    CHECK(reply.port == 3);
}

TEST_CASE("nesting is bounded", "[shim]") {
    const auto nested = [](std::size_t depth) {
        return result("\"x\":" + std::string(depth, '[') + std::string(depth, ']') + R"(,"lease":1,"port":3)");
    };
    CHECK(read_port(nested(frame::k_max_depth)) == ReplyKind::result);
    CHECK(read_port(nested(frame::k_max_depth + 2)) == ReplyKind::malformed);
    CHECK(read_port("{\"x\":" + std::string(4000, '[') + "\n") == ReplyKind::malformed);
    std::string objects;
    for (int i = 0; i < 500; ++i) {
        objects += R"({"a":)";
    }
    CHECK(read_port(objects + "\n") == ReplyKind::malformed);
}

TEST_CASE("a port or lease that is not a plain number within bounds is refused", "[shim]") {
    for (const std::string port : {"65536", "70000", "-1", "-0", "80.9", "3e3", "\"3000\"", "true", "null", "[3000]", "03000", "+1",
                                   "", "0x10", "18446744073709551616", "99999999999999999999999999", "0"}) {
        INFO(port);
        CHECK(read_port(result("\"lease\":1,\"port\":" + port)) == ReplyKind::malformed);
    }
    for (const std::string lease : {"-1", "1.0", "18446744073709551616", "\"1\"", "null", "00"}) {
        INFO(lease);
        CHECK(read_port(result("\"port\":3000,\"lease\":" + lease)) == ReplyKind::malformed);
    }
    CHECK(read_port(result(R"("lease":18446744073709551615,"port":65535)")) == ReplyKind::result);
}

TEST_CASE("port 0 is an answer only to port 0 and without a lease", "[shim]") {
    CHECK(read_port(result(R"("lease":0,"port":0)"), 0) == ReplyKind::result);
    CHECK(read_port(result(R"("lease":1,"port":0)"), 0) == ReplyKind::malformed);
    CHECK(read_port(result(R"("lease":0,"port":0)"), 3000) == ReplyKind::malformed);
}

TEST_CASE("a missing or repeated member is refused", "[shim]") {
    for (const std::string members : {R"("lease":1)", R"("port":1)", R"()", R"("lease":1,"port":1,"port":1)",
                                      R"("lease":1,"lease":2,"port":1)", R"("lease":1,"\u0070ort":2,"port":1)"}) {
        INFO(members);
        CHECK(read_port(result(members)) == ReplyKind::malformed);
    }
    for (const std::string line :
         {R"({"id":1,"result":{"lease":1,"port":1}})", R"({"jsonrpc":"2.0","result":{"lease":1,"port":1}})", R"({"jsonrpc":"2.0","id":1})",
          R"({"jsonrpc":"1.0","id":1,"result":{"lease":1,"port":1}})", R"({"jsonrpc":"2.0","id":2,"result":{"lease":1,"port":1}})",
          R"({"jsonrpc":"2.0","id":"1","result":{"lease":1,"port":1}})", R"({"jsonrpc":"2.0","id":null,"result":{"lease":1,"port":1}})",
          R"({"jsonrpc":"2.0","id":1,"id":1,"result":{"lease":1,"port":1}})", R"({"jsonrpc":"2.0","id":1,"result":[]})",
          R"({"jsonrpc":"2.0","id":1,"result":null})", R"([])", R"(1)", R"({"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":1}}x)",
          R"({"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":1},})", R"({"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":1,}})",
          R"({,"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":1}})",
          R"({"jsonrpc":"2.0","id":1,"result":{"lease":1,"port":1},"error":{}})"}) {
        INFO(line);
        CHECK(read_port(line + "\n") == ReplyKind::malformed);
    }
}

TEST_CASE("an error reply is a refusal and not garbage", "[shim]") {
    CHECK(read_port(R"({"error":{"code":-32000,"data":{"code":"X","suggestions":[1,2]},"message":"no"},"id":1,"jsonrpc":"2.0"})"
                    "\n") == ReplyKind::refusal);
    CHECK(read_port(R"({"error":{"code":-32600},"id":null,"jsonrpc":"2.0"})"
                    "\n") == ReplyKind::malformed);
}

TEST_CASE("a reply cut anywhere or with anything behind it is refused", "[shim]") {
    const auto line = result(R"("lease":17,"port":3001,"notice":"a \"b\" \\ c","x":[{"y":[1,2]},"z"])");
    Reply reply;
    for (std::size_t size = 0; size < line.size(); ++size) {
        CHECK(read(line.substr(0, size), reply) == ReplyKind::malformed);
        CHECK(read(line.substr(0, size) + "\n", reply) == (size + 1 == line.size() ? ReplyKind::result : ReplyKind::malformed));
    }
    CHECK(read(line + "x", reply) == ReplyKind::malformed);
    CHECK(read(line + line, reply) == ReplyKind::malformed);
}

TEST_CASE("a reply of the greatest length is read and a longer one refused", "[shim]") {
    const auto padded = [](std::size_t size) {
        const auto bare = result(R"("notice":"")").size();
        return result("\"notice\":\"" + std::string(size - bare, 'n') + "\"");
    };
    Reply reply;
    REQUIRE(padded(frame::k_max_reply).size() == frame::k_max_reply);
    CHECK(read(padded(frame::k_max_reply), reply) == ReplyKind::result);
    CHECK(read(padded(frame::k_max_reply + 1), reply) == ReplyKind::malformed);
}

TEST_CASE("a notice loses its escapes, in place", "[shim]") {
    CHECK(notice_of(result(R"("notice":"")")).empty());
    CHECK(notice_of(result(R"("notice":"portwrap: \"a\\b\" →")")) == "portwrap: \"a\\b\" →");
    CHECK(notice_of(R"({"result":{"notice":"\\\\\"\""},"jsonrpc":"2.0","id":1})"
                    "\n") == R"(\\"")");
}

TEST_CASE("a notice that could harm a terminal is refused", "[shim]") {
    for (const std::string notice : {R"(a\nb)", R"(a\u001b[31m)", R"(\u0041)", R"(\/)", "a\x1b[31m", "a\x7f", "a\xc2\x9b[", R"(a\)", "a\tb"}) {
        INFO(notice);
        Reply reply;
        const auto line = result("\"notice\":\"" + notice + "\"");
        CHECK(frame::read_notice_reply(line.data(), line.size(), 1, reply) == ReplyKind::malformed);
    }
    Reply reply;
    for (const std::string other : {R"("notice":5)", R"("notice":null)", R"("port":1)"}) {
        const auto line = result(other);
        CHECK(frame::read_notice_reply(line.data(), line.size(), 1, reply) == ReplyKind::malformed);
    }
}

TEST_CASE("a reader never accepts what a JSON library refuses, for any damage", "[shim]") {
    const auto line = result(R"("lease":17,"port":3001,"notice":"a \"b\" \\ c","x":[{"y":[1,-2]},"z",null])");  // no exponent: the library refuses what overflows
    std::mt19937 random(1);
    const std::string alphabet = "{}[]\",:\\0123456789-+.eE untrufalse\x01\x7f\xff";
    for (int i = 0; i < 50000; ++i) {
        auto damaged = line;
        for (auto changes = 1 + random() % 3; changes > 0; --changes) {
            const auto at = random() % (damaged.size() - 1);
            switch (random() % 3) {
                case 0: damaged[at] = alphabet[random() % alphabet.size()]; break;
                case 1: damaged.erase(at, 1); break;
                default: damaged.insert(at, 1, alphabet[random() % alphabet.size()]); break;
            }
        }
        Reply reply;
        if (read(damaged, reply) == ReplyKind::result) {
            // Bytes of strings are not checked to be UTF-8: replace them before the library does.
            for (auto& c : damaged) {
                c = static_cast<unsigned char>(c) >= 0x80 ? '?' : c;
            }
            INFO(damaged);
            const auto parsed = json::parse(damaged, nullptr, false);
            REQUIRE_FALSE(parsed.is_discarded());
            if (reply.has_port) {
                REQUIRE(parsed["result"]["port"] == reply.port);
            }
            if (reply.has_lease) {
                REQUIRE(parsed["result"]["lease"] == reply.lease);
            }
        }
    }
}

TEST_CASE("a session is a pid, a dot and a start time, or nothing", "[shim]") {
    frame::Session session;
    REQUIRE(frame::read_session("4242.1234567", 12, session));
    CHECK(session.pid == 4242);
    CHECK(session.start_ticks == 1234567);
    for (const std::string text : {"", ".", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", " 1.2", "1.2 ", "a.b", "2147483648.1",
                                   "1.9223372036854775808", "1.99999999999999999999", "01.2"}) {
        INFO(text);
        CHECK_FALSE(frame::read_session(text.data(), text.size(), session));
        CHECK(session.pid == 4242);
    }
}
