#include "service/launch_plan.hpp"

#include <algorithm>
#include <cctype>
#include <map>

#include "core/blocks.hpp"
#include "core/earlier_runs.hpp"
#include "core/launch_words.hpp"
#include "service/launch_offers.hpp"
#include "service/launch_reading.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_max_env_notices = 5;

bool is_name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

bool contains(const std::vector<std::string>& names, std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); }

/// Makes one plan; each step adds to it.
class Planner {
public:
    Planner(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts)
        : m_registry(registry), m_config(config), m_facts(facts), m_request(request), m_reading(read_launch(registry, request)), m_offers(registry, config, request, facts) {
        m_plan.service = m_reading.service;
        m_plan.command = request.command;
        m_plan.container_client = m_request.traits.container_client;
        m_offers.set_own(m_reading.service);
        if (m_reading.natural) { m_offers.set_natural(m_reading.service, *m_reading.natural); }
    }

    std::variant<LaunchPlan, Refusal> make() {
        if (auto refusal = take_what_was_asked_for()) { return std::move(*refusal); }
        set_configured_variables();
        add_configured_arguments();
        set_mentioned_variables();
        set_known_variables();
        mind_env_files();
        hint_at_containers();
        explain();
        m_plan.changes = m_offers.take_changes();
        m_plan.changes.insert(m_plan.changes.begin(), SessionOpened{m_request.session});
        return std::move(m_plan);
    }

private:
    [[nodiscard]] const Framework* framework() const { return m_request.traits.framework; }
    [[nodiscard]] bool is_given(std::string_view name) const { return m_request.is_given(name); }
    [[nodiscard]] bool is_set(std::string_view name) const {
        return std::any_of(m_plan.set.begin(), m_plan.set.end(), [&](const auto& entry) { return entry.first == name; });
    }
    void set(std::string_view name, const std::string& value) {
        if (!is_set(name) && !is_given(name)) { m_plan.set.emplace_back(name, value); }
    }
    void say(const std::string& line) { m_plan.notices.push_back("portwrap: " + line); }
    void say_unset(const std::string& name, const Refusal& refusal) { say(name + " is not set: " + refusal.message); }

    /// The variables that the only server of this launch reads: its framework's, else PORT.
    [[nodiscard]] std::vector<std::string_view> variables_read() const {
        std::vector<std::string_view> names;
        if (framework() == nullptr) { return {"PORT"}; }
        for (const auto name : framework()->variables) {
            if (!name.empty()) { names.push_back(name); }
        }
        return names;
    }
    void set_variables_read(Port port) {
        const auto names = variables_read();
        if (names.empty() || (framework() != nullptr && framework()->only_by_user)) { return; }
        set(names.front(), std::to_string(port));
        if (framework() != nullptr && !framework()->companion.first.empty()) { set(framework()->companion.first, std::string(framework()->companion.second)); }
    }

    /// -p, {port} and {port:service}: the user's word comes first, and is refused where it cannot be kept.
    std::optional<Refusal> take_what_was_asked_for() {
        if (m_request.session.port) {
            auto port = m_offers.port_of(m_plan.service, m_request.session.port);
            if (auto* refusal = std::get_if<Refusal>(&port)) { return std::move(*refusal); }
            // Of several servers the first one that asks gets it when it binds; a variable would be taken by all of them.
            const bool by_variable = m_reading.one_server || !m_request.intercepted;
            if (by_variable && (framework() == nullptr || !framework()->only_by_user)) { set("PORT", std::to_string(std::get<Port>(port))); }
            if (by_variable) { set_variables_read(std::get<Port>(port)); }
        }
        for (auto& word : m_plan.command) {
            if (auto refusal = fill_in_ports(word, m_plan.service, m_offers)) { return refusal; }
        }
        return std::nullopt;
    }

    /// Where a port cannot be had, the command runs as it would have without.
    void set_configured_variables() {
        for (const auto& service : m_request.place.config.services) {
            if (!service.env || is_given(*service.env)) { continue; }
            const auto port = m_offers.port_of(service.name);
            if (const auto* refusal = std::get_if<Refusal>(&port)) {
                say_unset(*service.env, *refusal);
                continue;
            }
            set(*service.env, std::to_string(std::get<Port>(port)));
        }
        for (const auto& [name, value] : m_request.place.config.env) {
            if (is_given(name)) { continue; }
            auto filled = value;
            if (const auto refusal = fill_in_services(filled, m_request.place.config, m_offers)) {
                say_unset(name, *refusal);
                continue;
            }
            if (const auto rest = filled.find("${"); rest != std::string::npos) {
                m_plan.notices.push_back("portwrap: .portwrap.json: env." + name + " names what is no service there: " + printable(filled.substr(rest), 64));
            }
            set(name, filled);
        }
    }

