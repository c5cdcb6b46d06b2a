// The first commit of a repository, by which clones know each other. Read from git's files (gitformat-pack(5),
// gitformat-commit-graph(5), gitrepository-layout(5)); no git process is started.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace portwrap {

/// Where the history of first parents of a worktree's HEAD begins: 40 hex digits. Empty when there is none or it cannot be
/// known: no commit yet, a shallow clone, SHA-256 objects, damage, more than 30,000 commits without a commit-graph, or files that
/// would keep one busy for more than a second or two. Takes less than half a megabyte of memory beside a long packed-refs.
/// Blocking file access.
[[nodiscard]] std::string read_root_commit(const std::string& git_dir, const std::string& common_dir);

/// Remembers what was read, as a repository does not change its root. Thread-safe.
class RootCommits {
public:
    [[nodiscard]] std::string of(const std::string& git_dir, const std::string& common_dir);

private:
    struct Known {
        /// Device, inode and time of birth of the repository's "objects": another one may come to lie at the same path.
        std::array<std::uint64_t, 4> identity{};
        std::string head;  ///< asked for; a root that was not found is looked for again when HEAD has moved
        std::string root;
    };
    std::mutex m_mutex;
    std::map<std::string, Known> m_known;  ///< by common_dir
};

}  // namespace portwrap
