// The functions that programs call instead of the C library's: bind and listen of TCP sockets. Each asks the agent, calls
// the real function and tells what came of it. They never break a program: no heap, no lock, no descriptor kept, nothing
// on stdout, the caller's memory is never written, errno is as the real call leaves it (and as it was on success: older
// libuv reads it even then), and without an agent all is as without portwrap.
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "ask.hpp"
#include "environment.hpp"
#include "real_calls.hpp"
#include "rewrite.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

// Newer than the headers of some distributions (Linux 5.6, 4.12, 5.14).
constexpr int k_protocol_mptcp = 262;
constexpr int k_so_cookie = 57;
constexpr int k_so_netns_cookie = 71;
constexpr int k_ip_bind_address_no_port = 24;

constexpr int k_stderr = 2;
constexpr unsigned k_max_failures = 16;

/// TCP or MPTCP over IPv4 or IPv6; one cheap call for most others, whose protocol is 0 or UDP.
bool is_tcp(int fd, int& domain, int& protocol) noexcept {
    int type = 0;
    return sys::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, protocol) &&
           (protocol == IPPROTO_TCP || protocol == k_protocol_mptcp) &&
           sys::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, domain) && (domain == AF_INET || domain == AF_INET6) &&
           sys::getsockopt(fd, SOL_SOCKET, SO_TYPE, type) && type == SOCK_STREAM;
}

/// Whether eight bytes can be read, asked of the kernel: rt_sigprocmask reads the mask before it refuses an unknown
/// `how`, so it changes nothing. Unlike process_vm_readv no sandbox forbids it.
bool is_readable(const unsigned char* eight_bytes) noexcept {
    constexpr int k_no_such_how = 1 << 16;
    return system_call(SYS_rt_sigprocmask, k_no_such_how, address_of(eight_bytes), 0, sizeof(SignalMask)) == -EINVAL;
}

/// A bad pointer must give EFAULT, as from the kernel, not a crash. An address touches two pages at most: first and last
/// bytes tell.
bool copy_in(const sockaddr* address, std::size_t size, Address& copy) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(address);
    if (!is_readable(bytes) || !is_readable(bytes + size - sizeof(SignalMask))) {
        return false;
    }
    for (std::size_t i = 0; i < size; ++i) {
        copy.bytes[i] = bytes[i];
    }
    copy.size = size;
    return true;
}

/// Highest address that is known to belong to the first thread's stack; 0 if unknown.
std::uintptr_t g_stack_top = 0;
constexpr std::uintptr_t k_stack_reach = 1024 * 1024;

/// Called in the constructor: the kernel puts the first environment above all frames of the stack.
void find_stack_top(const void* frame) noexcept {
    const auto from = reinterpret_cast<std::uintptr_t>(frame);
    const auto top = first_environment();
    if (top > from && top - from < k_stack_reach) {
        __atomic_store_n(&g_stack_top, top, __ATOMIC_RELAXED);
    }
}

/// Addresses of other families must cost no system call. Most lie in the caller's frame, and what lies above our own
/// frame is readable without asking up to the end of its page, on the first thread's stack up to its top (nothing else
/// is mapped within 128 MB below that stack, mmap_base in the kernel, so being near the top means being on it).
[[gnu::noinline]] bool is_another_family(const sockaddr* address) noexcept {
    constexpr std::uintptr_t k_least_page = 4096;
    const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    const auto top = __atomic_load_n(&g_stack_top, __ATOMIC_RELAXED);
    const bool is_on_page = at >= frame && at + sizeof(sa_family_t) <= (frame | (k_least_page - 1)) + 1;
    const bool is_on_stack = frame < top && top - frame < k_stack_reach && at >= frame && at < top - sizeof(sa_family_t);
    if (!is_on_page && !is_on_stack) {
        return false;
    }
    sa_family_t family = 0;
    __builtin_memcpy(&family, address, sizeof family);
    return family != AF_INET && family != AF_INET6;
}

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
    int fd;
    const Address& address;
    const Endpoint& endpoint;
    const shim_frame::BindRequest& request;
};

