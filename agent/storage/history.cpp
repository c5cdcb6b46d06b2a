#include "storage/history.hpp"

#include <algorithm>
#include <cstdint>

#include "storage/recovery.hpp"

namespace portwrap {

std::vector<Event> read_history(Files& files, const std::string& directory, const HistoryQuery& query) {
    std::vector<Event> newest_first;
    std::uint64_t before = UINT64_MAX;  // the lowest number seen so far
    // False when nothing older can be wanted.
    const auto take = [&](const std::string& name) {
        auto events = read_journal(read_file(files, directory + "/" + name).text).events;
        // Events that a later file repeats were never applied, or that file was sealed a moment ago.
        std::erase_if(events, [before](const Event& event) { return event.seq >= before; });
        for (auto event = events.rbegin(); event != events.rend(); ++event) {
            before = event->seq;
            if (event->at < query.since || newest_first.size() >= query.limit) { return false; }
            const auto* changed = std::get_if<LeaseEvent>(&event->change);
            if (changed != nullptr && query.wanted(changed->lease)) { newest_first.push_back(std::move(*event)); }
        }
        return true;
    };
    // The journal before the list of segments: one that is sealed in between is then read twice, not missed.
    bool more = take(std::string(k_journal_name));
    std::vector<std::string> names;
    if (files.list(directory, names) < 0) { names.clear(); }
    for (auto name = names.rbegin(); more && name != names.rend(); ++name) {
        if (segment_seq(*name)) { more = take(*name); }
    }
    std::reverse(newest_first.begin(), newest_first.end());
    return newest_first;
}

}  // namespace portwrap
