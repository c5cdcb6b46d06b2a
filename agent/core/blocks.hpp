// The preset `blocks`: every project has a block of ports of its own, so that two projects can never collide. Pure.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

/// Every block that there is: of config.block_size ports each, from 3000 upwards, none with a port of a system, exclusive or
/// shared range, or of the kernel's own.
[[nodiscard]] std::vector<PortInterval> all_blocks(const Config& config, const Facts& facts);

/// The project's block: the one that the config pins, the range `shared` for the project shared-services, the one that it
/// has, else the first that nobody has. Under other presets the one that it had, which serves nobody there.
[[nodiscard]] std::optional<PortInterval> block_for(const Registry& registry, const Config& config, const Project& project, const Facts& facts);

/// The other project in whose block a port lies; null when there is none, or under other presets.
[[nodiscard]] const Project* block_owner(const Registry& registry, const Config& config, const std::string& root, Port port);

/// The ranges that serve a request of a project, its block among them.
struct ServingRanges {
    std::shared_ptr<const Range> block;  ///< what one of `ranges` may point to
    std::vector<const Range*> ranges;    ///< in order; empty only when the query names a range that there is not
};
[[nodiscard]] ServingRanges serving_ranges(const Registry& registry, const Config& config, const Project& project, RangeQuery query,
                                           const Facts& facts);

}  // namespace portwrap
