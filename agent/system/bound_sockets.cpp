// Whether this kernel shows bound sockets in sock_diag (BOUND_INACTIVE, Linux 6.8).
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "system/listeners.hpp"

namespace portwrap {

bool sees_bound_sockets() {
    const UniqueFd probe{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Cookie cookie = 0;
    socklen_t size = sizeof cookie;
    // A bind to loopback with a port of the kernel's choice: the socket is gone again before anybody could want the number.
    if (!probe.valid() || ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::getsockopt(probe.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) {
        return false;
    }
    const auto sockets = existing_sockets();
    return sockets && std::find(sockets->begin(), sockets->end(), cookie) != sockets->end();
}

}  // namespace portwrap
