// Two threads share the state below one mutex, which is never held over a file operation. The loop's thread appends and
// seals; the store's thread syncs, writes snapshots and deletes old segments.
//
// What makes a sync answer true: all journal files with events that no snapshot has are kept open in `m_sealed` and
// `m_journal`; a sync covers all of them. A file whose fdatasync failed is poisoned (the kernel forgets the error and
// the pages, so asking the same descriptor again would lie), and only a snapshot of later date frees the store from it.
#include "storage/store.hpp"

#include <fcntl.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "storage/event_codec.hpp"
#include "storage/recovery.hpp"
#include "storage/snapshot.hpp"

namespace portwrap {
namespace {

/// Appends after a failed snapshot before the next one is tried.
constexpr std::uint64_t k_appends_before_retry = 64;

/// An open journal file, shared by the threads so that none closes it under the other.
class JournalFile {
public:
    JournalFile(Files& files, int fd, std::string name) : names{std::move(name)}, m_files(files), m_fd(fd) {}
    ~JournalFile() {
        if (m_fd >= 0) { m_files.close(m_fd); }
    }
    JournalFile(const JournalFile&) = delete;
    JournalFile& operator=(const JournalFile&) = delete;
    [[nodiscard]] int fd() const { return m_fd; }

    // under the store's mutex
    std::vector<std::string> names;  ///< in the registry's directory; a second one while it is being sealed, and from then on
    bool dirty = true;               ///< has what was not synced
    bool poisoned = false;           ///< a sync failed

private:
    Files& m_files;
    const int m_fd;
};

Error storage_error(const std::string& what, int error) {
    return Error{ErrorCode::storage_error, what + ": " + std::strerror(error)};
}

}  // namespace

struct Store::Impl {
    Impl(Files& files_, Options options_, Recovered& found)
        : files(files_),
          options(std::move(options_)),
          directory(files.open(options.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)),
          torn(found.torn),
          journal_size(found.journal_bytes),
          journal_seq(found.journal_seq),
          appended_seq(std::max(found.registry.last_seq(), found.snapshot_seq)),
          unfolded_bytes(found.unfolded_bytes),
          snapshot_seq(found.snapshot_seq),
          found_seq(appended_seq),
          found_unsynced(found_seq > 0),
          snapshot_good(found.snapshot_good),
          snapshot_bytes(found.snapshot_bytes),
          backup_seq(found.backup_seq),
          // A segment without its snapshot: that one has failed, or was cut off.
          snapshot_wanted(!found.losses.empty() || !found.unfolded.empty()) {
        for (const auto& name : found.unfolded) { keep_found(name); }
        const int error = open_journal();
        if (error == 0) { return; }
        // A read-only disk, say: degraded from the start.
        ++write_failures;
        problem = storage_error("cannot open " + path(k_journal_name), -error).message;
        if (found.journal_seq > found.snapshot_seq) { keep_found(std::string(k_journal_name)); }
    }

