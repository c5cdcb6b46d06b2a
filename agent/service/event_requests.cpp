// The past and the stream of events: lease.history, lease.watch, lease.wait.
#include <algorithm>

#include "core/named_rules.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "service/requests.hpp"
#include "storage/event_codec.hpp"
#include "storage/history.hpp"

namespace portwrap {
namespace {

/// A listener outside of portwrap makes no event: its port is looked at so often, while somebody waits for it.
constexpr auto k_look_at_ports = std::chrono::milliseconds(500);

Json event_shape(const Registry& registry, std::uint64_t seq, Time at, std::string_view what, const Lease& lease) {
    return {{"seq", seq}, {"at", format_time(at)}, {"event", what}, {"lease", lease_shape(registry, lease)}};
}

}  // namespace

void Agent::lease_history(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    constexpr std::size_t k_max_bytes = 768 * 1024;  // of one reply
    Params params(request.params);
    const auto port = params.port("port");
    const auto service = params.text("service", 64);
    const auto since_s = params.number("since_s", UINT32_MAX);
    const auto limit = params.number("limit", k_history_page).value_or(k_history_page);
    const auto before = params.number("before", UINT64_MAX);
    const bool all = params.flag("all");
    if (port && service) { params.fail("port", "and \"service\" exclude each other"); }
    const auto answer = [this, request = request.without_params(), reply, port, service, since_s, limit, before](const std::optional<std::string>& root) {
        HistoryQuery query;
        query.limit = limit;
        query.before = before.value_or(UINT64_MAX);
        query.max_bytes = k_max_bytes;
        query.since = m_outside.now() - m_config.history;
        if (since_s) { query.since = std::max(query.since, m_outside.now() - std::chrono::seconds(*since_s)); }
        query.wanted = [root, port, service](const Lease& lease) {
            return (!root || lease.key.root == *root) && (!port || lease.port == *port) && (!service || lease.key.service == *service);
        };
        auto history = std::make_shared<History>();
        // Whoever asks again and again takes turns with the others.
        const auto owner = request.from ? std::to_string(request.from->peer.pid) : std::string();
        m_file_jobs.run(FileJobs::Lane::history, owner, [history, query, directory = m_options.state] { *history = read_history(system_files(), directory, query); },
                        [this, request, reply, history] {
                            const auto shape = [&](std::size_t index) {
                                const auto& event = history->events[index];
                                const auto& changed = std::get<LeaseEvent>(event.change);
                                return event_shape(m_registry, event.seq, event.at, word(changed.change), changed.lease);
                            };
                            auto result = ok_shape();
                            result["more"] = history->more;
                            reply({result_line(request.id, result, "events", history->events.size(), shape), false});
                        });
    };
    // Who had a number: whoever that was.
    if (all || (port && !params.has("project"))) {
        for (const auto* name : {"cwd", "project"}) { (void)params.text(name, 4096); }
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        return answer(std::nullopt);
    }
    with_project(request, params, reply, [answer](const Place& place) { answer(place.project.root); });
}

void Agent::lease_watch(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const bool all = params.flag("all");
    const auto begin = [this, exchange, request, reply](const std::optional<std::string>& root) {
        auto result = ok_shape();
        result["watching"] = true;
        m_streams[exchange.get()] = {exchange, reply, root};
        // The connection is this stream's from now on.
        reply({result_line(request.id, result), false, true});
    };
    if (request.notification) { return refuse(request, reply, {ErrorCode::invalid_request, "a stream needs an id", {}, {}}); }
    if (all) {
        (void)params.text("cwd", 4096);
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        return begin(std::nullopt);
    }
    with_project(request, params, reply, [begin](const Place& place) { begin(place.project.root); });
}

void Agent::lease_wait(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    constexpr std::uint64_t k_longest_ms = 7ULL * 24 * 3600 * 1000;
    Params params(request.params);
    Wait wait;
    wait.port = params.port("port");
    wait.service = params.text("service", 64);
    const auto timeout = params.number("timeout_ms", k_longest_ms).value_or(k_longest_ms);
    if (wait.port.has_value() == wait.service.has_value()) { params.fail("port", "or \"service\": exactly one of them is needed"); }
    with_project(request, params, reply, [this, exchange, request, reply, wait, timeout](const Place& place) mutable {
        wait.exchange = exchange;
        wait.id = request.id;  // all that is kept of it: it may take days
        wait.reply = reply;
        wait.root = place.project.root;
        refresh();
        if (answer_wait(wait, {}, false)) { return; }
        // Mostly nobody is there yet, which a try of the port tells for the price of no thread.
        const auto port = awaited(wait).port;
        const bool free = !port || (*port >= m_first_permitted && !is_port_in_use(*port, true, false));
        if (free && timeout == 0) { return void(answer_wait(wait, {}, true)); }
        const auto number = ++m_next_wait;
        if (timeout == 0) {
            wait.last_look = m_wait_looks + 1;
        } else {
            wait.cancel = m_outside.call_after(std::chrono::milliseconds(timeout), [this, number] {
                const auto known = m_waits.find(number);
                if (known == m_waits.end()) { return; }
                known->second.last_look = m_wait_looks + 1;
                look_for_waits();
            });
        }
        m_waits.emplace(number, std::move(wait));
        if (!free) { look_for_waits(); }
        mind_waits();
    });
}

Agent::Awaited Agent::awaited(const Wait& wait) const {
    Awaited found;
    if (wait.port) {
        found.lease = owner_of(m_registry, *wait.port);
        if (found.lease != nullptr && !found.lease->live()) { found.lease = nullptr; }
        found.port = wait.port;
    } else {
        Place place;
        place.project.root = wait.root;
        found.lease = current_lease(m_registry, place, wait.service, std::nullopt);
        if (found.lease != nullptr) { found.port = found.lease->port; }
    }
    return found;
}

bool Agent::answer_wait(const Wait& wait, const std::set<Port>& heard, bool at_last) {
    const auto found = awaited(wait);
    const bool listening = (found.lease != nullptr && found.lease->listening()) || (found.port && heard.contains(*found.port));
    if (!listening && !at_last) { return false; }
    auto result = ok_shape();
    result["listening"] = listening;
    result["port"] = found.port ? Json(*found.port) : Json(nullptr);
    result["lease"] = found.lease != nullptr ? lease_shape(m_registry, *found.lease) : Json(nullptr);
    const auto reply = wait.reply;  // it may end the connection, and with it the wait
    reply({result_line(wait.id, result), false});
    return true;
}

void Agent::mind_waits() {
    if (m_waits.empty() || std::exchange(m_minding_waits, true)) { return; }
    (void)m_outside.call_after(k_look_at_ports, [this] {
        m_minding_waits = false;
        if (m_waits.empty()) { return; }
        look_for_waits();
        mind_waits();
    });
}

void Agent::look_for_waits() {
    if (m_looking_for_waits) {
        m_look_for_waits_again = true;
        return;
    }
    m_looking_for_waits = true;
    ++m_wait_looks;
    auto heard = std::make_shared<std::set<Port>>();
    const auto look = [heard] {
        const auto listeners = list_listeners();
        for (const auto& listener : listeners ? *listeners : std::vector<Listener>{}) { heard->insert(listener.port); }
    };
    m_file_jobs.run(FileJobs::Lane::processes, {}, look, [this, heard] {
        m_looking_for_waits = false;
        answer_waits([](const Wait&) { return true; }, *heard, m_wait_looks);
        if (std::exchange(m_look_for_waits_again, false)) { look_for_waits(); }
    });
}

void Agent::answer_waits(const std::function<bool(const Wait&)>& concerns, const std::set<Port>& heard, std::uint64_t look) {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, wait] : m_waits) {
        if (concerns(wait)) { numbers.push_back(number); }
    }
    for (const auto number : numbers) {
        const auto known = m_waits.find(number);
        if (known == m_waits.end()) { continue; }
        const bool at_last = known->second.last_look && *known->second.last_look <= look;
        if (!answer_wait(known->second, heard, at_last)) { continue; }
        // The reply may have ended the connection, and with it the wait.
        auto node = m_waits.extract(number);
        if (!node.empty()) { node.mapped().cancel(); }
    }
}

