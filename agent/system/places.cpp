// The rules that lead from a working directory to its project: where the root is, which configuration counts, and
// what the project is called.
#include "system/places.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <filesystem>
#include <system_error>

#include "system/bounded_read.hpp"
#include "system/git_files.hpp"
#include "system/root_commit.hpp"
#include "system/manifests.hpp"

namespace portwrap {
namespace {

namespace fs = std::filesystem;

std::string without_trailing_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') { path.pop_back(); }
    return path;
}

/// From `directory` up to "/".
std::vector<std::string> ancestors_of(const std::string& directory) {
    std::vector<std::string> all;
    for (fs::path path = directory;; path = path.parent_path()) {
        all.push_back(path.string());
        if (!path.has_relative_path() || path == path.parent_path()) { return all; }
    }
}

/// Finds the configuration and remembers what was wrong with files that cannot be one.
class ConfigFinder {
public:
    explicit ConfigFinder(std::string& problem) : m_problem(problem) {}

    /// The text of the nearest one from `directories` in their order, up to and including `last`.
    struct Found {
        std::string directory;
        std::string path;
        std::string text;
    };
    [[nodiscard]] std::optional<Found> nearest(const std::vector<std::string>& directories, const std::string& last) {
        for (const auto& directory : directories) {
            const std::string path = (fs::path(directory) / ".portwrap.json").string();
            FileContent content = examine_project_file(path);
            if (auto* text = std::get_if<std::string>(&content)) { return Found{directory, path, std::move(*text)}; }
            if (const auto* refused = std::get_if<FileRefused>(&content); refused != nullptr && m_problem.empty()) {
                m_problem = printable(path, 4096) + ": " + refused->reason;
            }
            if (directory == last) { break; }
        }
        return std::nullopt;
    }

private:
    std::string& m_problem;
};

bool has_config(const std::string& directory) {
    return is_readable_file((fs::path(directory) / ".portwrap.json").string());
}

struct GitRoot {
    std::string directory;
    GitWorktree worktree;
};

/// A submodule belongs to its superproject, so the search goes on above it; one that has lost its superproject is a
/// root after all.
template <typename MayBeRoot>
std::optional<GitRoot> find_git_root(const std::vector<std::string>& ancestors, const MayBeRoot& may_be_root) {
    std::optional<GitRoot> outermost_submodule;
    for (const auto& directory : ancestors) {
        GitWorktree worktree = read_git_entry(directory);
        if (worktree.entry == GitEntry::none || !may_be_root(directory)) { continue; }
        GitRoot here{directory, std::move(worktree)};
        if (here.worktree.entry == GitEntry::worktree) { return here; }
        outermost_submodule = std::move(here);
    }
    return outermost_submodule;
}

std::string directory_name(const std::string& directory) {
    std::string name = printable(fs::path(directory).filename().string());
    if (!name.empty()) { return name; }
    return directory == "/" ? "/" : "unnamed";
}

std::string relative_to(const std::string& root, const std::string& directory) {
    if (directory == root) { return {}; }
    return directory.substr(root == "/" ? 1 : root.size() + 1);
}

}  // namespace

Place find_place(const std::string& directory, const std::string& home, RootCommits* roots) {
    Place place;
    std::error_code error;
    const fs::path canonical = fs::canonical(directory, error);
    if (error || !canonical.is_absolute()) {
        // Its ancestors are not asked: what was a worktree below a main checkout must not become that checkout.
        place.project.root = without_trailing_slash(fs::path(directory).lexically_normal().string());
        place.project.name = directory_name(place.project.root);
        return place;
    }
    const std::string start = canonical.string();
    const fs::path canonical_home = home.empty() ? fs::path() : fs::canonical(home, error);
    const std::string own_home = home.empty() || error ? without_trailing_slash(home) : canonical_home.string();
    const auto is_common_ground = [&own_home](const std::string& path) { return path == "/" || path == own_home; };
    const auto may_be_root = [&is_common_ground](const std::string& path) {
        return !is_common_ground(path) || has_config(path);
    };

    const std::vector<std::string> ancestors = ancestors_of(start);
    ConfigFinder finder(place.problem);
    const std::optional<GitRoot> git = find_git_root(ancestors, may_be_root);
    const auto config = finder.nearest(ancestors, git ? git->directory : "/");
    std::string& root = place.project.root;
    if (git) {
        root = git->directory;
    } else if (config) {
        root = config->directory;
    } else {
        root = start;
        for (const auto& one : ancestors) {
            if (!is_common_ground(one) && find_manifest(one)) {
                root = one;
                break;
            }
        }
    }

    if (config) {
        const auto turn = turn_for(config->text);
        auto parsed = parse_project_config(config->text);
        if (parsed) {
            place.config = std::move(parsed).value();
        } else {
            place.problem = printable(config->path, 4096) + ":" + parsed.error().message;
        }
    }

    // $HOME as the fallback root of a command started there: what lies about in it says nothing about the command.
    std::optional<Manifest> root_manifest;
    if (may_be_root(root)) {
        for (const auto& one : ancestors) {
            if (const auto manifest = find_manifest(one)) {
                place.type = manifest->type;
                place.package_dir = relative_to(root, one);
                break;
            }
            if (one == root) { break; }
        }
        root_manifest = find_manifest(root);
    }

    Project& project = place.project;
    project.name = place.config.name.value_or("");
    if (project.name.empty() && root_manifest) { project.name = manifest_name(*root_manifest); }
    if (project.name.empty()) { project.name = directory_name(root); }
    if (git) {
        const GitWorktree& worktree = git->worktree;
        if (!worktree.git_dir.empty()) {
            project.branch = read_branch(worktree.git_dir);
            project.git_dir = worktree.git_dir;
            project.git_id = read_git_id(worktree.git_dir);
        }
        if (!worktree.common_dir.empty()) {
            project.family = "git:" + worktree.common_dir;
            if (roots != nullptr && !worktree.git_dir.empty()) { project.root_commit = roots->of(worktree.git_dir, worktree.common_dir); }
            if (worktree.linked) { project.worktree_of = main_worktree(worktree.common_dir); }
        }
    } else if (root_manifest) {
        const std::string hash = manifest_hash(*root_manifest);
        if (!hash.empty()) { project.family = "manifest:" + hash; }
    }
    return place;
}

bool is_gone(const std::string& directory) {
    struct stat st {};
    return ::stat(directory.c_str(), &st) != 0 ? errno == ENOENT || errno == ENOTDIR : !S_ISDIR(st.st_mode);
}

bool has_left(const std::string& root, const std::string& git_id) {
    if (is_gone(root)) { return true; }
    const auto here = read_git_entry(root);
    return here.git_dir.empty() || read_git_id(here.git_dir) != git_id;
}

Whereabouts find_whereabouts(const Project& project, const std::string& home, RootCommits* roots) {
    Whereabouts found;
    found.gone = is_gone(project.root);
    if (!project.worktree_of) { return found; }
    found.main_gone = is_gone(*project.worktree_of);
    if (project.git_id.empty() || read_git_id(project.git_dir) != project.git_id || !has_left(project.root, project.git_id)) { return found; }
    found.locked = ::access((project.git_dir + "/locked").c_str(), F_OK) == 0;
    const auto root = linked_root(project.git_dir);
    if (root.empty() || root == project.root) { return found; }
    auto place = find_place(root, home, roots);
    if (place.project.root == root && place.project.git_id == project.git_id) { found.moved = std::move(place); }
    return found;
}

}  // namespace portwrap
