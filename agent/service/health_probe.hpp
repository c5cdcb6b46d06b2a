// Does a port answer? TCP connections and HTTP requests to many local ports at once. Blocking: for a pool thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

struct Probe {
    Port port = 0;
    std::string address = "127.0.0.1";  ///< to connect to, IPv4 or IPv6
    std::optional<std::string> path;  ///< HTTP GET; none: a connection will do
    bool tls = false;                 ///< instead: the beginning of TLS
    std::chrono::milliseconds timeout{5000};
    // the answer
    bool healthy = false;
    std::optional<double> response_ms;
    std::string error;  ///< one line; empty when healthy, but for a server that speaks TLS and not with us
};
/// All at once, none for longer than its time.
void run_probes(std::vector<Probe>& probes);

/// The status of an HTTP response's first bytes; 0 while there is no whole status line, -1 when it is none.
[[nodiscard]] int http_status(std::string_view bytes);

}  // namespace portwrap
