#include "service/file_jobs.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace portwrap {

void FileJobs::run(const std::string& path, std::function<void()> work, std::function<void(Progress)> done) {
    auto mount = m_mounts.of(path);
    const int at_once = mount == "/" ? k_at_once_on_root : k_at_once_on_a_mount;
    add(std::make_shared<Job>(Job{std::move(mount), at_once, {}, path.size(), std::move(work), std::move(done), true, false, false, [] {}}));
}

void FileJobs::run(Lane lane, const std::string& owner, std::function<void()> work, std::function<void()> done) {
    struct Known {
        const char* name;  // no path is named like this
        int at_once;
    };
    constexpr std::array k_lanes{Known{"processes", k_at_once_on_a_mount}, Known{"health", k_at_once_on_a_mount}, Known{"history", k_histories_at_once}};
    const auto& known = k_lanes[static_cast<std::size_t>(lane)];
    add(std::make_shared<Job>(Job{known.name, known.at_once, owner, 0, std::move(work), [done = std::move(done)](Progress) { done(); }, false, false, false, [] {}}));
}

void FileJobs::add(const std::shared_ptr<Job>& job) {
    if (may_start(*job)) { return start(job); }
    const auto limit = m_on_mount[job->mount].late > 0 ? k_waiting_bytes_where_late : k_waiting_bytes;
    if (m_waiting_bytes + job->path_bytes > limit) { return job->done(Progress::dropped); }
    set_deadline(job);
    m_waiting.push_back(job);
    m_waiting_bytes += job->path_bytes;
}

void FileJobs::remove_waiting(const std::deque<std::shared_ptr<Job>>::iterator& job) {
    m_waiting_bytes -= (*job)->path_bytes;
    m_waiting.erase(job);
}

bool FileJobs::may_start(const Job& job) const {
    if (m_running >= k_at_once) { return false; }
    const auto of_owner = m_of_owner.find(job.owner);
    if (of_owner != m_of_owner.end() && of_owner->second.running >= k_at_once_of_an_owner) { return false; }
    const auto on_mount = m_on_mount.find(job.mount);
    return on_mount == m_on_mount.end() || on_mount->second.running < job.at_once;
}

void FileJobs::start(const std::shared_ptr<Job>& job) {
    ++m_running;
    ++m_on_mount[job->mount].running;
    if (!job->owner.empty()) {
        auto& of_owner = m_of_owner[job->owner];
        ++of_owner.running;
        of_owner.last_start = ++m_starts;
    }
    job->has_started = true;
    set_deadline(job);
    m_outside.run_in_pool([job] { job->work(); },
                          [this, job] {
                              --m_running;
                              auto& on_mount = m_on_mount[job->mount];
                              --on_mount.running;
                              if (job->is_late) { --on_mount.late; }
                              ++on_mount.ended;
                              if (!job->owner.empty()) { --m_of_owner[job->owner].running; }
                              start_waiting();
                              // Nobody's turn is remembered who has nothing to do: start_waiting has looked at those that wait.
                              if (const auto of_owner = m_of_owner.find(job->owner); of_owner != m_of_owner.end() && of_owner->second.running == 0) {
                                  m_of_owner.erase(of_owner);
                              }
                              job->cancel_deadline();
                              job->done(Progress::ended);
                          });
}

void FileJobs::set_deadline(const std::shared_ptr<Job>& job) {
    if (!job->has_deadline) { return; }
    job->cancel_deadline();
    job->cancel_deadline = m_outside.call_after(k_deadline, [this, job, ended = m_on_mount[job->mount].ended] {
        if (!job->has_started && m_on_mount[job->mount].ended != ended) { return set_deadline(job); }
        job->has_deadline = false;
        if (job->has_started) {
            job->is_late = true;
            ++m_on_mount[job->mount].late;
            return job->done(Progress::late);
        }
        remove_waiting(std::find(m_waiting.begin(), m_waiting.end(), job));
        job->done(Progress::dropped);
    });
}

void FileJobs::start_waiting() {
    const auto last_start = [this](const Job& job) {
        const auto of_owner = m_of_owner.find(job.owner);
        return of_owner == m_of_owner.end() ? 0 : of_owner->second.last_start;
    };
    while (m_running < k_at_once) {
        auto next = m_waiting.end();
        // Nobody is before one that has no turn to wait for: in a crowd of such jobs the first is taken.
        for (auto job = m_waiting.begin(); job != m_waiting.end() && (next == m_waiting.end() || last_start(**next) > 0); ++job) {
            if (may_start(**job) && (next == m_waiting.end() || last_start(**job) < last_start(**next))) { next = job; }
        }
        if (next == m_waiting.end()) { return; }
        const auto job = *next;
        remove_waiting(next);
        start(job);
    }
}

}  // namespace portwrap
