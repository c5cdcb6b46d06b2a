// Applying events and keeping the indexes. Every index maps to the ids in rising order, so that a registry rebuilt from
// a snapshot answers exactly like the one that lived through the events.
#include "core/registry.hpp"

#include <algorithm>
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
        if (entry == m_leases.end()) {
            m_leases.emplace(lease.id, lease);
        } else {
            unindex(entry->second);
            entry->second = lease;
        }
        index(lease);
        if (lease.id >= m_next_id) { m_next_id = lease.id + 1; }
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        const auto entry = m_leases.find(forgotten->id);
        if (entry != m_leases.end()) {
            unindex(entry->second);
            m_leases.erase(entry);
        }
    } else if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        m_projects.insert_or_assign(seen->project.root, seen->project);
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

std::vector<const Lease*> Registry::of_session(const ProcessId& outermost) const {
    return leases_at(m_by_session, outermost, m_leases);
}

void Registry::resume_at(std::uint64_t last_seq, LeaseId next_id) {
    m_last_seq = last_seq;
    m_next_id = std::max(m_next_id, next_id);
}

void Registry::index(const Lease& lease) {
    add_to(m_by_key, lease.key, lease.id);
    add_to(m_by_port, lease.port, lease.id);
    add_to(m_by_root, lease.key.root, lease.id);
    if (lease.session) { add_to(m_by_session, *lease.session, lease.id); }
    for (const auto& socket : lease.sockets) {
        if (socket.cookie != 0) { add_to(m_by_cookie, socket.cookie, lease.id); }
    }
}

void Registry::unindex(const Lease& lease) {
    remove_from(m_by_key, lease.key, lease.id);
    remove_from(m_by_port, lease.port, lease.id);
    remove_from(m_by_root, lease.key.root, lease.id);
    if (lease.session) { remove_from(m_by_session, *lease.session, lease.id); }
    for (const auto& socket : lease.sockets) { remove_from(m_by_cookie, socket.cookie, lease.id); }
}

}  // namespace portwrap
