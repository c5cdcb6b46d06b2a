// Of how many projects that have nothing it is remembered that they were seen: anybody can name ever new directories. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

/// Follows the events. A project is unused when it has no lease, not even a remembered one, no session and no block of its own.
class ProjectMemory {
public:
    /// About how much memory the unused ones may take: some thousand of usual ones.
    static constexpr std::size_t k_most_bytes = 1024 * 1024;

    void start(const Registry& registry);
    /// After it was applied.
    void on_event(const Event& event);
    /// Forgets the unused ones that were seen or had a session longest ago, where they are too many, and then some: each time that
    /// there may be too many, all projects are looked through.
    [[nodiscard]] std::vector<Change> surplus(const Registry& registry);

    /// What all projects take.
    [[nodiscard]] std::size_t bytes() const { return m_bytes; }
    /// What one takes more once this is known of it.
    [[nodiscard]] std::size_t more_for(const Project& project) const;
    [[nodiscard]] static std::size_t bytes_of(const Project& project);

private:
    struct Known {
        std::uint64_t used = 0;  ///< rises with each use
        std::size_t bytes = 0;
    };
    void note(const Project& project);

    std::map<std::string, Known> m_known;  ///< by root
    std::uint64_t m_uses = 0;
    std::size_t m_bytes = 0;                    ///< of all projects
    std::size_t m_allowed = k_most_bytes;       ///< with what those took that were in use at the last look
};

}  // namespace portwrap
