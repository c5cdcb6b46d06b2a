// From a working directory to the project that owns its ports: git worktrees, manifests, .portwrap.json.
// Blocking file access: call it on a pool thread, never on the event loop.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "portwrap/result.hpp"

namespace portwrap {

class RootCommits;

/// `directory` is absolute. `home` is $HOME (a root only with a config of its own). Never fails: a directory that
/// does not exist or cannot be read is its own project. Reads only regular files of at most 1 MB, opened O_NONBLOCK.
/// `roots` knows the repositories' first commits; without it Project::root_commit stays empty.
[[nodiscard]] Place find_place(const std::string& directory, const std::string& home, RootCommits* roots = nullptr);

/// The directory does not exist (any more). What cannot be seen is not gone.
[[nodiscard]] bool is_gone(const std::string& directory);

/// What has become of a project's directory.
struct Whereabouts {
    bool gone = false;            ///< nothing is at its root any more
    bool main_gone = false;       ///< for a linked worktree: nor at its main worktree's: a disk may have been unmounted
    bool locked = false;          ///< `git worktree lock`: it comes and goes, on a disk of its own say
    std::optional<Place> moved;   ///< where its worktree is now
};
[[nodiscard]] Whereabouts find_whereabouts(const Project& project, const std::string& home, RootCommits* roots = nullptr);
/// The worktree that was at this root, with this git directory, is there no more.
[[nodiscard]] bool has_left(const std::string& root, const std::string& git_id);

/// Parses .portwrap.json (JSON with comments). The error's message is "LINE: what" or "KEY: what", without the path.
[[nodiscard]] Result<ProjectConfig> parse_project_config(std::string_view text);

/// True for names that a repository may not set in its users' commands (LD_*, PATH, *_OPTIONS, GIT_*, ...).
[[nodiscard]] bool is_refused_variable(std::string_view name);

/// `text` without control characters (C0, DEL, C1) and with invalid UTF-8 replaced by U+FFFD, at most `limit` bytes.
[[nodiscard]] std::string printable(std::string_view text, std::size_t limit = 256);

}  // namespace portwrap