void Agent::answer_waits_for(const std::vector<Event>& events) {
    std::set<Port> ports;
    std::set<std::string_view> roots;
    for (const auto& event : events) {
        if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
            ports.insert(changed->lease.port);
            roots.insert(changed->lease.key.root);
        }
    }
    if (ports.empty()) { return; }
    answer_waits([&](const Wait& wait) { return wait.port ? ports.contains(*wait.port) : roots.contains(wait.root); }, {}, 0);
}

void Agent::publish(const std::vector<Event>& events, const std::map<LeaseId, Lease>& forgotten) {
    if (!m_waits.empty()) { answer_waits_for(events); }
    for (const auto& event : events) {
        if (m_streams.empty()) { return; }
        const Lease* lease = nullptr;
        std::string_view what = "forgotten";
        if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
            lease = &changed->lease;
            what = word(changed->change);
        } else if (const auto* gone = std::get_if<LeaseForgotten>(&event.change)) {
            const auto known = forgotten.find(gone->id);
            if (known != forgotten.end()) { lease = &known->second; }
        }
        if (lease == nullptr) { continue; }
        const auto line = Json{{"jsonrpc", "2.0"}, {"method", "event"}, {"params", event_shape(m_registry, event.seq, event.at, what, *lease)}}.dump(
            -1, ' ', false, Json::error_handler_t::replace);
        // A copy: a reader that is too slow is dropped while it is written to.
        std::vector<ReplyTo> readers;
        for (const auto& [key, stream] : m_streams) {
            if (!stream.root || *stream.root == lease->key.root) { readers.push_back(stream.reply); }
        }
        for (const auto& reader : readers) { reader({line, false, true}); }
    }
}

void Agent::end_streams(const std::shared_ptr<Exchange>& exchange) {
    m_streams.erase(exchange.get());
    for (auto wait = m_waits.begin(); wait != m_waits.end();) {
        if (wait->second.exchange != exchange) {
            ++wait;
            continue;
        }
        wait->second.cancel();
        wait = m_waits.erase(wait);
    }
}

std::span<const Agent::Method> Agent::event_methods() {
    static constexpr Method k_methods[] = {{"lease.history", &Agent::lease_history}, {"lease.watch", &Agent::lease_watch}, {"lease.wait", &Agent::lease_wait}};
    return k_methods;
}

}  // namespace portwrap
