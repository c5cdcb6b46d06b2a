// The requests of the shim: shim.bind, shim.failed, shim.bound, shim.listening.
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "service/requests.hpp"

namespace portwrap {

namespace {
std::string bind_reply(const Json& id, LeaseId lease, Port port) { return result_line(id, {{"lease", lease}, {"port", port}}); }

void check_family(Params& params) {
    const auto family = params.number("family", 255).value_or(2);
    if (family != 2 && family != 10) { params.fail("family", "is not AF_INET (2) or AF_INET6 (10)"); }
}

ProcessId session_hint(const std::vector<std::uint64_t>& numbers) {
    return numbers[0] > 0 && numbers[0] <= INT32_MAX ? ProcessId{static_cast<std::int32_t>(numbers[0]), numbers[1]} : ProcessId{};
}
}  // namespace

void Agent::shim_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    for (const auto* name : {"port", "family", "scope", "protocol", "cookie"}) { params.require(name); }
    const auto port = static_cast<Port>(params.number("port", 65535).value_or(0));
    check_family(params);
    (void)params.number("scope", 2);
    const auto protocol = params.number("protocol", 65535).value_or(6);
    if (protocol != 6 && protocol != 17 && protocol != 262) { params.fail("protocol", "is not TCP (6), UDP (17) or MPTCP (262)"); }
    (void)params.number("reuseport", 1);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }

    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply({bind_reply(request.id, 0, port), false}); }
    exchange->bind = {port, protocol == 17 ? Protocol::udp : Protocol::tcp, cookie, {}};
    with_caller(exchange, hint, [this, exchange, request, reply, port](const Caller* caller) {
        if (caller == nullptr) { return reply({bind_reply(request.id, 0, port), false}); }
        answer_bind(exchange, request, reply);
    });
}

void Agent::answer_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    if (exchange->closed) { return reply({}); }  // it hung up before this was decided: nothing was granted
    refresh();
    const auto before = exchange->lease;
    auto decision = decide_bind(m_registry, m_options.config, *exchange->caller, exchange->bind, facts());
    if (exchange->bind.port == 0) { ++m_rotation; }
    if (!decision.changes.empty()) { see_project(exchange->caller->place.project, decision.changes); }
    const auto& answer = decision.answer;
    exchange->lease = answer.lease;
    if (answer.lease != 0 && answer.move.reason != MoveReason::none) { m_moves[answer.lease] = answer.move; }
    (void)commit(std::move(decision.changes));
    // Refused by the kernel, and another one granted: the first is nobody's again.
    if (before != 0 && before != answer.lease) { (void)commit(decide_unbound(m_registry, m_options.config, before, true, facts())); }
    reply({bind_reply(request.id, answer.lease, answer.port), false});
}

void Agent::shim_failed(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    for (const auto* name : {"lease", "port", "errno"}) { params.require(name); }
    (void)params.number("lease", UINT64_MAX);
    const auto port = params.port("port");
    const auto code = params.number("errno", 4096);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    if (!exchange->caller) { return refuse(request, reply, {ErrorCode::invalid_request, "shim.failed without shim.bind", {}, {}}); }
    exchange->bind.refused[*port] = static_cast<int>(*code);
    answer_bind(exchange, request, reply);
}

void Agent::shim_bound(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    for (const auto* name : {"lease", "port", "cookie"}) { params.require(name); }
    const auto lease = params.number("lease", UINT64_MAX).value_or(0);
    const auto port = params.port("port").value_or(0);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    // Only what this very exchange was granted can be confirmed in it.
    if (params.finish().empty() && exchange->caller && lease != 0 && lease == exchange->lease) {
        exchange->lease = 0;
        (void)commit(decide_bound(m_registry, *exchange->caller, lease, port, cookie, facts()));
        if (m_destroyed_set.contains(cookie)) { on_sockets_destroyed({{{cookie, port}}, false}); }
    }
    reply({result_line(request.id, Json::object()), true});
}

void Agent::shim_listening(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    for (const auto* name : {"port", "errno", "cookie"}) { params.require(name); }
    const auto port = params.port("port").value_or(0);
    const auto code = params.number("errno", 4096).value_or(0);
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    check_family(params);
    (void)params.number("scope", 2);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    const auto error_file = params.numbers("stderr", 2);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto answer = [request](const std::string& notice) { return Reply{result_line(request.id, {{"notice", notice}}), true}; };
    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply(answer("")); }
    with_caller(exchange, hint, [this, reply, port, code, cookie, error_file, answer](const Caller* known_caller) {
        if (known_caller == nullptr) { return reply(answer("")); }
        const auto& caller = *known_caller;
        if (code != 0) {
            m_options.log("listen failed port=" + std::to_string(port) + " errno=" + std::to_string(code) + " pid=" +
                          std::to_string(caller.holder.process.pid));
            return reply(answer(""));
        }
        auto decision = decide_listening(m_registry, m_options.config, caller, port, cookie, facts());
        if (!decision.changes.empty()) { see_project(caller.place.project, decision.changes); }
        (void)commit(std::move(decision.changes));
        if (m_destroyed_set.contains(cookie)) { on_sockets_destroyed({{{cookie, port}}, false}); }
        const auto* lease = m_registry.find(decision.answer);
        std::string notice;
        const bool moved = lease != nullptr && lease->key.requested.value_or(0) != 0 && *lease->key.requested != lease->port;
        const bool same_file = caller.scope && caller.scope->stderr_inode == error_file[1] && caller.scope->stderr_device == error_file[0];
        if (moved && same_file && !caller.scope->quiet && m_noticed.emplace(caller.session, lease->id).second) {
            const auto known = m_moves.find(lease->id);
            notice = moved_notice(m_registry, *lease, known != m_moves.end() ? known->second : Move{}, m_outside.now());
        }
        reply(answer(notice));
    });
}

std::span<const Agent::Method> Agent::shim_methods() {
    static constexpr Method k_methods[] = {{"shim.bind", &Agent::shim_bind},
                                           {"shim.bound", &Agent::shim_bound},
                                           {"shim.listening", &Agent::shim_listening},
                                           {"shim.failed", &Agent::shim_failed}};
    return k_methods;
}

}  // namespace portwrap
