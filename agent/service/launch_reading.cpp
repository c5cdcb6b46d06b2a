#include "service/launch_reading.hpp"

#include <algorithm>
#include <charconv>

#include "core/earlier_runs.hpp"

namespace portwrap {
namespace {

const ServiceConfig* service_named(const ProjectConfig& config, const std::string& name) {
    const auto found = std::find_if(config.services.begin(), config.services.end(), [&](const ServiceConfig& entry) { return entry.name == name; });
    return found != config.services.end() ? &*found : nullptr;
}

const ServiceConfig* service_on(const ProjectConfig& config, Port port) {
    const auto found = std::find_if(config.services.begin(), config.services.end(), [&](const ServiceConfig& entry) { return entry.port == port; });
    return found != config.services.end() ? &*found : nullptr;
}

/// The one service that the configuration places nowhere and that is no database or cache; null when there are several.
const ServiceConfig* only_service(const ProjectConfig& config, const Framework* framework) {
    const ServiceConfig* only = nullptr;
    for (const auto& entry : config.services) {
        if (entry.dir || entry.kind == "database" || entry.kind == "cache" || entry.shared.value_or(false)) { continue; }
        if (only != nullptr) { return nullptr; }
        only = &entry;
    }
    // An api on 4000 in the file does not make it what `vite` runs.
    const bool fits = only != nullptr && (framework == nullptr || !only->port || only->port == framework->natural || !only->args.empty());
    return fits ? only : nullptr;
}

std::optional<Port> dotenv_port(const LaunchRequest& request, const Framework& framework) {
    if (!framework.reads_dotenv) { return std::nullopt; }
    for (const auto name : framework.variables) {
        for (const auto& entry : request.env_files) {
            unsigned value = 0;
            const auto* end = entry.value.data() + entry.value.size();
            const auto [stop, error] = std::from_chars(entry.value.data(), end, value);
            if (!name.empty() && entry.name == name && error == std::errc() && stop == end && value >= 1 && value <= 65535) {
                return static_cast<Port>(value);
            }
        }
    }
    return std::nullopt;
}

}  // namespace

LaunchReading read_launch(const Registry& registry, const LaunchRequest& request) {
    LaunchReading reading;
    const auto& config = request.place.config;
    auto& traits = reading.traits;
    traits = traits_of_launch(request.command, request.script, request.manifests, request.workspace_root);
    reading.service = service_of(request.place, request.session, std::nullopt);
    const auto earlier = earlier_listeners(registry, request.place.project, launch_name(request.session));
    if (earlier.size() > 1) { traits.one_server = false; }
    const auto know = [&reading](Port port, std::string from) {
        reading.natural = port;
        reading.natural_from = std::move(from);
    };

    const auto* entry = service_named(config, reading.service);
    if (traits.said) {
        if (entry == nullptr && !request.session.service) { entry = service_on(config, *traits.said); }
        if (entry != nullptr) { reading.service = entry->name; }
        know(*traits.said, "the command");
        return reading;
    }
    const bool unnamed = entry == nullptr && !request.session.service && traits.one_server;
    if (unnamed) { entry = only_service(config, traits.framework); }
    if (unnamed && entry == nullptr && traits.framework != nullptr) { entry = service_on(config, traits.framework->natural); }
    if (entry != nullptr) { reading.service = entry->name; }
    if (entry != nullptr && entry->port) {
        know(*entry->port, ".portwrap.json");
    } else if (!traits.one_server) {
        return reading;
    } else if (traits.fallback) {
        know(*traits.fallback, "the command");
    } else if (const auto port = traits.framework != nullptr ? dotenv_port(request, *traits.framework) : std::nullopt) {
        know(*port, ".env");
    } else if (earlier.size() == 1 && !earlier.front().kind) {  // a database reads no PORT, and has a range of its own
        if (entry == nullptr && !request.session.service) { reading.service = earlier.front().service; }
        know(earlier.front().requested, "an earlier run");
    } else if (traits.framework != nullptr) {
        know(traits.framework->natural, std::string(traits.framework->name));
    }
    return reading;
}

}  // namespace portwrap
