// The published remap table of one project: a file of fixed size in the runtime directory that the agent writes and the
// shim maps and reads without asking. Freestanding: no libc, no heap, no locks, safe in a signal handler and after fork.
//
// RUNTIME/tables/NAME, NAME being 16 hexadecimal digits: the hash of the project's root, or one of the numbers after it
// where two roots have one hash. The file is fully allocated before it gets its name, reused in place and never
// truncated, so that reading it raises no SIGBUS. A table whose file has lost its name (nothing is known of the project any more, or
// somebody has deleted the file) is retired: whoever has it mapped looks for the one that is in its place now. One that nobody
// writes any more has ended: whoever has it mapped looks whether another one is in its place, and keeps it where none is.
// One writer, any number of readers: the sequence is odd while the writer is at work; a reader copies what it needs and looks
// whether the sequence is still the same. Everything that changes is made of words that are read and written atomically, in the
// machine's byte order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portwrap::remap_table {

inline constexpr std::uint64_t k_magic = 0x31504d5041525750;  ///< "PWRAPMP1" as little-endian bytes
inline constexpr std::uint64_t k_version = 1;
inline constexpr std::size_t k_rows = 384;        ///< more are left out, the least important first
inline constexpr std::size_t k_root_capacity = 4032;
inline constexpr unsigned k_name_digits = 16;

enum class RowKind : std::uint8_t {
    live = 1,     ///< a connect to `port` goes to `target` (which may be the same number)
    sticky = 2,   ///< what `port` was given last time: for a bind when the agent cannot be reached
    refused = 3,  ///< a connect to `port` is refused: it is another project's
};

struct Row {
    std::uint64_t ports = 0;          ///< port, target << 16, kind << 32
    std::uint64_t session_pid = 0;    ///< of the session that has the lease; 0 for none
    std::uint64_t session_start = 0;  ///< its start in clock ticks
    std::uint64_t directory = 0;      ///< hash of the package's directory
};

struct Table {
    std::uint64_t magic;
    std::uint64_t version;   ///< 0: retired
    std::uint64_t sequence;  ///< odd while being written
    std::uint64_t agent_pid;  ///< k_ended: nobody writes it any more. Its lower half is a robust futex, which the kernel sets to that
    std::uint64_t agent_start;
    std::uint64_t netns;  ///< SO_NETNS_COOKIE of the agent; 0: unknown
    std::uint64_t count;  ///< of rows, those of kind live first, in the order of preference
    std::uint64_t root_size;
    char root[k_root_capacity];  ///< the project's canonical path; written once, before the file has its name
    Row rows[k_rows];
};
static_assert(sizeof(Row) == 32 && offsetof(Table, rows) == 4096 && sizeof(Table) == 16384);

// FNV-1a with 64 bits (RFC 9923): of a prefix it is the state on the way, so one pass over a path gives all its parents.
inline constexpr std::uint64_t k_hash_start = 0xcbf29ce484222325;
[[nodiscard]] constexpr std::uint64_t hash_on(std::uint64_t state, char c) noexcept {
    return (state ^ static_cast<unsigned char>(c)) * 0x100000001b3;
}
[[nodiscard]] constexpr std::uint64_t hash_of(const char* text, std::size_t size) noexcept {
    std::uint64_t state = k_hash_start;
    for (std::size_t i = 0; i < size; ++i) { state = hash_on(state, text[i]); }
    return state;
}

/// The 16 digits of a table's name, without a NUL.
inline void write_name(std::uint64_t name, char (&out)[k_name_digits]) noexcept {
    for (unsigned i = k_name_digits; i-- > 0; name >>= 4) { out[i] = "0123456789abcdef"[name & 0xf]; }
}
/// False unless it is exactly a name as written; 0 is none.
[[nodiscard]] inline bool read_name(const char* text, std::size_t size, std::uint64_t& name) noexcept {
    if (size != k_name_digits) { return false; }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const char c = text[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | static_cast<std::uint64_t>(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | static_cast<std::uint64_t>(c - 'a' + 10);
        } else {
            return false;
        }
    }
    name = value;
    return true;
}

