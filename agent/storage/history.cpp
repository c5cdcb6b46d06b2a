#include "storage/history.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>

#include "storage/recovery.hpp"

namespace portwrap {

History read_history(Files& files, const std::string& directory, const HistoryQuery& query) {
    struct Found {
        Event event;
        std::size_t bytes = 0;
    };
    std::deque<Found> found;
    std::size_t bytes = 0;
    std::uint64_t before = query.before;  // the lowest number seen so far
    bool more = false;
    // False when nothing older can be wanted.
    const auto take = [&](const std::string& name) {
        std::deque<Found> wanted;  // the newest of this file
        std::uint64_t lowest = before;
        bool has_older = false;
        for_each_event(read_file(files, directory + "/" + name).text, [&](Event& event, std::string_view line) {
            // Events that a later file repeats were never applied, or that file was sealed a moment ago.
            if (event.seq >= before) { return; }
            lowest = std::min(lowest, event.seq);
            has_older = has_older || event.at < query.since;
            const auto* changed = std::get_if<LeaseEvent>(&event.change);
            if (event.at < query.since || changed == nullptr || !query.wanted(changed->lease)) { return; }
            wanted.push_back({std::move(event), line.size()});
            bytes += line.size();
            const auto is_too_much = [&] {
                const auto count = wanted.size() + found.size();
                return count > query.limit || (count > 1 && bytes > query.max_bytes);
            };
            while (!wanted.empty() && is_too_much()) {
                bytes -= wanted.front().bytes;
                wanted.pop_front();
                more = true;
            }
        });
        before = lowest;
        found.insert(found.begin(), std::make_move_iterator(wanted.begin()), std::make_move_iterator(wanted.end()));
        return !more && !has_older;
    };
    // The journal before the list of segments: one that is sealed in between is then read twice, not missed.
    bool go_on = take(std::string(k_journal_name));
    std::vector<std::string> names;
    if (files.list(directory, names) < 0) { names.clear(); }
    for (auto name = names.rbegin(); go_on && name != names.rend(); ++name) {
        if (segment_seq(*name)) { go_on = take(*name); }
    }
    History history{{}, more};
    history.events.reserve(found.size());
    for (auto& one : found) { history.events.push_back(std::move(one.event)); }
    return history;
}

}  // namespace portwrap
