// .portwrap.json, which comes with a repository that nobody trusts.
#include <cstdint>

#include "fuzz.hpp"
#include "system/places.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto config = parse_project_config(text);
    if (!config) {
        fuzz::promise(!config.error().message.empty() && fuzz::is_showable(config.error().message), "an error can be shown");
        return 0;
    }
    for (const auto& variable : config->env) { fuzz::promise(!is_refused_variable(variable.first), "no variable that would run code"); }
    for (const auto& service : config->services) {
        fuzz::promise(!service.name.empty() && fuzz::is_showable(service.name), "a service's name can be shown");
        if (service.env) { fuzz::promise(!is_refused_variable(*service.env), "no variable that would run code"); }
    }
    if (config->name) { fuzz::promise(!config->name->empty() && fuzz::is_showable(*config->name), "a name can be shown"); }
    return 0;
}