    /// The configured `args` of the service, where it is this service's server that is started.
    void add_configured_arguments() {
        const auto& services = m_request.place.config.services;
        const auto entry = std::find_if(services.begin(), services.end(), [&](const ServiceConfig& one) { return one.name == m_plan.service; });
        const auto& traits = m_request.traits;
        if (entry == services.end() || entry->args.empty() || !m_reading.one_server || traits.other_work || traits.portless || traits.container_client || traits.commands.empty()) { return; }
        const auto& first = entry->args.front();
        const bool given = std::any_of(m_plan.command.begin(), m_plan.command.end(),
                                       [&](const std::string& word) { return word == first || word.starts_with(first + "="); });
        if (given) { return; }
        const auto program = m_plan.command.front().substr(m_plan.command.front().rfind('/') + 1);
        if (!hands_arguments_on(program, m_plan.command)) {
            return say("the arguments of " + m_plan.service + " are not added: " + program + " does not hand them on; name {port} where the server is started");
        }
        auto words = entry->args;
        for (auto& word : words) {
            if (const auto refusal = fill_in_ports(word, m_plan.service, m_offers)) {
                say("the arguments of " + m_plan.service + " are not added: " + refusal->message);
                return;
            }
        }
        // npm and node take options behind a script's name for their own.
        const std::string& runner = traits.commands.front().words.front();  // also behind env and timeout
        const bool own_options = (runner == "npm" || runner == "node") && !m_request.script.empty();
        if (own_options && !contains(m_plan.command, "--")) { m_plan.command.emplace_back("--"); }
        m_plan.command.insert(m_plan.command.end(), words.begin(), words.end());
    }

    /// A variable that the command or the script that it runs mentions.
    void set_mentioned_variables() {
        for (const auto name : port_variables()) {
            const bool mentioned = mentions_variable(m_request.script, name) ||
                                   std::any_of(m_request.command.begin(), m_request.command.end(),
                                               [&](const std::string& word) { return mentions_variable(word, name); });
            if (!mentioned || is_given(name) || is_set(name)) { continue; }
            const auto port = m_offers.port_of(m_plan.service);
            if (const auto* refusal = std::get_if<Refusal>(&port)) {
                say_unset(std::string(name), *refusal);
            } else {
                set(name, std::to_string(std::get<Port>(port)));
            }
        }
    }

    /// One server that is known to listen elsewhere than it asks for, or one that nothing else can reach.
    void set_known_variables() {
        const auto& traits = m_request.traits;
        const auto names = variables_read();
        const bool given = std::any_of(names.begin(), names.end(), [&](std::string_view name) { return is_given(name) || is_set(name); });
        if (names.empty() || given || m_request.session.port || traits.container_client || traits.portless) { return; }
        if (framework() != nullptr && framework()->only_by_user) { return; }
        if (!m_request.intercepted) {
            if (!m_reading.one_server) { return; }  // a task runner: its servers are seen one by one
            const auto port = m_offers.port_of(m_plan.service);
            if (const auto* number = std::get_if<Port>(&port)) { set_variables_read(*number); }
            return;
        }
        if (traits.said && framework() != nullptr && framework()->insists && !traits.other_work) {
            const auto port = m_offers.port_of(m_plan.service, std::nullopt, true);
            const auto* number = std::get_if<Port>(&port);
            const auto said = std::to_string(*traits.said);
            if (number != nullptr && *number != *traits.said) {
                const std::string name(names.front());
                say(std::string(framework()->name) + " runs on no other port than the " + said + " that its script sets, and that is taken; write " + name +
                    "=${" + name + ":-" + said + "} there");
            }
            return;
        }
        if (!m_reading.natural || !m_reading.one_server || traits.said || traits.said_otherwise || traits.other_work) { return; }
        if (traits.container && framework() == nullptr) { return; }  // what listens may be in the container
        const auto port = m_offers.port_of(m_plan.service, std::nullopt, true);
        // A full range: the program is intercepted when it binds.
        if (const auto* number = std::get_if<Port>(&port); number != nullptr && *number != *m_reading.natural) { set_variables_read(*number); }
    }

