// For the tests of the registry on disk: a directory that removes itself, seeded events, files that fail on demand, and
// a store's notifications as something to wait for.
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "storage/event_codec.hpp"
#include "storage/store.hpp"

namespace portwrap::storage_test {

inline const Time k_now{std::chrono::milliseconds{1'795'252'200'123}};

class Directory {
public:
    Directory() {
        std::string pattern = (std::filesystem::temp_directory_path() / "portwrap-test-XXXXXX").string();
        m_path = ::mkdtemp(pattern.data());
    }
    ~Directory() {
        std::error_code ignored;
        std::filesystem::permissions(m_path, std::filesystem::perms::owner_all, ignored);
        std::filesystem::remove_all(m_path, ignored);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    [[nodiscard]] const std::string& path() const { return m_path; }
    [[nodiscard]] std::string file(const std::string& name) const { return m_path + "/" + name; }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(file(name), std::ios::binary | std::ios::trunc) << text;
    }
    [[nodiscard]] bool has(const std::string& name) const { return std::filesystem::exists(file(name)); }
    /// Every file with its content.
    [[nodiscard]] std::map<std::string, std::string> contents() const {
        std::map<std::string, std::string> all;
        for (const auto& entry : std::filesystem::directory_iterator(m_path)) {
            const auto name = entry.path().filename().string();
            all[name] = read(name);
        }
        return all;
    }
    void replace_with(const std::map<std::string, std::string>& files) const {
        for (const auto& entry : std::filesystem::directory_iterator(m_path)) { std::filesystem::remove(entry.path()); }
        for (const auto& [name, text] : files) { write(name, text); }
    }

private:
    std::string m_path;
};

inline Lease full_lease(LeaseId id) {
    Lease lease;
    lease.id = id;
    lease.key = LeaseKey{"/home/me/shop \"fix\"\n", "web", Protocol::udp, Port{3000}, 2};
    lease.port = 65535;
    lease.origin = LeaseOrigin::named;
    lease.state = LeaseState::conflict;
    lease.health = Health::not_running;
    lease.range = "node";
    lease.environment = Environment::production;
    lease.kind = "api\\";
    lease.claimed = true;
    lease.listened = true;
    lease.session = ProcessId{4242, UINT64_MAX};
    lease.holder = Holder{ProcessId{77, 5}, "node \xc3\xa9\xf0\x9f\x9a\x80\t\x01", "/bytes/\xff\xfe", k_now};
    lease.sockets = {Socket{UINT64_MAX, true, false}, Socket{7, false, true}};
    lease.boot_id = "b7c3";
    lease.description = "";
    lease.hostname = "shop.localhost";
    lease.allocated_by = "me@host";
    lease.unseen = lease.announced = lease.beside = true;
    lease.last_session = ProcessId{17, 18};
    lease.started_by = "npm run dev (in web)";
    lease.allocated_at = k_now;
    lease.last_active_at = Time{};
    lease.released_at = k_now + std::chrono::hours{1};
    lease.expires_at = Time{std::chrono::milliseconds{-1}};
    return lease;
}

inline Session full_session() {
    Session session;
    session.id = ProcessId{10, 20};
    session.outermost = ProcessId{9, 19};
    session.root = "/r";
    session.cwd = "/r/\xc0";
    session.command = "npm run \"dev\"";
    session.boot_id = "b";
    session.port = Port{0};
    session.service = "s";
    session.type = "node";
    session.range = "x";
    session.kind = "k";
    session.environment = Environment::test;
    session.quiet = true;
    session.connect = false;
    session.stderr_device = UINT64_MAX;
    session.stderr_inode = 3;
    session.started_at = k_now;
    return session;
}

/// Changes as a busy day brings them.
class Changes {
public:
    explicit Changes(unsigned seed) : m_random(seed) {}
    Change next(const Registry& registry) {
        switch (below(11)) {
            case 4: return ProjectForgotten{root()};
            case 0: return LeaseForgotten{1 + below(20)};
            case 1: return ProjectSeen{Project{root(), "p" + std::to_string(below(5)), {}, root(), "", ""}};
            case 2: {
                auto session = full_session();
                session.id.pid = static_cast<std::int32_t>(below(5));
                return SessionOpened{session};
            }
            case 3: return SessionClosed{ProcessId{static_cast<std::int32_t>(below(5)), 20}};
            default: break;
        }
        auto lease = full_lease(below(3) == 0 ? registry.next_lease_id() : 1 + below(20));
        lease.key.root = root();
        lease.key.instance = static_cast<int>(below(3));
        lease.port = static_cast<Port>(3000 + below(10));
        lease.state = static_cast<LeaseState>(below(5));
        lease.sockets.resize(below(3));
        if (below(2) == 0) { lease.holder.reset(); }
        return LeaseEvent{static_cast<LeaseChange>(below(9)), lease};
    }
    unsigned below(unsigned limit) { return static_cast<unsigned>(m_random() % limit); }

private:
    std::string root() { return "/r" + std::to_string(below(4)); }
    std::mt19937 m_random;
};

/// The real files, until operation number `fail_at` (counted from 1), which fails; all later ones too when `dead`.
class FaultyFiles : public Files {
public:
    std::atomic<int> count{0};
    std::atomic<int> fail_at{0};
    std::atomic<bool> dead{false};
    std::atomic<bool> short_writes{false};  ///< a failing write writes its half first
    std::atomic<int> error{EIO};
    std::atomic<bool> failed{false};

