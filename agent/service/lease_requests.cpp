// The requests of people and scripts: lease.* and port.*.
#include <algorithm>

#include "service/agent.hpp"
#include "service/requests.hpp"

namespace portwrap {

void Agent::lease_get(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    GetRequest get;
    params.require("service");
    get.service = params.text("service", 64).value_or("");
    get.type = params.text("type", 64);
    get.kind = params.text("kind", 64);
    get.range = params.text("range", 64);
    get.environment = params.choice<Environment>("environment").value_or(Environment::dev);
    get.description = params.text("description", 1024);
    get.hostname = params.text("hostname", 253);
    get.allocated_by = params.text("allocated_by").value_or(m_options.user_at_host);
    if (!get.service.empty() && !is_service_name(get.service)) { params.fail("service", k_service_rule); }
    with_project(request, params, reply, [this, request, reply, get](const Place& place) mutable {
        get.place = place;
        refresh();
        auto decision = decide_get(m_registry, m_options.config, get, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse(request, reply, *refusal); }
        if (!decision.changes.empty()) { see_project(place.project, decision.changes); }
        const auto id = std::get<LeaseId>(decision.answer);
        commit_durably(std::move(decision.changes), request, reply, [this, id] {
            auto result = ok_shape();
            const auto* lease = m_registry.find(id);
            result["lease"] = lease != nullptr ? lease_shape(m_registry, *lease) : Json(nullptr);
            return result;
        });
    });
}

void Agent::lease_list(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const bool all = params.flag("all");
    std::set<LeaseState> states;
    for (const auto& text : params.texts("states", 8, 16)) {
        if (const auto state = from_word<LeaseState>(text)) {
            states.insert(*state);
        } else {
            params.fail("states", "has a word that is no state");
        }
    }
    const auto answer = [this, request, reply, states](const std::optional<std::string>& root) {
        with_true_holders([this, request, reply, states, root] {
            std::vector<const Lease*> chosen;
            for (const auto& [id, lease] : m_registry.leases()) {
                if (root && lease.key.root != *root) { continue; }
                if (states.empty() ? !lease.live() : !states.contains(lease.state)) { continue; }
                if (lease.key.requested == Port{0} && lease.state != LeaseState::active) { continue; }  // a number on its way
                chosen.push_back(&lease);
            }
            std::sort(chosen.begin(), chosen.end(), [](const Lease* a, const Lease* b) {
                return std::tie(a->key.root, a->port, a->id) < std::tie(b->key.root, b->port, b->id);
            });
            auto result = ok_shape();
            result["leases"] = Json::array();
            for (const auto* lease : chosen) { result["leases"].push_back(lease_shape(m_registry, *lease)); }
            reply({result_line(request.id, result), false});
        });
    };
    if (all) {
        (void)params.text("cwd", 4096);
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        return answer(std::nullopt);
    }
    with_project(request, params, reply, [answer](const Place& place) { answer(place.project.root); });
}

void Agent::lease_port(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto service = params.text("service", 64);
    const auto requested = params.port("requested");
    with_project(request, params, reply, [this, request, reply, service, requested](const Place& place) {
        refresh();
        const auto* lease = current_lease(m_registry, place, service, requested);
        if (lease == nullptr) {
            const std::string what = requested ? "nobody in project \"" + place.project.name + "\" asked for port " + std::to_string(*requested)
                                     : service ? "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\""
                                               : "project \"" + place.project.name + "\" has no port";
            return refuse(request, reply, {ErrorCode::not_found, what, {}, {}});
        }
        auto result = ok_shape();
        result["lease"] = lease_shape(m_registry, *lease);
        reply({result_line(request.id, result), false});
    });
}

void Agent::lease_release(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    ReleaseRequest release;
    release.port = params.port("port");
    release.service = params.text("service", 64);
    release.everything = params.flag("everything");
    release.force = params.flag("force");
    if (int{release.port.has_value()} + int{release.service.has_value()} + int{release.everything} != 1) {
        params.fail("port", "or \"service\" or \"everything\": exactly one of them is needed");
    }
    with_project(request, params, reply, [this, request, reply, release](const Place& place) mutable {
        release.root = place.project.root;
        refresh();
        auto decision = decide_release(m_registry, m_options.config, release, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse(request, reply, *refusal); }
        const auto ids = std::get<std::vector<LeaseId>>(decision.answer);
        commit_durably(std::move(decision.changes), request, reply, [this, ids] {
            auto result = ok_shape();
            result["leases"] = Json::array();
            for (const auto id : ids) {
                if (const auto* lease = m_registry.find(id)) { result["leases"].push_back(lease_shape(m_registry, *lease)); }
            }
            return result;
        });
    });
}

void Agent::port_check(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("port");
    const auto port = params.port("port").value_or(0);
    with_project(request, params, reply, [this, request, reply, port](const Place& place) {
        auto seen = std::make_shared<std::vector<SeenListener>>();
        m_outside.run_in_pool([seen, port] { *seen = look_at_listeners(port); },
                              [this, request, reply, port, seen, root = place.project.root] {
                                  const auto now = facts();
                                  const auto* owner = owner_of(m_registry, port);
                                  const bool live = owner != nullptr && owner->live();
                                  const bool own = live && owner->key.root == root && owner->sockets.empty();
                                  std::optional<ErrorCode> code;
                                  if (!seen->empty() || now.in_use(port, true, true)) {
                                      code = ErrorCode::port_in_use;
                                  } else if (live && !own) {
                                      code = ErrorCode::port_leased;
                                  } else if (is_system_port(m_options.config, port)) {
                                      code = ErrorCode::system_reserved;
                                  } else if (is_reserved_port(m_options.config, port)) {
                                      code = ErrorCode::port_reserved;
                                  }
                                  auto result = ok_shape();
                                  result["port"] = port;
                                  result["available"] = !code;
                                  result["code"] = code ? Json(error_code_name(*code)) : Json(nullptr);
                                  result["lease"] = owner != nullptr ? lease_shape(m_registry, *owner) : Json(nullptr);
                                  result["listeners"] = Json::array();
                                  for (const auto& entry : *seen) { result["listeners"].push_back(listener_shape(m_registry, entry)); }
                                  result["suggestions"] = code ? Json(suggest_ports(m_registry, m_options.config, root, port, 3, now)) : Json::array();
                                  reply({result_line(request.id, result), false});
                              });
    });
}

std::span<const Agent::Method> Agent::lease_methods() {
    static constexpr Method k_methods[] = {{"lease.port", &Agent::lease_port},
                                           {"lease.get", &Agent::lease_get},
                                           {"lease.list", &Agent::lease_list},
                                           {"lease.release", &Agent::lease_release},
                                           {"port.check", &Agent::port_check}};
    return k_methods;
}

}  // namespace portwrap
