// Projects whose directory goes away or whose worktree moves. The kernel says so (system/root_watch.hpp), so that nobody looks at the
// disk when ports are asked for; what became of a root is then found out in the pool. What happened while no agent ran is seen by
// a look at all roots at the start, and each hour for what no watch sees (a directory above that was renamed).
#include <utility>

#include "core/care_rules.hpp"
#include "core/move_rules.hpp"
#include "service/agent.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

using namespace std::chrono_literals;

/// Nobody who waits for a new agent's first answers waits for its look at all roots.
constexpr auto k_first_look = 200ms;
constexpr auto k_look_at_all = 1h;
/// How often at most roots without a watch are looked at, while requests come.
constexpr auto k_look_at_unwatched = 5s;
/// `rm -rf` may be at work, and git writes where a worktree is after it has moved it.
constexpr auto k_look_again = 2s;

bool is_kept(const Lease& lease) { return lease.live() || lease.claimed; }

}  // namespace

void Agent::start_root_care() {
    m_all_roots_looked_at = m_outside.now();
    auto opened = RootWatch::open();
    if (opened) {
        m_root_watch.emplace(std::move(*opened));
        m_outside.watch_descriptor(m_root_watch->fd(), [this] { on_roots_changed(); });
    } else {
        m_options.log_trouble(opened.error().message + "; removed worktrees are noticed when somebody asks");
    }
    (void)m_outside.call_after(k_first_look, [this] { look_at_all_roots(); });
    watch([this](const Event& event, const Registry&) { mind_root(event); });
}

void Agent::mind_root(const Event& event) {
    if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        // Its git directory may be another one.
        if (m_root_watch && m_root_watch->knows(seen->project.root)) { look_at_root(seen->project.root, {}); }
        return;
    }
    const auto* changed = std::get_if<LeaseEvent>(&event.change);
    if (changed == nullptr || !is_kept(changed->lease)) { return; }
    const auto& root = changed->lease.key.root;
    // The last program that ran in a directory that is gone may have ended.
    const bool over = m_gone_roots.contains(root) && changed->lease.sockets.empty();
    if (over) { return look_at_root(root, {true, true, true}); }
    if (m_root_watch && !m_root_watch->knows(root) && !m_gone_roots.contains(root) && !m_unwatched_roots.contains(root)) { look_at_root(root, {}); }
}

void Agent::on_roots_changed() {
    const auto seen = m_root_watch->drain();
    for (const auto& root : seen.changed) { look_at_root(root, {true, seen.deleted.contains(root), false}); }
}

void Agent::look_at_root(const std::string& root, RootNews news) {
    const auto [look, is_new] = m_root_looks.try_emplace(root);
    if (!is_new) {
        // Once more after the look that is under way.
        look->second.changed = look->second.changed || news.changed;
        look->second.deleted = look->second.deleted || news.deleted;
        return;
    }
    const auto* known = m_registry.find_project(root);
    Project project = known != nullptr ? *known : Project{root, {}, {}, {}, {}, {}};
    struct Job {
        Whereabouts found;
        std::vector<int> watches;
    };
    auto job = std::make_shared<Job>();
    const auto work = [job, project, fd = m_root_watch ? m_root_watch->fd() : -1, home = m_options.home, roots = m_root_commits] {
        if (fd >= 0) { job->watches = RootWatch::add(fd, project.root, project.worktree_of ? project.git_dir : std::string()); }
        job->found = find_whereabouts(project, home, roots.get());
    };
    m_file_jobs.run(root, work, [this, job, project, news](FileJobs::Progress progress) {
        if (progress == FileJobs::Progress::dropped) { m_root_looks.erase(project.root); }
        if (progress != FileJobs::Progress::ended) { return; }
        const auto& root_looked_at = project.root;
        const auto again = m_root_looks.extract(root_looked_at);
        const auto& found = job->found;
        if (m_root_watch) {
            m_root_watch->know(root_looked_at, job->watches);
            if (job->watches.empty() && !found.gone) {
                m_unwatched_roots.insert(root_looked_at);
            } else {
                m_unwatched_roots.erase(root_looked_at);
            }
            if (!job->watches.empty()) { on_roots_changed(); }  // what came before the watches had their root's name
        }
        if (found.moved) { return move_project(root_looked_at, found.moved->project); }
        if (!found.gone) { m_gone_roots.erase(root_looked_at); }
        // Gone for good: deleted before the kernel's eyes, or a linked worktree whose repository is there and does not have it
        // locked. Else it may have been renamed, or a disk unmounted.
        const bool linked = project.worktree_of && !found.main_gone && !found.locked;
        if (found.gone && (news.deleted || (linked && (news.again || !news.changed)))) {
            const auto unsure = news.heard ? std::vector<const Lease*>() : listened_on_by_somebody(root_looked_at);
            if (unsure.empty()) { return release_root(root_looked_at); }
            // By a program of its own, or by a stranger. Afterwards it may be there again.
            return with_heard(unsure, [this, root_looked_at, news] { look_at_root(root_looked_at, {news.changed, news.deleted, news.again, true}); });
        }
        if (!again.empty() && again.mapped().changed) { return look_at_root(root_looked_at, {true, news.deleted || again.mapped().deleted, false}); }
        if (news.changed && !news.again) {
            (void)m_outside.call_after(k_look_again, [this, root_looked_at, news] { look_at_root(root_looked_at, {true, news.deleted, true}); });
        }
    });
}

