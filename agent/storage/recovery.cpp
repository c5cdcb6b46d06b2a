// Every good line is applied, also those after a damaged one: an event carries the whole new value and its own
// checksum, so it does not depend on its neighbours.
#include "storage/recovery.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "portwrap/paths.hpp"
#include "storage/event_codec.hpp"
#include "storage/snapshot.hpp"

namespace portwrap {
namespace {

constexpr std::string_view k_segment_prefix = "journal-";
constexpr std::string_view k_segment_suffix = ".jsonl";
constexpr std::size_t k_segment_digits = 20;

Error cannot_read(const std::string& path, int error) {
    return Error{ErrorCode::storage_error, "cannot read " + path + ": " + (error == EINVAL ? "it is not a regular file" : std::strerror(error))};
}

/// A name that is still free for a file set aside: NAME.corrupt-20261121T091000Z, with -2, -3... when taken.
std::string name_aside(const std::string& name, Time now, const std::vector<std::string>& taken) {
    std::string time;
    for (const char c : format_time(now).substr(0, 19)) {
        if (c != '-' && c != ':') { time += c; }
    }
    const auto base = name + ".corrupt-" + time + "Z";
    auto aside = base;
    for (int i = 2; std::find(taken.begin(), taken.end(), aside) != taken.end(); ++i) {
        aside = base + "-" + std::to_string(i);
    }
    return aside;
}

struct Segment {
    std::string name;
    std::optional<std::uint64_t> seq;  ///< none for journal.jsonl
    JournalText journal;
    std::uint64_t bytes = 0;
    bool unreadable = false;
};

class Recovery {
public:
    Recovery(Files& files, const std::string& directory, const std::string& machine, Time now)
        : m_files(files), m_directory(directory), m_machine(machine), m_now(now) {}

    Result<Recovered> run() {
        const int error = m_files.list(m_directory, m_names);
        if (error == -ENOENT) { return std::move(m_found); }  // it could not be made: nothing will be written either
        if (error < 0) { return cannot_read(m_directory, -error); }
        if (auto read = read_snapshots(); !read) { return read.error(); }
        if (auto read = read_segments(); !read) { return read.error(); }
        replay();
        repair();
        return std::move(m_found);
    }

private:
    [[nodiscard]] std::string path(std::string_view name) const { return m_directory + "/" + std::string(name); }
    [[nodiscard]] bool exists(std::string_view name) const {
        return std::find(m_names.begin(), m_names.end(), name) != m_names.end();
    }

    /// A good snapshot, nothing for an absent or damaged one (then `problem` says so), or a reason not to go on.
    Result<std::optional<Snapshot>> read_snapshot(std::string_view name, std::string& problem, std::uint64_t& bytes) {
        if (!exists(name)) { return std::optional<Snapshot>{}; }
        const auto file = read_file(m_files, path(name));
        bytes = file.text.size();
        if (file.error == EIO) {
            problem = std::strerror(EIO);
            return std::optional<Snapshot>{};
        }
        if (file.error != 0) { return cannot_read(path(name), file.error); }
        auto snapshot = decode_snapshot(file.text);
        if (!snapshot) {
            if (snapshot.error().code == ErrorCode::version_mismatch) {
                return Error{ErrorCode::version_mismatch, path(name) + ": " + snapshot.error().message};
            }
            problem = snapshot.error().message;
            return std::optional<Snapshot>{};
        }
        if (snapshot->machine != m_machine && snapshot->machine != k_unknown_machine) {
            return Error{ErrorCode::storage_error, path(name) + " is the registry of machine " + snapshot->machine +
                                                       ", this is machine " + m_machine};
        }
        return std::optional<Snapshot>(std::move(*snapshot));
    }

    Status read_snapshots() {
        std::string problem;
        auto newest = read_snapshot(k_snapshot_name, problem, m_found.snapshot_bytes);
        if (!newest) { return newest.error(); }
        if (*newest) {
            m_found.snapshot_good = true;
            m_found.registry = std::move((*newest)->registry);
            m_found.snapshot_seq = m_found.registry.last_seq();
            return ok_status();
        }
        m_snapshot_problem = problem;
        if (!exists(k_backup_name)) { return ok_status(); }
        if (problem.empty()) { m_found.losses.push_back(path(k_snapshot_name) + " is missing; the backup is used"); }
        std::uint64_t bytes = 0;
        std::string backup_problem;
        auto backup = read_snapshot(k_backup_name, backup_problem, bytes);
        if (!backup) { return backup.error(); }
        if (*backup) {
            m_found.registry = std::move((*backup)->registry);
            m_found.snapshot_seq = m_found.registry.last_seq();
            m_found.backup_seq = m_found.snapshot_seq;
        }
        m_backup_problem = backup_problem;
        return ok_status();
    }

