// See binding.hpp.
#include "binding.hpp"

#include <errno.h>
#include <netinet/in.h>

#include "ask.hpp"
#include "names.hpp"
#include "notice.hpp"
#include "real_calls.hpp"
#include "syscalls.hpp"
#include "table.hpp"

namespace portwrap::shim {

namespace {

constexpr int k_ip_bind_address_no_port = 24;
constexpr unsigned k_max_failures = 16;

/// Outgoing connections that fix their address only: the kernel chooses the port at connect.
bool wants_no_port_yet(int fd) noexcept {
    int value = 0;
    return sys::getsockopt(fd, IPPROTO_IP, k_ip_bind_address_no_port, value) && value != 0;
}

/// The copy, as the real bind takes it.
int bind_copy(int fd, const Address& address, std::uint16_t port) noexcept {
    const Address changed = with_port(address, port);
    return real_bind(fd, reinterpret_cast<const sockaddr*>(changed.bytes), static_cast<socklen_t>(changed.size));
}

struct BindCase {
    const Environment& where;
    int fd;
    const Address& address;
    const Endpoint& endpoint;
    const shim_frame::BindRequest& request;
};

/// Nobody answers: the port that was published for this number last, else the number itself.
int bind_unasked(const BindCase& that) noexcept {
    const auto asked = that.endpoint.port;
    if (asked != 0 && that.request.protocol != IPPROTO_UDP) {
        std::uint16_t known = 0;
        const auto find = [&](const TableView& seen) { known = remap_table::find_bind(*seen.table, asked, seen.asker); };
        const TableView* const view = look_up(that.where, false, find);
        if (view != nullptr && is_in_netns_of(that.fd, *view->table) && known != 0 && known != asked && bind_copy(that.fd, that.address, known) == 0) {
            return 0;
        }
    }
    return bind_copy(that.fd, that.address, asked);
}

/// Binds what the agent says until the kernel agrees. errno is the real bind's where it failed.
int bind_as_told(Exchange& exchange, const BindCase& that, std::uint64_t& lease) noexcept {
    Grant grant;
    if (!exchange.ask_bind(that.request, grant)) {
        return bind_unasked(that);
    }
    for (unsigned failures = 0;; ++failures) {
        const int result = bind_copy(that.fd, that.address, grant.port);
        if (result == 0) {
            if (grant.lease != 0) {
                exchange.tell_bound({grant.lease, grant.port, that.request.cookie});
            }
            if (grant.shows_requested) {
                remember_requested(grant.port, that.endpoint.port);
            }
            lease = grant.lease;
            return result;
        }
        const int error = get_errno();
        if (grant.lease == 0 || failures == k_max_failures || (error != EADDRINUSE && error != EACCES)) {
            return result;
        }
        Grant next;
        if (!exchange.ask_failed({failures + 2, grant.lease, grant.port, static_cast<std::uint32_t>(error)},
                                 that.endpoint.port, next)) {
            return grant.port == that.endpoint.port ? result : bind_copy(that.fd, that.address, that.endpoint.port);
        }
        if (next.port == grant.port) {
            return result;
        }
        grant = next;
    }
}

}  // namespace

bool is_managed_bind(int fd, const sockaddr* caller_address, socklen_t size, SocketKind& kind, Address& address,
                     Endpoint& endpoint) noexcept {
    if (is_another_family(caller_address) || !read_kind(fd, kind) || !copy_in(caller_address, size, address) ||
        !classify(address, endpoint) || endpoint.family != static_cast<std::uint32_t>(kind.domain)) {
        return false;
    }
    if (kind.is_udp()) {
        return endpoint.port != 0 && !endpoint.is_multicast;
    }
    return endpoint.port != 0 || !wants_no_port_yet(fd);
}

int managed_bind(const Environment& where, int fd, const SocketKind& kind, const Address& address,
                 const Endpoint& endpoint) noexcept {
    int reuseport = 0;
    shim_frame::BindRequest request;
    request.port = endpoint.port;
    request.family = endpoint.family;
    request.scope = static_cast<std::uint32_t>(endpoint.scope);
    request.protocol = static_cast<std::uint32_t>(kind.protocol);
    request.reuseport = sys::getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, reuseport) && reuseport != 0 ? 1 : 0;
    if (kind.is_udp() && request.reuseport == 0) {
        request.reuseport = sys::getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, reuseport) && reuseport != 0 ? 1 : 0;
    }
    request.session = where.session;
    request.netns = netns_of(fd);
    request.cookie = cookie_of(fd);
    const BindCase that{where, fd, address, endpoint, request};
    std::uint64_t lease = 0;
    int result = 0;
    {
        // Without a cookie (kernels before 4.12) nothing could be confirmed.
        Exchange exchange(where);
        result = request.cookie != 0 && exchange.open() ? bind_as_told(exchange, that, lease) : bind_unasked(that);
    }
    // UDP needs no listen: the server is there.
    if (result == 0 && lease != 0 && kind.is_udp()) {
        tell_listening(where, fd, 0);
    }
    return result;
}

}  // namespace portwrap::shim
