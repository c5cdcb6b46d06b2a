// The functions that programs call instead of the C library's. They never break a program: no heap, no lock, no descriptor
// kept, nothing on stdout, the caller's memory is written as the real call writes it, errno is as the real call leaves it
// (and as it was on success: older libuv reads it even then), and without an agent all is as without portwrap.
#include <errno.h>
#include <sys/socket.h>

#include "binding.hpp"
#include "connecting.hpp"
#include "environment.hpp"
#include "names.hpp"
#include "notice.hpp"
#include "real_calls.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

constexpr int k_fast_open = 0x20000000;  // MSG_FASTOPEN, Linux 3.6: data in the SYN, so sendto and sendmsg connect

[[gnu::constructor]] void start() noexcept {
    resolve_real_calls();
    find_stack_top(__builtin_frame_address(0));
    read_environment();
}

const sockaddr* as_sockaddr(const Address& address) noexcept { return reinterpret_cast<const sockaddr*>(address.bytes); }

int refuse() noexcept {
    set_errno(ECONNREFUSED);
    return -1;
}

// Not inlined, so that the usual way through the exported functions is short and needs no stack.

[[gnu::noinline]] int connect_where_meant(const Environment& where, int fd, const sockaddr* address, socklen_t size) noexcept {
    Address changed;
    switch (way_of(where, fd, address, size, changed)) {
        case Way::elsewhere: return real_connect(fd, as_sockaddr(changed), size);
        case Way::refused: return refuse();
        case Way::as_asked: break;
    }
    return real_connect(fd, address, size);
}

[[gnu::noinline]] ssize_t send_where_meant(const Environment& where, int fd, const void* data, std::size_t size, int flags,
                                           const sockaddr* address, socklen_t address_size) noexcept {
    Address changed;
    switch (way_of(where, fd, address, address_size, changed)) {
        case Way::elsewhere: return real_sendto(fd, data, size, flags, as_sockaddr(changed), address_size);
        case Way::refused: return refuse();
        case Way::as_asked: break;
    }
    return real_sendto(fd, data, size, flags, address, address_size);
}

[[gnu::noinline]] ssize_t send_message_where_meant(const Environment& where, int fd, const msghdr* message, int flags) noexcept {
    if (message == nullptr || !is_readable(message, sizeof *message)) {
        return real_sendmsg(fd, message, flags);
    }
    msghdr copy = *message;
    Address changed;
    switch (way_of(where, fd, static_cast<const sockaddr*>(copy.msg_name), copy.msg_namelen, changed)) {
        case Way::elsewhere: copy.msg_name = changed.bytes; return real_sendmsg(fd, &copy, flags);
        case Way::refused: return refuse();
        case Way::as_asked: break;
    }
    return real_sendmsg(fd, message, flags);
}

}  // namespace

}  // namespace portwrap::shim

using namespace portwrap::shim;

extern "C" {

[[gnu::visibility("default")]] int bind(int fd, const sockaddr* caller_address, socklen_t size) noexcept {
    const Environment* const where = environment();
    SocketKind kind;
    Address address;
    Endpoint endpoint;
    if (where == nullptr || caller_address == nullptr || size < k_least_inet || size > Address::k_capacity ||
        !is_managed_bind(fd, caller_address, size, kind, address, endpoint)) {
        return real_bind(fd, caller_address, size);
    }
    const int errno_before = get_errno();
    const int result = managed_bind(*where, fd, kind, address, endpoint);
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

[[gnu::visibility("default")]] int connect(int fd, const sockaddr* address, socklen_t size) {
    const Environment* const where = environment();
    return where != nullptr && where->connect ? connect_where_meant(*where, fd, address, size) : real_connect(fd, address, size);
}

[[gnu::visibility("default")]] ssize_t sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* address,
                                              socklen_t address_size) {
    const Environment* const where = environment();
    if ((flags & k_fast_open) == 0 || where == nullptr || !where->connect) {
        return real_sendto(fd, data, size, flags, address, address_size);
    }
    return send_where_meant(*where, fd, data, size, flags, address, address_size);
}

[[gnu::visibility("default")]] ssize_t sendmsg(int fd, const msghdr* message, int flags) {
    const Environment* const where = environment();
    if ((flags & k_fast_open) == 0 || where == nullptr || !where->connect) {
        return real_sendmsg(fd, message, flags);
    }
    return send_message_where_meant(*where, fd, message, flags);
}

[[gnu::visibility("default")]] int getsockname(int fd, sockaddr* address, socklen_t* size) noexcept {
    const Environment* const where = environment();
    return where != nullptr && hides_names(*where) ? hiding_getsockname(*where, fd, address, size)
                                                   : real_getsockname(fd, address, size);
}

}  // extern "C"
