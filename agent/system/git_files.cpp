// Reading .git: a directory in a main worktree; a file "gitdir: PATH" in a linked worktree, a submodule, or after
// git init --separate-git-dir.
#include "system/git_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "system/bounded_read.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

namespace fs = std::filesystem;

std::string canonical_or_empty(const fs::path& path) {
    std::error_code error;
    const fs::path found = fs::canonical(path, error);
    return error ? std::string() : found.string();
}

/// git strips trailing line ends only: a directory's name may begin or end with spaces.
std::string_view without_line_end(std::string_view text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) { text.remove_suffix(1); }
    return text;
}

bool is_git_dir(const fs::path& path) { return is_readable_file((path / "HEAD").string()); }

/// The repositories of submodules lie in the directory "modules" of their superproject's git directory (for a
/// submodule of a linked worktree, of that worktree's own), nested ones in the "modules" of those.
bool lies_in_modules(const fs::path& git_dir) {
    for (fs::path path = git_dir; path.has_relative_path(); path = path.parent_path()) {
        if (path.filename() != "modules") { continue; }
        const fs::path above = path.parent_path();
        if (above.filename() == ".git" || is_git_dir(above)) { return true; }
    }
    return false;
}

std::string read_common_dir(const std::string& git_dir, bool& linked) {
    const auto text = read_project_file(git_dir + "/commondir");
    linked = text.has_value();
    return linked ? canonical_or_empty(fs::path(git_dir) / without_line_end(*text)) : git_dir;
}

}  // namespace

GitWorktree read_git_entry(const std::string& directory) {
    const fs::path dot_git = fs::path(directory) / ".git";
    std::error_code error;
    const auto kind = fs::status(dot_git, error).type();
    GitWorktree found;
    if (kind == fs::file_type::directory) {
        // An empty .git directory, as some tools leave behind, is not a repository.
        if (!is_git_dir(dot_git)) { return found; }
        found.entry = GitEntry::worktree;
        found.git_dir = canonical_or_empty(dot_git);
        // A symbolic link .git -> REPO/.git/worktrees/X is as good as a file.
        found.common_dir = read_common_dir(found.git_dir, found.linked);
        return found;
    }
    if (kind != fs::file_type::regular) { return found; }
    const auto text = read_project_file(dot_git.string());
    constexpr std::string_view k_prefix = "gitdir: ";
    if (!text || !text->starts_with(k_prefix)) { return found; }
    const auto named = without_line_end(std::string_view(*text).substr(k_prefix.size()));
    if (named.empty() || named.find('\0') != std::string_view::npos) { return found; }
    const fs::path git_dir = fs::path(directory) / named;

    // A repository that is gone or not mounted here: still a worktree of its own, else a copy nested below a main
    // checkout would be taken for that one.
    found.entry = GitEntry::worktree;
    if (is_git_dir(git_dir)) { found.git_dir = canonical_or_empty(git_dir); }
    if (!found.git_dir.empty()) { found.common_dir = read_common_dir(found.git_dir, found.linked); }
    const fs::path where = found.git_dir.empty() ? git_dir.lexically_normal() : fs::path(found.git_dir);
    if (!found.linked && lies_in_modules(where)) { found.entry = GitEntry::submodule; }
    return found;
}

std::optional<std::string> read_branch(const std::string& git_dir) {
    const auto head = read_project_file(git_dir + "/HEAD");
    if (!head) { return std::nullopt; }
    std::string_view text = without_line_end(*head);
    constexpr std::string_view k_ref = "ref:";
    if (text.starts_with(k_ref)) {
        text.remove_prefix(k_ref.size());
        while (text.starts_with(' ') || text.starts_with('\t')) { text.remove_prefix(1); }
        constexpr std::string_view k_heads = "refs/heads/";
        if (text.starts_with(k_heads)) { text.remove_prefix(k_heads.size()); }
        // What the reftable format writes here, to keep older versions of git out.
        if (text.empty() || text == ".invalid") { return std::nullopt; }
        return printable(text);
    }
    constexpr std::size_t k_shown = 12;
    if (text.size() < k_shown || text.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
        return std::nullopt;
    }
    return std::string(text.substr(0, k_shown));
}

std::string read_git_id(const std::string& git_dir) {
    struct statx about {};
    constexpr unsigned k_wanted = STATX_INO | STATX_BTIME;
    if (::statx(AT_FDCWD, git_dir.c_str(), AT_STATX_SYNC_AS_STAT, k_wanted, &about) != 0 || (about.stx_mask & k_wanted) != k_wanted) { return {}; }
    char text[64];
    std::snprintf(text, sizeof text, "%llx.%llx.%x", static_cast<unsigned long long>(about.stx_ino),
                  static_cast<unsigned long long>(about.stx_btime.tv_sec), about.stx_btime.tv_nsec);
    return text;
}

std::string linked_root(const std::string& git_dir) {
    const auto text = read_project_file(git_dir + "/gitdir");
    if (!text) { return {}; }
    // Absolute, or relative to the git directory (worktree.useRelativePaths).
    return canonical_or_empty((fs::path(git_dir) / without_line_end(*text)).parent_path());
}

std::string main_worktree(const std::string& common_dir) {
    const fs::path path(common_dir);
    return path.filename() == ".git" ? path.parent_path().string() : common_dir;
}

}  // namespace portwrap