    ~Impl() {
        if (directory >= 0) { files.close(directory); }
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    struct Job {
        Registry registry;
        Time now{};
        std::string ranges_json;
        std::vector<std::shared_ptr<JournalFile>> covered;  ///< sealed files that the snapshot makes needless
        std::uint64_t write_failures = 0;                   ///< those that the snapshot mends
        std::uint64_t unfolded_bytes = 0;
    };

    [[nodiscard]] std::string path(std::string_view name) const {
        return options.directory + "/" + std::string(name);
    }

    // ---- the loop's thread

    /// Written by an agent that was killed, perhaps before it synced it.
    void keep_found(const std::string& name) {
        const int fd = files.open(path(name), O_RDONLY | O_CLOEXEC, 0);
        auto file = std::make_shared<JournalFile>(files, fd, name);
        file->poisoned = fd < 0;
        if (fd < 0) { problem = storage_error("cannot open " + path(name), -fd).message; }
        sealed.push_back(std::move(file));
    }

    int open_journal() {
        if (!has_directory()) { return -ENOENT; }
        const int fd = files.open(path(k_journal_name), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) { return fd; }
        auto file = std::make_shared<JournalFile>(files, fd, std::string(k_journal_name));
        const std::lock_guard lock(mutex);
        journal = std::move(file);
        directory_dirty = true;
        return 0;
    }

    Status write_failed(const std::string& what, int error) {
        auto failed = storage_error(what, error);
        const std::lock_guard lock(mutex);
        ++write_failures;
        problem = failed.message;
        return failed;
    }

    Status append(std::span<const Event> events) {
        if (events.empty()) { return ok_status(); }
        {
            const std::lock_guard lock(mutex);
            ++appends;
        }
        if (!journal) {
            if (const int error = open_journal(); error < 0) {
                return write_failed("cannot open " + path(k_journal_name), -error);
            }
        }
        std::string text;
        if (torn) { text += '\n'; }
        for (const auto& event : events) {
            text += encode_event(event);
            text += '\n';
        }
        const auto count = files.write(journal->fd(), text.data(), text.size());
        if (count < 0 || static_cast<std::size_t>(count) != text.size()) {
            // A short write comes from a full disk (or a file size limit); only the next one would tell its errno.
            const int error = count < 0 ? static_cast<int>(-count) : ENOSPC;
            const auto written = count < 0 ? 0 : static_cast<std::uint64_t>(count);
            if (files.truncate(journal->fd(), journal_size) != 0) {
                torn = true;
                journal_size += written;
            }
            return write_failed("cannot write " + path(k_journal_name), error);
        }
        torn = false;
        journal_size += text.size();
        journal_seq = events.back().seq;
        const std::lock_guard lock(mutex);
        journal->dirty = true;
        appended_seq = std::max(appended_seq, journal_seq);
        unfolded_bytes += text.size();
        return ok_status();
    }

    /// Its file stays open for the next sync and snapshot; the next append begins another one.
    void put_journal_aside() {
        const std::lock_guard lock(mutex);
        if (journal) { sealed.push_back(std::move(journal)); }
        journal.reset();
        journal_size = 0;
        torn = false;
    }

    /// Moves the journal's events into a segment and begins an empty journal. When that fails, the journal goes on.
    void seal() {
        if (!has_directory()) {
            put_journal_aside();
            torn = true;  // a journal that somebody put there with the directory may end within a line
            return;
        }
        if (journal_size == 0) {
            if (journal) {
                bool poisoned = false;
                {
                    const std::lock_guard lock(mutex);
                    poisoned = journal->poisoned;
                }
                if (poisoned) { (void)open_journal(); }
            }
            return;
        }
        std::vector<std::string> names;
        if (files.list(options.directory, names) < 0) { return; }
        const auto name = segment_name(journal_seq);
        // Never over an older segment, which is history.
        if (std::find(names.begin(), names.end(), name) != names.end()) { return; }
        // Both are its names meanwhile, for a sync that is going on.
        if (journal) {
            const std::lock_guard lock(mutex);
            journal->names.push_back(name);
        }
        // Where somebody has taken it away, a new one is begun all the same.
        if (const int renamed = files.rename(path(k_journal_name), path(name)); renamed != 0 && renamed != -ENOENT) {
            const std::lock_guard lock(mutex);
            if (journal) { journal->names.pop_back(); }
            return;
        }
        put_journal_aside();
        {
            const std::lock_guard lock(mutex);
            directory_dirty = true;
        }
        (void)open_journal();  // else the next append tries
    }

    Job make_job(const Registry& registry, Time now) {
        Job next;
        next.registry = registry;
        next.now = now;
        const std::lock_guard lock(mutex);
        next.ranges_json = options.ranges_json;
        next.write_failures = write_failures;
        next.unfolded_bytes = unfolded_bytes;
        if (registry.last_seq() >= appended_seq) { next.covered = sealed; }
        return next;
    }

    void compact(const Registry& registry, Time now) {
        bool sound = false;  // snapshots fail while the journal goes on well: it need not be cut into a piece for each try
        {
            const std::lock_guard lock(mutex);
            if (job || job_running) { return; }
            sound = snapshot_failed && journal && !journal->poisoned;
        }
        if (!sound) { seal(); }
        auto next = make_job(registry, now);
        {
            const std::lock_guard lock(mutex);
            job = std::move(next);
        }
        wake.notify_one();
    }

    void stop(bool finish_work) {
        if (!thread.joinable()) { return; }
        {
            const std::lock_guard lock(mutex);
            stopping = true;
            if (!finish_work) {
                job.reset();
                sync_wanted = false;
                found_unsynced = false;
            }
        }
        wake.notify_one();
        thread.join();
    }

    void close(const Registry& registry, Time now) {
        if (!thread.joinable()) { return; }
        stop(true);
        // The thread is gone: no lock is needed from here on.
        if (registry.last_seq() <= snapshot_seq && !needs_snapshot()) { return; }
        seal();
        const auto last = make_job(registry, now);
        finish(last, write_snapshot(last));
        announce();
    }

    // ---- both threads

    /// False when somebody has deleted or moved the directory, or it never was; what has its name now is another one, perhaps
    /// another agent's.
    [[nodiscard]] bool has_directory() const {
        const int fd = directory;
        return fd < 0 ? fd != -ENOENT : files.is_at(fd, options.directory);
    }

    // ---- under the mutex

    /// A failed snapshot alone does no harm to the journal; a missing or poisoned line does.
    [[nodiscard]] bool is_degraded() const {
        const auto poisoned = [](const auto& file) { return file->poisoned; };
        return write_failures > mended_failures || (journal && journal->poisoned) ||
               std::any_of(sealed.begin(), sealed.end(), poisoned);
    }

    /// Also when nothing has changed since the last one.
    [[nodiscard]] bool needs_snapshot() const { return is_degraded() || snapshot_failed || snapshot_wanted; }

    // ---- the store's thread (after its end: the loop's)

    void announce() {
        if (options.notify) { options.notify(); }
    }

    void run() {
        std::unique_lock lock(mutex);
        for (;;) {
            wake.wait(lock, [this] { return stopping || found_unsynced || sync_wanted || job; });
            // A degraded store can answer a sync only after the snapshot, a sound one better before.
            if (found_unsynced) {
                sync_found(lock);
                found_unsynced = false;
            } else if (sync_wanted && !(job && is_degraded())) {
                sync_wanted = false;
                sync(lock);
            } else if (job) {
                const Job current = std::move(*job);
                job.reset();
                job_running = true;
                lock.unlock();
                const bool written = write_snapshot(current);
                lock.lock();
                finish(current, written);
                job_running = false;
            } else if (stopping) {
                return;
            } else {
                continue;
            }
            lock.unlock();
            announce();
            lock.lock();
        }
    }

    void sync(std::unique_lock<std::mutex>& lock) {
        const auto target = appended_seq;
        auto& seq = !is_degraded() && sync_files(lock) ? sync_state.synced_seq : sync_state.failed_seq;
        seq = std::max(seq, target);
    }

    /// What was found at the start is granted to whoever has it, also where nothing can be written any more: it is on the disk
    /// when it can be synced, for which it need not be writable. Asked at once, before a write that fails leaves that open.
    void sync_found(std::unique_lock<std::mutex>& lock) {
        const bool opened = std::none_of(sealed.begin(), sealed.end(), [](const auto& file) { return file->poisoned; });
        if (opened && sync_files(lock)) { sync_state.synced_seq = std::max(sync_state.synced_seq, found_seq); }
    }

    /// True when all that has been written is on the disk.
    bool sync_files(std::unique_lock<std::mutex>& lock) {
        auto unsynced = sealed;
        if (journal) { unsynced.push_back(journal); }
        const auto clean = [](const auto& file) { return !file->dirty; };
        const bool with_directory = std::exchange(directory_dirty, false);
        unsynced.erase(std::remove_if(unsynced.begin(), unsynced.end(), clean), unsynced.end());
        for (const auto& file : unsynced) { file->dirty = false; }
        lock.unlock();
        std::vector<std::shared_ptr<JournalFile>> failed;
        std::string why;
        const int unnamed = with_directory ? sync_directory(files, options.directory) : 0;
        if (unnamed != 0) { why = storage_error("cannot sync " + options.directory, -unnamed).message; }
        for (const auto& file : unsynced) {
            const int error = files.fdatasync(file->fd());
            if (error == 0 && is_in_place(*file)) { continue; }
            why = error != 0 ? storage_error("cannot sync the journal", -error).message
                             : options.directory + ": the journal was deleted, moved or replaced";
            failed.push_back(file);
        }
        lock.lock();
        if (!why.empty()) { problem = why; }
        for (const auto& file : failed) { file->poisoned = true; }
        if (unnamed != 0) {
            directory_dirty = true;
            // The file's name may be lost: as bad as losing its content.
            for (const auto& file : unsynced) { file->poisoned = true; }
        }
        return failed.empty() && unnamed == 0;
    }

    /// Would the next start find it? Looked at again where it was not, since the loop's thread may have begun to seal it.
    bool is_in_place(JournalFile& file) {
        std::size_t tried = 0;
        for (;;) {
            std::vector<std::string> names;
            {
                const std::lock_guard lock(mutex);
                names = file.names;
            }
            if (std::any_of(names.begin(), names.end(), [&](const std::string& name) { return files.is_at(file.fd(), path(name)); })) { return true; }
            if (names.size() == tried) { return false; }
            tried = names.size();
        }
    }

    /// Makes the directory anew where somebody has taken it away, unless another agent lives there by now. The descriptor of the
    /// old one stays open: the loop's thread may be looking at it.
    bool claim_directory() {
        if (has_directory()) { return true; }
        const int made = files.make_directory(options.directory);
        const int fd = made == 0 ? files.open(options.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : made;
        if (fd < 0) { return no_snapshot(storage_error("cannot make " + options.directory, -fd)); }
        const int locked = files.lock(fd);
        if (locked == 0) {
            directory = fd;
            return true;
        }
        files.close(fd);
        if (locked != -EWOULDBLOCK) { return no_snapshot(storage_error("cannot lock " + options.directory, -locked)); }
        return no_snapshot({ErrorCode::storage_error, options.directory + " was deleted or moved, and another agent has made it anew"});
    }

    /// False, and why.
    bool no_snapshot(const Error& why) {
        const std::lock_guard lock(mutex);
        problem = snapshot_problem = why.message;
        return false;
    }

    bool write_snapshot(const Job& current) {
        if (!claim_directory()) { return false; }
        const auto text = encode_snapshot(current.registry, options.machine_id, current.now, current.ranges_json);
        const auto name = path(k_snapshot_name);
        const auto temporary = name + ".tmp";
        files.unlink(temporary);  // what has its name may be no file of ours, but a link or a FIFO
        const int fd = files.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0) { return no_snapshot(storage_error("cannot write " + temporary, -fd)); }
        int error = write_all(files, fd, text);
        if (error == 0) { error = files.fsync(fd); }
        files.close(fd);
        if (error != 0) {
            files.unlink(temporary);
            return no_snapshot(storage_error("cannot write " + temporary, -error));
        }
        if (snapshot_good) { keep_backup(name); }
        if (error = files.rename(temporary, name); error != 0) {
            files.unlink(temporary);
            return no_snapshot(storage_error("cannot replace " + name, -error));
        }
        snapshot_good = true;
        snapshot_file_seq = current.registry.last_seq();
        if (error = sync_directory(files, options.directory); error != 0) { return no_snapshot(storage_error("cannot sync " + options.directory, -error)); }
        written_bytes = text.size();
        delete_old_segments(current.now);
        return true;
    }

    /// The name of the backup is never without a file. Without it (no hard links here) a snapshot is still worth having.
    void keep_backup(const std::string& name) {
        const auto backup = path(k_backup_name);
        const auto temporary = backup + ".tmp";
        files.unlink(temporary);
        if (files.link(name, temporary) != 0) { return; }
        if (files.rename(temporary, backup) == 0) { backup_seq = snapshot_file_seq; }
        files.unlink(temporary);  // a rename between two links of one file leaves both
    }

    void delete_old_segments(Time now) {
        std::vector<std::string> names;
        if (files.list(options.directory, names) < 0) { return; }
        const Time oldest = now - std::chrono::days{options.history_days};
        for (const auto& name : names) {
            const auto seq = segment_seq(name);
            if (!seq) { continue; }
            // The backup still needs what came after it.
            if (*seq > backup_seq) { return; }
            auto age = segment_ages.find(*seq);
            if (age == segment_ages.end()) {
                const auto file = read_file(files, path(name));
                if (file.error != 0) { return; }
                Time newest{};
                for_each_event(file.text, [&newest](const Event& event, std::string_view) { newest = event.at; });
                age = segment_ages.emplace(*seq, newest).first;
            }
            if (age->second >= oldest) { return; }
            files.unlink(path(name));
            segment_ages.erase(age);
        }
    }

    /// Under the mutex.
    void finish(const Job& done, bool written) {
        if (!written) {
            snapshot_failed = true;
            retry_at = appends + k_appends_before_retry;
            return;
        }
        snapshot_failed = false;
        snapshot_problem.clear();
        snapshot_wanted = false;
        snapshot_seq = done.registry.last_seq();
        snapshot_bytes = written_bytes;
        mended_failures = std::max(mended_failures, done.write_failures);
        unfolded_bytes -= std::min(unfolded_bytes, done.unfolded_bytes);
        const auto covered = [&done](const auto& file) {
            return std::find(done.covered.begin(), done.covered.end(), file) != done.covered.end();
        };
        sealed.erase(std::remove_if(sealed.begin(), sealed.end(), covered), sealed.end());
        sync_state.synced_seq = std::max(sync_state.synced_seq, snapshot_seq);
        // Still degraded when the journal could not be sealed: no hurry, or the loop would do nothing else.
        retry_at = is_degraded() ? appends + k_appends_before_retry : 0;
    }

    Files& files;
    Options options;
    std::atomic<int> directory;  ///< open; -errno when it could not be made. Changed by the store's thread only

    // the loop's thread alone
    bool torn;                   ///< the journal ends within a line: begin the next append on a new one
    std::uint64_t journal_size;  ///< of journal.jsonl
    std::uint64_t journal_seq;   ///< the last event in it

    // both threads, under the mutex
    mutable std::mutex mutex;
    std::condition_variable wake;
    std::shared_ptr<JournalFile> journal;  ///< changed by the loop's thread only
    std::vector<std::shared_ptr<JournalFile>> sealed;
    bool directory_dirty = true;
    std::uint64_t appended_seq;
    std::uint64_t appends = 0;
    std::uint64_t unfolded_bytes;  ///< journal written since the last snapshot
    std::uint64_t write_failures = 0;
    std::uint64_t mended_failures = 0;  ///< so many of them happened before the last snapshot
    std::uint64_t snapshot_seq;
    bool snapshot_failed = false;
    std::string problem;
    std::string snapshot_problem;
    SyncState sync_state;
    std::uint64_t found_seq;  ///< in the files at the start
    bool found_unsynced;      ///< some of it, or a file's name, perhaps only in the memory of the system
    bool sync_wanted = false;
    std::optional<Job> job;
    bool job_running = false;
    bool stopping = false;

    // the store's thread alone
    bool snapshot_good;  ///< ports.json may become the backup
    std::uint64_t snapshot_file_seq = snapshot_seq;
    std::uint64_t written_bytes = 0;

    std::uint64_t snapshot_bytes;  ///< under the mutex
    std::uint64_t backup_seq;      ///< the store's thread alone; 0 when unknown
    std::map<std::uint64_t, Time> segment_ages;  ///< the store's thread alone
    bool snapshot_wanted;                        ///< under the mutex
    std::uint64_t retry_at = 0;                  ///< under the mutex: number of appends; 0 is at once
    std::thread thread;
};

Result<Store::Opened> Store::open(Files& files, Options options) {
    auto found = recover(files, options.directory, options.machine_id, options.now);
    if (!found) { return found.error(); }
    auto impl = std::make_unique<Impl>(files, std::move(options), *found);
    // Signals are the loop's.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::optional<Error> error;
    try {
        impl->thread = std::thread([raw = impl.get()] { raw->run(); });
    } catch (const std::system_error& failure) {
        error = Error{ErrorCode::storage_error, std::string("cannot start a thread: ") + failure.what()};
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error) { return *error; }
    Opened opened;
    opened.store = std::unique_ptr<Store>(new Store(std::move(impl)));
    opened.registry = std::move(found->registry);
    opened.losses = std::move(found->losses);
    return Result<Opened>(std::move(opened));
}

Store::Store(std::unique_ptr<Impl> impl) : m_impl(std::move(impl)) {}

Store::~Store() { m_impl->stop(false); }

Status Store::append(std::span<const Event> events) { return m_impl->append(events); }

void Store::request_sync() {
    {
        const std::lock_guard lock(m_impl->mutex);
        m_impl->sync_wanted = true;
        if (m_impl->is_degraded()) { m_impl->retry_at = 0; }
    }
    m_impl->wake.notify_one();
}

Store::SyncState Store::sync_state() const {
    const std::lock_guard lock(m_impl->mutex);
    return m_impl->sync_state;
}

bool Store::wants_compaction() const {
    const auto& impl = *m_impl;
    const std::lock_guard lock(impl.mutex);
    if (impl.job || impl.job_running || impl.appends < impl.retry_at) { return false; }
    return impl.needs_snapshot() || impl.unfolded_bytes > std::max(impl.options.compact_at_bytes, impl.snapshot_bytes);
}

void Store::compact(const Registry& registry, Time now) { m_impl->compact(registry, now); }

void Store::close(const Registry& registry, Time now) { m_impl->close(registry, now); }

void Store::set_ranges(std::string ranges_json) {
    const std::lock_guard lock(m_impl->mutex);
    m_impl->options.ranges_json = std::move(ranges_json);
}

bool Store::degraded() const {
    const std::lock_guard lock(m_impl->mutex);
    return m_impl->is_degraded();
}

bool Store::idle() const {
    const std::lock_guard lock(m_impl->mutex);
    return !m_impl->job && !m_impl->job_running && !m_impl->sync_wanted && !m_impl->found_unsynced;
}

std::string Store::problem() const {
    const std::lock_guard lock(m_impl->mutex);
    return m_impl->problem;
}

std::string Store::snapshot_problem() const {
    const std::lock_guard lock(m_impl->mutex);
    return m_impl->snapshot_problem;
}

std::vector<Event> Store::history() const {
    const auto& impl = *m_impl;
    std::vector<std::string> names;
    std::vector<Event> events;
    if (impl.files.list(impl.options.directory, names) < 0) { return events; }
    for (const auto& name : names) {
        if (segment_seq(name)) { add_events(events, read_journal(read_file(impl.files, impl.path(name)).text).events); }
    }
    add_events(events, read_journal(read_file(impl.files, impl.path(k_journal_name)).text).events);
    return events;
}

}  // namespace portwrap