    int open(const std::string& path, int flags, mode_t mode) override {
        return fails() ? -error : system_files().open(path, flags, mode);
    }
    ssize_t write(int fd, const void* data, std::size_t size) override {
        if (!fails()) { return system_files().write(fd, data, size); }
        if (short_writes && size > 1) { return system_files().write(fd, data, size / 2); }
        return -error;
    }
    ssize_t read(int fd, void* data, std::size_t size) override {
        return fails() ? -error : system_files().read(fd, data, size);
    }
    int fdatasync(int fd) override { return fails() ? -error : synced(fd); }
    int fsync(int fd) override { return fails() ? -error : synced(fd); }
    int truncate(int fd, std::uint64_t size) override { return fails() ? -error : system_files().truncate(fd, size); }
    // A descriptor is gone even when close fails.
    int close(int fd) override {
        const bool failing = fails();
        const int result = system_files().close(fd);
        return failing ? -error : result;
    }
    int rename(const std::string& from, const std::string& to) override {
        return fails() ? -error : system_files().rename(from, to);
    }
    int link(const std::string& from, const std::string& to) override {
        return fails() ? -error : system_files().link(from, to);
    }
    int unlink(const std::string& path) override { return fails() ? -error : system_files().unlink(path); }
    bool is_at(int fd, const std::string& path) override { return !fails() && system_files().is_at(fd, path); }
    int make_directory(const std::string& path) override { return fails() ? -error : system_files().make_directory(path); }
    int lock(int fd) override { return fails() ? -error : system_files().lock(fd); }
    int list(const std::string& directory, std::vector<std::string>& names) override {
        return fails() ? -error : system_files().list(directory, names);
    }

private:
    /// No power is cut here, and thousands of real syncs would only take time.
    static int synced(int fd) { return ::fcntl(fd, F_GETFD) < 0 ? -errno : 0; }
    bool fails() {
        const int number = ++count;
        const bool now = fail_at > 0 && (dead ? number >= fail_at : number == fail_at);
        if (now) { failed = true; }
        return now;
    }
};

/// Counts notifications. Must outlive the store.
class Bell {
public:
    [[nodiscard]] std::function<void()> ring() {
        return [this] {
            const std::lock_guard lock(m_mutex);
            ++m_rings;
            m_wake.notify_all();
        };
    }
    /// Until `done`, which is looked at after each ring. False after a time that only a hang takes.
    bool wait(const std::function<bool()>& done) {
        std::unique_lock lock(m_mutex);
        for (;;) {
            const auto seen = m_rings;
            lock.unlock();
            const bool good = done();
            lock.lock();
            if (good) { return true; }
            if (!m_wake.wait_for(lock, std::chrono::seconds{20}, [&] { return m_rings != seen; })) { return false; }
        }
    }

private:
    std::mutex m_mutex;
    std::condition_variable m_wake;
    int m_rings = 0;
};

inline Store::Options options_for(const Directory& directory, Bell* bell = nullptr) {
    Store::Options options;
    options.directory = directory.path();
    options.machine_id = "machine";
    options.now = k_now;
    if (bell != nullptr) { options.notify = bell->ring(); }
    return options;
}

/// What a start may find after failures: of each record what it was when everything was synced last, or what any change since
/// then made of it, whichever of these changes were lost. Never an older value: that would be a synced change that is lost.
class Possible {
public:
    /// `registry` as a whole is on the disk.
    void synced(const Registry& registry) {
        m_values.clear();
        for (const auto& [key, value] : records(registry)) { m_values[key] = {value}; }
        m_synced = true;
    }
    /// Somebody took the files away: anything that ever was, until everything is synced again.
    void lost_all() {
        m_values = m_ever;
        m_synced = false;
    }
    void changed(const Change& change) {
        const auto [key, value] = record(change);
        m_ever[key].insert(value);
        // A record that the last sync did not know was absent then.
        auto& values = m_values[key];
        if (values.empty()) { values.insert(std::string()); }
        values.insert(value);
    }
    /// The first record that cannot be as it is; empty when there is none.
    [[nodiscard]] std::string misfit(const Registry& found) const {
        auto all = records(found);
        for (const auto& [key, values] : m_values) {
            const auto one = all.find(key);
            const auto value = one == all.end() ? std::string() : one->second;
            if (values.find(value) == values.end() && (m_synced || !value.empty())) { return key + " is " + (value.empty() ? "lost" : value); }
            if (one != all.end()) { all.erase(one); }
        }
        return all.empty() ? std::string() : all.begin()->first + " is there though it was never written, or was forgotten";
    }

private:
    using Records = std::map<std::string, std::string>;

