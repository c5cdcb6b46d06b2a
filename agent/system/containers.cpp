#include "system/containers.hpp"

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/port_text.hpp"
#include "portwrap/unique_fd.hpp"
#include "system/bounded_read.hpp"
#include "system/places.hpp"
#include "system/processes.hpp"

namespace portwrap {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t k_id_size = 64;
constexpr std::size_t k_short_id = 12;
constexpr std::size_t k_max_answer = 4'000'000;
constexpr std::chrono::milliseconds k_patience{1000};

/// Programs that hold a port on a container's behalf and do not say whose in their command line.
constexpr std::array<std::string_view, 12> k_carriers{"rootlessport", "rootlessport-child", "slirp4netns", "pasta",    "pasta.avx2", "passt",
                                                      "rootlesskit",  "conmon",             "gvproxy",     "podman", "dockerd",    "containerd-shim"};

/// The value behind an option, in the next word or after "=".
std::string option(const std::vector<std::string>& arguments, std::string_view name) {
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        if (arguments[i] == name) { return i + 1 < arguments.size() ? arguments[i + 1] : std::string(); }
        if (arguments[i].starts_with(name) && arguments[i].size() > name.size() && arguments[i][name.size()] == '=') { return arguments[i].substr(name.size() + 1); }
    }
    return {};
}

std::string program_of(const std::vector<std::string>& arguments) {
    if (arguments.empty()) { return {}; }
    return arguments.front().substr(arguments.front().rfind('/') + 1);
}

/// What can be said of a listener without asking anybody.
struct Traces {
    std::string name;
    std::string id;
    std::string target;
    std::string directory;
    bool ask = false;  ///< an engine may know
};

/// In a development container every process has its control group: that says nothing.
std::string own_container_id() {
    const auto groups = read_system_file("/proc/self/cgroup", 16384);
    return groups ? container_id_in(*groups) : std::string();
}

Traces follow(const ContainerClue& clue) {
    Traces traces;
    traces.ask = clue.pids.empty();
    for (std::size_t level = 0; level < clue.pids.size(); ++level) {
        const auto arguments = read_arguments(clue.pids[level]);
        const auto program = program_of(arguments);
        if (level == 0) {
            if (const auto proxy = parse_proxy_command(arguments)) {
                traces.target = proxy->target;
                traces.ask = true;
            }
            traces.ask = traces.ask || std::find(k_carriers.begin(), k_carriers.end(), program) != k_carriers.end();
            if (const auto groups = read_system_file("/proc/" + std::to_string(clue.pids[level]) + "/cgroup", 16384)) { traces.id = container_id_in(*groups); }
            if (!traces.id.empty() && traces.id == own_container_id()) { traces.id.clear(); }
        }
        // The monitors that are the parents of a container's first process; conmon holds the published ports, too.
        if (program == "conmon") {
            traces.name = option(arguments, "-n");
            if (traces.id.empty()) { traces.id = option(arguments, "-c"); }
        } else if (program.starts_with("containerd-shim") && traces.id.empty()) {
            traces.id = option(arguments, "-id");
        }
        if (!traces.name.empty()) { break; }
    }
    traces.ask = traces.ask || !traces.id.empty();
    return traces;
}

/// Other users' proxies show their command lines to everybody.
std::vector<ProxyCommand> all_proxies() {
    std::vector<ProxyCommand> proxies;
    DIR* directory = ::opendir("/proc");
    if (directory == nullptr) { return proxies; }
    while (const dirent* entry = ::readdir(directory)) {
        pid_t pid = 0;
        const auto* end = entry->d_name + std::strlen(entry->d_name);
        if (std::from_chars(entry->d_name, end, pid).ptr != end) { continue; }
        const auto name = read_system_file("/proc/" + std::string(entry->d_name) + "/comm", 64);
        if (!name || name->find("docker-proxy") == std::string::npos) { continue; }
        if (auto proxy = parse_proxy_command(read_arguments(pid))) { proxies.push_back(std::move(*proxy)); }
    }
    ::closedir(directory);
    return proxies;
}

bool is_socket(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

std::string text_of(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? printable(found->get<std::string>()) : std::string();
}

}  // namespace

std::optional<ProxyCommand> parse_proxy_command(const std::vector<std::string>& arguments) {
    if (program_of(arguments) != "docker-proxy" && program_of(arguments) != "rootlesskit-docker-proxy") { return std::nullopt; }
    const auto port = port_in(option(arguments, "-host-port"));
    if (!port) { return std::nullopt; }
    const auto protocol = option(arguments, "-proto");
    ProxyCommand proxy;
    proxy.published = {*port, protocol == "udp" ? Protocol::udp : Protocol::tcp};
    const auto address = option(arguments, "-container-ip");
    if (!address.empty()) { proxy.target = printable((address.find(':') == std::string::npos ? address : "[" + address + "]") + ":" + option(arguments, "-container-port"), 64); }
    return proxy;
}

std::string container_id_in(std::string_view cgroup) {
    std::size_t run = 0;
    for (std::size_t at = 0; at <= cgroup.size(); ++at) {
        const char c = at < cgroup.size() ? cgroup[at] : '\n';
        const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (!digit && run == k_id_size) { return std::string(cgroup.substr(at - run, run)); }
        run = digit ? run + 1 : 0;
    }
    return {};
}