/// A file of the right size that says that it is a table of this version.
[[nodiscard]] inline bool is_table(const Table& table) noexcept {
    return table.magic == k_magic && table.version == k_version && table.root_size <= k_root_capacity;
}

/// For the writer, after the new file has its name. What it says stays, for readers of an earlier version.
inline void retire(Table& table) noexcept { __atomic_store_n(&table.version, std::uint64_t{0}, __ATOMIC_RELEASE); }
/// For the writer, when all but the rows stands.
inline void instate(Table& table) noexcept { __atomic_store_n(&table.version, k_version, __ATOMIC_RELEASE); }
/// Asked after a reading: then the reading does not count.
[[nodiscard]] inline bool is_retired(const Table& table) noexcept { return __atomic_load_n(&table.version, __ATOMIC_ACQUIRE) != k_version; }

namespace detail {
inline std::uint64_t load(const std::uint64_t& word) noexcept { return __atomic_load_n(&word, __ATOMIC_RELAXED); }
inline void store(std::uint64_t& word, std::uint64_t value) noexcept { __atomic_store_n(&word, value, __ATOMIC_RELAXED); }
inline Row load(const Row& row) noexcept {
    return {load(row.ports), load(row.session_pid), load(row.session_start), load(row.directory)};
}
/// A writer that died at work leaves an odd sequence until the next agent comes.
inline constexpr int k_attempts = 64;
}  // namespace detail

