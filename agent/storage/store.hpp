// The registry on disk: ports.json (snapshot), ports.json.bak (the one before), journal.jsonl (events since) and
// journal-SEQ.jsonl (sealed segments, kept as history). Why so: docs/architecture.md.
//
// Threads: every function is for the event loop's thread; fsync and snapshots run on one thread of the store's own,
// which calls `notify` (from that thread) whenever sync_state() has changed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/registry.hpp"
#include "portwrap/result.hpp"
#include "storage/files.hpp"

namespace portwrap {

class Store {
public:
    struct Options {
        std::string directory;   ///< exists, mode 0700
        std::string machine_id;  ///< of this host
        Time now{};
        std::uint64_t compact_at_bytes = 1 << 20;  ///< the journal is compacted when larger than this and than the snapshot
        int history_days = 30;                     ///< sealed segments older than this are deleted
        std::function<void()> notify;              ///< may be empty; called on the store's thread
        std::string ranges_json = "[]";            ///< shown in the snapshot to people, never read back
    };
    struct Opened {
        std::unique_ptr<Store> store;
        Registry registry;
        std::vector<std::string> losses;  ///< what was damaged and set aside, one line each; empty when all was well
    };

    /// VERSION_MISMATCH when the registry was written by a newer schema (nothing is touched then); STORAGE_ERROR when
    /// the directory cannot be read. A read-only or full disk is no error here: appending fails later.
    [[nodiscard]] static Result<Opened> open(Files& files, Options options);
    ~Store();

    /// Appends to the journal with one write. After a failure the file is cut back to its last whole line; the store is
    /// then `degraded` until a snapshot has succeeded.
    [[nodiscard]] Status append(std::span<const Event> events);

    /// What was found in the journal at the start is synced at once, whatever becomes of the first writes; then `notify`.
    struct SyncState {
        std::uint64_t synced_seq = 0;  ///< events up to here are on the disk
        std::uint64_t failed_seq = 0;  ///< a sync failed for events up to here (and after synced_seq): they may be lost
    };
    /// Asks for an fdatasync of everything appended so far; several calls are answered by one (group commit), always
    /// with a `notify`. While the store is degraded the answer is a failure (events before may be missing on the disk)
    /// unless a snapshot succeeds first; asking lets wants_compaction() try one again. A journal that has lost its name
    /// (deleted, or replaced by a copy) is degraded from then on, and the next snapshot is made in its place.
    void request_sync();
    [[nodiscard]] SyncState sync_state() const;

    /// True when the journal outgrew the snapshot, something was damaged at the start, the last snapshot failed, or the store
    /// is degraded. After a failed snapshot false until 64 further appends, or a request_sync() of a degraded store.
    [[nodiscard]] bool wants_compaction() const;
    /// Seals the journal, begins a new one and writes the snapshot of this copy on the store's thread; does nothing
    /// while an earlier one is being written. The registry must have applied what was appended. `notify` is called at
    /// its end.
    void compact(const Registry& registry, Time now);
    /// Waits for the thread, then writes a last snapshot (when anything changed). For a clean exit.
    void close(const Registry& registry, Time now);

    void set_ranges(std::string ranges_json);

    /// What is appended now may be lost with what is missing before it.
    [[nodiscard]] bool degraded() const;
    /// Nothing that was asked for is still to be done on the store's thread.
    [[nodiscard]] bool idle() const;
    /// Why the last write, sync or snapshot that failed did; empty when none has.
    [[nodiscard]] std::string problem() const;
    /// Why the last snapshot failed; empty when it did not. The journal alone then keeps all, and grows.
    [[nodiscard]] std::string snapshot_problem() const;

    /// Every event that is still kept, oldest first. Reads the files: not for every request.
    [[nodiscard]] std::vector<Event> history() const;

private:
    struct Impl;
    explicit Store(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> m_impl;
};

}  // namespace portwrap
