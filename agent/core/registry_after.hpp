// The registry as it will be after changes that are decided and not yet committed: for decisions in a row, of which each sees
// what the ones before it got.
#pragma once

#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

/// Where these changes leave a lease that is in them or in the registry.
[[nodiscard]] inline Port port_after(const Registry& registry, const std::vector<Change>& changes, LeaseId id) {
    for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
        const auto* event = std::get_if<LeaseEvent>(&*change);
        if (event != nullptr && event->lease.id == id) { return event->lease.port; }
    }
    return registry.find(id)->port;
}

class RegistryAfter {
public:
    /// `registry` must live as long.
    RegistryAfter(const Registry& registry, Time now) : m_original(registry), m_now(now) {}

    /// With all that was added so far. Most have one decision to make, and copy nothing; good until the next add().
    [[nodiscard]] const Registry& get() {
        if (m_changes.empty()) { return m_original; }
        if (!m_copy) { m_copy = m_original; }
        const std::vector<Change> news(m_changes.begin() + static_cast<std::ptrdiff_t>(m_applied), m_changes.end());
        for (const auto& event : m_copy->stamp(news, m_now)) { m_copy->apply(event); }
        m_applied = m_changes.size();
        return *m_copy;
    }

    void add(std::vector<Change> changes) {
        for (auto& change : changes) { m_changes.push_back(std::move(change)); }
    }

    /// All that was added, in its order. Nothing may be asked afterwards.
    [[nodiscard]] std::vector<Change> take_changes() { return std::move(m_changes); }

private:
    const Registry& m_original;
    Time m_now;
    std::optional<Registry> m_copy;
    std::vector<Change> m_changes;
    std::size_t m_applied = 0;  ///< how many of the changes m_copy has
};

}  // namespace portwrap