    Status read_segments() {
        // The names are sorted, and so are the numbers in them.
        for (const auto& name : m_names) {
            const auto seq = segment_seq(name);
            // What the snapshot has is not read again: history may be long.
            if (!seq || *seq <= m_found.snapshot_seq) { continue; }
            m_segments.push_back(Segment{name, seq, {}, 0, false});
        }
        if (exists(k_journal_name)) { m_segments.push_back(Segment{std::string(k_journal_name), {}, {}, 0, false}); }
        for (auto& segment : m_segments) {
            const auto file = read_file(m_files, path(segment.name));
            if (file.error != 0 && file.error != EIO) { return cannot_read(path(segment.name), file.error); }
            segment.unreadable = file.error == EIO;
            segment.bytes = file.text.size();
            segment.journal = read_journal(file.text);
            if (segment.journal.newer) {
                return Error{ErrorCode::version_mismatch,
                             path(segment.name) + ": " + segment.journal.newer->message};
            }
        }
        return ok_status();
    }

    void replay() {
        std::vector<Event> events;
        std::uint64_t last_seq = m_found.registry.last_seq();
        for (auto& segment : m_segments) {
            const auto last = segment.journal.events.empty() ? 0 : segment.journal.events.back().seq;
            if (segment.seq) {
                m_found.unfolded.push_back(segment.name);
                last_seq = std::max(last_seq, *segment.seq);
                if (last < *segment.seq && segment.journal.lost == 0 && !segment.unreadable) {
                    m_found.losses.push_back(path(segment.name) + " is cut short: events after " +
                                             std::to_string(last) + " are lost");
                }
            } else {
                m_found.journal_seq = last;
                m_found.journal_bytes = segment.bytes;
                m_found.torn = !segment.journal.ends_with_newline;
            }
            m_found.unfolded_bytes += segment.bytes;
            add_events(events, std::move(segment.journal.events));
        }
        const auto first = events.empty() ? 0 : events.front().seq;
        if (first > m_found.snapshot_seq + 1 && m_found.losses.empty() && !has_damage()) {
            m_found.losses.push_back(m_directory + ": events " + std::to_string(m_found.snapshot_seq + 1) + " to " + std::to_string(first - 1) + " are missing");
        }
        for (const auto& event : events) { m_found.registry.apply(event); }
        // Numbers that a damaged segment had are not given again, or its order with later segments would be lost.
        m_found.registry.resume_at(std::max(last_seq, m_found.registry.last_seq()), m_found.registry.next_lease_id());
    }

    /// Reported by repair().
    [[nodiscard]] bool has_damage() const {
        return std::any_of(m_segments.begin(), m_segments.end(), [](const Segment& segment) {
            return segment.journal.lost > 0 || segment.unreadable || segment.journal.torn_bytes > 0;
        });
    }

    /// What cannot be repaired (a read-only disk) stays as it is and is found again at the next start.
    void repair() {
        if (!m_snapshot_problem.empty()) { set_aside(k_snapshot_name, m_snapshot_problem); }
        if (!m_backup_problem.empty()) { set_aside(k_backup_name, m_backup_problem); }
        for (const auto& segment : m_segments) {
            if (segment.journal.lost > 0 || segment.unreadable) {
                rewrite(segment);
            } else if (!segment.seq && segment.journal.torn_bytes > 0) {
                cut(segment);
            }
        }
    }

    void set_aside(std::string_view name, const std::string& problem) {
        const auto aside = name_aside(std::string(name), m_now, m_names);
        auto loss = path(name) + " is unusable (" + problem + ")";
        const int error = m_files.rename(path(name), path(aside));
        if (error == 0) {
            m_names.push_back(aside);
            loss += ", set aside as " + aside;
        }
        m_found.losses.push_back(std::move(loss));
    }

    void rewrite(const Segment& segment) {
        auto loss = path(segment.name) + ": " + std::to_string(segment.journal.lost) +
                    " damaged lines lost, all others kept";
        if (segment.unreadable) { loss += ", and what could not be read"; }
        const auto aside = name_aside(segment.name, m_now, m_names);
        if (put_in_place(segment, aside)) {
            m_names.push_back(aside);
            loss += "; the damaged file is " + aside;
            if (!segment.seq) {
                m_found.journal_bytes = segment.journal.good.size();
                m_found.torn = false;
            }
        }
        m_found.losses.push_back(std::move(loss));
    }

    bool put_in_place(const Segment& segment, const std::string& aside) {
        const auto temporary = path(segment.name + ".tmp");
        const int fd = m_files.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0) { return false; }
        const bool written = write_all(m_files, fd, segment.journal.good) == 0 && m_files.fsync(fd) == 0;
        m_files.close(fd);
        // A link first, so that the name is never without a file; where links are not to be had, a rename.
        if (!written || (m_files.link(path(segment.name), path(aside)) != 0 &&
                         m_files.rename(path(segment.name), path(aside)) != 0)) {
            m_files.unlink(temporary);
            return false;
        }
        if (m_files.rename(temporary, path(segment.name)) != 0) { return false; }
        (void)sync_directory(m_files, m_directory);
        return true;
    }