/// Binds what the agent says until the kernel agrees. errno is the real bind's where it failed.
int bind_as_told(Exchange& exchange, const BindCase& that) noexcept {
    Grant grant;
    if (!exchange.ask_bind(that.request, grant)) {
        return bind_copy(that.fd, that.address, that.endpoint.port);
    }
    for (unsigned failures = 0;; ++failures) {
        const int result = bind_copy(that.fd, that.address, grant.port);
        if (result == 0) {
            if (grant.lease != 0) {
                exchange.tell_bound({grant.lease, grant.port, that.request.cookie});
            }
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

/// An unknown network namespace is 0 (kernels before 5.14); without a cookie (before 4.12) nothing could be confirmed.
int managed_bind(const Environment& where, int fd, const Address& address, const Endpoint& endpoint,
                 std::uint32_t protocol) noexcept {
    int reuseport = 0;
    shim_frame::BindRequest request;
    request.port = endpoint.port;
    request.family = endpoint.family;
    request.scope = static_cast<std::uint32_t>(endpoint.scope);
    request.protocol = protocol;
    request.reuseport = sys::getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, reuseport) && reuseport != 0 ? 1 : 0;
    request.session = where.session;
    if (!sys::getsockopt(fd, SOL_SOCKET, k_so_netns_cookie, request.netns)) {
        request.netns = 0;
    }
    Exchange exchange(where);
    if (!sys::getsockopt(fd, SOL_SOCKET, k_so_cookie, request.cookie) || !exchange.open()) {
        return bind_copy(fd, address, endpoint.port);
    }
    return bind_as_told(exchange, {fd, address, endpoint, request});
}

struct StandardError {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};

StandardError standard_error() noexcept {
    struct stat status {};
    if (sys::fstat(k_stderr, status) != 0) {
        return {};
    }
    return {status.st_dev, status.st_ino};
}

constexpr SignalMask mask_of(int signal) noexcept { return SignalMask{1} << (signal - 1); }

/// One line on descriptor 2 if that can be had without waiting and without a signal: a reader that has gone (SIGPIPE), a
/// file at its limit (SIGXFSZ), a terminal that stops background writers (SIGTTOU, not sent while blocked).
void write_notice(const char* line, std::size_t size) noexcept {
    pollfd what{k_stderr, POLLOUT, 0};
    if (sys::poll_now(what) != 1 || what.revents != POLLOUT) {
        return;
    }
    constexpr SignalMask k_ours = mask_of(SIGPIPE) | mask_of(SIGXFSZ);
    const SignalMask blocked = k_ours | mask_of(SIGTTOU);
    SignalMask before = 0;
    SignalMask pending = 0;
    if (sys::signal_mask(SIG_BLOCK, &blocked, &before) != 0) {
        return;
    }
    if (sys::pending_signals(pending) == 0) {
        sys::write(k_stderr, line, size);
        SignalMask raised = 0;
        sys::pending_signals(raised);
        raised &= k_ours & ~pending;
        while (raised != 0) {
            const int consumed = sys::consume_signal(raised);
            if (consumed > 0) {
                raised &= ~mask_of(consumed);
            } else if (consumed != -EINTR) {
                break;
            }
        }
    }
    sys::signal_mask(SIG_SETMASK, &before, nullptr);
}

void tell_listening(const Environment& where, int fd, int error) noexcept {
    int domain = 0;
    int protocol = 0;
    if (!is_tcp(fd, domain, protocol)) {
        return;
    }
    Address address;
    Endpoint endpoint;
    auto size = static_cast<socklen_t>(sizeof address.bytes);
    if (sys::getsockname(fd, address.bytes, &size) != 0) {
        return;
    }
    address.size = size;
    if (!classify(address, endpoint) || endpoint.port == 0) {
        return;
    }
    const StandardError before = standard_error();
    shim_frame::ListeningRequest request;
    request.port = endpoint.port;
    request.error = static_cast<std::uint32_t>(error);
    request.family = endpoint.family;
    request.scope = static_cast<std::uint32_t>(endpoint.scope);
    request.session = where.session;
    request.stderr_device = before.device;
    request.stderr_inode = before.inode;
    if (!sys::getsockopt(fd, SOL_SOCKET, k_so_cookie, request.cookie)) {
        return;
    }
    char line[shim_frame::k_max_reply];
    std::size_t length = 0;
    {
        Exchange exchange(where);
        if (exchange.open()) {
            length = exchange.ask_listening(request, line);
        }
    }
    if (length == 0) {
        return;
    }
    // Another thread may have put another file there while the agent thought.
    const StandardError after = standard_error();
    if (before.inode != after.inode || before.device != after.device) {
        return;
    }
    line[length++] = '\n';  // there is room: the braces and quotes around the notice are gone
    write_notice(line, length);
}

[[gnu::constructor]] void start() noexcept {
    resolve_real_calls();
    find_stack_top(__builtin_frame_address(0));
    read_environment();
}

}  // namespace

}  // namespace portwrap::shim

using namespace portwrap::shim;

extern "C" {

[[gnu::visibility("default")]] int bind(int fd, const sockaddr* caller_address, socklen_t size) noexcept {
    const Environment* const where = environment();
    if (where == nullptr || caller_address == nullptr || size < k_least_inet || size > Address::k_capacity ||
        is_another_family(caller_address)) {
        return real_bind(fd, caller_address, size);
    }
    int domain = 0;
    int protocol = 0;
    Address address;
    Endpoint endpoint;
    if (!is_tcp(fd, domain, protocol) || !copy_in(caller_address, size, address) || !classify(address, endpoint) ||
        endpoint.family != static_cast<std::uint32_t>(domain) || (endpoint.port == 0 && wants_no_port_yet(fd))) {
        return real_bind(fd, caller_address, size);
    }
    const int errno_before = get_errno();
    const int result = managed_bind(*where, fd, address, endpoint, static_cast<std::uint32_t>(protocol));
    if (result == 0) {
        set_errno(errno_before);
    }
    return result;
}

[[gnu::visibility("default")]] int listen(int fd, int backlog) noexcept {
    const int errno_before = get_errno();
    const int result = real_listen(fd, backlog);
    const int error = result == 0 ? 0 : get_errno();
    const Environment* const where = environment();
    if (where != nullptr && (error == 0 || error == EADDRINUSE)) {
        tell_listening(*where, fd, error);
    }
    set_errno(result == 0 ? errno_before : error);
    return result;
}

}  // extern "C"
