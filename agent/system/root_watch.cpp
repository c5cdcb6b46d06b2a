// The kernel says IN_DELETE_SELF of a directory when its last user has left it: a shell that stands in a removed worktree holds it
// back. The .git in it has no such users, so it is watched, too.
#include "system/root_watch.hpp"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace portwrap {
namespace {

constexpr unsigned k_self = IN_DELETE_SELF | IN_MOVE_SELF;
/// Events of watches that nobody knows yet: an add() whose answer is under way.
constexpr std::size_t k_early = 1024;

}  // namespace

Result<RootWatch> RootWatch::open() {
    UniqueFd fd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd.valid()) { return Error{ErrorCode::storage_error, std::string("inotify: ") + std::strerror(errno)}; }
    return RootWatch(std::move(fd));
}

std::vector<int> RootWatch::add(int fd, const std::string& root, const std::string& linked_git_dir) {
    std::vector<int> watches;
    const int directory = ::inotify_add_watch(fd, root.c_str(), k_self | IN_ONLYDIR | IN_DONT_FOLLOW);
    if (directory < 0) { return watches; }
    watches.push_back(directory);
    const auto also = [&](const std::string& path, unsigned mask) {
        if (const int watch = ::inotify_add_watch(fd, path.c_str(), mask | IN_DONT_FOLLOW); watch >= 0) { watches.push_back(watch); }
    };
    also(root + "/.git", k_self);
    // git worktree move and git worktree repair write it anew.
    if (!linked_git_dir.empty()) { also(linked_git_dir + "/gitdir", k_self | IN_CLOSE_WRITE); }
    return watches;
}

void RootWatch::know(const std::string& root, const std::vector<int>& watches) {
    if (watches.empty()) { return; }
    // Watches of an inode that is not at this path any more.
    for (const int old : m_watches[root]) {
        if (std::find(watches.begin(), watches.end(), old) != watches.end()) { continue; }
        m_roots.erase(old);
        ::inotify_rm_watch(m_fd.get(), old);
    }
    m_watches[root] = watches;
    for (const int watch : watches) { m_roots[watch] = root; }
}

void RootWatch::remove(const std::string& root) {
    const auto known = m_watches.extract(root);
    if (known.empty()) { return; }
    for (const int watch : known.mapped()) {
        m_roots.erase(watch);
        ::inotify_rm_watch(m_fd.get(), watch);
    }
}

void RootWatch::note(int watch, unsigned mask, Seen& seen) {
    const auto root = m_roots.find(watch);
    if (root == m_roots.end()) { return; }
    if ((mask & (k_self | IN_CLOSE_WRITE)) != 0) { seen.changed.insert(root->second); }
    if ((mask & IN_DELETE_SELF) != 0) { seen.deleted.insert(root->second); }
    if ((mask & IN_IGNORED) != 0) {
        const auto name = root->second;
        m_roots.erase(root);
        auto& left = m_watches[name];
        std::erase(left, watch);
        if (left.empty()) { m_watches.erase(name); }
    }
}

RootWatch::Seen RootWatch::drain() {
    Seen seen;
    std::vector<Early> events;
    events.swap(m_early);
    alignas(inotify_event) char buffer[16384];
    for (;;) {
        const auto count = ::read(m_fd.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) { continue; }
        if (count <= 0) { break; }
        for (const char* at = buffer; at < buffer + count;) {
            inotify_event event{};
            std::memcpy(&event, at, sizeof event);
            at += sizeof event + event.len;
            if ((event.mask & IN_Q_OVERFLOW) != 0) {
                for (const auto& [root, watches] : m_watches) { seen.changed.insert(root); }
                continue;
            }
            events.push_back({event.wd, event.mask});
        }
    }
    for (const auto& event : events) {
        if (m_roots.contains(event.watch)) {
            note(event.watch, event.mask, seen);
        } else if ((event.mask & (k_self | IN_CLOSE_WRITE)) != 0 && m_early.size() < k_early) {
            m_early.push_back(event);
        }
    }
    return seen;
}

}  // namespace portwrap