std::vector<const Lease*> Agent::listened_on_by_somebody(const std::string& root) const {
    auto leases = m_registry.of_project(root);
    std::erase_if(leases, [](const Lease* lease) { return !lease->live() || !lease->sockets.empty() || !is_port_in_use(lease->port, true, true); });
    return leases;
}

void Agent::release_root(const std::string& root) {
    const auto is_it = [&root](const std::string& other) { return other == root; };
    m_gone_roots.erase(root);
    if (m_root_watch) { m_root_watch->remove(root); }
    (void)commit(decide_cleanup(m_registry, m_config, {root}, is_it, facts()).changes);
    m_tables.let_go(root);
    // What still listens keeps its port until it ends.
    for (const auto* lease : m_registry.of_project(root)) {
        if (lease->live()) { m_gone_roots.insert(root); }
    }
}

void Agent::move_project(const std::string& from, const Project& to) {
    auto changes = decide_moved(m_registry, from, to);
    if (changes.empty()) { return; }
    m_options.log("moved root=" + from + " to=" + to.root);
    m_gone_roots.erase(from);
    if (m_root_watch) { m_root_watch->remove(from); }
    m_places.clear();
    m_session_places.clear();
    (void)commit(std::move(changes));
}

void Agent::with_moves(const Place& place, std::function<void()> then) {
    const auto* earlier = earlier_self(m_registry, place.project);
    if (earlier == nullptr) { return then(); }
    auto left = std::make_shared<bool>(false);
    auto told = std::make_shared<bool>(false);
    m_file_jobs.run(earlier->root, [left, root = earlier->root, id = earlier->git_id] { *left = has_left(root, id); },
                    [this, left, from = earlier->root, to = place.project, then = std::move(then), told](FileJobs::Progress progress) {
                        if (progress == FileJobs::Progress::ended && *left) { move_project(from, to); }
                        if (!std::exchange(*told, true)) { then(); }
                    });
}

void Agent::look_at_all_roots() {
    m_all_roots_looked_at = m_outside.now();
    std::set<std::string> kept;
    for (const auto& [id, lease] : m_registry.leases()) {
        if (is_kept(lease)) { kept.insert(lease.key.root); }
    }
    std::set<std::string> in_use;
    for (const auto& [id, session] : m_registry.sessions()) { in_use.insert(session.root); }
    for (const auto& [root, project] : m_registry.projects()) {
        if (kept.contains(root)) { continue; }
        if (m_root_watch) { m_root_watch->remove(root); }
        if (!m_registry.of_project(root).empty() || in_use.contains(root)) { continue; }
        // Nothing is remembered of it: if its directory is gone, its name and its block are free.
        auto gone = std::make_shared<bool>(false);
        m_file_jobs.run(root, [gone, root_asked = root] { *gone = is_gone(root_asked); }, [this, gone, root_asked = root](FileJobs::Progress progress) {
            const bool over = progress == FileJobs::Progress::ended && *gone && m_registry.of_project(root_asked).empty();
            if (over && m_registry.find_project(root_asked) != nullptr) { (void)commit({ProjectForgotten{root_asked}}); }
        });
    }
    for (const auto& root : kept) { look_at_root(root, {}); }
}

void Agent::mind_removed_roots() {
    const auto now = m_outside.now();
    if (now - m_all_roots_looked_at >= k_look_at_all || now < m_all_roots_looked_at) { return look_at_all_roots(); }
    if ((m_root_watch && m_unwatched_roots.empty()) || now - m_unwatched_looked_at < k_look_at_unwatched) { return; }
    m_unwatched_looked_at = now;
    std::set<std::string> roots;
    for (const auto& [id, lease] : m_registry.leases()) {
        const bool unwatched = !m_root_watch || m_unwatched_roots.contains(lease.key.root);
        if (unwatched && is_kept(lease) && lease.sockets.empty()) { roots.insert(lease.key.root); }
    }
    for (const auto& root : roots) { look_at_root(root, {}); }
}

}  // namespace portwrap
