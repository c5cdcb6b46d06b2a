#include "service/launch_offers.hpp"

#include <algorithm>

#include "core/ranges.hpp"
#include "service/requests.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_max_name = 65;  ///< a service's, and the colon before it

std::string type_of(const LaunchRequest& request) {
    if (request.session.type) { return *request.session.type; }
    if (request.place.config.type) { return *request.place.config.type; }
    for (const auto& command : request.traits.commands) {
        auto by_program = type_of_program(command.words.front(), command.words);
        if (!by_program.empty()) { return by_program; }
    }
    return request.place.type;
}

/// Replaces OPEN NAME } by what `port_of` says for NAME; text without placeholders stays as it is.
template <typename PortOf>
std::optional<Refusal> fill_in(std::string& text, std::string_view open, PortOf&& port_of) {
    for (std::size_t at = text.find(open); at != std::string::npos; at = text.find(open, at + 1)) {
        const auto rest = std::string_view(text).substr(at + open.size(), k_max_name + 1);
        const auto close = rest.find('}');
        if (close == std::string_view::npos) { continue; }
        const std::string name(rest.substr(0, close));
        std::optional<std::variant<Port, Refusal>> port = port_of(name);
        if (!port) { continue; }
        if (auto* refusal = std::get_if<Refusal>(&*port)) { return std::move(*refusal); }
        text.replace(at, open.size() + close + 1, std::to_string(std::get<Port>(*port)));
    }
    return std::nullopt;
}

}  // namespace

LaunchOffers::LaunchOffers(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts)
    : m_after(registry, facts.now), m_config(config), m_request(request), m_facts(facts), m_type(type_of(request)) {}

std::optional<Port> LaunchOffers::natural_of(const std::string& service) const {
    for (const auto& entry : m_request.place.config.services) {
        if (entry.name == service && entry.port) { return entry.port; }
    }
    const auto known = m_natural.find(service);
    return known != m_natural.end() ? std::optional(known->second) : std::nullopt;
}

std::variant<Port, Refusal> LaunchOffers::port_of(const std::string& service, std::optional<Port> wanted, bool brief) {
    if (const auto known = m_ports.find(service); known != m_ports.end()) { return known->second; }
    OfferRequest offer;
    offer.session = m_request.session;
    offer.place = m_request.place;
    offer.service = service;
    offer.allocated_by = m_request.allocated_by;
    offer.natural = natural_of(service);
    offer.wanted = wanted;
    offer.unseen = !m_request.intercepted;
    offer.brief = brief;
    offer.another = service != m_own;
    offer.type = m_type;
    for (const auto& entry : m_request.place.config.services) {
        if (entry.name == service && entry.type && !m_request.session.type) { offer.type = *entry.type; }
    }
    auto decision = decide_offer(m_after.get(), m_config, offer, m_facts);
    if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return std::move(*refusal); }
    const Port port = port_after(m_after.get(), decision.changes, std::get<LeaseId>(decision.answer));
    m_after.add(std::move(decision.changes));
    m_ports.emplace(service, port);
    return port;
}

std::optional<Refusal> fill_in_ports(std::string& word, const std::string& own, LaunchOffers& offers) {
    return fill_in(word, "{port", [&](const std::string& rest) -> std::optional<std::variant<Port, Refusal>> {
        if (rest.empty()) { return offers.port_of(own); }
        if (rest.front() != ':' || rest.size() > 65 || !is_service_name(rest.substr(1))) { return std::nullopt; }
        return offers.port_of(rest.substr(1));
    });
}

std::optional<Refusal> fill_in_services(std::string& value, const ProjectConfig& config, LaunchOffers& offers) {
    return fill_in(value, "${", [&](const std::string& service) -> std::optional<std::variant<Port, Refusal>> {
        const bool known = std::any_of(config.services.begin(), config.services.end(), [&](const ServiceConfig& entry) { return entry.name == service; });
        if (!known) { return std::nullopt; }
        return offers.port_of(service);
    });
}

}  // namespace portwrap
