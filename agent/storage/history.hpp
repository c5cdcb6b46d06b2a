// The past: what the journal and its sealed segments still say, newest first, within bounds. For a pool thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/events.hpp"
#include "storage/files.hpp"

namespace portwrap {

struct HistoryQuery {
    Time since{};                               ///< nothing before
    std::uint64_t before = UINT64_MAX;          ///< only events with lower numbers
    std::function<bool(const Lease&)> wanted;
    std::size_t limit = 1000;                   ///< the newest so many
    std::size_t max_bytes = SIZE_MAX;           ///< of their lines in the journal: fewer of them, but one at least
};
struct History {
    std::vector<Event> events;  ///< in rising order
    bool more = false;          ///< there are, or may be, earlier ones
};
/// Lease events. One file's text is in memory at a time, and of its events those that may be wanted. Safe while the store writes: a segment that is sealed
/// meanwhile is recognised by its sequence numbers.
[[nodiscard]] History read_history(Files& files, const std::string& directory, const HistoryQuery& query);

}  // namespace portwrap
