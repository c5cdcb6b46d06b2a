// The first message of TLS, and what is made of an answer to it.
#include <catch2/catch.hpp>

#include "service/tls_hello.hpp"

using namespace portwrap;

namespace {
std::size_t number_at(const std::string& bytes, std::size_t at, std::size_t width) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < width; ++i) { value = value << 8U | static_cast<unsigned char>(bytes[at + i]); }
    return value;
}
}  // namespace

TEST_CASE("the lengths in a hello are those of its parts", "[tls]") {
    const auto hello = tls_client_hello();
    CHECK(number_at(hello, 3, 2) == hello.size() - 5);
    CHECK(number_at(hello, 6, 3) == hello.size() - 9);
    std::size_t at = 9 + 2 + 32;
    at += 1 + number_at(hello, at, 1);
    at += 2 + number_at(hello, at, 2);
    at += 1 + number_at(hello, at, 1);
    CHECK(at + 2 + number_at(hello, at, 2) == hello.size());
    for (at += 2; at < hello.size();) { at += 4 + number_at(hello, at + 2, 2); }
    CHECK(at == hello.size());
}

TEST_CASE("an answer is TLS or is not, also when it comes byte by byte", "[tls]") {
    const std::string hello("\x16\x03\x03\x00\x7a\x02\x00", 7);
    const std::string alert("\x15\x03\x03\x00\x02\x02\x28", 7);
    for (std::size_t size = 0; size < 6; ++size) { CHECK(read_tls_answer(hello.substr(0, size)) == TlsAnswer::incomplete); }
    for (std::size_t size = 0; size < 7; ++size) { CHECK(read_tls_answer(alert.substr(0, size)) == TlsAnswer::incomplete); }
    CHECK(read_tls_answer(hello) == TlsAnswer::hello);
    CHECK(read_tls_answer(alert) == TlsAnswer::alert);
    CHECK(tls_alert(alert) == 40);
    CHECK(tls_alert(alert.substr(0, 6)) == -1);
    CHECK(tls_alert_text(alert) == "alert 40, handshake_failure");
    CHECK(tls_alert_text(std::string("\x15\x03\x03\x00\x02\x02\xfe", 7)) == "alert 254");
    CHECK(read_tls_answer("HTTP/1.1 400") == TlsAnswer::other);
    CHECK(read_tls_answer(std::string("\x16\x03\x03\x00\x04\x0b\x00", 7)) == TlsAnswer::other);
    CHECK(read_tls_answer("\x16P") == TlsAnswer::other);
}
