// Does a server speak TLS? The first message of a client, and what the first bytes of an answer mean (RFC 8446, RFC 5246). No
// connection is ever set up: what a health check can know without a library for cryptography is that somebody is there who would. Pure.
#pragma once

#include <string>
#include <string_view>

namespace portwrap {

/// A ClientHello for TLS 1.2 and 1.3, for the server name "localhost". Always the same bytes: there is nothing to be kept secret.
[[nodiscard]] std::string tls_client_hello();

enum class TlsAnswer {
    incomplete,
    hello,   ///< a ServerHello: it speaks TLS with us
    alert,   ///< it speaks TLS, and refuses this client
    other    ///< no TLS
};
[[nodiscard]] TlsAnswer read_tls_answer(std::string_view bytes);
/// The alert's description (RFC 8446, 6): 40 handshake_failure, 112 unrecognized_name, ...; -1 when it was not said.
[[nodiscard]] int tls_alert(std::string_view bytes);
/// "alert 40, handshake_failure"; the number alone where that has no name here.
[[nodiscard]] std::string tls_alert_text(std::string_view bytes);

}  // namespace portwrap
