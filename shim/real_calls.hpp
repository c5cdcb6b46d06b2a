// The calls that the program meant: the next library's (another preload library may have its own), or the kernel's where
// no dlsym is to be had. They leave errno as that library does; the functions below it never touch it.
#pragma once

#include <sys/socket.h>

#include <cstddef>

namespace portwrap::shim {

/// Looks the real functions up. Once, in the constructor: dlsym may take locks and memory, which a hook must not.
void resolve_real_calls() noexcept;

int real_bind(int fd, const sockaddr* address, socklen_t size) noexcept;
int real_listen(int fd, int backlog) noexcept;
int real_connect(int fd, const sockaddr* address, socklen_t size) noexcept;
int real_getsockname(int fd, sockaddr* address, socklen_t* size) noexcept;
ssize_t real_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* address, socklen_t address_size) noexcept;
ssize_t real_sendmsg(int fd, const msghdr* message, int flags) noexcept;

/// The calling thread's errno; 0 and nothing where there is none.
[[nodiscard]] int get_errno() noexcept;
void set_errno(int value) noexcept;

}  // namespace portwrap::shim
