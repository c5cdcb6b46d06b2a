// Applying events and keeping the indexes. Every index maps to the ids in rising order, so that a registry rebuilt from
// a snapshot answers exactly like the one that lived through the events.
#include "core/registry.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace portwrap {
namespace {

template <typename Map, typename Key>
void add_to(Map& map, const Key& key, LeaseId id) {
    auto& ids = map[key];
    const auto place = std::lower_bound(ids.begin(), ids.end(), id);
    if (place == ids.end() || *place != id) { ids.insert(place, id); }
}

template <typename Map, typename Key>
void remove_from(Map& map, const Key& key, LeaseId id) {
    const auto entry = map.find(key);
    if (entry == map.end()) { return; }
    auto& ids = entry->second;
    const auto place = std::lower_bound(ids.begin(), ids.end(), id);
    if (place != ids.end() && *place == id) { ids.erase(place); }
    if (ids.empty()) { map.erase(entry); }
}

template <typename Map, typename Key>
std::vector<const Lease*> leases_at(const Map& map, const Key& key, const std::map<LeaseId, Lease>& leases) {
    std::vector<const Lease*> found;
    const auto entry = map.find(key);
    if (entry == map.end()) { return found; }
    found.reserve(entry->second.size());
    for (const auto id : entry->second) { found.push_back(&leases.at(id)); }
    return found;
}

/// Every index has both at the same place: most events change neither.
bool are_indexed_alike(const Lease& a, const Lease& b) {
    const auto same_cookie = [](const Socket& x, const Socket& y) { return x.cookie == y.cookie; };
    return a.port == b.port && a.live() == b.live() && a.session == b.session && a.key == b.key &&
           std::equal(a.sockets.begin(), a.sockets.end(), b.sockets.begin(), b.sockets.end(), same_cookie);
}

}  // namespace

std::vector<Event> Registry::stamp(std::vector<Change> changes, Time now) {
    std::vector<Event> events;
    events.reserve(changes.size());
    std::uint64_t seq = m_last_seq;
    for (auto& change : changes) { events.push_back(Event{++seq, now, std::move(change)}); }
    return events;
}

void Registry::skip(const std::vector<Event>& events) {
    if (!events.empty()) { m_last_seq = std::max(m_last_seq, events.back().seq); }
}

void Registry::apply(const Event& event) {
    if (event.seq <= m_last_seq) { return; }
    m_last_seq = event.seq;
    if (const auto* leased = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = leased->lease;
        const auto entry = m_leases.find(lease.id);
        if (entry != m_leases.end()) { bytes_counted_with(entry->second) -= bytes_of(entry->second); }
        bytes_counted_with(lease) += bytes_of(lease);
        if (entry == m_leases.end()) {
            m_leases.emplace(lease.id, lease);
            index(lease);
        } else if (are_indexed_alike(entry->second, lease)) {
            entry->second = lease;
        } else {
            const auto before = entry->second.port;
            unindex(entry->second);
            entry->second = lease;
            index(lease);
            mark_live(before);
        }
        if (lease.id >= m_next_id) { m_next_id = lease.id + 1; }
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        const auto entry = m_leases.find(forgotten->id);
        if (entry != m_leases.end()) {
            const auto port = entry->second.port;
            bytes_counted_with(entry->second) -= bytes_of(entry->second);
            unindex(entry->second);
            m_leases.erase(entry);
            mark_live(port);
        }
    } else if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        if (const auto known = m_projects.find(seen->project.root); known != m_projects.end()) { unindex(known->second); }
        m_projects.insert_or_assign(seen->project.root, seen->project);
        index(seen->project);
    } else if (const auto* gone = std::get_if<ProjectForgotten>(&event.change)) {
        if (const auto known = m_projects.find(gone->root); known != m_projects.end()) {
            unindex(known->second);
            m_projects.erase(known);
        }
    } else if (const auto* opened = std::get_if<SessionOpened>(&event.change)) {
        m_sessions.insert_or_assign(opened->session.id, opened->session);
    } else if (const auto* closed = std::get_if<SessionClosed>(&event.change)) {
        m_sessions.erase(closed->id);
    }
}

const Lease* Registry::find(LeaseId id) const {
    const auto entry = m_leases.find(id);
    return entry == m_leases.end() ? nullptr : &entry->second;
}

const Lease* Registry::find(const LeaseKey& key) const {
    const auto found = leases_at(m_by_key, key, m_leases);
    for (auto lease = found.rbegin(); lease != found.rend(); ++lease) {
        if ((*lease)->live()) { return *lease; }
    }
    return found.empty() ? nullptr : found.back();
}

const Lease* Registry::find_by_cookie(Cookie cookie) const {
    const auto found = leases_at(m_by_cookie, cookie, m_leases);
    return found.empty() ? nullptr : found.back();
}

const Project* Registry::find_project(const std::string& root) const {
    const auto entry = m_projects.find(root);
    return entry == m_projects.end() ? nullptr : &entry->second;
}

