#include "service/launch_reading.hpp"

#include <algorithm>

#include "core/earlier_runs.hpp"
#include "core/launch_words.hpp"
#include "core/lease_steps.hpp"
#include "core/port_text.hpp"

namespace portwrap {
namespace {

struct KnownPort {
    Port port = 0;
    std::string from;
};

const ServiceConfig* service_named(const ProjectConfig& config, const std::string& name) {
    const auto found = std::find_if(config.services.begin(), config.services.end(), [&](const ServiceConfig& entry) { return entry.name == name; });
    return found != config.services.end() ? &*found : nullptr;
}

const ServiceConfig* service_on(const Place& place, Port port) {
    const auto& services = place.config.services;
    const auto found = std::find_if(services.begin(), services.end(), [&](const ServiceConfig& entry) { return is_meant_by_port(entry, place, port); });
    return found != services.end() ? &*found : nullptr;
}

/// The one service that a command's names mean; null where they mean none or several.
const ServiceConfig* service_in_words(const ProjectConfig& config, const SimpleCommand& command, const Framework* framework) {
    const ServiceConfig* meant = nullptr;
    for (const auto& entry : config.services) {
        if (framework != nullptr && (entry.kind == "database" || entry.kind == "cache")) { continue; }
        if (!names_service(command, entry.name)) { continue; }
        if (meant != nullptr) { return nullptr; }
        meant = &entry;
    }
    return meant;
}

/// Scripts lead to others; where that goes on for longer than in any project, nothing is said.
constexpr std::size_t k_max_lines = 16;

/// The one that what was typed means, else what its script ends in (what comes before that prepares it), else the script to
/// which that one leads. Where a script runs several commands, the port of a known framework says more than their names.
const ServiceConfig* service_in_words(const Place& place, const LaunchTraits& traits) {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < std::min(traits.ends.size(), k_max_lines); ++i) {
        const auto end = traits.ends[i];
        if (end == begin) { return nullptr; }
        const bool is_chain = end - begin > 1;
        if (is_chain && traits.framework != nullptr && service_on(place, traits.framework->natural) != nullptr) { return nullptr; }
        const auto& last = traits.commands[end - 1];
        if (const auto* meant = service_in_words(place.config, last, traits.framework)) { return meant; }
        if (is_chain || script_name_of(last).empty()) { return nullptr; }
        begin = end;
    }
    return nullptr;
}

/// The project's own server: the only service that the configuration places nowhere and that is no database or cache, if its
/// name says no more than that, and the command says no more than that a server is started. An api on 4000 in the file does not
/// make it what `vite` or `npm run dev` runs: whoever is taken for it would be given its port, its variables and its connections.
const ServiceConfig* own_server(const Place& place, const LaunchTraits& traits) {
    if (!place.package_dir.empty()) { return nullptr; }  // its directory names it
    const ServiceConfig* only = nullptr;
    for (const auto& entry : place.config.services) {
        if (entry.dir || entry.kind == "database" || entry.kind == "cache" || entry.shared.value_or(false)) { continue; }
        if (only != nullptr) { return nullptr; }
        only = &entry;
    }
    if (only == nullptr || !is_plain_service(only->name, place.project.name)) { return nullptr; }
    if (traits.framework == nullptr) { return is_plain_start(traits.commands, only->name) ? only : nullptr; }
    const auto& options = traits.framework->port_options;
    const bool takes_args = only->args.empty() || std::find(options.begin(), options.end(), std::string_view(only->args.front())) != options.end();
    // A framework that asks for another number is meant only where its arguments tell it this one, and a script stands for it.
    const auto is_plain_script = [](const SimpleCommand& typed) { return !script_name_of(typed).empty() && is_plain_start({typed}); };
    const bool is_told = !only->args.empty() && !traits.commands.empty() && is_plain_script(traits.commands.front());
    const bool fits = takes_args && (!only->port || only->port == traits.framework->natural || is_told);
    return fits ? only : nullptr;
}

/// What the user's environment says.
std::optional<KnownPort> given_port(const LaunchRequest& request, const Framework* framework) {
    const auto known = [&](std::string_view name) -> std::optional<KnownPort> {
        for (const auto& [given, port] : request.environment_ports) {
            if (!name.empty() && given == name) { return KnownPort{port, given + " in the environment"}; }
        }
        return std::nullopt;
    };
    if (framework == nullptr) { return known("PORT"); }
    for (const auto name : framework->variables) {
        if (auto port = known(name)) { return port; }
    }
    return std::nullopt;
}

/// What the .env files say that the program reads.
std::optional<KnownPort> dotenv_port(const LaunchRequest& request, const Framework* framework) {
    const auto known = [&](std::string_view name) -> std::optional<KnownPort> {
        for (const auto& entry : request.env_files) {
            const bool is_read = entry.named || (framework != nullptr && framework->reads_dotenv);
            const auto port = is_read && !name.empty() && entry.name == name ? port_in(entry.value) : std::nullopt;
            if (port) { return KnownPort{*port, entry.file}; }
        }
        return std::nullopt;
    };
    if (framework == nullptr) { return known("PORT"); }
    for (const auto name : framework->variables) {
        if (auto port = known(name)) { return port; }
    }
    return std::nullopt;
}

/// What the command or its script puts in the place of a port variable that nobody has set.
std::optional<KnownPort> default_port(const LaunchRequest& request) {
    for (const auto name : port_variables()) {
        if (request.is_given(name)) { continue; }
        auto text = variable_default(request.script, name);
        for (auto word = request.command.rbegin(); text.empty() && word != request.command.rend(); ++word) { text = variable_default(*word, name); }
        if (const auto port = port_in(text)) { return KnownPort{*port, "the command"}; }
    }
    return std::nullopt;
}

}  // namespace

