// See sockets.hpp.
#include "sockets.hpp"

#include <errno.h>
#include <netinet/in.h>

#include "environment.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

constexpr int k_so_cookie = 57;
constexpr int k_so_netns_cookie = 71;
constexpr int k_tcp_info = 11;
constexpr unsigned char k_tcp_close = 7;  // its first byte: TCP_CLOSE of the kernel's include/net/tcp_states.h
constexpr std::uintptr_t k_least_page = 4096;
constexpr std::uintptr_t k_stack_reach = 1024 * 1024;

/// Highest address that is known to belong to the first thread's stack; 0 if unknown.
std::uintptr_t g_stack_top = 0;

/// Asked of the kernel: rt_sigprocmask reads eight bytes before it refuses an unknown `how`, so it changes nothing.
/// Unlike process_vm_readv no sandbox forbids it.
bool can_read_eight(const unsigned char* bytes) noexcept {
    constexpr int k_no_such_how = 1 << 16;
    return system_call(SYS_rt_sigprocmask, k_no_such_how, address_of(bytes), 0, sizeof(SignalMask)) == -EINVAL;
}

/// Most addresses lie in the caller's frame, and what lies above our own frame is readable without asking up to the end
/// of its page, on the first thread's stack up to its top (nothing else is mapped within 128 MB below that stack,
/// mmap_base in the kernel, so being near the top means being on it).
[[gnu::noinline]] bool is_on_stack(const void* bytes, std::size_t size) noexcept {
    const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    const auto at = reinterpret_cast<std::uintptr_t>(bytes);
    const auto top = __atomic_load_n(&g_stack_top, __ATOMIC_RELAXED);
    if (at < frame) {
        return false;
    }
    const bool on_page = at - frame < k_least_page && at + size <= (frame | (k_least_page - 1)) + 1;
    return on_page || (frame < top && top - frame < k_stack_reach && at < top && size < top - at);
}

}  // namespace

bool SocketKind::is_udp() const noexcept { return protocol == IPPROTO_UDP; }

bool read_kind(int fd, SocketKind& kind) noexcept {
    int type = 0;
    return sys::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, kind.protocol) &&
           (kind.protocol == IPPROTO_TCP || kind.protocol == k_protocol_mptcp || kind.protocol == IPPROTO_UDP) &&
           sys::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, kind.domain) && (kind.domain == AF_INET || kind.domain == AF_INET6) &&
           sys::getsockopt(fd, SOL_SOCKET, SO_TYPE, type) && type == (kind.is_udp() ? SOCK_DGRAM : SOCK_STREAM);
}

bool is_tcp(int fd) noexcept {
    int protocol = 0;
    return sys::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, protocol) && (protocol == IPPROTO_TCP || protocol == k_protocol_mptcp);
}

std::uint64_t cookie_of(int fd) noexcept {
    std::uint64_t cookie = 0;
    return sys::getsockopt(fd, SOL_SOCKET, k_so_cookie, cookie) ? cookie : 0;
}

std::uint64_t netns_of(int fd) noexcept {
    std::uint64_t cookie = 0;
    return sys::getsockopt(fd, SOL_SOCKET, k_so_netns_cookie, cookie) ? cookie : 0;
}

bool is_closed(int fd) noexcept {
    unsigned char state = 0;
    return sys::getsockopt(fd, IPPROTO_TCP, k_tcp_info, state) && state == k_tcp_close;
}

void find_stack_top(const void* frame) noexcept {
    // The kernel puts the first environment above all frames of the stack.
    const auto from = reinterpret_cast<std::uintptr_t>(frame);
    const auto top = first_environment();
    if (top > from && top - from < k_stack_reach) {
        __atomic_store_n(&g_stack_top, top, __ATOMIC_RELAXED);
    }
}

bool is_readable(const void* bytes, std::size_t size) noexcept {
    if (is_on_stack(bytes, size)) {
        return true;
    }
    // So few bytes touch two pages at most: the first and the last tell.
    const auto* first = static_cast<const unsigned char*>(bytes);
    const auto* last = first + size - sizeof(SignalMask);
    const auto at = reinterpret_cast<std::uintptr_t>(bytes);
    const bool one_page = (at & (k_least_page - 1)) + size <= k_least_page;
    return can_read_eight(last) && (one_page || can_read_eight(first));
}

bool copy_in(const sockaddr* address, std::size_t size, Address& copy) noexcept {
    if (!is_readable(address, size)) {
        return false;
    }
    __builtin_memcpy(copy.bytes, address, size);
    copy.size = size;
    return true;
}

bool is_another_family(const sockaddr* address) noexcept {
    if (!is_on_stack(address, sizeof(sa_family_t))) {
        return false;
    }
    sa_family_t family = 0;
    __builtin_memcpy(&family, address, sizeof family);
    return family != AF_INET && family != AF_INET6;
}

}  // namespace portwrap::shim
