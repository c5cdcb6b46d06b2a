// A buffer off the stack: a signal handler on an alternate stack of SIGSTKSZ (8 KiB) has little of that, and the kernel's
// own frame there takes up to half of it where registers are wide (AVX-512).
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "syscalls.hpp"

namespace portwrap::shim {

class Page {
public:
    static constexpr std::size_t k_size = 4096;
    Page() noexcept : m_memory(sys::map(k_size, PROT_READ | PROT_WRITE, -1)) {}
    Page(const Page&) = delete;
    Page& operator=(const Page&) = delete;
    ~Page() {
        if (m_memory != nullptr) {
            sys::unmap(m_memory, k_size);
        }
    }
    /// False: there was no memory.
    [[nodiscard]] bool valid() const noexcept { return m_memory != nullptr; }
    [[nodiscard]] char (&bytes() const noexcept)[k_size] { return *static_cast<char(*)[k_size]>(m_memory); }

private:
    void* m_memory;
};

}  // namespace portwrap::shim
