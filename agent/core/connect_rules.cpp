// The four rules of connect. A program is meant by a number only while it has the port (a lease with a socket, or one that
// was offered to a program whose sockets nobody sees); what is only offered, remembered or reserved by name never diverts a
// connection, so that a server of another session, a system's database, a tunnel or a container on the same number is
// reached as without portwrap.
#include "core/connect_rules.hpp"

#include <set>

#include "core/lease_steps.hpp"
#include "core/search.hpp"

namespace portwrap {
namespace {

bool has_number(const Lease& lease) { return lease.key.requested.value_or(0) != 0 && lease.key.protocol == Protocol::tcp; }

bool is_in_use(const Lease& lease) {
    // Granted to a program that is about to bind, or has just closed: it has the port as well as its holder.
    const bool about_to = lease.session && (lease.holder || lease.unseen);
    return lease.live() && lease.state != LeaseState::conflict && (!lease.sockets.empty() || about_to);
}

/// A service without a name of its own is called after its package's directory, and the root's is "main".
std::string package_of(const Lease& lease) {
    const auto& root = lease.key.root;
    const auto cwd = lease.holder ? lease.holder->cwd : std::string();
    const auto service = lease.key.service.substr(0, lease.key.service.find('.'));
    if (service == "main" || cwd.empty() || !is_below(cwd, root)) { return root; }
    const auto package = root + "/" + lease.key.service;
    return is_below(cwd, package) ? package : cwd;
}

}  // namespace

bool is_shared(const Lease& lease) {
    return lease.shared.value_or(lease.kind == "database" || lease.kind == "cache");
}

ConnectView::ConnectView(const Registry& registry, const std::string& root) : m_root(root) {
    for (const auto* lease : registry.of_project(root)) { note_own(registry, *lease); }
    const auto* self = registry.find_project(root);
    if (self == nullptr) { return; }
    for (const auto* sibling : registry.relatives_of(*self)) {
        for (const auto* lease : registry.of_project(sibling->root)) { note_foreign(registry, *lease); }
    }
}

void ConnectView::count(const Own& own, int step) {
    auto& counts = m_numbers[own.row.port];
    counts[own.row.kind == ConnectKind::live ? 0 : 1] += step;
    if (counts[0] == 0 && counts[1] == 0) { m_numbers.erase(own.row.port); }
}

bool ConnectView::forget_own(LeaseId id) {
    const auto known = m_own.find(id);
    if (known == m_own.end()) { return false; }
    count(known->second, -1);
    m_ranks.erase(rank_of(id, known->second));
    m_own.erase(known);
    return true;
}

bool ConnectView::note_own(const Registry& registry, const Lease& lease) {
    const bool in_use = is_in_use(lease);
    const bool remembered = !in_use && lease.state != LeaseState::conflict && (lease.live() || lease.listened);
    if (!has_number(lease) || (!in_use && !remembered)) { return forget_own(lease.id); }
    Own own;
    own.row = {in_use ? ConnectKind::live : ConnectKind::sticky, *lease.key.requested, lease.port, std::nullopt, {}};
    own.used = lease.last_used();
    own.row.session = lease.session;
    if (in_use) { own.row.directory = package_of(lease); }
    const auto [known, is_new] = m_own.try_emplace(lease.id);
    if (!is_new && known->second == own) { return false; }
    const bool new_number = is_new || known->second.row.port != own.row.port;
    if (!is_new) {
        count(known->second, -1);
        m_ranks.erase(rank_of(lease.id, known->second));
    }
    count(own, 1);
    known->second = std::move(own);
    m_ranks.emplace(rank_of(lease.id, known->second), &known->second);
    if (new_number) {
        for (const auto* other : registry.on_port(*lease.key.requested)) {
            if (other->key.root != m_root) { note_foreign(registry, *other); }
        }
    }
    return true;
}

bool ConnectView::note_foreign(const Registry& registry, const Lease& lease) {
    const auto forget = [&] { return m_foreign.erase(lease.id) > 0; };
    if (!is_in_use(lease) || lease.sockets.empty() || lease.key.protocol != Protocol::tcp) { return forget(); }
    const auto* self = registry.find_project(m_root);
    const auto* theirs = registry.find_project(lease.key.root);
    const bool sibling = self != nullptr && theirs != nullptr && is_sibling(*self, *theirs);
    if (sibling && is_shared(lease)) { return forget(); }
    const Foreign foreign{lease.port, sibling && lease.key.requested == lease.port};
    const bool matters = foreign.asked_by_sibling || has(lease.port, ConnectKind::live) || has(lease.port, ConnectKind::sticky);
    if (!matters) { return forget(); }
    auto& known = m_foreign[lease.id];
    if (known == foreign) { return false; }
    known = foreign;
    return true;
}

bool ConnectView::reconsider(const Registry& registry, LeaseId id) {
    const auto* lease = registry.find(id);
    if (lease == nullptr) {
        const bool was_own = forget_own(id);
        return m_foreign.erase(id) > 0 || was_own;
    }
    // A lease may have been handed over to another project.
    if (lease->key.root == m_root) {
        const bool was_foreign = m_foreign.erase(id) > 0;
        return note_own(registry, *lease) || was_foreign;
    }
    const bool was_own = forget_own(id);
    return note_foreign(registry, *lease) || was_own;
}

bool ConnectView::has(Port port, ConnectKind kind) const {
    const auto known = m_numbers.find(port);
    return known != m_numbers.end() && known->second[kind == ConnectKind::live ? 0 : 1] > 0;
}

bool ConnectView::is_refused(const Foreign& foreign) const {
    if (has(foreign.port, ConnectKind::live)) { return false; }
    return foreign.asked_by_sibling || has(foreign.port, ConnectKind::sticky);
}

std::vector<ConnectRow> ConnectView::rows(std::size_t most) const {
    std::vector<ConnectRow> rows;
    auto next = m_ranks.begin();
    const auto add_own = [&](ConnectKind kind) {
        for (; next != m_ranks.end() && next->first.kind == kind && rows.size() < most; ++next) { rows.push_back(next->second->row); }
    };
    add_own(ConnectKind::live);
    std::set<Port> refused;
    for (const auto& [id, foreign] : m_foreign) {
        if (is_refused(foreign)) { refused.insert(foreign.port); }
    }
    for (const auto port : refused) {
        if (rows.size() < most) { rows.push_back({ConnectKind::refused, port, 0, std::nullopt, {}}); }
    }
    add_own(ConnectKind::sticky);
    return rows;
}

bool ConnectView::is_used() const { return !m_ranks.empty() && m_ranks.begin()->first.kind == ConnectKind::live; }

LeaseId ConnectView::refused_by(Port port) const {
    for (const auto& [id, foreign] : m_foreign) {
        if (foreign.port == port && is_refused(foreign)) { return id; }
    }
    return 0;
}

}  // namespace portwrap
