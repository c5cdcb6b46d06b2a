// Questions about ranges: range.*. And the warnings about those that are nearly full.
#include <algorithm>

#include "core/blocks.hpp"
#include "core/named_rules.hpp"
#include "service/agent.hpp"

namespace portwrap {
namespace {

Json intervals_shape(const std::vector<PortInterval>& intervals) {
    auto shape = Json::array();
    for (const auto& part : intervals) { shape.push_back({{"start", part.start}, {"end", part.end}}); }
    return shape;
}

struct View {
    const Registry& registry;
    const Config& config;
    const Place& place;
    const Facts& facts;

    [[nodiscard]] Search search() const {
        return Search(registry, config, facts, place, {place.project.root, "", Protocol::tcp, std::nullopt, 0});
    }
    [[nodiscard]] RangeQuery query() const {
        RangeQuery query;
        query.type = place.config.type.value_or(place.type);
        return query;
    }
};

/// The first available port that nobody has even without listening (UDP, a socket that is only bound), else a claimed one.
Port next_of(const View& view, const Range& range, const RangeUsage& usage) {
    if (range.kind == RangeKind::system) { return 0; }
    for (const auto& gap : usage.gaps) {
        for (int number = gap.start; number <= gap.end; ++number) {
            if (!is_port_in_use(static_cast<Port>(number), true, true)) { return static_cast<Port>(number); }
        }
    }
    return view.search().run({&range}).first;
}

Json range_shape(const View& view, const Range& range, const RangeUsage& usage) {
    // In the order of choice; as one stretch from the lowest to the highest.
    const auto [lowest, highest] = std::minmax_element(range.intervals.begin(), range.intervals.end());
    const auto next = next_of(view, range, usage);
    return {{"name", range.name},
            {"kind", word(range.kind)},
            {"description", range.description},
            {"start", range.intervals.empty() ? Json(nullptr) : Json(lowest->start)},
            {"end", range.intervals.empty() ? Json(nullptr) : Json(highest->end)},
            {"intervals", intervals_shape(range.intervals)},
            {"exclusive", range.exclusive},
            {"fallback", range.fallback.empty() ? Json(nullptr) : Json(range.fallback)},
            {"total", usage.total},
            {"allocated", usage.allocated},
            {"active", usage.active},
            {"available", usage.available},
            {"utilization", utilization(usage.allocated, usage.total)},
            {"nearly_full", is_nearly_full(usage.allocated, usage.total)},
            {"next", next == 0 ? Json(nullptr) : Json(next)}};
}

}  // namespace

/// All who ask for ranges are one owner in their lane: however many they are, the looks of others have a thread.
void Agent::with_wide_facts(std::function<void(const Facts&)> then) {
    auto listening = std::make_shared<std::set<Port>>();
    m_file_jobs.run(
        FileJobs::Lane::processes, "ranges",
        [listening] {
            if (const auto listeners = list_listeners()) {
                for (const auto& listener : *listeners) { listening->insert(listener.port); }
            }
        },
        [this, listening, then = std::move(then)] {
            auto wide = facts();
            wide.in_use = [listening](Port port, bool, bool) { return listening->contains(port); };
            then(wide);
        });
}

void Agent::range_list(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const bool gaps = params.flag("gaps");
    with_project(request, params, reply, [this, request = request.without_params(), reply, gaps](const Place& asked) {
        refresh();
        with_wide_facts([this, request, reply, gaps, kept = kept_place(asked)](const Facts& wide) {
            const auto place = kept.whole();
            const auto& config = m_config;
            const View view{m_registry, config, place, wide};
            const auto search = view.search();
            auto result = ok_shape();
            result["ranges"] = Json::array();
            for (const auto& range : config.ranges) {
                const auto usage = usage_of(m_registry, search, range);
                auto shape = range_shape(view, range, usage);
                if (gaps) { shape["gaps"] = intervals_shape(usage.gaps); }
                result["ranges"].push_back(std::move(shape));
            }
            reply({result_line(request.id, result), false});
        });
    });
}

void Agent::range_next(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto name = params.text("range", 64);
    with_project(request, params, reply, [this, request, reply, name](const Place& place) {
        refresh();
        const auto& config = m_config;
        const auto now = facts();
        const View view{m_registry, config, place, now};
        auto query = view.query();
        query.range = name;
        const auto serving = serving_ranges(m_registry, config, place.project, query, now);
        const auto& ranges = serving.ranges;
        if (ranges.empty()) {
            auto refusal = unknown_range(name.value_or(""));
            refusal.message += " (portctl ranges lists them)";
            return refuse(request, reply, refusal);
        }
        if (ranges.front()->kind == RangeKind::system) {
            Refusal refusal{ErrorCode::system_reserved, "the range \"" + ranges.front()->name + "\" is reserved for portwrap's own services", {}, {}};
            refusal.range = ranges.front()->name;
            return refuse(request, reply, refusal);
        }
        const auto [port, from] = view.search().run(ranges);
        if (port == 0) { return refuse(request, reply, range_exhausted(m_registry, config, ranges, now)); }
        auto result = ok_shape();
        result["range"] = from->name;
        result["port"] = port;
        reply({result_line(request.id, result), false});
    });
}

void Agent::range_summary(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    with_project(request, params, reply, [this, request = request.without_params(), reply](const Place& asked) {
        refresh();
        with_wide_facts([this, request, reply, kept = kept_place(asked)](const Facts& wide) {
            const auto place = kept.whole();
            const auto& config = m_config;
            const View view{m_registry, config, place, wide};
            const auto serving = serving_ranges(m_registry, config, place.project, view.query(), wide);
            const auto& ranges = serving.ranges;
            const auto& range = *ranges.front();
            const auto usage = usage_of(m_registry, view.search(), range);
            std::set<Port> own;
            std::set<Port> active;
            std::set<Port> elsewhere;
            for (const auto* lease : m_registry.of_project(place.project.root)) {
                if (!lease->live()) { continue; }
                if (!range.contains(lease->port)) {
                    elsewhere.insert(lease->port);
                    continue;
                }
                own.insert(lease->port);
                if (lease->state == LeaseState::active) { active.insert(lease->port); }
            }
            const auto& project = place.project;
            auto result = ok_shape();
            result["project"] = {{"name", project.name},
                                 {"root", project.root},
                                 {"branch", project.branch ? Json(*project.branch) : Json(nullptr)},
                                 {"worktree_of", project.worktree_of ? Json(*project.worktree_of) : Json(nullptr)}};
            result["range"] = range_shape(view, range, usage);
            result["total"] = usage.total;
            result["allocated"] = own.size();
            result["active"] = active.size();
            result["available"] = usage.available;
            result["utilization"] = utilization(static_cast<int>(own.size()), usage.total);
            result["elsewhere"] = elsewhere.size();
            reply({result_line(request.id, result), false});
        });
    });
}

void Agent::watch_ranges() {
    m_range_fill = RangeFill(m_config, m_registry);
    watch([this](const Event& event, const Registry&) {
        for (const auto& range : m_range_fill.on_event(event)) {
            m_options.log_trouble(m_range_fill.warning(range) + "; portctl ranges tells more");
        }
    });
}

std::span<const Agent::Method> Agent::range_methods() {
    static constexpr Method k_methods[] = {
        {"range.list", &Agent::range_list}, {"range.next", &Agent::range_next}, {"range.summary", &Agent::range_summary}};
    return k_methods;
}

}  // namespace portwrap
