// See tls_hello.hpp.
#include "service/tls_hello.hpp"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <utility>

namespace portwrap {
namespace {

constexpr char k_alert_record = 21;
constexpr char k_handshake_record = 22;
constexpr char k_server_hello = 2;

std::string bytes_of(std::initializer_list<unsigned> values) {
    std::string bytes;
    for (const auto value : values) { bytes += static_cast<char>(static_cast<std::uint8_t>(value)); }
    return bytes;
}

/// `text` after its length in `width` bytes.
std::string sized(int width, const std::string& text) {
    std::string bytes;
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) { bytes += static_cast<char>(static_cast<std::uint8_t>(text.size() >> static_cast<unsigned>(shift))); }
    return bytes + text;
}

std::string numbers(std::initializer_list<unsigned> values) {
    std::string bytes;
    for (const auto value : values) { bytes += bytes_of({value >> 8U, value & 0xFFU}); }
    return bytes;
}

std::string extension(unsigned type, const std::string& content) { return numbers({type}) + sized(2, content); }

}  // namespace

std::string tls_client_hello() {
    const std::string random = "portwrap asks: does it speak TLS";  // 32 bytes
    const std::string ciphers = numbers({0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x002F, 0x0035});
    const std::string groups = numbers({0x001D, 0x0017, 0x0018});  // x25519, secp256r1, secp384r1
    const std::string signatures = numbers({0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201});
    const std::string key = bytes_of({9}) + std::string(31, '\0');  // x25519's base point: a key like any other
    const std::string extensions = extension(0, sized(2, bytes_of({0}) + sized(2, "localhost"))) +       // server_name
                                   extension(11, sized(1, bytes_of({0}))) +                              // ec_point_formats
                                   extension(10, sized(2, groups)) +                                     // supported_groups
                                   extension(13, sized(2, signatures)) +                                 // signature_algorithms
                                   extension(43, sized(1, numbers({0x0304, 0x0303}))) +                  // supported_versions
                                   extension(45, sized(1, bytes_of({1}))) +                              // psk_key_exchange_modes
                                   extension(51, sized(2, numbers({0x001D}) + sized(2, key)));           // key_share
    const std::string hello = numbers({0x0303}) + random + sized(1, random) + sized(2, ciphers) + sized(1, bytes_of({0})) + sized(2, extensions);
    return bytes_of({22, 3, 1}) + sized(2, bytes_of({1}) + sized(3, hello));
}

TlsAnswer read_tls_answer(std::string_view bytes) {
    if (bytes.empty()) { return TlsAnswer::incomplete; }
    if ((bytes[0] != k_handshake_record && bytes[0] != k_alert_record) || (bytes.size() > 1 && bytes[1] != 3)) { return TlsAnswer::other; }
    if (bytes.size() < 6) { return TlsAnswer::incomplete; }
    if (bytes[0] == k_alert_record) { return bytes.size() < 7 ? TlsAnswer::incomplete : TlsAnswer::alert; }
    return bytes[5] == k_server_hello ? TlsAnswer::hello : TlsAnswer::other;
}

int tls_alert(std::string_view bytes) { return bytes.size() > 6 ? static_cast<std::uint8_t>(bytes[6]) : -1; }

std::string tls_alert_text(std::string_view bytes) {
    // What servers say to a client whose versions, ciphers, name or missing certificate they do not take.
    constexpr std::array<std::pair<int, const char*>, 10> k_names{{{10, "unexpected_message"},
                                                                    {40, "handshake_failure"},
                                                                    {47, "illegal_parameter"},
                                                                    {70, "protocol_version"},
                                                                    {71, "insufficient_security"},
                                                                    {80, "internal_error"},
                                                                    {109, "missing_extension"},
                                                                    {112, "unrecognized_name"},
                                                                    {116, "certificate_required"},
                                                                    {120, "no_application_protocol"}}};
    const int alert = tls_alert(bytes);
    auto text = "alert " + std::to_string(alert);
    for (const auto& [number, name] : k_names) {
        if (number == alert) { text += std::string(", ") + name; }
    }
    return text;
}

}  // namespace portwrap
