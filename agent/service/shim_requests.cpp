// The requests of the shim: shim.bind, shim.failed, shim.bound, shim.listening.
#include "core/lease_steps.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "service/requests.hpp"
#include "system/listeners.hpp"
#include "system/processes.hpp"

namespace portwrap {

namespace {
std::string bind_reply(const Json& id, LeaseId lease, Port port, bool shows_requested = false) {
    Json result{{"lease", lease}, {"port", port}};
    if (shows_requested) { result["requested"] = 1; }
    return result_line(id, result);
}

/// A notice goes to the session's own descriptor 2 alone: a server may have reused the number.
bool may_be_told(const Caller& caller, const std::vector<std::uint64_t>& error_file) {
    return caller.scope && !caller.scope->quiet && caller.scope->stderr_device == error_file[0] && caller.scope->stderr_inode == error_file[1];
}

/// Does the program compare the port that it got with the one that it asked for, and die of the difference? A service
/// can say so; the primary of a node cluster has workers when it binds for them.
bool must_see_requested(const Caller& caller, const Lease& lease) {
    if (const auto service = configured(*caller.place, lease.key.service); service && service->sockname_requested) { return true; }
    return caller.executable.starts_with("node") && has_child_with_variable(caller.holder.process.pid, "NODE_UNIQUE_ID");
}

void check_family(Params& params) {
    const auto family = params.number("family", 255).value_or(2);
    if (family != 2 && family != 10) { params.fail("family", "is not AF_INET (2) or AF_INET6 (10)"); }
}

Protocol read_protocol(Params& params) {
    const auto number = params.number("protocol", 65535).value_or(6);
    if (number != 6 && number != 17 && number != 262) { params.fail("protocol", "is not TCP (6), UDP (17) or MPTCP (262)"); }
    return number == 17 ? Protocol::udp : Protocol::tcp;
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
    const auto protocol = read_protocol(params);
    const bool reuse_port = params.number("reuseport", 1).value_or(0) == 1;
    const auto cookie = params.number("cookie", UINT64_MAX).value_or(0);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }

    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply({bind_reply(request.id, 0, port), false}); }
    exchange->bind = {port, protocol, cookie, {}, reuse_port};
    with_caller(exchange, hint, [this, exchange, request, reply, port](const Caller* caller) {
        if (caller == nullptr) { return reply({bind_reply(request.id, 0, port), false}); }
        // Of its own project the launch has waited for.
        if (port == 0 || !looks_for_survivors({}, port)) { return answer_bind(exchange, request, reply); }
        with_survivors_known({}, port, [this, exchange, request, reply] { answer_bind(exchange, request, reply); });
    });
}

void Agent::answer_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    if (exchange->closed) {  // it hung up before this was decided: nothing was granted
        mind_unanswered();
        return reply({});
    }
    // Another project's lease that would move the program is looked at below.
    refresh(&exchange->caller->place->project.root);
    const auto before = exchange->lease;
    auto decision = decide_bind(m_registry, m_config, *exchange->caller, exchange->bind, facts());
    // A lease that stands in the way of a program is looked at before it is believed: its holder may be a zombie, or live and
    // have closed its socket, while the notification is still on its way.
    const auto is_doubtful = [](const Lease& lease) {
        if (lease.holder && !is_alive(lease.holder->process)) { return true; }
        return !lease.sockets.empty() && !is_port_in_use(lease.port, true, true);
    };
    if (const auto& other = decision.answer.move.other; other && other->live() && is_doubtful(*other)) {
        take_census();
        decision = decide_bind(m_registry, m_config, *exchange->caller, exchange->bind, facts());
    }
    if (exchange->bind.port == 0) { ++m_rotation; }
    if (!decision.changes.empty()) { see_project(exchange->caller->place->project, decision.changes); }
    const auto& answer = decision.answer;
    set_granted(*exchange, answer.lease);
    if (answer.lease != 0 && answer.move.reason != MoveReason::none) { m_moves[answer.lease] = answer.move; }
    (void)commit(std::move(decision.changes));
    // Refused by the kernel, and another one granted: the first is nobody's again.
    if (before != 0 && before != answer.lease) { (void)commit(decide_unbound(m_registry, m_config, before, true, facts())); }
    const auto* lease = answer.port != exchange->bind.port && exchange->bind.port != 0 ? m_registry.find(answer.lease) : nullptr;
    const bool shows_requested = lease != nullptr && must_see_requested(*exchange->caller, *lease);
    reply({bind_reply(request.id, answer.lease, answer.port, shows_requested), false});
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
        set_granted(*exchange, 0);
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
    const auto protocol = read_protocol(params);
    check_family(params);
    (void)params.number("scope", 2);
    const auto netns = params.number("netns", UINT64_MAX).value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    const auto error_file = params.numbers("stderr", 2);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto answer = [request](const std::string& notice) { return Reply{result_line(request.id, {{"notice", notice}}), true}; };
    const bool elsewhere = netns != 0 && m_options.netns != 0 && netns != m_options.netns;
    if (exchange->peer.pid <= 0 || elsewhere) { return reply(answer("")); }
    with_caller(exchange, hint, [this, reply, port, protocol, code, cookie, error_file, answer](const Caller* known_caller) {
        if (known_caller == nullptr) { return reply(answer("")); }
        const auto& caller = *known_caller;
        if (code != 0) {
            m_options.log("listen failed port=" + std::to_string(port) + " errno=" + std::to_string(code) + " pid=" +
                          std::to_string(caller.holder.process.pid));
            return reply(answer(""));
        }
        auto decision = decide_listening(m_registry, m_config, caller, port, cookie, facts(), protocol);
        const auto* lease = m_registry.find(commit_listening(std::move(decision), caller, port, cookie));
        std::string notice;
        const bool moved = lease != nullptr && lease->key.requested.value_or(0) != 0 && *lease->key.requested != lease->port;
        if (moved && may_be_told(caller, error_file) && m_noticed.emplace(caller.session, lease->id).second) {
            const auto known = m_moves.find(lease->id);
            notice = moved_notice(m_registry, *lease, known != m_moves.end() ? known->second : Move{}, m_outside.now());
        }
        reply(answer(notice));
    });
}

