// System calls without a C library: the shim must neither change errno nor be a cancellation point nor meet its own or
// another preload library's interception. Results are the kernel's: negative errno values for failures.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstddef>
#include <cstdint>

namespace portwrap::shim {

#if defined(__x86_64__) && defined(__LP64__)

inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result = number;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__) && defined(__LP64__)

inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

#else
#error "the shim knows the system calls of x86_64 and aarch64 only"
#endif

inline long address_of(const void* pointer) noexcept { return reinterpret_cast<long>(pointer); }
inline long as_long(std::size_t size) noexcept { return static_cast<long>(size); }

/// The kernel's signal mask (not the C library's larger sigset_t): bit N-1 is signal N.
using SignalMask = std::uint64_t;

namespace sys {

inline int socket(int domain, int type, int protocol) noexcept {
    return static_cast<int>(system_call(SYS_socket, domain, type, protocol));
}
inline int connect(int fd, const void* address, std::size_t size) noexcept {
    return static_cast<int>(system_call(SYS_connect, fd, address_of(address), as_long(size)));
}
inline int bind(int fd, const sockaddr* address, socklen_t size) noexcept {
    return static_cast<int>(system_call(SYS_bind, fd, address_of(address), static_cast<long>(size)));
}
inline int listen(int fd, int backlog) noexcept { return static_cast<int>(system_call(SYS_listen, fd, backlog)); }
inline int getsockname(int fd, void* address, socklen_t* size) noexcept {
    return static_cast<int>(system_call(SYS_getsockname, fd, address_of(address), address_of(size)));
}
inline long send(int fd, const char* data, std::size_t size, int flags) noexcept {
    return system_call(SYS_sendto, fd, address_of(data), as_long(size), flags);
}
inline long sendto(int fd, const void* data, std::size_t size, int flags, const void* address, socklen_t address_size) noexcept {
    return system_call(SYS_sendto, fd, address_of(data), as_long(size), flags, address_of(address), static_cast<long>(address_size));
}
inline long sendmsg(int fd, const msghdr* message, int flags) noexcept {
    return system_call(SYS_sendmsg, fd, address_of(message), flags);
}
inline long receive(int fd, char* data, std::size_t size) noexcept {
    return system_call(SYS_recvfrom, fd, address_of(data), as_long(size));
}
inline int setsockopt(int fd, int level, int name, const void* value, std::size_t size) noexcept {
    return static_cast<int>(system_call(SYS_setsockopt, fd, level, name, address_of(value), as_long(size)));
}
/// False unless the option exists and is exactly as large as T.
template <typename T>
[[nodiscard]] bool getsockopt(int fd, int level, int name, T& value) noexcept {
    T result{};
    auto size = static_cast<socklen_t>(sizeof result);
    if (system_call(SYS_getsockopt, fd, level, name, address_of(&result), address_of(&size)) != 0 || size != sizeof result) {
        return false;
    }
    value = result;
    return true;
}
inline int open_for_reading(const char* path) noexcept {
    return static_cast<int>(system_call(SYS_openat, AT_FDCWD, address_of(path), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}
inline long read(int fd, void* data, std::size_t size) noexcept {
    return system_call(SYS_read, fd, address_of(data), as_long(size));
}
inline long write(int fd, const void* data, std::size_t size) noexcept {
    return system_call(SYS_write, fd, address_of(data), as_long(size));
}
inline void close(int fd) noexcept { system_call(SYS_close, fd); }
inline bool exists(const char* path) noexcept {
    return system_call(SYS_faccessat, AT_FDCWD, address_of(path), 0) == 0;
}
/// The length with its NUL, or a negative errno value.
inline long getcwd(char* out, std::size_t capacity) noexcept { return system_call(SYS_getcwd, address_of(out), as_long(capacity)); }
/// Null when that cannot be had. A descriptor of -1: zeros of the process's own.
inline void* map(std::size_t size, int protection, int fd) noexcept {
    const long flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    const long result = system_call(SYS_mmap, 0, as_long(size), protection, flags, fd, 0);
    return result < 0 && result > -4096 ? nullptr : reinterpret_cast<void*>(result);
}
inline void unmap(const void* memory, std::size_t size) noexcept { system_call(SYS_munmap, address_of(memory), as_long(size)); }
inline int fcntl(int fd, int command, long argument) noexcept {
    return static_cast<int>(system_call(SYS_fcntl, fd, command, argument));
}
// The C libraries' struct stat is the kernel's own on both architectures.
inline int fstat(int fd, struct stat& out) noexcept {
    return static_cast<int>(system_call(SYS_fstat, fd, address_of(&out)));
}
inline int lstat(const char* path, struct stat& out) noexcept {
    return static_cast<int>(system_call(SYS_newfstatat, AT_FDCWD, address_of(path), address_of(&out), AT_SYMLINK_NOFOLLOW));
}
inline int stat(const char* path, struct stat& out) noexcept {
    return static_cast<int>(system_call(SYS_newfstatat, AT_FDCWD, address_of(path), address_of(&out), 0));
}
inline int poll_now(pollfd& what) noexcept {
    const timespec zero{};
    return static_cast<int>(system_call(SYS_ppoll, address_of(&what), 1, address_of(&zero), 0, sizeof(SignalMask)));
}
inline std::uint32_t geteuid() noexcept { return static_cast<std::uint32_t>(system_call(SYS_geteuid)); }
inline int getppid() noexcept { return static_cast<int>(system_call(SYS_getppid)); }
inline int kill(int pid, int signal) noexcept { return static_cast<int>(system_call(SYS_kill, pid, signal)); }
inline int signal_mask(int how, const SignalMask* set, SignalMask* old) noexcept {
    return static_cast<int>(system_call(SYS_rt_sigprocmask, how, address_of(set), address_of(old), sizeof(SignalMask)));
}
inline int pending_signals(SignalMask& out) noexcept {
    return static_cast<int>(system_call(SYS_rt_sigpending, address_of(&out), sizeof(SignalMask)));
}
/// Consumes one pending signal of the set without waiting for any.
inline int consume_signal(const SignalMask& set) noexcept {
    const timespec zero{};
    return static_cast<int>(system_call(SYS_rt_sigtimedwait, address_of(&set), 0, address_of(&zero), sizeof(SignalMask)));
}
/// Milliseconds of CLOCK_MONOTONIC; never 0 in practice, so 0 can mean "not set".
inline std::int64_t now_ms() noexcept {
    timespec now{};
    system_call(SYS_clock_gettime, CLOCK_MONOTONIC, address_of(&now));
    return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

}  // namespace sys

/// A program may have closed its standard descriptors; a number below 3 would be taken for one of them by a fork that
/// happens meanwhile. Returns the descriptor to use, or a negative errno value (nothing is left open then).
inline int above_standard(int fd) noexcept {
    if (fd < 0 || fd > 2) {
        return fd;
    }
    const int moved = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    sys::close(fd);
    return moved;
}

}  // namespace portwrap::shim
