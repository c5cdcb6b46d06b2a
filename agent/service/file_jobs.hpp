// Jobs that touch users' files: any of them may hang in a file system that does not answer (a dead network mount). They have
// a part of the pool's threads, each mount only a few of those, and a deadline, so that nobody waits for ever.
// Long jobs of other sorts (walks of /proc, the journal's history, health checks) have a lane each, with as few threads, so that many clients cannot
// fill the pool with them.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "service/outside.hpp"
#include "system/mounts.hpp"

namespace portwrap {

class FileJobs {
public:
    /// Threads of the pool that such jobs may have; the pool has more (main.cpp).
    static constexpr int k_at_once = 28;
    static constexpr int k_at_once_on_a_mount = 4;
    static constexpr int k_at_once_on_root = 8;  ///< that answers; but each job may hold a file of a megabyte
    /// A job is late when its work has taken this long, or when it has waited this long for its turn and no other of its mount has
    /// come to an end meanwhile: a crowd is slow although its file system is well. Less than the clients' own deadline of 5 s.
    static constexpr std::chrono::milliseconds k_deadline{3000};

    /// Bytes of the paths of all jobs that wait for their turn: what comes on top is dropped at once, within run(). Each asker keeps
    /// copies of its path until it is answered. Where a job is late already, fewer need be let wait.
    static constexpr std::size_t k_waiting_bytes = 1024 * 1024;
    static constexpr std::size_t k_waiting_bytes_where_late = 256 * 1024;

    explicit FileJobs(Outside& outside) : m_outside(outside) {}

    /// `work`, which touches files below `path`, runs in the pool; `done` follows on the loop. It is called with `late` at
    /// the deadline if the work has not come to its end by then; and with `ended` once, whenever the work has ended. What
    /// `work` writes to may be read after `ended` alone. Work whose turn has not come by its deadline is `dropped` and never
    /// done, and nothing follows: what waits for a mount that hangs must not become more and more.
    enum class Progress { late, dropped, ended };
    void run(const std::string& path, std::function<void()> work, std::function<void(Progress)> done);

    /// Jobs that come to an end by themselves: only so many of a lane at once, the others wait. Of one owner (a project; "" is
    /// nobody) only a part of those, and the owners that wait take turns: one whose jobs are slow delays the others by no more than one job.
    enum class Lane { processes, health, history };
    static constexpr int k_histories_at_once = 2;  ///< each has a file of the journal in memory
    static constexpr int k_at_once_of_an_owner = k_at_once_on_a_mount / 2;
    void run(Lane lane, const std::string& owner, std::function<void()> work, std::function<void()> done);

private:
    struct Job {
        std::string mount;  ///< or the lane
        int at_once = 0;    ///< jobs that this mount or lane may have
        std::string owner;
        std::size_t path_bytes = 0;
        std::function<void()> work;
        std::function<void(Progress)> done;
        bool has_deadline = false;  ///< and it is not past
        bool has_started = false;
        bool is_late = false;
        std::function<void()> cancel_deadline;
    };
    struct OnMount {
        int running = 0;
        int late = 0;             ///< how many of them are
        std::uint64_t ended = 0;  ///< how many came to an end so far
    };
    struct OfOwner {
        int running = 0;
        std::uint64_t last_start = 0;  ///< in the order of starts
    };
    void add(const std::shared_ptr<Job>& job);
    void remove_waiting(const std::deque<std::shared_ptr<Job>>::iterator& job);
    [[nodiscard]] bool may_start(const Job& job) const;
    void start(const std::shared_ptr<Job>& job);
    void start_waiting();
    void set_deadline(const std::shared_ptr<Job>& job);

    Outside& m_outside;
    Mounts m_mounts;
    int m_running = 0;
    std::map<std::string, OnMount> m_on_mount;  ///< or on the lane
    std::map<std::string, OfOwner> m_of_owner;  ///< those with jobs that run or wait
    std::uint64_t m_starts = 0;
    std::deque<std::shared_ptr<Job>> m_waiting;
    std::size_t m_waiting_bytes = 0;  ///< of their paths
};

}  // namespace portwrap