/// FUTEX_OWNER_DIED of the kernel's <linux/futex.h>, in the place of a pid, whose numbers are all smaller.
inline constexpr std::uint64_t k_ended = 0x40000000;
/// For the writer, when it leaves a file that is in its place: unless another agent writes it. Where it is killed instead, the kernel
/// does the same.
inline void end(Table& table, std::uint64_t agent_pid) noexcept {
    (void)__atomic_compare_exchange_n(&table.agent_pid, &agent_pid, k_ended, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
[[nodiscard]] inline bool has_ended(const Table& table) noexcept { return detail::load(table.agent_pid) == k_ended; }

[[nodiscard]] constexpr Row make_row(RowKind kind, std::uint16_t port, std::uint16_t target, std::uint64_t session_pid,
                                     std::uint64_t session_start, std::uint64_t directory) noexcept {
    return {port | std::uint64_t{target} << 16 | static_cast<std::uint64_t>(kind) << 32, session_pid, session_start, directory};
}
[[nodiscard]] constexpr std::uint16_t port_of(const Row& row) noexcept { return static_cast<std::uint16_t>(row.ports); }
[[nodiscard]] constexpr std::uint16_t target_of(const Row& row) noexcept { return static_cast<std::uint16_t>(row.ports >> 16); }
[[nodiscard]] constexpr RowKind kind_of(const Row& row) noexcept { return static_cast<RowKind>(row.ports >> 32 & 0xff); }

/// Calls `see` with each row, in order, until it returns false; `begin` before each attempt. False when no attempt saw
/// the table at rest: then nothing that was seen counts.
template <typename Begin, typename See>
[[nodiscard]] bool read(const Table& table, const Begin& begin, const See& see) noexcept {
    for (int attempt = 0; attempt < detail::k_attempts; ++attempt) {
        const auto sequence = __atomic_load_n(&table.sequence, __ATOMIC_ACQUIRE);
        if ((sequence & 1) != 0) { continue; }
        begin();
        const auto said = detail::load(table.count);
        const std::size_t count = said < k_rows ? static_cast<std::size_t>(said) : k_rows;
        for (std::size_t i = 0; i < count; ++i) {
            if (!see(table.rows[i])) { break; }
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (detail::load(table.sequence) == sequence) { return true; }
    }
    return false;
}

/// Who connects: its session, and the hashes of its directory and that one's parents, the deepest first.
struct Asker {
    std::uint64_t session_pid = 0;
    std::uint64_t session_start = 0;
    const std::uint64_t* directories = nullptr;
    std::size_t directory_count = 0;

    [[nodiscard]] bool is_own(const Row& row) const noexcept {
        return session_pid != 0 && row.session_pid == session_pid && row.session_start == session_start;
    }
    /// 0 for the directory itself, more for its parents, directory_count for any other.
    [[nodiscard]] std::size_t distance(std::uint64_t directory) const noexcept {
        std::size_t i = 0;
        while (i < directory_count && directories[i] != directory) { ++i; }
        return i;
    }
};

struct Found {
    bool known = false;   ///< the table says something
    bool refused = false;
    std::uint16_t target = 0;
};

/// Where a connect to `port` goes: the own session's first, then the nearest package's, then the most recently active.
[[nodiscard]] inline Found find_connect(const Table& table, std::uint16_t port, const Asker& asker) noexcept {
    Found found;
    std::size_t best = 0;
    const auto begin = [&] {
        found = Found{};
        best = asker.directory_count + 1;
    };
    const auto see = [&](const Row& shared) {
        if (static_cast<std::uint16_t>(detail::load(shared.ports)) != port) { return true; }
        const Row row = detail::load(shared);
        if (kind_of(row) == RowKind::refused) {
            if (!found.known) { found = Found{true, true, 0}; }
        } else if (kind_of(row) == RowKind::live) {
            if (asker.is_own(row)) {
                found = Found{true, false, target_of(row)};
                return false;
            }
            const auto distance = asker.distance(row.directory);
            if (distance < best) {
                best = distance;
                found = Found{true, false, target_of(row)};
            }
        }
        return true;
    };
    return read(table, begin, see) ? found : Found{};
}

/// What a bind to `port` would probably be given: the session's own, also where it was only offered, else the sticky one that
/// nobody was offered. 0: nothing is known.
[[nodiscard]] inline std::uint16_t find_bind(const Table& table, std::uint16_t port, const Asker& asker) noexcept {
    std::uint16_t own = 0;
    std::uint16_t sticky = 0;
    const auto begin = [&] { own = sticky = 0; };
    const auto see = [&](const Row& shared) {
        const Row row = detail::load(shared);
        if (port_of(row) != port) { return true; }
        if (kind_of(row) != RowKind::refused && asker.is_own(row) && own == 0) { own = target_of(row); }
        if (kind_of(row) == RowKind::sticky && row.session_pid == 0 && sticky == 0) { sticky = target_of(row); }
        return true;
    };
    if (!read(table, begin, see)) { return 0; }
    return own != 0 ? own : sticky;
}

/// What was asked for where `target` was given to this session (else to anybody of the project); 0: not known.
[[nodiscard]] inline std::uint16_t find_requested(const Table& table, std::uint16_t target, const Asker& asker) noexcept {
    std::uint16_t found = 0;
    const auto begin = [&] { found = 0; };
    const auto see = [&](const Row& shared) {
        const Row row = detail::load(shared);
        if (kind_of(row) != RowKind::live || target_of(row) != target) { return true; }
        if (found == 0 || asker.is_own(row)) { found = port_of(row); }
        return !asker.is_own(row);
    };
    return read(table, begin, see) ? found : std::uint16_t{0};
}

/// The writer's part: `count` rows, at most k_rows, in place of what was there; tells who wrote them.
inline void write(Table& table, const Row* rows, std::size_t count, std::uint64_t agent_pid, std::uint64_t agent_start,
                  std::uint64_t netns) noexcept {
    const auto busy = detail::load(table.sequence) | 1;
    detail::store(table.sequence, busy);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    detail::store(table.agent_pid, agent_pid);
    detail::store(table.agent_start, agent_start);
    detail::store(table.netns, netns);
    detail::store(table.count, count);
    for (std::size_t i = 0; i < count; ++i) {
        detail::store(table.rows[i].ports, rows[i].ports);
        detail::store(table.rows[i].session_pid, rows[i].session_pid);
        detail::store(table.rows[i].session_start, rows[i].session_start);
        detail::store(table.rows[i].directory, rows[i].directory);
    }
    __atomic_store_n(&table.sequence, busy + 1, __ATOMIC_RELEASE);
}

}  // namespace portwrap::remap_table
