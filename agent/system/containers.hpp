// Which container is behind a listener: it runs in one, or it carries the traffic of a published port (docker-proxy, rootlessport and
// the like). Told by command lines and control groups, and by the engine's API (Docker's, which Podman serves, too) where its socket is.
// Linux only. Blocking, within bounds: for a pool thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

/// A listener, as far as it is known who has it.
struct ContainerClue {
    Port port = 0;
    Protocol protocol = Protocol::tcp;
    std::vector<pid_t> pids{};  ///< the process that has it and its parents, the nearest first; empty when it cannot be seen
};

/// The sockets of container engines that exist: DOCKER_HOST, then this user's, then the system's.
[[nodiscard]] std::vector<std::string> engine_sockets();

/// Whose container it is, as far as it is known.
struct FoundContainer {
    std::string name;       ///< where nobody tells it, its short id or its address
    std::string directory;  ///< that its compose file lies in; empty without one
};
/// For each clue the container; none where there is no container. The engines are asked only where something points to one.
[[nodiscard]] std::vector<std::optional<FoundContainer>> find_containers(const std::vector<ContainerClue>& clues, const std::vector<std::string>& sockets);

// The parts, for tests.

struct PublishedPort {
    Port port = 0;
    Protocol protocol = Protocol::tcp;
    bool operator==(const PublishedPort&) const = default;
};
struct Container {
    std::string id;
    std::string name;
    std::vector<PublishedPort> ports;
    std::string directory{};  ///< the label com.docker.compose.project.working_dir; empty when it is no absolute path
};
/// The answer to GET /containers/json, of whatever quality.
[[nodiscard]] std::vector<Container> parse_containers(std::string_view json);
/// Asks an engine; nothing when it does not answer within that time.
[[nodiscard]] std::vector<Container> ask_engine(const std::string& socket, std::chrono::milliseconds timeout);
/// "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80".
struct ProxyCommand {
    PublishedPort published;
    std::string target;  ///< "172.17.0.2:80"
};
[[nodiscard]] std::optional<ProxyCommand> parse_proxy_command(const std::vector<std::string>& arguments);
/// The 64 hexadecimal digits of a container in a line of /proc/PID/cgroup; empty when there are none.
[[nodiscard]] std::string container_id_in(std::string_view cgroup);

}  // namespace portwrap
