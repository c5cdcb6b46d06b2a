#include "service/file_jobs.hpp"

#include <utility>

namespace portwrap {

void FileJobs::run(const std::string& path, std::function<void()> work, std::function<void(Progress)> done) {
    auto job = std::make_shared<Job>(Job{m_mounts.of(path), std::move(work), std::move(done), {}});
    job->cancel_deadline = m_outside.call_after(k_deadline, [told = job->done] { told(Progress::late); });
    add(std::move(job));
}

void FileJobs::run(Lane lane, std::function<void()> work, std::function<void()> done) {
    // No path is named like this.
    const char* name = lane == Lane::processes ? "processes" : "health";
    add(std::make_shared<Job>(Job{name, std::move(work), [done = std::move(done)](Progress) { done(); }, [] {}}));
}

void FileJobs::add(std::shared_ptr<Job> job) {
    if (may_start(*job)) { return start(job); }
    m_waiting.push_back(std::move(job));
}

bool FileJobs::may_start(const Job& job) const {
    if (m_running >= k_at_once) { return false; }
    const auto on_mount = m_running_on.find(job.mount);
    return job.mount == "/" || on_mount == m_running_on.end() || on_mount->second < k_at_once_on_a_mount;
}

void FileJobs::start(const std::shared_ptr<Job>& job) {
    ++m_running;
    ++m_running_on[job->mount];
    m_outside.run_in_pool([job] { job->work(); },
                          [this, job] {
                              --m_running;
                              if (--m_running_on[job->mount] == 0) { m_running_on.erase(job->mount); }
                              start_waiting();
                              job->cancel_deadline();
                              job->done(Progress::ended);
                          });
}

void FileJobs::start_waiting() {
    for (auto job = m_waiting.begin(); job != m_waiting.end();) {
        if (may_start(**job)) {
            start(*job);
            job = m_waiting.erase(job);
        } else {
            ++job;
        }
    }
}

}  // namespace portwrap