    /// Which record the change is of, and what that is after it; no text when it is gone.
    static std::pair<std::string, std::string> record(const Change& change) {
        const auto text = [](Change what) { return encode_event(Event{1, k_now, std::move(what)}); };
        const auto session = [](const ProcessId& id) { return "session " + std::to_string(id.pid) + "/" + std::to_string(id.start_ticks); };
        if (const auto* lease = std::get_if<LeaseEvent>(&change)) {
            return {"lease " + std::to_string(lease->lease.id), text(LeaseEvent{LeaseChange::updated, lease->lease})};
        }
        if (const auto* forgotten = std::get_if<LeaseForgotten>(&change)) { return {"lease " + std::to_string(forgotten->id), ""}; }
        if (const auto* seen = std::get_if<ProjectSeen>(&change)) { return {"project " + seen->project.root, text(*seen)}; }
        if (const auto* gone = std::get_if<ProjectForgotten>(&change)) { return {"project " + gone->root, ""}; }
        if (const auto* opened = std::get_if<SessionOpened>(&change)) { return {session(opened->session.id), text(*opened)}; }
        return {session(std::get<SessionClosed>(change).id), ""};
    }
    static Records records(const Registry& registry) {
        Records all;
        for (const auto& [id, lease] : registry.leases()) { all.insert(record(LeaseEvent{LeaseChange::updated, lease})); }
        for (const auto& [root, project] : registry.projects()) { all.insert(record(ProjectSeen{project})); }
        for (const auto& [id, session] : registry.sessions()) { all.insert(record(SessionOpened{session})); }
        return all;
    }

    std::map<std::string, std::set<std::string>> m_values;
    std::map<std::string, std::set<std::string>> m_ever;
    bool m_synced = false;
};

inline bool sync_answered(const Store& store, std::uint64_t seq) {
    const auto state = store.sync_state();
    return state.synced_seq >= seq || state.failed_seq >= seq;
}

/// Appends one change and applies it whatever became of the write, as for a running program.
inline bool change(Store& store, Registry& registry, Change what) {
    const auto events = registry.stamp({std::move(what)}, k_now);
    const bool written = store.append(events).has_value();
    for (const auto& event : events) { registry.apply(event); }
    return written;
}

}  // namespace portwrap::storage_test