std::vector<Container> parse_containers(std::string_view json) {
    std::vector<Container> containers;
    const auto parsed = Json::parse(json.begin(), json.end(), nullptr, false);
    if (!parsed.is_array()) { return containers; }
    for (const auto& entry : parsed) {
        if (!entry.is_object()) { continue; }
        Container container;
        container.id = text_of(entry, "Id");
        if (const auto names = entry.find("Names"); names != entry.end() && names->is_array() && !names->empty() && names->front().is_string()) {
            container.name = printable(names->front().get<std::string>());
            if (container.name.starts_with('/')) { container.name.erase(0, 1); }
        }
        if (const auto labels = entry.find("Labels"); labels != entry.end() && labels->is_object()) {
            const auto directory = labels->find("com.docker.compose.project.working_dir");
            if (directory != labels->end() && directory->is_string()) { container.directory = directory->get<std::string>(); }
            if (!container.directory.starts_with('/') || container.directory.find('\0') != std::string::npos) { container.directory.clear(); }
        }
        const auto ports = entry.find("Ports");
        for (const auto& port : ports != entry.end() && ports->is_array() ? *ports : Json::array()) {
            if (!port.is_object()) { continue; }
            const auto number = port.find("PublicPort");
            if (number == port.end() || !number->is_number_integer() || *number < 1 || *number > 65535) { continue; }
            container.ports.push_back({number->get<Port>(), text_of(port, "Type") == "udp" ? Protocol::udp : Protocol::tcp});
        }
        containers.push_back(std::move(container));
    }
    return containers;
}

std::vector<Container> ask_engine(const std::string& socket, std::chrono::milliseconds timeout) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket.size() >= sizeof address.sun_path) { return {}; }
    std::memcpy(address.sun_path, socket.data(), socket.size());
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) { return {}; }
    // HTTP/1.0: the answer is neither chunked nor followed by another.
    constexpr std::string_view k_request = "GET /containers/json HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n";
    if (::send(fd.get(), k_request.data(), k_request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(k_request.size())) { return {}; }
    const auto end = Clock::now() + timeout;
    std::string answer;
    for (;;) {
        pollfd readable{fd.get(), POLLIN, 0};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
        if (left <= 0) { return {}; }
        if (::poll(&readable, 1, static_cast<int>(left)) <= 0) { continue; }
        std::array<char, 16384> buffer{};
        const auto count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) { continue; }
        if (count < 0 || answer.size() > k_max_answer) { return {}; }
        if (count == 0) { break; }
        answer.append(buffer.data(), static_cast<std::size_t>(count));
    }
    const auto body = answer.find("\r\n\r\n");
    const bool well = answer.starts_with("HTTP/1.") && answer.find(" 200 ") == 8 && body != std::string::npos;
    return well ? parse_containers(std::string_view(answer).substr(body + 4)) : std::vector<Container>{};
}

std::vector<std::string> engine_sockets() {
    std::vector<std::string> paths;
    const char* host = std::getenv("DOCKER_HOST");  // NOLINT(concurrency-mt-unsafe): nobody changes it
    constexpr std::string_view k_unix = "unix://";
    if (host != nullptr && std::string_view(host).starts_with(k_unix)) { paths.emplace_back(host + k_unix.size()); }
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe)
    if (runtime != nullptr && *runtime != '\0') {
        paths.push_back(std::string(runtime) + "/podman/podman.sock");
        paths.push_back(std::string(runtime) + "/docker.sock");
    }
    paths.insert(paths.end(), {"/var/run/docker.sock", "/run/podman/podman.sock"});
    std::vector<std::string> sockets;
    for (const auto& path : paths) {
        if (std::find(sockets.begin(), sockets.end(), path) == sockets.end() && is_socket(path)) { sockets.push_back(path); }
    }
    return sockets;
}

std::vector<std::optional<FoundContainer>> find_containers(const std::vector<ContainerClue>& clues, const std::vector<std::string>& sockets) {
    std::vector<std::optional<FoundContainer>> found(clues.size());
    std::vector<Traces> all;
    bool unseen = false;
    for (const auto& clue : clues) {
        all.push_back(follow(clue));
        unseen = unseen || clue.pids.empty();
    }
    if (unseen) {
        for (const auto& proxy : all_proxies()) {
            for (std::size_t i = 0; i < clues.size(); ++i) {
                if (clues[i].pids.empty() && proxy.published == PublishedPort{clues[i].port, clues[i].protocol}) { all[i].target = proxy.target; }
            }
        }
    }
    // The monitor in /proc says the name and nothing of compose.
    const auto is_open = [](const Traces& traces) { return traces.ask && (traces.name.empty() || traces.directory.empty()); };
    const auto end = Clock::now() + k_patience;
    for (const auto& socket : sockets) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
        if (left.count() <= 0 || std::none_of(all.begin(), all.end(), is_open)) { break; }
        for (const auto& container : ask_engine(socket, left)) {
            for (std::size_t i = 0; i < clues.size(); ++i) {
                if (!is_open(all[i])) { continue; }
                const bool same = !all[i].id.empty() && container.id == all[i].id;
                const PublishedPort listened{clues[i].port, clues[i].protocol};
                const bool published = std::find(container.ports.begin(), container.ports.end(), listened) != container.ports.end();
                if (!same && !published) { continue; }
                if (all[i].name.empty()) { all[i].name = container.name.empty() ? container.id.substr(0, k_short_id) : container.name; }
                all[i].directory = container.directory;
            }
        }
    }
    for (std::size_t i = 0; i < clues.size(); ++i) {
        const auto& traces = all[i];
        const auto name = !traces.name.empty() ? printable(traces.name, 128) : !traces.id.empty() ? printable(traces.id.substr(0, k_short_id)) : traces.target;
        if (!name.empty()) { found[i] = FoundContainer{name, traces.directory}; }
    }
    return found;
}

}  // namespace portwrap
