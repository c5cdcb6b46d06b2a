// The ports that one launch offers, each asked for in a registry that has the ones before it; and what takes a port
// in the place of a placeholder. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/registry_after.hpp"
#include "service/launch_plan.hpp"

namespace portwrap {

class LaunchOffers {
public:
    LaunchOffers(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts);

    /// The service that the launch runs itself; the ports of others are theirs, whoever runs them.
    void set_own(const std::string& service) { m_own = service; }
    /// The port that a service's code asks for, where the config does not say it.
    void set_natural(const std::string& service, Port port) { m_natural[service] = port; }
    [[nodiscard]] std::optional<Port> natural_of(const std::string& service) const;

    /// The service's port; asks for one the first time. `wanted`: this one or none. `brief`: see OfferRequest.
    std::variant<Port, Refusal> port_of(const std::string& service, std::optional<Port> wanted = std::nullopt, bool brief = false);

    [[nodiscard]] const std::string& type() const { return m_type; }
    [[nodiscard]] const std::map<std::string, Port>& ports() const { return m_ports; }
    [[nodiscard]] std::vector<Change> take_changes() { return m_after.take_changes(); }

private:
    RegistryAfter m_after;  ///< this launch's earlier offers
    const Config& m_config;
    const LaunchRequest& m_request;
    const Facts& m_facts;
    std::string m_type;  ///< by which its range is found
    std::string m_own;
    std::map<std::string, Port> m_natural;
    std::map<std::string, Port> m_ports;
};

/// Replaces {port} (by the port of `own`) and {port:SERVICE} in a word; the refusal of a port that cannot be had.
[[nodiscard]] std::optional<Refusal> fill_in_ports(std::string& word, const std::string& own, LaunchOffers& offers);
/// Replaces ${SERVICE} in the value of a configured variable; names of no configured service stay as they are.
[[nodiscard]] std::optional<Refusal> fill_in_services(std::string& value, const ProjectConfig& config, LaunchOffers& offers);

}  // namespace portwrap
