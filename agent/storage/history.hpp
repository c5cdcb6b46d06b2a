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
};
/// Lease events in rising order. One file's text is in memory at a time, and of its events those that may be wanted. Safe while the store writes: a segment that is sealed
/// meanwhile is recognised by its sequence numbers.
[[nodiscard]] std::vector<Event> read_history(Files& files, const std::string& directory, const HistoryQuery& query);

}  // namespace portwrap
