// Listening sockets as facts of the system: sock_diag (sock_diag(7)), probing, and the kernel's socket-destroy
// notifications. Linux only.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "core/types.hpp"
#include "portwrap/result.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {

struct Listener {
    std::string address;  ///< "::", "0.0.0.0", "127.0.0.1", ...
    Protocol protocol = Protocol::tcp;
    Port port = 0;
    Cookie cookie = 0;
    ino_t inode = 0;
    uid_t uid = 0;
};

/// Which listeners are looked for: datagrams are received by every UDP socket that is bound and not connected.
enum class Heard { tcp, tcp_and_udp };
/// Every TCP socket in LISTEN state (and those of UDP that receive), and with `port` only those on it. 30 us for ten,
/// 10 ms for 20,000. Without sock_diag: from /proc/net (cookies are 0 then).
[[nodiscard]] Result<std::vector<Listener>> list_listeners(std::optional<Port> port = std::nullopt, Heard heard = Heard::tcp);

/// The cookies of all UDP sockets and of the TCP sockets that listen or are bound (BOUND_INACTIVE, Linux 6.8;
/// older kernels see only listening ones, so false is certain there only for sockets that listened).
[[nodiscard]] Result<std::vector<Cookie>> existing_sockets();

/// Does existing_sockets() see sockets that are bound and do not listen? Asked with a socket of our own.
[[nodiscard]] bool sees_bound_sockets();

/// Asks the kernel whether anybody is on a port, on any address of either family: by binding (SO_REUSEADDR, never
/// listening, closed at once) the wildcard of both families, or of IPv4 alone where the machine has no IPv6. 7 us for each
/// protocol, whatever the number of sockets.
[[nodiscard]] bool is_port_in_use(Port port, bool tcp, bool udp);

/// The ports from which the kernel takes ephemeral ones: /proc/sys/net/ipv4/ip_local_port_range.
[[nodiscard]] PortInterval read_ephemeral_range();
/// /proc/sys/net/ipv4/ip_local_reserved_ports
[[nodiscard]] std::vector<PortInterval> read_kernel_reserved_ports();

/// The lowest port that this process may bind: /proc/sys/net/ipv4/ip_unprivileged_port_start; 1 with CAP_NET_BIND_SERVICE.
[[nodiscard]] Port read_first_permitted_port();

/// Socket-destroy notifications: groups SKNLGRP_INET_TCP_DESTROY (1) and SKNLGRP_INET6_TCP_DESTROY (3) of
/// NETLINK_SOCK_DIAG, and those of UDP (2 and 4), filtered in BPF to sockets with a source port and without a destination
/// port, and to connected UDP sockets outside of the ephemeral range; receive buffer 4 MB (SO_RCVBUFFORCE, else SO_RCVBUF). Non-blocking; the owner polls `fd()` for readability.
class DestroyWatch {
public:
    struct Destroyed {
        Cookie cookie = 0;
        Port port = 0;
    };
    struct Batch {
        std::vector<Destroyed> destroyed;
        bool overrun = false;  ///< ENOBUFS: messages were lost; compare with existing_sockets()
    };
    /// An error where the kernel has no such groups.
    [[nodiscard]] static Result<DestroyWatch> open();
    [[nodiscard]] int fd() const { return m_fd.get(); }
    /// Everything that is readable now.
    [[nodiscard]] Batch drain();

private:
    explicit DestroyWatch(UniqueFd fd) : m_fd(std::move(fd)) {}
    UniqueFd m_fd;
};

}  // namespace portwrap
