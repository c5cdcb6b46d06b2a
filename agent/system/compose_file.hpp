// The services of a project's compose file and the ports that they publish. Reads the forms in which people write them (block
// style, the short and the long syntax of ports, ${VARIABLE:-default}), not all of YAML: what is written otherwise is not seen.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

struct ComposePort {
    std::string text;               ///< in the short syntax, as it stands there: "127.0.0.1:8000:80/tcp"
    std::string address;            ///< of the host, with its colon: "127.0.0.1:"; empty for all
    std::optional<Port> published;  ///< on the host, a variable's default where it is one; none: a range, or left to the engine
    Port target = 0;                ///< in the container; 0: a range
    Protocol protocol = Protocol::tcp;
    bool operator==(const ComposePort&) const = default;
};
struct ComposeService {
    std::string name;
    std::vector<ComposePort> ports;
    bool own_network = true;  ///< false: `network_mode` host, none or another container's, with which compose refuses ports
    bool operator==(const ComposeService&) const = default;
};
struct ComposeFile {
    std::string name;  ///< "compose.yaml"
    std::vector<ComposeService> services;
};

/// Of the text of a compose file; empty where there is nothing to see, or where ports are written in a form that is not understood.
[[nodiscard]] std::vector<ComposeService> parse_compose(std::string_view text);
/// "127.0.0.1:8000:80/tcp", "${WEB:-8000}:80", "443", ...; none for what is no port.
[[nodiscard]] std::optional<ComposePort> parse_compose_port(std::string_view text);
/// The one that compose would read in this directory, or `given`, which stands for it (what `docker compose config` printed); none where
/// there is none, or no service is seen in it. Blocking.
[[nodiscard]] std::optional<ComposeFile> read_compose_file(const std::string& root, const std::string& given = {});

}  // namespace portwrap
