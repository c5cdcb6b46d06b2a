// Where the connections of a project's programs go: which requested port leads to which assigned one, and which are
// refused because they are another project's. Pure: registry and events in, rows of the published table out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

enum class ConnectKind { live, sticky, refused };

/// One row of a project's table, the kinds in their order; those of kind live with the most recently active first.
struct ConnectRow {
    ConnectKind kind = ConnectKind::live;
    Port port = 0;    ///< asked for
    Port target = 0;  ///< assigned; 0 where refused
    std::optional<ProcessId> session;  ///< that has it, or was offered it
    std::string directory;             ///< absolute: of the package that has the lease; empty where nobody has it
    bool operator==(const ConnectRow&) const = default;
};

/// May siblings connect to this lease's service? As its .portwrap.json says, else for databases and caches.
[[nodiscard]] bool is_shared(const Lease& lease);

/// The table of one project, kept up to date lease by lease, so that a change elsewhere costs a look and no more.
class ConnectView {
public:
    ConnectView(const Registry& registry, const std::string& root);
    // m_ranks points into m_own, which a move takes along.
    ConnectView(ConnectView&&) noexcept = default;
    ConnectView& operator=(ConnectView&&) noexcept = default;
    ConnectView(const ConnectView&) = delete;
    ConnectView& operator=(const ConnectView&) = delete;
    ~ConnectView() = default;

    /// This lease has changed or is gone; the registry is as it is afterwards. True if the rows may have changed.
    [[nodiscard]] bool reconsider(const Registry& registry, LeaseId id);
    /// The first `most` of them: what is left out are the sticky ones that were used longest ago.
    [[nodiscard]] std::vector<ConnectRow> rows(std::size_t most = SIZE_MAX) const;

    /// Some program of the project has a port or is about to have it.
    [[nodiscard]] bool is_used() const;
    /// Whose port it is that a connect to `port` is refused; 0 when it is not.
    [[nodiscard]] LeaseId refused_by(Port port) const;

private:
    struct Own {
        ConnectRow row;
        Time used{};
        bool operator==(const Own&) const = default;
    };
    struct Foreign {
        Port port = 0;
        bool asked_by_sibling = false;  ///< a sibling asked for this very number
        bool operator==(const Foreign&) const = default;
    };
    /// In the order of the table; with the lease's id, so that it is the same each time.
    struct Rank {
        ConnectKind kind = ConnectKind::live;
        Time used{};
        LeaseId id = 0;
        bool operator<(const Rank& other) const {
            if (kind != other.kind) { return kind < other.kind; }
            return used != other.used ? used > other.used : id < other.id;
        }
    };
    static Rank rank_of(LeaseId id, const Own& own) { return {own.row.kind, own.used, id}; }
    void count(const Own& own, int step);
    bool note_own(const Registry& registry, const Lease& lease);
    bool forget_own(LeaseId id);
    bool note_foreign(const Registry& registry, const Lease& lease);
    [[nodiscard]] bool has(Port port, ConnectKind kind) const;
    [[nodiscard]] bool is_refused(const Foreign& foreign) const;

    std::string m_root;
    std::map<LeaseId, Own> m_own;
    std::map<Rank, const Own*> m_ranks;
    std::map<Port, std::array<int, 2>> m_numbers;  ///< asked for here: how many leases are live, how many sticky
    std::map<LeaseId, Foreign> m_foreign;  ///< listening or bound elsewhere, on a number that may mean something here
};

}  // namespace portwrap