LaunchReading read_launch(const Registry& registry, const LaunchRequest& request) {
    LaunchReading reading;
    const auto& config = request.place.config;
    const auto& traits = request.traits;
    reading.service = service_of(request.place, request.session, std::nullopt);
    const auto earlier = earlier_runs(registry, request.place.project, launch_name(request.session));
    reading.one_server = traits.one_server && !earlier.several;
    const auto known = [&reading](Port port, std::string from) {
        reading.natural = port;
        reading.natural_from = std::move(from);
    };
    const auto* entry = service_named(config, reading.service);
    const bool nameless = entry == nullptr && !request.session.service;
    if (traits.portless || traits.container_client) { return reading; }
    if (traits.said) {
        if (nameless) { entry = service_on(request.place, *traits.said); }
        if (entry != nullptr) { reading.service = entry->name; }
        known(*traits.said, "the command");
        return reading;
    }
    if (!reading.one_server) {
        if (entry != nullptr && entry->port) { known(*entry->port, ".portwrap.json"); }
        return reading;
    }

    // What the program asks for, from what says it most surely on; then which service that is.
    auto asked = given_port(request, traits.framework);
    const bool is_given = asked.has_value();
    if (!asked && traits.fallback) { asked = KnownPort{*traits.fallback, "the command"}; }
    if (!asked) { asked = dotenv_port(request, traits.framework); }
    // Of a known framework its own words say what it asks for.
    const bool is_default = !asked && traits.framework == nullptr;
    if (is_default) { asked = default_port(request); }
    const bool has_learnt = earlier.listener && !earlier.listener->kind;  // a database reads no PORT, and has a range of its own
    if (nameless) {
        if (asked) { entry = service_on(request.place, asked->port); }
        if (entry == nullptr && !traits.other_work) { entry = service_in_words(request.place, traits); }
        if (entry == nullptr && !asked && has_learnt) {
            entry = service_named(config, earlier.listener->service);
            if (entry == nullptr) { entry = service_on(request.place, earlier.listener->requested); }
        }
        if (entry == nullptr && !asked && !has_learnt && traits.framework != nullptr) { entry = service_on(request.place, traits.framework->natural); }
        if (entry == nullptr && (!asked || is_default) && !traits.other_work) {
            entry = own_server(request.place, traits);
            if (entry != nullptr && entry->port && (asked || has_learnt)) { entry = nullptr; }  // it asks for another number
        }
        if (entry != nullptr) { reading.service = entry->name; }
    }
    if (!is_given && entry != nullptr && entry->port) {
        known(*entry->port, ".portwrap.json");
    } else if (asked) {
        known(asked->port, std::move(asked->from));
    } else if (has_learnt) {
        if (nameless && entry == nullptr) { reading.service = earlier.listener->service; }
        known(earlier.listener->requested, "an earlier run");
    } else if (traits.framework != nullptr) {
        known(traits.framework->natural, std::string(traits.framework->name));
    }
    return reading;
}

}  // namespace portwrap
