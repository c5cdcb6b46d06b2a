// See real_calls.hpp. All that is imported is weak and unversioned, so the shim loads whatever C library there is:
// glibc before 2.34 has dlsym in a library of its own, which may be absent.
#include "real_calls.hpp"

#include "syscalls.hpp"

extern "C" {
[[gnu::weak, gnu::visibility("default")]] void* dlsym(void* handle, const char* name) noexcept;
[[gnu::weak, gnu::visibility("default")]] int* __errno_location() noexcept;
}

namespace portwrap::shim {

namespace {

using BindCall = int(int, const sockaddr*, socklen_t);
using ListenCall = int(int, int);
using NameCall = int(int, sockaddr*, socklen_t*);
using SendToCall = ssize_t(int, const void*, std::size_t, int, const sockaddr*, socklen_t);
using SendMessageCall = ssize_t(int, const msghdr*, int);

// Null: the kernel's own. Read atomically, because another library's constructor may have started a thread before ours.
BindCall* g_bind = nullptr;
ListenCall* g_listen = nullptr;
BindCall* g_connect = nullptr;
NameCall* g_getsockname = nullptr;
SendToCall* g_sendto = nullptr;
SendMessageCall* g_sendmsg = nullptr;

template <typename Call>
void resolve(Call*& call, const char* name) noexcept {
    // RTLD_NEXT; dlfcn.h would declare dlsym anew, and not weak.
    void* const next = reinterpret_cast<void*>(-1L);
    __atomic_store_n(&call, reinterpret_cast<Call*>(dlsym(next, name)), __ATOMIC_RELEASE);
}

template <typename Number>
Number as_c_result(Number result) noexcept {
    if (result < 0) {
        set_errno(static_cast<int>(-result));
        return -1;
    }
    return result;
}

}  // namespace

void resolve_real_calls() noexcept {
    if (dlsym == nullptr) {
        return;
    }
    resolve(g_bind, "bind");
    resolve(g_listen, "listen");
    resolve(g_connect, "connect");
    resolve(g_getsockname, "getsockname");
    resolve(g_sendto, "sendto");
    resolve(g_sendmsg, "sendmsg");
}

int real_bind(int fd, const sockaddr* address, socklen_t size) noexcept {
    BindCall* const call = __atomic_load_n(&g_bind, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, address, size) : as_c_result(sys::bind(fd, address, size));
}

int real_listen(int fd, int backlog) noexcept {
    ListenCall* const call = __atomic_load_n(&g_listen, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, backlog) : as_c_result(sys::listen(fd, backlog));
}

int real_connect(int fd, const sockaddr* address, socklen_t size) noexcept {
    BindCall* const call = __atomic_load_n(&g_connect, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, address, size) : as_c_result(sys::connect(fd, address, size));
}

int real_getsockname(int fd, sockaddr* address, socklen_t* size) noexcept {
    NameCall* const call = __atomic_load_n(&g_getsockname, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, address, size) : as_c_result(sys::getsockname(fd, address, size));
}

ssize_t real_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* address,
                    socklen_t address_size) noexcept {
    SendToCall* const call = __atomic_load_n(&g_sendto, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, data, size, flags, address, address_size)
                           : as_c_result(sys::sendto(fd, data, size, flags, address, address_size));
}

ssize_t real_sendmsg(int fd, const msghdr* message, int flags) noexcept {
    SendMessageCall* const call = __atomic_load_n(&g_sendmsg, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, message, flags) : as_c_result(sys::sendmsg(fd, message, flags));
}

int get_errno() noexcept { return __errno_location != nullptr ? *__errno_location() : 0; }

void set_errno(int value) noexcept {
    if (__errno_location != nullptr) {
        *__errno_location() = value;
    }
}

}  // namespace portwrap::shim
