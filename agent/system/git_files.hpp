// What the files under .git say about a worktree (gitrepository-layout(5)). No git process is started.
#pragma once

#include <optional>
#include <string>

namespace portwrap {

enum class GitEntry {
    none,       ///< no .git here, or nothing that git would accept
    worktree,   ///< main or linked worktree, or one whose repository cannot be seen from here
    submodule,  ///< belongs to the superproject further up
};

struct GitWorktree {
    GitEntry entry = GitEntry::none;
    std::string git_dir;     ///< canonical; of this worktree alone. Empty when it does not exist
    std::string common_dir;  ///< canonical; shared by all worktrees of the repository. Empty when it does not exist
    bool linked = false;     ///< made by git worktree add
};

/// Looks at `directory`/.git only, not further up.
[[nodiscard]] GitWorktree read_git_entry(const std::string& directory);
/// The checked-out branch, or the first 12 hex digits of a detached HEAD.
[[nodiscard]] std::optional<std::string> read_branch(const std::string& git_dir);
/// Which git directory this is, wherever it lies by now: its inode and time of birth, which a copy does not share and which no later
/// directory has again. Empty where the file system does not tell them.
[[nodiscard]] std::string read_git_id(const std::string& git_dir);
/// Where a linked worktree is, as its git directory's file "gitdir" says; empty for other worktrees.
[[nodiscard]] std::string linked_root(const std::string& git_dir);
/// Root of the main worktree; of a bare repository the repository itself.
[[nodiscard]] std::string main_worktree(const std::string& common_dir);

}  // namespace portwrap