    void cut(const Segment& segment) {
        // Nobody was promised what a write that was cut off says; damage looks the same.
        m_found.losses.push_back(path(segment.name) + ": its last line is torn and dropped (" + std::to_string(segment.journal.torn_bytes) + " bytes)");
        const int fd = m_files.open(path(segment.name), O_WRONLY | O_CLOEXEC, 0);
        if (fd < 0) { return; }
        const auto size = segment.bytes - segment.journal.torn_bytes;
        if (m_files.truncate(fd, size) == 0) {
            m_found.journal_bytes = size;
            m_found.torn = false;
        }
        m_files.close(fd);
    }

    Files& m_files;
    const std::string& m_directory;
    const std::string& m_machine;
    const Time m_now;
    Recovered m_found;
    std::vector<std::string> m_names;
    std::string m_snapshot_problem;
    std::string m_backup_problem;
    std::vector<Segment> m_segments;
};

}  // namespace

std::string segment_name(std::uint64_t last_seq) {
    const auto digits = std::to_string(last_seq);
    return std::string(k_segment_prefix) + std::string(k_segment_digits - digits.size(), '0') + digits +
           std::string(k_segment_suffix);
}

std::optional<std::uint64_t> segment_seq(std::string_view name) {
    if (name.size() != k_segment_prefix.size() + k_segment_digits + k_segment_suffix.size() ||
        name.substr(0, k_segment_prefix.size()) != k_segment_prefix ||
        name.substr(k_segment_prefix.size() + k_segment_digits) != k_segment_suffix) {
        return std::nullopt;
    }
    std::uint64_t seq = 0;
    for (const char c : name.substr(k_segment_prefix.size(), k_segment_digits)) {
        if (c < '0' || c > '9' || seq > UINT64_MAX / 10 - 1) { return std::nullopt; }
        seq = seq * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return seq;
}

FileText read_file(Files& files, const std::string& path) {
    FileText file;
    // Judging a file damaged has consequences: a passing error of the device gets a second chance.
    bool again = true;
    int fd = files.open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd == -EIO) {
        again = false;
        fd = files.open(path, O_RDONLY | O_CLOEXEC, 0);
    }
    if (fd < 0) {
        file.error = -fd;
        return file;
    }
    std::vector<char> buffer(std::size_t{1} << 16U);
    for (;;) {
        const auto count = files.read(fd, buffer.data(), buffer.size());
        if (count == 0) { break; }
        if (count > 0 && file.text.size() + static_cast<std::size_t>(count) > k_largest_file) {
            file.error = EFBIG;
            break;
        }
        if (count > 0) {
            file.text.append(buffer.data(), static_cast<std::size_t>(count));
        } else if (count == -EIO && again) {
            again = false;
        } else {
            file.error = static_cast<int>(-count);
            break;
        }
    }
    files.close(fd);
    return file;
}

int write_all(Files& files, int fd, std::string_view text) {
    while (!text.empty()) {
        const auto count = files.write(fd, text.data(), text.size());
        if (count < 0) { return static_cast<int>(count); }
        if (count == 0) { return -ENOSPC; }
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return 0;
}

int sync_directory(Files& files, const std::string& directory) {
    const int fd = files.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) { return fd; }
    const int result = files.fsync(fd);
    files.close(fd);
    return result;
}

JournalState for_each_event(std::string_view text, const std::function<void(Event& event, std::string_view line)>& take) {
    JournalState journal;
    journal.ends_with_newline = text.empty() || text.back() == '\n';
    while (!text.empty()) {
        const auto end = text.find('\n');
        const bool whole = end != std::string_view::npos;
        auto line = text.substr(0, end);
        text.remove_prefix(whole ? end + 1 : text.size());
        if (line.empty()) { continue; }
        auto event = decode_event(line);
        // Only the end of the last line may be damaged.
        if (!event && !whole) {
            if (auto rest = decode_event(line.substr(0, line.size() - 1))) {
                event = std::move(rest);
                line.remove_suffix(1);
            }
        }
        if (event) {
            take(*event, line);
        } else if (event.error().code == ErrorCode::version_mismatch) {
            journal.newer = event.error();
        } else if (whole) {
            ++journal.lost;
        } else {
            journal.torn_bytes = line.size();
        }
    }
    return journal;
}

JournalText read_journal(std::string_view text) {
    JournalText journal;
    static_cast<JournalState&>(journal) = for_each_event(text, [&journal](Event& event, std::string_view line) {
        journal.events.push_back(std::move(event));
        journal.good += line;
        journal.good += '\n';
    });
    return journal;
}

void add_events(std::vector<Event>& all, std::vector<Event> more) {
    for (auto& event : more) {
        const auto same = std::lower_bound(all.begin(), all.end(), event.seq, [](const Event& one, std::uint64_t seq) { return one.seq < seq; });
        if (same != all.end() && *same == event) { continue; }
        all.erase(same, all.end());
        all.push_back(std::move(event));
    }
}

Result<Recovered> recover(Files& files, const std::string& directory, const std::string& machine, Time now) {
    return Recovery(files, directory, machine, now).run();
}

}  // namespace portwrap