    /// Browser code cannot be intercepted: the ports that .env files name for it.
    void mind_env_files() {
        std::map<Port, Port> moved;
        for (const auto* lease : m_registry.of_project(m_request.place.project.root)) {
            const auto asked = lease->key.requested.value_or(0);
            if (asked != 0 && asked != lease->port && lease->key.instance == 0 && (lease->live() || lease->claimed)) { moved[asked] = lease->port; }
        }
        for (const auto& [service, port] : m_offers.ports()) {
            if (const auto natural = m_offers.natural_of(service); natural && *natural != port) { moved[*natural] = port; }
        }
        std::size_t said = 0;
        for (const auto& entry : m_request.env_files) {
            if (moved.empty() || is_given(entry.name) || is_set(entry.name)) { continue; }
            const auto named = named_moved_port(entry, moved);
            if (!named) { continue; }
            if (m_request.place.config.rewrite_env) {
                if (!is_refused_variable(entry.name)) { set(entry.name, named->value); }
            } else if (said++ < k_max_env_notices) {
                say(entry.file + ": " + printable(entry.name, 128) + " names port " + std::to_string(named->from) + ", which is " + std::to_string(named->to) +
                    " here; \"rewrite_env\": true in .portwrap.json sets it");
            }
        }
    }

    void hint_at_containers() {
        if (!m_request.traits.container) { return; }
        const auto& services = m_request.place.config.services;
        const auto entry = std::find_if(services.begin(), services.end(), [](const ServiceConfig& one) { return one.env.has_value(); });
        const std::string name = entry != services.end() ? *entry->env : "WEB_PORT";
        const std::string inner = entry != services.end() && entry->port ? std::to_string(*entry->port) : "3000";
        say("portwrap does not reach into containers; " +
            (entry != services.end() ? std::string() : "with a service's \"env\": \"WEB_PORT\" in .portwrap.json, ") + "publish \"${" + name + ":-" + inner + "}:" +
            inner + "\" in the compose file");
    }

    void explain() {
        const auto& place = m_request.place;
        RangeQuery query;
        query.range = m_request.session.range;
        query.environment = m_request.session.environment;
        query.kind = m_request.session.kind;
        query.type = m_offers.type();
        query.service = m_plan.service;
        const auto serving = serving_ranges(m_registry, m_config, m_request.place.project, query, m_facts);
        const auto& ranges = serving.ranges;
        m_plan.range = ranges.empty() ? "" : ranges.front()->name;

        if (!place.problem.empty()) { say(printable(place.problem, 512) + " (the file is ignored)"); }
        const auto add = [this](const std::string& line) { m_plan.explain.push_back(line); };
        add("project: " + place.project.name + " (" + printable(place.project.root, 4096) + ")");
        add("service: " + m_plan.service);
        add("range: " + m_plan.range + (ranges.empty() ? "" : " " + std::to_string(ranges.front()->intervals.front().start) + "-" +
                                                                  std::to_string(ranges.front()->intervals.back().end)) +
            ", for a port that is taken");
        if (m_reading.natural) { add("asks for: port " + std::to_string(*m_reading.natural) + " (" + m_reading.natural_from + ")"); }
        if (!m_reading.one_server) { add("servers: several, so none is told its port in advance"); }
        for (const auto& [service, port] : m_offers.ports()) { add("offers: port " + std::to_string(port) + " to " + service); }
        for (const auto* lease : m_registry.of_project(place.project.root)) {
            if (lease->live() || lease->claimed) {
                add("has: port " + std::to_string(lease->port) + " for " + lease->key.service +
                    (lease->key.requested.value_or(0) != 0 ? " (asks for " + std::to_string(*lease->key.requested) + ")" : ""));
            }
        }
        for (const auto& [name, value] : m_plan.set) { add("sets: " + name + "=" + printable(value, 1024)); }
        std::string words;
        for (const auto& word : m_plan.command) { words += (words.empty() ? "" : " ") + word; }
        add("runs: " + printable(words, 2048));
    }

    const Registry& m_registry;
    const Config& m_config;
    const Facts& m_facts;
    const LaunchRequest& m_request;
    LaunchReading m_reading;
    LaunchOffers m_offers;
    LaunchPlan m_plan;
};

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

std::string session_command(const std::vector<std::string>& command, const std::vector<std::pair<std::string, Port>>& environment_ports) {
    std::string text;
    for (const auto& [name, port] : environment_ports) {
        const auto& known = port_variables();
        if (std::find(known.begin(), known.end(), name) != known.end()) { text += name + "=" + std::to_string(port) + " "; }
    }
    for (const auto& word : command) { text += word + " "; }
    text.pop_back();
    return printable(text);
}

std::variant<LaunchPlan, Refusal> plan_launch(const Registry& registry, const Config& config, const LaunchRequest& request, const Facts& facts) {
    return Planner(registry, config, request, facts).make();
}

}  // namespace portwrap
