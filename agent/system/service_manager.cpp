#include "system/service_manager.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace portwrap {
namespace {

constexpr int k_first_passed = 3;  // SD_LISTEN_FDS_START
/// LISTEN_FDNAMES of a socket that an earlier image of this process has made. A manager says its unit's name there.
constexpr const char* k_own_name = "own";

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

}  // namespace

PassedSocket take_passed_socket(const std::string& path) {
    const bool ours = variable("LISTEN_PID") == std::to_string(::getpid()) && variable("LISTEN_FDS") == "1";
    const bool is_managers = variable("LISTEN_FDNAMES") != k_own_name;
    for (const auto* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) { ::unsetenv(name); }
    if (!ours) { return {}; }
    UniqueFd socket{k_first_passed};
    sockaddr_un address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sun_family != AF_UNIX ||
        path != address.sun_path) {
        return {};
    }
    ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
    return {std::move(socket), is_managers};
}

bool pass_on(UniqueFd socket, bool is_managers) {
    // dup2 onto itself would leave FD_CLOEXEC set.
    const bool there = socket.get() == k_first_passed ? ::fcntl(k_first_passed, F_SETFD, 0) == 0 : ::dup2(socket.get(), k_first_passed) == k_first_passed;
    if (!there) { return false; }
    if (socket.get() == k_first_passed) { (void)socket.release(); }
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_FDNAMES", is_managers ? "manager" : k_own_name, 1);
    return true;
}

void tell_manager(const std::string& state) {
    const auto path = variable("NOTIFY_SOCKET");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() < 2 || path.size() >= sizeof address.sun_path) { return; }
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') { address.sun_path[0] = '\0'; }  // an abstract name
    const UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    [[maybe_unused]] const auto sent =
        ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace portwrap
