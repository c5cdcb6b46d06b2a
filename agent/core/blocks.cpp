#include "core/blocks.hpp"

#include <algorithm>

namespace portwrap {
namespace {

constexpr int k_first_block = 3000;
constexpr int k_last_port = 65535;
constexpr const char* k_shared_project = "shared-services";

bool overlap(const PortInterval& a, const PortInterval& b) { return a.start <= b.end && b.start <= a.end; }

PortInterval block_at(const Config& config, int start) {
    return {static_cast<Port>(start), static_cast<Port>(std::min(start + config.block_size - 1, k_last_port))};
}

bool is_kept_clear(const Config& config, const PortInterval& block, const Facts& facts) {
    if (overlap(block, facts.ephemeral)) { return true; }
    return std::any_of(config.ranges.begin(), config.ranges.end(), [&](const Range& range) {
        const bool apart = range.exclusive || range.kind == RangeKind::system || range.kind == RangeKind::project;
        return apart && std::any_of(range.intervals.begin(), range.intervals.end(), [&](const PortInterval& part) { return overlap(block, part); });
    });
}

}  // namespace

std::vector<PortInterval> all_blocks(const Config& config, const Facts& facts) {
    std::vector<PortInterval> blocks;
    for (int start = k_first_block; start + config.block_size - 1 <= k_last_port; start += config.block_size) {
        const auto block = block_at(config, start);
        if (!is_kept_clear(config, block, facts)) { blocks.push_back(block); }
    }
    return blocks;
}

std::optional<PortInterval> block_for(const Registry& registry, const Config& config, const Project& project, const Facts& facts) {
    const auto* known = registry.find_project(project.root);
    if (config.preset != Preset::blocks) { return known != nullptr ? known->block : std::nullopt; }
    // Those that others have are few, however many projects there are.
    std::vector<PortInterval> others;
    for (const auto& [root, other] : registry.projects()) {
        if (other.block && root != project.root) { others.push_back(*other.block); }
    }
    const auto is_anothers = [&](const PortInterval& block) {
        return std::any_of(others.begin(), others.end(), [&](const PortInterval& other) { return overlap(block, other); });
    };
    // Worktrees share a name: the first has what the name was promised.
    if (const auto pinned = config.pinned_blocks.find(project.name); pinned != config.pinned_blocks.end()) {
        if (const auto block = block_at(config, pinned->second); !is_anothers(block)) { return block; }
    }
    if (project.name == k_shared_project) {
        const auto* shared = find_range(config, "shared");
        if (shared != nullptr && !shared->intervals.empty() && !is_anothers(shared->intervals.front())) { return shared->intervals.front(); }
    }
    const auto is_taken = [&](const PortInterval& block) {
        const auto is_pinned = [&](const auto& pin) { return overlap(block, block_at(config, pin.second)); };
        return is_anothers(block) || std::any_of(config.pinned_blocks.begin(), config.pinned_blocks.end(), is_pinned);
    };
    if (known != nullptr && known->block && !is_taken(*known->block) && !is_kept_clear(config, *known->block, facts)) { return known->block; }
    for (const auto& block : all_blocks(config, facts)) {
        if (!is_taken(block)) { return block; }
    }
    return std::nullopt;
}

const Project* block_owner(const Registry& registry, const Config& config, const std::string& root, Port port) {
    if (config.preset != Preset::blocks) { return nullptr; }
    for (const auto& [other, project] : registry.projects()) {
        if (project.block && project.block->contains(port) && other != root) { return &project; }
    }
    return nullptr;
}

ServingRanges serving_ranges(const Registry& registry, const Config& config, const Project& project, RangeQuery query, const Facts& facts) {
    ServingRanges serving;
    if (config.preset == Preset::blocks) {
        if (const auto block = block_for(registry, config, project, facts)) {
            serving.block = std::make_shared<const Range>(Range{"block", RangeKind::project, {*block}, false, "", "the project's own block"});
        }
    }
    query.block = serving.block.get();
    serving.ranges = ranges_that_serve(config, query);
    return serving;
}

}  // namespace portwrap
