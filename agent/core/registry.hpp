// The registry: all leases, projects and sessions, changed by events alone. Pure values; one thread at a time.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/events.hpp"

namespace portwrap {

class Registry {
public:
    /// Gives the changes their sequence numbers and the time. Does not apply them.
    [[nodiscard]] std::vector<Event> stamp(std::vector<Change> changes, Time now);
    /// Stamped and never to be applied: their numbers are not given again, since a journal on a failing disk may hold them.
    void skip(const std::vector<Event>& events);
    /// Events come in rising sequence; one that was applied already is passed over.
    void apply(const Event& event);

    [[nodiscard]] const std::map<LeaseId, Lease>& leases() const { return m_leases; }
    [[nodiscard]] const std::map<std::string, Project>& projects() const { return m_projects; }
    [[nodiscard]] const std::map<ProcessId, Session>& sessions() const { return m_sessions; }
    [[nodiscard]] std::uint64_t last_seq() const { return m_last_seq; }
    [[nodiscard]] LeaseId next_lease_id() const { return m_next_id; }

    /// Null when there is none. Pointers are good until the next apply.
    [[nodiscard]] const Lease* find(LeaseId id) const;
    /// Where several remembered leases have one key: the live one, else the newest.
    [[nodiscard]] const Lease* find(const LeaseKey& key) const;
    [[nodiscard]] const Lease* find_by_cookie(Cookie cookie) const;
    [[nodiscard]] const Project* find_project(const std::string& root) const;
    [[nodiscard]] const Session* find_session(const ProcessId& id) const;
    /// Every remembered lease with this assigned port, released ones included.
    [[nodiscard]] std::vector<const Lease*> on_port(Port port) const;
    /// Every remembered lease of a project, in the order of ids.
    [[nodiscard]] std::vector<const Lease*> of_project(const std::string& root) const;
    /// Every remembered lease of one service of a project, in the order of ids.
    [[nodiscard]] std::vector<const Lease*> of_service(const std::string& root, const std::string& service) const;
    /// Is there a live lease on this port? One look at a bit, for searches through thousands of ports.
    [[nodiscard]] bool is_live(Port port) const { return m_live.test(port); }
    /// The numbers (not 0) that the remembered leases of a project were asked for, with how many leases ask for each.
    [[nodiscard]] const std::map<Port, int>& requested_in(const std::string& root) const;
    /// The other known projects that have this one's family or root commit, in the order of their roots.
    [[nodiscard]] std::vector<const Project*> relatives_of(const Project& project) const;
    /// Every lease that this session (its outermost process) has.
    [[nodiscard]] std::vector<const Lease*> of_session(const ProcessId& outermost) const;

    /// About how much memory the leases take that are only remembered, and all others.
    [[nodiscard]] std::size_t remembered_bytes() const { return m_remembered_bytes; }
    [[nodiscard]] std::size_t used_bytes() const { return m_used_bytes; }
    [[nodiscard]] static std::size_t bytes_of(const Lease& lease);

    /// For a snapshot's reader: where sequence numbers and ids go on. Never moves the next id back.
    void resume_at(std::uint64_t last_seq, LeaseId next_id);

    bool operator==(const Registry& other) const {
        return m_leases == other.m_leases && m_projects == other.m_projects && m_sessions == other.m_sessions;
    }

private:
    [[nodiscard]] std::size_t& bytes_counted_with(const Lease& lease) { return lease.only_remembered() ? m_remembered_bytes : m_used_bytes; }
    void index(const Lease& lease);
    void unindex(const Lease& lease);
    void count_requested(const Lease& lease, int step);
    void mark_live(Port port);
    void index(const Project& project);
    void unindex(const Project& project);

    std::map<LeaseId, Lease> m_leases;
    std::map<std::string, Project> m_projects;
    std::map<ProcessId, Session> m_sessions;
    std::map<LeaseKey, std::vector<LeaseId>> m_by_key;
    std::unordered_map<Port, std::vector<LeaseId>> m_by_port;
    std::unordered_map<Cookie, std::vector<LeaseId>> m_by_cookie;
    std::map<std::string, std::vector<LeaseId>> m_by_root;
    std::map<ProcessId, std::vector<LeaseId>> m_by_session;
    std::bitset<65536> m_live;                                     ///< ports with a live lease
    std::map<std::string, std::map<Port, int>> m_requested;        ///< by root
    std::map<std::string, std::set<std::string>> m_by_family;      ///< roots; families and root commits apart
    std::map<std::string, std::set<std::string>> m_by_root_commit;
    std::size_t m_remembered_bytes = 0;
    std::size_t m_used_bytes = 0;
    std::uint64_t m_last_seq = 0;
    LeaseId m_next_id = 1;
};

}  // namespace portwrap
