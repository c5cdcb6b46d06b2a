#include "service/launch_offers.hpp"

#include <algorithm>

#include "core/shell_words.hpp"

namespace portwrap {
namespace {

/// Replaces OPEN NAME } by what `port_of` says for NAME; text without placeholders stays as it is.
template <typename PortOf>
std::optional<Refusal> fill_in(std::string& text, std::string_view open, PortOf&& port_of) {
    for (std::size_t at = text.find(open); at != std::string::npos; at = text.find(open, at + 1)) {
        const auto close = text.find('}', at);
        if (close == std::string::npos) { break; }
        const auto name = text.substr(at + open.size(), close - at - open.size());
        std::optional<std::variant<Port, Refusal>> port = port_of(name);
        if (!port) { continue; }
        if (auto* refusal = std::get_if<Refusal>(&*port)) { return std::move(*refusal); }
        text.replace(at, close + 1 - at, std::to_string(std::get<Port>(*port)));
    }
    return std::nullopt;
}

}  // namespace

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
    offer.type = type();
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

std::string LaunchOffers::type() const {
    if (m_request.session.type) { return *m_request.session.type; }
    if (m_request.place.config.type) { return *m_request.place.config.type; }
    for (const auto& commands : {simple_commands(m_request.command), simple_commands(m_request.script)}) {
        for (const auto& command : commands) {
            auto by_program = type_of_program(command.words.front(), command.words);
            if (!by_program.empty()) { return by_program; }
        }
    }
    return m_request.place.type;
}

std::optional<Refusal> fill_in_ports(std::string& word, const std::string& own, LaunchOffers& offers) {
    return fill_in(word, "{port", [&](const std::string& rest) -> std::optional<std::variant<Port, Refusal>> {
        if (rest.empty()) { return offers.port_of(own); }
        if (rest.front() != ':' || rest.size() < 2 || rest.size() > 65) { return std::nullopt; }
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
