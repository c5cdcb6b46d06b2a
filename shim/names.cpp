// See names.hpp.
#include "names.hpp"

#include "real_calls.hpp"
#include "rewrite.hpp"
#include "sockets.hpp"
#include "syscalls.hpp"
#include "table.hpp"

namespace portwrap::shim {

namespace {

/// assigned << 16 | requested, from the front; 0: free. A 17th port would be told as it is.
std::uint32_t g_pairs[16] = {};

std::uint16_t remembered(std::uint16_t assigned) noexcept {
    for (const auto& pair : g_pairs) {
        const auto known = __atomic_load_n(&pair, __ATOMIC_RELAXED);
        if (known == 0) {
            break;
        }
        if (known >> 16 == assigned) {
            return static_cast<std::uint16_t>(known);
        }
    }
    return 0;
}

/// A worker has its socket from the primary, and the table from the agent.
std::uint16_t requested_of(const Environment& where, std::uint16_t assigned) noexcept {
    const auto own = remembered(assigned);
    if (own != 0 || !where.is_cluster_worker) {
        return own;
    }
    std::uint16_t requested = 0;
    const auto find = [&](const TableView& seen) { requested = remap_table::find_requested(*seen.table, assigned, seen.asker); };
    return look_up(where, false, find) != nullptr ? requested : std::uint16_t{0};
}

/// How much room there is at the caller's address; 0 for a bad pointer.
socklen_t room_at(const socklen_t* size) noexcept {
    constexpr std::size_t k_word = sizeof(SignalMask);
    const auto at = reinterpret_cast<std::uintptr_t>(size);
    const auto* first = reinterpret_cast<const void*>(at & ~(k_word - 1));
    const auto* last = reinterpret_cast<const void*>((at + sizeof(socklen_t) - 1) & ~(k_word - 1));
    socklen_t room = 0;
    if (is_readable(first, k_word) && is_readable(last, k_word)) {
        __builtin_memcpy(&room, size, sizeof room);
    }
    return room;
}

}  // namespace

void remember_requested(std::uint16_t assigned, std::uint16_t requested) noexcept {
    const std::uint32_t pair = std::uint32_t{assigned} << 16 | requested;
    for (auto& place : g_pairs) {
        std::uint32_t seen = __atomic_load_n(&place, __ATOMIC_RELAXED);
        if (seen >> 16 == assigned) {
            __atomic_store_n(&place, pair, __ATOMIC_RELAXED);
            return;
        }
        if (seen == 0 && __atomic_compare_exchange_n(&place, &seen, pair, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return;
        }
    }
}

bool hides_names(const Environment& where) noexcept {
    return where.is_cluster_worker || __atomic_load_n(&g_pairs[0], __ATOMIC_RELAXED) != 0;
}

int hiding_getsockname(const Environment& where, int fd, sockaddr* address, socklen_t* size) noexcept {
    constexpr std::size_t k_port_end = 4;
    Address name;
    Endpoint endpoint;
    auto name_size = static_cast<socklen_t>(sizeof name.bytes);
    std::uint16_t requested = 0;
    if (sys::getsockname(fd, name.bytes, &name_size) == 0) {
        name.size = name_size;
        requested = classify(name, endpoint) ? requested_of(where, endpoint.port) : std::uint16_t{0};
    }
    const socklen_t room = requested != 0 ? room_at(size) : 0;
    const int result = real_getsockname(fd, address, size);
    if (result == 0 && room >= k_port_end) {
        const Address shown = with_port(name, requested);
        __builtin_memcpy(reinterpret_cast<unsigned char*>(address) + 2, shown.bytes + 2, sizeof(std::uint16_t));
    }
    return result;
}

}  // namespace portwrap::shim
