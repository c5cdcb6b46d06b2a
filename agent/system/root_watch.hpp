// Is told when a project's directory goes away or its worktree is moved: inotify(7) on exactly the inodes that say so. What happens
// inside of the directories wakes nobody. Linux only.
#pragma once

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "portwrap/result.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {

class RootWatch {
public:
    [[nodiscard]] static Result<RootWatch> open();
    /// Readable when there is something to drain.
    [[nodiscard]] int fd() const { return m_fd.get(); }

    /// Watches a root, its .git, and for a linked worktree the file that says where it is. Blocking file access and no state of
    /// ours: for a pool thread, with the descriptor of fd(). The kernel's numbers of what is watched; none when it cannot be.
    [[nodiscard]] static std::vector<int> add(int fd, const std::string& root, const std::string& linked_git_dir);
    /// What add() has returned for a root, on the owner's thread. Events that came before are not lost.
    void know(const std::string& root, const std::vector<int>& watches);
    void remove(const std::string& root);
    [[nodiscard]] bool knows(const std::string& root) const { return m_watches.contains(root); }

    struct Seen {
        std::set<std::string> changed;  ///< something has happened to the root or to what names it
        std::set<std::string> deleted;  ///< of these: an inode of it was deleted, not just moved or unmounted
    };
    /// Everything that is readable now, and what came too early for know(). A root whose watches have ended is not known any more.
    [[nodiscard]] Seen drain();

private:
    explicit RootWatch(UniqueFd fd) : m_fd(std::move(fd)) {}
    struct Early {
        int watch = 0;
        unsigned mask = 0;
    };
    void note(int watch, unsigned mask, Seen& seen);

    UniqueFd m_fd;
    std::unordered_map<int, std::string> m_roots;                 ///< by watch
    std::unordered_map<std::string, std::vector<int>> m_watches;  ///< by root
    std::vector<Early> m_early;
};

}  // namespace portwrap
