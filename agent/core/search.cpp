#include "core/search.hpp"

#include <algorithm>
#include <numeric>

#include "core/blocks.hpp"

namespace portwrap {

bool is_sibling(const Project& a, const Project& b) {
    if (a.root == b.root) { return false; }
    return (!a.family.empty() && a.family == b.family) || (!a.root_commit.empty() && a.root_commit == b.root_commit);
}

std::set<Port> numbers_asked_for(const Registry& registry, const Place& place) {
    std::set<Port> numbers;
    for (const auto& service : place.config.services) {
        if (service.port) { numbers.insert(*service.port); }
    }
    const auto add = [&](const std::string& root) {
        for (const auto& [port, leases] : registry.requested_in(root)) { numbers.insert(port); }
    };
    add(place.project.root);
    for (const auto* sibling : registry.relatives_of(place.project)) { add(sibling->root); }
    return numbers;
}

bool in_any(const std::vector<PortInterval>& intervals, Port port) {
    return std::any_of(intervals.begin(), intervals.end(), [port](const auto& part) { return part.contains(port); });
}

namespace {

/// Every number below a count once: first, first + stride, ... round it.
struct Order {
    std::uint64_t stride = 1;
    std::uint64_t first = 0;
};

Order random_order(int count, std::uint64_t random) {
    const auto size = static_cast<std::uint64_t>(std::max(count, 1));
    Order order{1 + random % size, (random >> 20U) % size};
    while (std::gcd(order.stride, size) != 1) { ++order.stride; }
    return order;
}

/// The live one of those that are meant, else the one that claims the port.
template <typename IsMeant>
const Lease* owner_among(const Registry& registry, Port port, const IsMeant& is_meant) {
    const Lease* claim = nullptr;
    for (const auto* lease : registry.on_port(port)) {
        if (!is_meant(*lease)) { continue; }
        if (lease->live()) { return lease; }
        if (lease->claimed) { claim = lease; }
    }
    return claim;
}

}  // namespace

std::pair<Port, const Range*> Search::run(const std::vector<const Range*>& ranges) const {
    struct Claimed {
        Time used;
        Port port;
        const Range* range;
    };
    std::vector<Claimed> claimed;
    for (const auto* range : ranges) {
        for (const auto& part : range->intervals) {
            const int half = m_upper_half ? part.size() / 2 : 0;
            const int count = part.size() - half;
            const Order order = m_upper_half                                    ? Order{1, m_facts.rotation % static_cast<unsigned>(std::max(count, 1))}
                                : m_config.strategy == Strategy::random ? random_order(count, m_facts.random)
                                                                        : Order{};
            for (int i = 0; i < count; ++i) {
                const auto step = (static_cast<std::uint64_t>(i) * order.stride + order.first) % static_cast<std::uint64_t>(count);
                const auto port = static_cast<Port>(static_cast<std::uint64_t>(part.start + half) + step);
                if (m_registry.is_live(port) || !may_choose(port, range)) { continue; }
                const Lease* owner = owner_of(m_registry, port);
                if (owner != nullptr && owner->key != m_key) {
                    claimed.push_back({owner->last_used(), port, range});
                    continue;
                }
                if (m_facts.in_use(port, true, true)) { continue; }
                return {port, range};
            }
        }
    }
    // Only now the claims of others, the oldest first.
    std::stable_sort(claimed.begin(), claimed.end(), [](const Claimed& a, const Claimed& b) { return a.used < b.used; });
    for (const auto& candidate : claimed) {
        if (!m_facts.in_use(candidate.port, true, true)) { return {candidate.port, candidate.range}; }
    }
    return {0, nullptr};
}

std::pair<Port, const Range*> Search::run_block(const std::vector<const Range*>& ranges, int count) const {
    for (const auto* range : ranges) {
        for (const auto& part : range->intervals) {
            int length = 0;
            for (int number = part.start; number <= part.end; ++number) {
                const auto port = static_cast<Port>(number);
                length = is_free(port, range) ? length + 1 : 0;
                if (length == count) { return {static_cast<Port>(number - count + 1), range}; }
            }
        }
    }
    return {0, nullptr};
}

bool Search::is_free(Port port, const Range* range) const {
    return !m_registry.is_live(port) && may_choose(port, range) && owner_of(m_registry, port) == nullptr && !m_facts.in_use(port, true, true);
}

bool Search::may_choose(Port port, const Range* range) const {
    if (port < 1024 || is_bad_port(port) || is_reserved_port(m_config, port)) { return false; }
    if (is_system_port(m_config, port)) { return false; }
    if (m_facts.ephemeral.contains(port) || in_any(m_facts.kernel_reserved, port)) { return false; }
    if (m_asked.contains(port) && m_key.requested != port) { return false; }
    if (block_owner(m_registry, m_config, m_key.root, port) != nullptr) { return false; }
    if (m_refused != nullptr && m_refused->contains(port)) { return false; }
    if (const auto it = m_facts.dropped.find(port); it != m_facts.dropped.end() && it->second != m_asker) { return false; }
    return std::none_of(m_config.ranges.begin(), m_config.ranges.end(),
                        [&](const Range& other) { return other.exclusive && &other != range && other.contains(port); });
}

std::string range_name_at(const Config& config, Port port, const std::vector<const Range*>& preferred) {
    for (const auto* range : preferred) {
        if (range->contains(port)) { return range->name; }
    }
    for (const auto& range : config.ranges) {
        if (range.kind == RangeKind::type && range.contains(port)) { return range.name; }
    }
    return {};
}

bool is_open_to(const Registry& registry, const LeaseKey& key, Port port) {
    const auto* owner = owner_of(registry, port, key);
    return owner == nullptr || owner->key == key;
}

const Lease* owner_of(const Registry& registry, Port port) {
    return owner_among(registry, port, [](const Lease&) { return true; });
}

const Lease* owner_of(const Registry& registry, Port port, const LeaseKey& asker) {
    const auto* owner = owner_of(registry, port);
    if (owner == nullptr || owner->key.root != asker.root || owner->key.protocol == asker.protocol) { return owner; }
    const auto* own = owner_among(registry, port, [&](const Lease& lease) { return lease.key.root == asker.root && lease.key.protocol == asker.protocol; });
    return own != nullptr ? own : owner;
}

std::vector<Port> suggest_ports(const Registry& registry, const Config& config, const std::string& root, Port port, std::size_t count,
                                const Facts& facts, const Range* within) {
    std::vector<Port> found;
    const auto in_foreign_exclusive = [&](Port candidate) {
        return std::any_of(config.ranges.begin(), config.ranges.end(), [&](const Range& range) {
            return range.exclusive && &range != within && range.contains(candidate) && !range.contains(port);
        });
    };
    const auto consider = [&](int candidate) {
        if (found.size() >= count || candidate < 1024 || candidate > 65535 || candidate == port) { return; }
        const auto number = static_cast<Port>(candidate);
        if (within != nullptr && !within->contains(number)) { return; }
        const auto* owner = owner_of(registry, number);
        const bool own_claim = owner != nullptr && !owner->live() && owner->key.root == root;
        if ((owner != nullptr && !own_claim) || is_bad_port(number) || is_system_port(config, number) || is_reserved_port(config, number) ||
            in_foreign_exclusive(number) || facts.ephemeral.contains(number) || in_any(facts.kernel_reserved, number)) {
            return;
        }
        if (std::find(found.begin(), found.end(), number) != found.end() || facts.in_use(number, true, true)) { return; }
        found.push_back(number);
    };
    for (const auto* lease : registry.of_project(root)) {
        if (!lease->live()) { consider(lease->port); }
    }
    for (int step = 1; step <= 200; ++step) { consider(port + step); }
    for (int step = 10; step <= 1000; step *= 10) { consider(port + step); }
    if (within == nullptr) { return found; }
    // Out of the range: the same ending in it (3080 for 8080), then its first free ones.
    for (const int modulus : {1000, 100, 10}) {
        for (const auto& part : within->intervals) {
            for (int candidate = part.start - part.start % modulus + port % modulus; candidate <= part.end && found.size() < count; candidate += modulus) { consider(candidate); }
        }
    }
    for (const auto& part : within->intervals) {
        for (int candidate = part.start; candidate <= part.end && found.size() < count; ++candidate) { consider(candidate); }
    }
    return found;
}

}  // namespace portwrap
