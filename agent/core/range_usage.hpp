// How full the ranges are: for one project's view of a range, for those who are refused because of it, and, kept as the
// registry changes, for warnings. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/policy.hpp"
#include "core/search.hpp"

namespace portwrap {

/// A range that is fuller than this, in per cent, is worth a warning.
inline constexpr int k_nearly_full = 80;
[[nodiscard]] constexpr bool is_nearly_full(int allocated, int total) { return allocated * 100 > total * k_nearly_full; }
/// In per cent, to one decimal; 0 for an empty range.
[[nodiscard]] double utilization(int allocated, int total);

/// A range as a project sees it. Ports, not leases, are counted: one that is used with both protocols counts once.
struct RangeUsage {
    int total = 0;
    int allocated = 0;  ///< with a live lease, whoever has it
    int active = 0;     ///< of these: somebody listens
    int available = 0;  ///< could be given to the project automatically now, without taking anybody's claim
    std::vector<PortInterval> gaps;  ///< what is available, as stretches, lowest first
};
/// `search` knows who asks. Nothing of a system range is available to anybody.
[[nodiscard]] RangeUsage usage_of(const Registry& registry, const Search& search, const Range& range);

/// Several ports that were asked for at once.
struct Several {
    int wanted = 1;
    int found = 0;        ///< that could have been had
    bool in_a_row = false;  ///< one stretch of them, or nothing
};
/// RANGE_EXHAUSTED for a request that these ranges should have served: with who holds most of them and how many of their
/// ports a cleanup would free.
[[nodiscard]] Refusal range_exhausted(const Registry& registry, const Config& config, const std::vector<const Range*>& ranges,
                                      const Facts& facts, const Several& several = {});

/// Counts the leased ports of every range, one event at a time, so that nobody has to count at each lease.
class RangeFill {
public:
    RangeFill() = default;
    RangeFill(const Config& config, const Registry& registry);

    /// An event that was applied. The ranges that are nearly full from now on; each is told again only after it has had
    /// some air: a lease that comes and goes at the limit is no news.
    std::vector<std::string> on_event(const Event& event);
    /// "the range "node" is 85.0 % full (850 of 1000 ports)"; empty while there is nothing to say, or no such range.
    [[nodiscard]] std::string warning(const std::string& range) const;

private:
    struct Level {
        Range range;
        int allocated = 0;
        bool told = false;
    };
    void see(LeaseId id, Port port, std::vector<std::string>& filled);  ///< port 0: it is over
    void step(Port port, int by, std::vector<std::string>& filled);

    std::vector<Level> m_levels;
    std::unordered_map<LeaseId, Port> m_live;
    std::unordered_map<Port, int> m_leases;  ///< live ones by port
};

}  // namespace portwrap
