#include "service/launch_plan.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "system/places.hpp"

namespace portwrap {
namespace {

bool is_name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// Collects the offers of one launch on a copy of the registry, so that each sees the ones before it.
class Offers {
public:
    Offers(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts)
        : m_original(registry), m_config(config), m_request(request), m_facts(facts) {}

    /// The service's port; asks for one the first time.
    std::variant<Port, Refusal> port_of(const std::string& service, std::optional<Port> wanted) {
        if (const auto known = m_ports.find(service); known != m_ports.end()) { return known->second; }
        OfferRequest offer;
        offer.session = m_request.session;
        offer.place = m_request.place;
        offer.service = service;
        offer.allocated_by = m_request.allocated_by;
        offer.wanted = wanted;
        offer.type = type();
        for (const auto& entry : m_request.place.config.services) {
            if (entry.name != service) { continue; }
            offer.natural = entry.port;
            if (entry.type && !m_request.session.type) { offer.type = *entry.type; }
        }
        if (!m_registry) { m_registry = m_original; }  // most launches offer nothing and copy nothing
        auto decision = decide_offer(*m_registry, m_config, offer, m_facts);
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return std::move(*refusal); }
        const auto id = std::get<LeaseId>(decision.answer);
        for (const auto& event : m_registry->stamp(decision.changes, m_facts.now)) { m_registry->apply(event); }
        std::move(decision.changes.begin(), decision.changes.end(), std::back_inserter(m_changes));
        const Port port = m_registry->find(id)->port;
        m_ports.emplace(service, port);
        return port;
    }

    [[nodiscard]] std::string type() const {
        if (m_request.session.type) { return *m_request.session.type; }
        if (m_request.place.config.type) { return *m_request.place.config.type; }
        const auto& program = m_request.command.front();
        const auto slash = program.rfind('/');
        const auto by_program = type_of_program(slash == std::string::npos ? program : program.substr(slash + 1), m_request.command);
        return by_program.empty() ? m_request.place.type : by_program;
    }

    [[nodiscard]] const std::map<std::string, Port>& ports() const { return m_ports; }
    [[nodiscard]] std::vector<Change> take_changes() { return std::move(m_changes); }

private:
    const Registry& m_original;
    std::optional<Registry> m_registry;
    const Config& m_config;
    const LaunchRequest& m_request;
    const Facts& m_facts;
    std::map<std::string, Port> m_ports;
    std::vector<Change> m_changes;
};

/// Replaces OPEN NAME CLOSE by what `port_of` says for NAME; text without placeholders stays as it is.
template <typename PortOf>
std::optional<Refusal> fill_in(std::string& text, std::string_view open, PortOf&& port_of) {
    for (std::size_t at = text.find(open); at != std::string::npos; at = text.find(open, at + 1)) {
        const auto close = text.find('}', at);
        if (close == std::string::npos) { break; }
        const auto name = text.substr(at + open.size(), close - at - open.size());
        auto port = port_of(name);
        if (!port) { continue; }
        if (auto* refusal = std::get_if<Refusal>(&*port)) { return std::move(*refusal); }
        text.replace(at, close + 1 - at, std::to_string(std::get<Port>(*port)));
    }
    return std::nullopt;
}

}  // namespace

bool mentions_variable(std::string_view text, std::string_view name) {
    for (auto at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
        const auto end = at + name.size();
        if (end < text.size() && is_name_character(text[end])) { continue; }
        if (at == 0) { continue; }
        const auto before = text.substr(0, at);
        if (before.ends_with("$") || before.ends_with("${") || before.ends_with("env.") || before.ends_with("ENV[\"") || before.ends_with("ENV['")) { return true; }
        const char quote = before.back();
        if (quote != '"' && quote != '\'') { continue; }
        for (const std::string_view reader : {"environ[", "environ.get(", "getenv(", "env[", "environ("}) {
            if (before.substr(0, before.size() - 1).ends_with(reader)) { return true; }
        }
    }
    return false;
}

