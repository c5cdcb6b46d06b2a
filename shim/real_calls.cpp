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

// Null: the kernel's own. Read atomically, because another library's constructor may have started a thread before ours.
BindCall* g_bind = nullptr;
ListenCall* g_listen = nullptr;

template <typename Call>
void resolve(Call*& call, const char* name) noexcept {
    // RTLD_NEXT; dlfcn.h would declare dlsym anew, and not weak.
    void* const next = reinterpret_cast<void*>(-1L);
    __atomic_store_n(&call, reinterpret_cast<Call*>(dlsym(next, name)), __ATOMIC_RELEASE);
}

int as_c_result(int result) noexcept {
    if (result < 0) {
        set_errno(-result);
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
}

int real_bind(int fd, const sockaddr* address, socklen_t size) noexcept {
    BindCall* const call = __atomic_load_n(&g_bind, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, address, size) : as_c_result(sys::bind(fd, address, size));
}

int real_listen(int fd, int backlog) noexcept {
    ListenCall* const call = __atomic_load_n(&g_listen, __ATOMIC_ACQUIRE);
    return call != nullptr ? call(fd, backlog) : as_c_result(sys::listen(fd, backlog));
}

int get_errno() noexcept { return __errno_location != nullptr ? *__errno_location() : 0; }

void set_errno(int value) noexcept {
    if (__errno_location != nullptr) {
        *__errno_location() = value;
    }
}

}  // namespace portwrap::shim
