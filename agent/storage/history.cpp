#include "storage/history.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>

#include "storage/recovery.hpp"

namespace portwrap {

std::vector<Event> read_history(Files& files, const std::string& directory, const HistoryQuery& query) {
    std::deque<Event> found;
    std::uint64_t before = query.before;  // the lowest number seen so far
    // False when nothing older can be wanted.
    const auto take = [&](const std::string& name) {
        std::deque<Event> wanted;  // the newest of this file
        std::uint64_t lowest = before;
        bool has_older = false;
        for_each_event(read_file(files, directory + "/" + name).text, [&](Event& event, std::string_view) {
            // Events that a later file repeats were never applied, or that file was sealed a moment ago.
            if (event.seq >= before) { return; }
            lowest = std::min(lowest, event.seq);
            has_older = has_older || event.at < query.since;
            const auto* changed = std::get_if<LeaseEvent>(&event.change);
            if (event.at < query.since || changed == nullptr || !query.wanted(changed->lease)) { return; }
            wanted.push_back(std::move(event));
            if (wanted.size() + found.size() > query.limit) { wanted.pop_front(); }
        });
        before = lowest;
        found.insert(found.begin(), std::make_move_iterator(wanted.begin()), std::make_move_iterator(wanted.end()));
        return !has_older && found.size() < query.limit;
    };
    // The journal before the list of segments: one that is sealed in between is then read twice, not missed.
    bool more = take(std::string(k_journal_name));
    std::vector<std::string> names;
    if (files.list(directory, names) < 0) { names.clear(); }
    for (auto name = names.rbegin(); more && name != names.rend(); ++name) {
        if (segment_seq(*name)) { more = take(*name); }
    }
    return {std::make_move_iterator(found.begin()), std::make_move_iterator(found.end())};
}

}  // namespace portwrap
