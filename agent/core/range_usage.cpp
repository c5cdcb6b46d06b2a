#include "core/range_usage.hpp"

#include <algorithm>
#include <cmath>

namespace portwrap {
namespace {

constexpr std::size_t k_named_holders = 5;
/// A range that was nearly full is news again after it was no fuller than this, in per cent.
constexpr int k_calm = 70;

bool in_any_range(const std::vector<const Range*>& ranges, Port port) {
    return std::any_of(ranges.begin(), ranges.end(), [port](const Range* range) { return range->contains(port); });
}

std::string in_quotes(const std::string& name) { return "\"" + name + "\""; }

/// How many ports of the ranges would be nobody's if all that is over, by the config's terms, ended now.
int freed_by_cleanup(const Registry& registry, Config config, const std::vector<const Range*>& ranges, const Facts& facts) {
    config.auto_cleanup = true;
    std::set<Port> freed;
    for (const auto& change : decide_expiry(registry, config, facts).changes) {
        const auto* event = std::get_if<LeaseEvent>(&change);
        if (event == nullptr || event->lease.live()) { continue; }
        const auto* before = registry.find(event->lease.id);
        if (before != nullptr && before->live() && in_any_range(ranges, before->port)) { freed.insert(before->port); }
    }
    return static_cast<int>(freed.size());
}

}  // namespace

double utilization(int allocated, int total) { return total == 0 ? 0.0 : std::round(allocated * 1000.0 / total) / 10.0; }

RangeUsage usage_of(const Registry& registry, const Search& search, const Range& range) {
    RangeUsage usage;
    for (const auto& part : range.intervals) {
        for (int number = part.start; number <= part.end; ++number) {
            const auto port = static_cast<Port>(number);
            ++usage.total;
            bool leased = false;
            bool active = false;
            for (const auto* lease : registry.on_port(port)) {
                leased = leased || lease->live();
                active = active || lease->state == LeaseState::active;
            }
            usage.allocated += leased ? 1 : 0;
            usage.active += active ? 1 : 0;
            if (leased || range.kind == RangeKind::system || !search.is_free(port, &range)) { continue; }
            ++usage.available;
            if (!usage.gaps.empty() && usage.gaps.back().end == number - 1) {
                usage.gaps.back().end = port;
            } else {
                usage.gaps.push_back({port, port});
            }
        }
    }
    std::sort(usage.gaps.begin(), usage.gaps.end());
    return usage;
}

Refusal range_exhausted(const Registry& registry, const Config& config, const std::vector<const Range*>& ranges, const Facts& facts,
                        const Several& several) {
    Refusal refusal{ErrorCode::range_exhausted, {}, {}, {}};
    refusal.range = ranges.front()->name;
    Exhaustion exhausted;
    std::set<Port> ports;
    for (const auto* range : ranges) {
        exhausted.ranges.push_back(range->name);
        for (const auto& part : range->intervals) {
            for (int number = part.start; number <= part.end; ++number) { ports.insert(static_cast<Port>(number)); }
        }
    }
    exhausted.total = static_cast<int>(ports.size());
    std::map<std::string, std::set<Port>> by_project;
    std::set<Port> leased;
    for (const auto& [id, lease] : registry.leases()) {
        if (!lease.live() || !ports.contains(lease.port)) { continue; }
        by_project[lease.key.root].insert(lease.port);
        leased.insert(lease.port);
    }
    exhausted.allocated = static_cast<int>(leased.size());
    for (const auto& [root, held] : by_project) {
        const auto* project = registry.find_project(root);
        exhausted.holders.push_back({root, project != nullptr ? project->name : root, static_cast<int>(held.size())});
    }
    std::stable_sort(exhausted.holders.begin(), exhausted.holders.end(), [](const auto& a, const auto& b) { return a.ports > b.ports; });
    if (exhausted.holders.size() > k_named_holders) { exhausted.holders.resize(k_named_holders); }
    exhausted.cleanup_frees = freed_by_cleanup(registry, config, ranges, facts);

    std::string others;
    for (std::size_t i = 1; i < ranges.size(); ++i) { others += (i == 1 ? " " : ", ") + in_quotes(ranges[i]->name); }
    const bool all_taken = !several.in_a_row && several.found == 0;
    if (all_taken) {
        refusal.message = "every port of the range " + in_quotes(refusal.range) + " is taken" + (others.empty() ? "" : ", and of" + others);
    } else {
        const auto wanted = std::to_string(several.wanted);
        const auto free_ports = [](int count) { return std::to_string(count) + (count == 1 ? " free port" : " free ports"); };
        refusal.message = "the range " + in_quotes(refusal.range) + (others.empty() ? "" : " together with" + others) + " has " +
                          (several.in_a_row ? "no " + wanted + " free ports in a row" : free_ports(several.found) + " for this, and " + wanted + " were asked for");
    }
    if (!exhausted.holders.empty()) {
        const auto& most = exhausted.holders.front();
        refusal.message += "; project " + in_quotes(most.name) + " holds most: " + std::to_string(most.ports) + " of " + std::to_string(exhausted.total);
    } else if (all_taken) {
        refusal.message += "; none by a lease: portctl check PORT tells who has one";
    }
    if (exhausted.cleanup_frees > 0) { refusal.message += "; portctl cleanup would free " + std::to_string(exhausted.cleanup_frees); }
    refusal.exhausted = std::move(exhausted);
    return refusal;
}

RangeFill::RangeFill(const Config& config, const Registry& registry) {
    for (const auto& range : config.ranges) { m_levels.push_back({range, 0, false}); }
    std::vector<std::string> filled;
    for (const auto& [id, lease] : registry.leases()) {
        if (lease.live()) { see(id, lease.port, filled); }
    }
}

std::vector<std::string> RangeFill::on_event(const Event& event) {
    std::vector<std::string> filled;
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        see(changed->lease.id, changed->lease.live() ? changed->lease.port : Port{0}, filled);
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        see(forgotten->id, 0, filled);
    }
    return filled;
}

std::string RangeFill::warning(const std::string& range) const {
    for (const auto& level : m_levels) {
        const int total = level.range.size();
        if (level.range.name != range || !is_nearly_full(level.allocated, total)) { continue; }
        const auto tenths = std::lround(utilization(level.allocated, total) * 10.0);
        return "the range " + in_quotes(range) + " is " + std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " % full (" +
               std::to_string(level.allocated) + " of " + std::to_string(total) + " ports)";
    }
    return {};
}

void RangeFill::see(LeaseId id, Port port, std::vector<std::string>& filled) {
    const auto known = m_live.find(id);
    const Port before = known != m_live.end() ? known->second : Port{0};
    if (before == port) { return; }
    if (before != 0) {
        m_live.erase(known);
        if (--m_leases[before] == 0) {
            m_leases.erase(before);
            step(before, -1, filled);
        }
    }
    if (port != 0) {
        m_live.emplace(id, port);
        if (++m_leases[port] == 1) { step(port, 1, filled); }
    }
}

void RangeFill::step(Port port, int by, std::vector<std::string>& filled) {
    for (auto& level : m_levels) {
        if (!level.range.contains(port)) { continue; }
        level.allocated += by;
        const int total = level.range.size();
        if (!level.told && is_nearly_full(level.allocated, total)) {
            level.told = true;
            filled.push_back(level.range.name);
        } else if (level.allocated * 100 <= total * k_calm) {
            level.told = false;
        }
    }
}

}  // namespace portwrap
