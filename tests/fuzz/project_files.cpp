// Manifests and git's files of a project, found as the agent finds them.
#include <sys/stat.h>
#include <cstdint>

#include "fuzz.hpp"
#include "system/compose_file.hpp"
#include "system/git_files.hpp"
#include "system/manifests.hpp"
#include "system/places.hpp"
#include "system/root_commit.hpp"
#include "system/scripts.hpp"

using namespace portwrap;

namespace {

/// The files that an input's parts become, in this order; the first part says by a letter each which of them exist.
constexpr const char* k_files[] = {
    ".git/HEAD", ".git/packed-refs", ".git/refs/heads/main", ".git/commondir", ".git/config", ".git/objects/info/commit-graph",
    ".git/objects/info/alternates", ".git/shallow", "package.json", "pyproject.toml", "composer.json", "deno.json", "Cargo.toml",
    "go.mod", "package/.git", ".portwrap.json", ".git/objects/pack/pack-1.idx", ".git/objects/pack/pack-1.pack", ".git/objects/ab/cd",
    "compose.yaml", ".git/gitdir", ".git/locked", ".env",
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::Directory directory;
    static const bool made = [] {
        for (const char* name : {"home", "project", "project/package", "project/.git", "project/.git/refs", "project/.git/refs/heads",
                                 "project/.git/objects", "project/.git/objects/info", "project/.git/objects/pack", "project/.git/objects/ab"}) {
            ::mkdir(directory.at(name).c_str(), 0700);
        }
        return true;
    }();
    fuzz::promise(made, "the directories exist");
    const auto parts = fuzz::parts_of({reinterpret_cast<const char*>(data), size});
    std::size_t part = 1;
    for (std::size_t i = 0; i < std::size(k_files); ++i) {
        const bool wanted = parts[0].find(static_cast<char>('a' + i)) != std::string_view::npos;
        if (wanted && part < parts.size()) {
            directory.file(std::string("project/") + k_files[i], parts[part++]);
        } else {
            std::error_code ignored;
            std::filesystem::remove(directory.at(std::string("project/") + k_files[i]), ignored);
        }
    }
    const auto project = directory.at("project");
    for (const auto& where : {project, project + "/package"}) {
        RootCommits roots;
        const auto place = find_place(where, directory.at("home"), &roots);
        fuzz::promise(!place.project.root.empty() && place.project.root[0] == '/', "a root is a path");
        fuzz::promise(!place.project.name.empty() && fuzz::is_showable(place.project.name), "a project has a name that can be shown");
        fuzz::promise(fuzz::is_showable(place.problem), "a problem can be shown");
        if (place.project.branch) { fuzz::promise(fuzz::is_showable(*place.project.branch), "a branch can be shown"); }
        const auto manifest = find_manifest(where);
        if (manifest) { (void)manifest_hash(*manifest); }
        const auto whereabouts = find_whereabouts(place.project, directory.at("home"), &roots);
        if (whereabouts.moved) { fuzz::promise(fuzz::is_showable(whereabouts.moved->project.name), "a project that has moved has a name that can be shown"); }
        // As if nothing were at its root any more: git's files alone say what has become of it.
        auto left = place.project;
        left.root = directory.at("nowhere");
        left.worktree_of = project;
        (void)find_whereabouts(left, directory.at("home"), &roots);
    }
    (void)read_root_commit(project + "/.git", project + "/.git");
    const auto linked = linked_root(project + "/.git");
    fuzz::promise(linked.empty() || linked[0] == '/', "a worktree's place is a path");
    if (const auto compose = read_compose_file(project)) { fuzz::promise(!compose->services.empty(), "a compose file has services"); }
    const auto files = read_launch_files({"npm", "run", "dev"}, project + "/package");
    fuzz::promise(files.script.size() <= k_max_shell_text, "a script is no longer than it may be");
    for (const auto& entry : files.env) { fuzz::promise(entry.value.size() <= 4096, "a value is no longer than one that may name a port"); }
    return 0;
}
