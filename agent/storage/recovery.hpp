// Reading the registry's directory at the start: newest good snapshot, then the journal. Everything is read and judged
// before anything is written, so that a registry that is not ours to touch stays as it is.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/registry.hpp"
#include "portwrap/result.hpp"
#include "storage/files.hpp"

namespace portwrap {

inline constexpr std::string_view k_snapshot_name = "ports.json";
inline constexpr std::string_view k_backup_name = "ports.json.bak";
inline constexpr std::string_view k_journal_name = "journal.jsonl";

/// "journal-00000000000000000042.jsonl": a sealed segment with events up to 42. Sorted names are sorted numbers.
[[nodiscard]] std::string segment_name(std::uint64_t last_seq);
[[nodiscard]] std::optional<std::uint64_t> segment_seq(std::string_view name);

struct FileText {
    std::string text;
    int error = 0;  ///< errno; `text` is what could be read before it
};
/// Bytes of a file of the registry: each of the 65,535 ports may have several records of 1 KB, and then some.
inline constexpr std::size_t k_largest_file = std::size_t{256} << 20U;
/// EFBIG for a file that is larger than that.
[[nodiscard]] FileText read_file(Files& files, const std::string& path);
/// Writes everything or says why not.
[[nodiscard]] int write_all(Files& files, int fd, std::string_view text);
[[nodiscard]] int sync_directory(Files& files, const std::string& directory);

/// What there is besides good lines in one journal file.
struct JournalState {
    std::size_t lost = 0;         ///< damaged lines
    std::size_t torn_bytes = 0;   ///< at the end, of a line that was never finished
    bool ends_with_newline = true;
    std::optional<Error> newer;   ///< a line that a newer portwrap wrote
};
/// `take` gets the event of each good line with that line, in their order, and may keep it.
JournalState for_each_event(std::string_view text, const std::function<void(Event& event, std::string_view line)>& take);
struct JournalText : JournalState {
    std::vector<Event> events;
    std::string good;  ///< the lines of `events`
};
[[nodiscard]] JournalText read_journal(std::string_view text);
/// Adds events in the order of the files. One that is there already is passed over (a line or a file that was copied). Another
/// one with a number that is there tells that those from it on were never applied: their write had failed and could not be undone.
void add_events(std::vector<Event>& all, std::vector<Event> more);

struct Recovered {
    Registry registry;
    std::vector<std::string> losses;
    std::uint64_t snapshot_seq = 0;
    bool snapshot_good = false;          ///< ports.json itself is
    std::uint64_t snapshot_bytes = 0;
    std::uint64_t backup_seq = 0;        ///< 0 when unknown
    std::vector<std::string> unfolded;   ///< segments with events that the snapshot does not have
    std::uint64_t journal_bytes = 0;     ///< size of journal.jsonl
    std::uint64_t journal_seq = 0;       ///< the last in journal.jsonl
    std::uint64_t unfolded_bytes = 0;
    bool torn = false;                   ///< journal.jsonl does not end with a newline
};
[[nodiscard]] Result<Recovered> recover(Files& files, const std::string& directory, const std::string& machine,
                                        Time now);

}  // namespace portwrap
