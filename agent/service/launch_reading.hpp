// Which service a launch runs, and the port that its code asks for: from its words, the project's configuration, the .env
// files, earlier runs and the table of frameworks, in this order. Pure.
#pragma once

#include <optional>
#include <string>

#include "core/frameworks.hpp"
#include "service/launch_plan.hpp"

namespace portwrap {

struct LaunchReading {
    bool one_server = true;       ///< neither the words nor earlier runs say that it runs several
    std::string service;
    std::optional<Port> natural;  ///< none: not known
    std::string natural_from;     ///< for people: "the command", ".portwrap.json", ".env", "an earlier run", "next"
};

[[nodiscard]] LaunchReading read_launch(const Registry& registry, const LaunchRequest& request);

}  // namespace portwrap