const Session* Registry::find_session(const ProcessId& id) const {
    const auto entry = m_sessions.find(id);
    return entry == m_sessions.end() ? nullptr : &entry->second;
}

std::vector<const Lease*> Registry::on_port(Port port) const { return leases_at(m_by_port, port, m_leases); }

std::vector<const Lease*> Registry::of_project(const std::string& root) const {
    return leases_at(m_by_root, root, m_leases);
}

std::vector<const Lease*> Registry::of_service(const std::string& root, const std::string& service) const {
    std::vector<LeaseId> ids;
    const LeaseKey first{root, service, Protocol::tcp, std::nullopt, std::numeric_limits<int>::min()};
    for (auto entry = m_by_key.lower_bound(first); entry != m_by_key.end() && entry->first.root == root && entry->first.service == service; ++entry) {
        ids.insert(ids.end(), entry->second.begin(), entry->second.end());
    }
    std::sort(ids.begin(), ids.end());
    std::vector<const Lease*> found;
    found.reserve(ids.size());
    for (const auto id : ids) { found.push_back(&m_leases.at(id)); }
    return found;
}

const std::map<Port, int>& Registry::requested_in(const std::string& root) const {
    static const std::map<Port, int> k_none;
    const auto entry = m_requested.find(root);
    return entry == m_requested.end() ? k_none : entry->second;
}

std::vector<const Project*> Registry::relatives_of(const Project& project) const {
    std::set<std::string> roots;
    const auto add = [&roots](const auto& map, const std::string& key) {
        if (const auto entry = map.find(key); entry != map.end()) { roots.insert(entry->second.begin(), entry->second.end()); }
    };
    add(m_by_family, project.family);
    add(m_by_root_commit, project.root_commit);
    roots.erase(project.root);
    std::vector<const Project*> found;
    found.reserve(roots.size());
    for (const auto& root : roots) { found.push_back(&m_projects.at(root)); }
    return found;
}

std::vector<const Lease*> Registry::of_session(const ProcessId& outermost) const {
    return leases_at(m_by_session, outermost, m_leases);
}

void Registry::resume_at(std::uint64_t last_seq, LeaseId next_id) {
    m_last_seq = last_seq;
    m_next_id = std::max(m_next_id, next_id);
}

std::size_t Registry::bytes_of(const Lease& lease) {
    // Its root stands in the lease and in the indexes, its service in the key's.
    return 2 * sizeof(Lease) + 4 * lease.key.root.size() + 2 * lease.key.service.size() + lease.description.value_or("").size() +
           lease.hostname.value_or("").size() + lease.allocated_by.size() + lease.started_by.size();
}

void Registry::index(const Lease& lease) {
    add_to(m_by_key, lease.key, lease.id);
    add_to(m_by_port, lease.port, lease.id);
    add_to(m_by_root, lease.key.root, lease.id);
    if (lease.session) { add_to(m_by_session, *lease.session, lease.id); }
    for (const auto& socket : lease.sockets) {
        if (socket.cookie != 0) { add_to(m_by_cookie, socket.cookie, lease.id); }
    }
    count_requested(lease, 1);
    if (lease.live()) { m_live.set(lease.port); }
}

/// The port's mark is the caller's: it depends on the others there.
void Registry::unindex(const Lease& lease) {
    remove_from(m_by_key, lease.key, lease.id);
    remove_from(m_by_port, lease.port, lease.id);
    remove_from(m_by_root, lease.key.root, lease.id);
    if (lease.session) { remove_from(m_by_session, *lease.session, lease.id); }
    for (const auto& socket : lease.sockets) { remove_from(m_by_cookie, socket.cookie, lease.id); }
    count_requested(lease, -1);
}

void Registry::count_requested(const Lease& lease, int step) {
    const auto port = lease.key.requested.value_or(0);
    if (port == 0) { return; }
    auto& numbers = m_requested[lease.key.root];
    if ((numbers[port] += step) == 0) { numbers.erase(port); }
    if (numbers.empty()) { m_requested.erase(lease.key.root); }
}

void Registry::mark_live(Port port) {
    const auto others = on_port(port);
    m_live.set(port, std::any_of(others.begin(), others.end(), [](const Lease* lease) { return lease->live(); }));
}

void Registry::index(const Project& project) {
    if (!project.family.empty()) { m_by_family[project.family].insert(project.root); }
    if (!project.root_commit.empty()) { m_by_root_commit[project.root_commit].insert(project.root); }
}

void Registry::unindex(const Project& project) {
    const auto remove = [&project](auto& map, const std::string& key) {
        const auto entry = map.find(key);
        if (entry == map.end()) { return; }
        entry->second.erase(project.root);
        if (entry->second.empty()) { map.erase(entry); }
    };
    remove(m_by_family, project.family);
    remove(m_by_root_commit, project.root_commit);
}

}  // namespace portwrap
