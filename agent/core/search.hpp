// Choosing a port: what must be known of the asker, and the search through the ranges that serve it. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/policy.hpp"

namespace portwrap {

/// "P never means two things inside a project": the numbers that it, its siblings or its config ask for.
[[nodiscard]] std::set<Port> numbers_asked_for(const Registry& registry, const Place& place);

[[nodiscard]] bool in_any(const std::vector<PortInterval>& intervals, Port port);

/// Another worktree, clone or copy of the same thing; a project is not its own sibling.
[[nodiscard]] bool is_sibling(const Project& a, const Project& b);

/// The range's name that is recorded for a port: the first of `preferred` that contains it, else a type's; "" outside of all.
[[nodiscard]] std::string range_name_at(const Config& config, Port port, const std::vector<const Range*>& preferred);

/// A port that a program may have without moving anybody: nobody's lease or claim but (perhaps) the key's own.
[[nodiscard]] bool is_open_to(const Registry& registry, const LeaseKey& key, Port port);

/// One search for a free port: everything that must be known of the asker, gathered once.
class Search {
public:
    Search(const Registry& registry, const Config& config, const Facts& facts, const Place& place, const LeaseKey& key)
        : m_registry(registry), m_config(config), m_facts(facts), m_key(key), m_asked(numbers_asked_for(registry, place)) {}

    /// Ports that the kernel refused in this exchange.
    void exclude(const std::map<Port, int>& refused) { m_refused = &refused; }
    void set_asker(ProcessId asker) { m_asker = asker; }
    /// Only the upper half, going round: for further listeners on port 0.
    void use_upper_half() { m_upper_half = true; }

    /// The port and the range that it comes from; 0 when all are full.
    [[nodiscard]] std::pair<Port, const Range*> run(const std::vector<const Range*>& ranges) const;
    /// The first of `count` neighbours that nobody has or claims; 0 when there are none.
    [[nodiscard]] std::pair<Port, const Range*> run_block(const std::vector<const Range*>& ranges, int count) const;
    /// Could this port of the range be chosen, without taking anybody's claim?
    [[nodiscard]] bool is_free(Port port, const Range* range) const;

private:
    [[nodiscard]] bool may_choose(Port port, const Range* range) const;

    const Registry& m_registry;
    const Config& m_config;
    const Facts& m_facts;
    LeaseKey m_key;
    std::set<Port> m_asked;
    const std::map<Port, int>* m_refused = nullptr;
    ProcessId m_asker;
    bool m_upper_half = false;
};

}  // namespace portwrap