LeaseId Agent::commit_listening(Decision<LeaseId> decision, const Caller& caller, Port port, Cookie cookie) {
    if (!decision.changes.empty()) { see_project(caller.place->project, decision.changes); }
    (void)commit(std::move(decision.changes));
    if (m_destroyed_set.contains(cookie)) { on_sockets_destroyed({{{cookie, port}}, false}); }
    return decision.answer;
}

void Agent::shim_table(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto hint = session_hint(params.numbers("session", 2));
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto answer = [request](std::uint64_t table, bool connect) {
        return Reply{result_line(request.id, {{"table", table}, {"connect", connect ? 1 : 0}}), true};
    };
    if (exchange->peer.pid <= 0) { return reply(answer(0, false)); }
    with_caller(exchange, hint, [this, hint, reply, answer](const Caller* caller) {
        if (caller == nullptr) { return reply(answer(0, false)); }
        // Outside of every session nobody has asked for anything. What has outlived its session has.
        if (!caller->scope && !hint.known()) { return reply(answer(0, false)); }
        const auto& project = caller->place->project;
        std::vector<Change> changes;
        see_project(project, changes);
        (void)commit(std::move(changes));
        const bool connect = (!caller->scope || caller->scope->connect) && caller->place->config.connect && m_config.connect;
        reply(answer(m_tables.open(project.root, caller->scope ? caller->scope->id : ProcessId{}, m_registry), connect));
    });
}

void Agent::shim_refused(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("port");
    const auto port = params.port("port").value_or(0);
    const auto hint = session_hint(params.numbers("session", 2));
    const auto error_file = params.numbers("stderr", 2);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    const auto answer = [request](const std::string& notice) { return Reply{result_line(request.id, {{"notice", notice}}), true}; };
    if (exchange->peer.pid <= 0) { return reply(answer("")); }
    with_caller(exchange, hint, [this, reply, port, error_file, answer](const Caller* caller) {
        if (caller == nullptr || !may_be_told(*caller, error_file)) { return reply(answer("")); }
        const auto& root = caller->place->project.root;
        const auto* theirs = m_registry.find(m_tables.refused_by(root, port));
        if (theirs == nullptr || !m_noticed.emplace(caller->session, theirs->id).second) { return reply(answer("")); }
        reply(answer(refused_notice(m_registry, root, *theirs)));
    });
}

std::span<const Agent::Method> Agent::shim_methods() {
    static constexpr Method k_methods[] = {{"shim.bind", &Agent::shim_bind},
                                           {"shim.bound", &Agent::shim_bound},
                                           {"shim.listening", &Agent::shim_listening},
                                           {"shim.failed", &Agent::shim_failed},
                                           {"shim.table", &Agent::shim_table},
                                           {"shim.refused", &Agent::shim_refused}};
    return k_methods;
}

}  // namespace portwrap
