// The functions that compilers call on their own account, for copies and zeroing of structures. Hidden: the program's
// own are neither needed nor replaced. The empty asm keeps the loops from being recognised as calls of themselves.
#include <cstddef>

extern "C" {

[[gnu::visibility("hidden")]] void* memcpy(void* to, const void* from, std::size_t size) noexcept;
[[gnu::visibility("hidden")]] void* memmove(void* to, const void* from, std::size_t size) noexcept;
[[gnu::visibility("hidden")]] void* memset(void* to, int value, std::size_t size) noexcept;
[[gnu::visibility("hidden")]] int memcmp(const void* left, const void* right, std::size_t size) noexcept;

void* memcpy(void* to, const void* from, std::size_t size) noexcept {
    auto* out = static_cast<unsigned char*>(to);
    const auto* in = static_cast<const unsigned char*>(from);
    for (std::size_t i = 0; i < size; ++i) {
        out[i] = in[i];
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

void* memmove(void* to, const void* from, std::size_t size) noexcept {
    auto* out = static_cast<unsigned char*>(to);
    const auto* in = static_cast<const unsigned char*>(from);
    if (out <= in) {
        return memcpy(to, from, size);
    }
    for (std::size_t i = size; i > 0; --i) {
        out[i - 1] = in[i - 1];
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

void* memset(void* to, int value, std::size_t size) noexcept {
    auto* out = static_cast<unsigned char*>(to);
    for (std::size_t i = 0; i < size; ++i) {
        out[i] = static_cast<unsigned char>(value);
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

int memcmp(const void* left, const void* right, std::size_t size) noexcept {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (std::size_t i = 0; i < size; ++i) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
        __asm__ volatile("" ::: "memory");
    }
    return 0;
}

}  // extern "C"
