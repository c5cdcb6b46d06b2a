// A small world for the pure rules: a registry that applies what is decided, a clock, and the ports of strangers.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "core/named_rules.hpp"

namespace portwrap::test {

/// As in a project's .portwrap.json: `{"name": ..., "port": ...}`.
inline ServiceConfig service(const std::string& name, std::optional<Port> port) {
    ServiceConfig entry;
    entry.name = name;
    entry.port = port;
    return entry;
}

/// A registry with a clock and a system around it, both in the test's hand.
struct World {
    Registry registry;
    std::vector<Event> journal;  ///< everything that was applied
    Config config = default_config();
    Time now{std::chrono::seconds(1'000'000'000)};
    std::set<Port> external;  ///< ports of programs that portwrap does not know
    std::map<Port, ProcessId> dropped;
    std::set<LeaseId> being_bound;  ///< granted, and not confirmed yet
    std::function<bool(const ProcessId&)> is_alive;
    std::set<ProcessId> children;  ///< of whomever
    Cookie next_cookie = 100;
    std::int32_t next_pid = 1000;

    Facts facts() {
        Facts facts;
        facts.now = now;
        facts.boot_id = "boot";
        facts.ephemeral = {32768, 60999};
        facts.in_use = [this](Port port, bool, bool) { return external.contains(port); };
        facts.dropped = dropped;
        facts.is_alive = is_alive;
        facts.is_descendant = [this](const ProcessId& process, const ProcessId&) { return children.contains(process); };
        facts.is_granted = [this](LeaseId id) { return being_bound.contains(id); };
        return facts;
    }
    void apply(std::vector<Change> changes) {
        for (auto& event : registry.stamp(std::move(changes), now)) {
            registry.apply(event);
            journal.push_back(std::move(event));
        }
    }
    Place place(const std::string& root, const std::string& family = "") {
        Place place;
        place.project = {root, root.substr(root.rfind('/') + 1), std::nullopt, std::nullopt, family, ""};
        place.type = "node";
        apply({ProjectSeen{place.project}});
        return place;
    }
    /// A process of a session of its own.
    Caller start(const Place& place) {
        Caller caller;
        const ProcessId process{++next_pid, 1};
        caller.holder = {process, "node server.js", place.project.root, now};
        caller.executable = "node";
        caller.arguments = {"node", "server.js"};
        caller.session = process;
        Session session;
        session.id = session.outermost = process;
        session.root = session.cwd = place.project.root;
        session.boot_id = "boot";
        apply({SessionOpened{session}});
        caller.scope = session;
        caller.place = std::make_shared<const Place>(place);
        return caller;
    }
    BindAnswer ask(const Caller& caller, Port port, std::map<Port, int> refused = {}) {
        auto decision = decide_bind(registry, config, caller, {port, Protocol::tcp, 0, std::move(refused)}, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    struct Bound {
        Port port;
        LeaseId lease;
        Cookie cookie;
    };
    /// bind and listen, as a server does.
    Bound serve(const Caller& caller, Port port) {
        const auto answer = ask(caller, port);
        const auto cookie = ++next_cookie;
        apply(decide_bound(registry, caller, answer.lease, answer.port, cookie, facts()));
        apply(decide_listening(registry, config, caller, answer.port, cookie, facts()).changes);
        return {answer.port, answer.lease, cookie};
    }
    void close(Cookie cookie) { apply(decide_destroyed(registry, config, cookie, facts())); }
    Outcome<LeaseId> get(const Place& place, const std::string& service, Protocol protocol = Protocol::tcp) {
        GetRequest request;
        request.place = place;
        request.service = service;
        request.protocol = protocol;
        auto decision = decide_get(registry, config, request, facts());
        apply(std::move(decision.changes));
        return decision.answer;
    }
    /// Somebody whom portwrap does not know listens there, in this directory.
    HeardSocket heard(Port port, const std::string& cwd) {
        return {port, Protocol::tcp, ++next_cookie, {{++next_pid, 1}, "nc -l", cwd, now}, std::nullopt};
    }
    Port port_of(const Outcome<LeaseId>& outcome) { return registry.find(std::get<LeaseId>(outcome))->port; }
    const Lease& lease(LeaseId id) { return *registry.find(id); }
};

}  // namespace portwrap::test