std::variant<LaunchPlan, Refusal> plan_launch(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts) {
    LaunchPlan plan;
    const auto& place = request.place;
    plan.service = service_of(place, request.session, std::nullopt);
    plan.command = request.command;
    Offers offers(registry, config, request, facts);

    const auto is_configured = [&](const std::string& name) {
        return std::any_of(place.config.services.begin(), place.config.services.end(), [&](const ServiceConfig& entry) { return entry.name == name; });
    };
    const auto given_by_user = [&](const std::string& name) {
        return std::find(request.environment_names.begin(), request.environment_names.end(), name) != request.environment_names.end();
    };
    const auto set = [&](const std::string& name, const std::string& value) {
        const bool done = std::any_of(plan.set.begin(), plan.set.end(), [&](const auto& entry) { return entry.first == name; });
        if (!done && !given_by_user(name)) { plan.set.emplace_back(name, value); }
    };

    // -p: the user's word comes first, and PORT tells programs that listen to it.
    if (request.session.port) {
        auto port = offers.port_of(plan.service, request.session.port);
        if (auto* refusal = std::get_if<Refusal>(&port)) { return std::move(*refusal); }
        set("PORT", std::to_string(std::get<Port>(port)));
    }
    // {port} and {port:service} in the command's words.
    using Filled = std::optional<std::variant<Port, Refusal>>;
    for (auto& argument : plan.command) {
        auto refusal = fill_in(argument, "{port", [&](const std::string& rest) -> Filled {
            if (rest.empty()) { return offers.port_of(plan.service, std::nullopt); }
            if (rest.front() != ':' || rest.size() < 2 || rest.size() > 65) { return std::nullopt; }
            return offers.port_of(rest.substr(1), std::nullopt);
        });
        if (refusal) { return std::move(*refusal); }
    }
    // The config's own variables. Where a port cannot be had, the command runs as it would have without.
    const auto unset = [&](const std::string& name, const Refusal& refusal) {
        plan.notices.push_back("portwrap: " + name + " is not set: " + refusal.message);
    };
    for (const auto& service : place.config.services) {
        if (!service.env || given_by_user(*service.env)) { continue; }
        const auto port = offers.port_of(service.name, std::nullopt);
        if (const auto* refusal = std::get_if<Refusal>(&port)) {
            unset(*service.env, *refusal);
            continue;
        }
        set(*service.env, std::to_string(std::get<Port>(port)));
    }
    for (const auto& [name, value] : place.config.env) {
        if (given_by_user(name)) { continue; }
        auto filled = value;
        auto refusal = fill_in(filled, "${", [&](const std::string& service) -> Filled {
            if (!is_configured(service)) { return std::nullopt; }
            return offers.port_of(service, std::nullopt);
        });
        if (refusal) {
            unset(name, *refusal);
            continue;
        }
        set(name, filled);
    }
    // PORT, where the command or the script that it runs says that it reads it, or nothing else can be done for it.
    const bool reads_port = !request.intercepted || mentions_variable(request.script, "PORT") ||
                            std::any_of(request.command.begin(), request.command.end(),
                                        [](const std::string& argument) { return mentions_variable(argument, "PORT"); });
    if (reads_port && !given_by_user("PORT")) {
        const auto port = offers.port_of(plan.service, std::nullopt);
        if (const auto* refusal = std::get_if<Refusal>(&port)) {
            unset("PORT", *refusal);
        } else {
            set("PORT", std::to_string(std::get<Port>(port)));
        }
    }

    RangeQuery query;
    query.range = request.session.range;
    query.environment = request.session.environment;
    query.kind = request.session.kind;
    query.type = offers.type();
    const auto ranges = ranges_that_serve(config, query);
    plan.range = ranges.empty() ? "" : ranges.front()->name;

    if (!place.problem.empty()) { plan.notices.push_back("portwrap: " + printable(place.problem, 512) + " (the file is ignored)"); }
    plan.explain.push_back("project: " + place.project.name + " (" + printable(place.project.root, 4096) + ")");
    plan.explain.push_back("service: " + plan.service);
    plan.explain.push_back("range: " + plan.range + (ranges.empty() ? "" : " " + std::to_string(ranges.front()->intervals.front().start) + "-" +
                                                                            std::to_string(ranges.front()->intervals.back().end)) +
                           ", for a port that is taken");
    for (const auto& [service, port] : offers.ports()) { plan.explain.push_back("offers: port " + std::to_string(port) + " to " + service); }
    for (const auto* lease : registry.of_project(place.project.root)) {
        if (lease->live() || lease->claimed) {
            plan.explain.push_back("has: port " + std::to_string(lease->port) + " for " + lease->key.service +
                                   (lease->key.requested.value_or(0) != 0 ? " (asks for " + std::to_string(*lease->key.requested) + ")" : ""));
        }
    }
    for (const auto& [name, value] : plan.set) { plan.explain.push_back("sets: " + name + "=" + printable(value, 1024)); }
    std::string words;
    for (const auto& argument : plan.command) { words += (words.empty() ? "" : " ") + argument; }
    plan.explain.push_back("runs: " + printable(words, 2048));

    plan.changes = offers.take_changes();
    plan.changes.insert(plan.changes.begin(), SessionOpened{request.session});
    return plan;
}

}  // namespace portwrap
