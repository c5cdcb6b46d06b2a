// What `portwrap COMMAND` does before the command runs: which ports it offers, in which variables and arguments, and what
// it says. Pure, like the core: the plan is made of values and carried out elsewhere.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/frameworks.hpp"
#include "core/named_ports.hpp"
#include "core/policy.hpp"

namespace portwrap {

struct LaunchRequest {
    Session session;  ///< complete but for nothing: it is opened as it stands
    Place place;
    std::vector<std::string> command;
    std::string script;     ///< text of the package script that the command runs; empty when it runs none
    LaunchTraits traits;    ///< of both
    std::vector<EnvValue> env_files; ///< what the .env files of the command's directory say
    std::vector<std::string> environment_names;  ///< the user's own variables, never overwritten
    std::vector<std::pair<std::string, Port>> environment_ports;  ///< those of them whose name ends in PORT and whose value is one
    std::string allocated_by;
    bool dry_run = false;
    bool intercepted = true;  ///< false: a variable is all that can tell it its port
    [[nodiscard]] bool is_given(std::string_view name) const {
        return std::find(environment_names.begin(), environment_names.end(), name) != environment_names.end();
    }
};

struct LaunchPlan {
    std::vector<Change> changes;
    std::string service;
    std::string range;
    std::vector<std::string> command;
    std::vector<std::pair<std::string, std::string>> set;
    std::vector<std::string> notices;
    std::vector<std::string> explain;
    bool container_client = false;  ///< the command is docker or podman: nobody expects that its sockets are seen
};

[[nodiscard]] std::variant<LaunchPlan, Refusal> plan_launch(const Registry& registry, const Config& config, const LaunchRequest& request,
                                                            const Facts& facts);

/// The command of a session as people and later runs know it: with the port variables that the user gave it before it,
/// since such a run says nothing of what the command asks for by itself.
[[nodiscard]] std::string session_command(const std::vector<std::string>& command, const std::vector<std::pair<std::string, Port>>& environment_ports);

/// Does a shell text or program text use this environment variable: $PORT, ${PORT...}, env.PORT, environ["PORT"],
/// getenv("PORT")? An assignment (PORT=3000) is not a use.
[[nodiscard]] bool mentions_variable(std::string_view text, std::string_view name);

}  // namespace portwrap
