// The one table of what is known of web frameworks and their servers: how a command that runs one is recognised, the
// variables from which it takes its port, the port that it asks for by itself, how many servers it runs. Pure.
//
// tests/matrix/variables.py starts the real program for every row of the table that Debian's and npm's registries have,
// and shows that it honours each variable and asks for the natural port.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/shell_words.hpp"
#include "core/types.hpp"

namespace portwrap {

/// A program and a word among its arguments (empty: any; "-": none but options). `package`: only where a manifest mentions it.
struct FrameworkCommand {
    std::string_view program;
    std::string_view word;
    std::string_view package;
};

struct Framework {
    std::string_view name;
    std::array<FrameworkCommand, 4> commands;
    std::array<std::string_view, 3> not_with;        ///< with one of these words it runs no server
    Port natural;                                    ///< what it asks for when nobody says anything
    std::array<std::string_view, 3> variables;       ///< that carry its port; the first is the one to set
    std::pair<std::string_view, std::string_view> companion;  ///< to be set together with it, to this value
    std::array<std::string_view, 3> port_options;
    bool port_argument;  ///< a bare argument PORT or HOST:PORT is the port
    bool reads_dotenv;   ///< takes the variables from .env files by itself
    bool insists = false;  ///< refuses to run on another port than it asked for
    bool only_by_user = false;  ///< with its variable set it does more than to take its port from it: only the user sets it
    std::array<std::string_view, 2> portless_options = {};  ///< with one of these it needs no port
};

/// What the words of a launch say of the servers that it runs.
struct LaunchTraits {
    const Framework* framework = nullptr;  ///< of its only server, where that is known
    bool one_server = true;                ///< nothing says that it runs several
    bool container = false;                ///< docker or podman starts something
    bool container_client = false;         ///< the program is docker or podman: whatever it does, it takes no port from us
    bool other_work = false;               ///< it builds, tests or installs; arguments for a server are not meant for it
    std::optional<Port> said;              ///< the port that its words give (`--port 4000`, `PORT=4000 node x`)
    std::optional<Port> fallback;          ///< theirs where a variable is not set (`PORT=${PORT:-4000}`)
    bool said_otherwise = false;           ///< they give it in a way that only a shell understands (`--port $PORT`)
    bool portless = false;                 ///< it listens on a Unix socket or an inherited descriptor
    std::vector<SimpleCommand> commands;   ///< what the words run, the script's commands included
    std::vector<std::size_t> ends;         ///< where those that were typed end in it, then those of each line of the script
};

/// `script`: the text of the package script that the command runs, one line for each script that it leads to; empty when
/// it runs none. `packages`: see packages_in, of the manifests of its directory. `workspace_root`: the script is a workspace's own.
[[nodiscard]] LaunchTraits traits_of_launch(const std::vector<std::string>& command, std::string_view script, const std::vector<std::string_view>& packages,
                                            bool workspace_root);

/// Those of the packages that tell frameworks apart which a manifest mentions, as whole words; names from the table.
[[nodiscard]] std::vector<std::string_view> packages_in(std::string_view manifest);

/// Is this the process of a program that with PORT set listens on other addresses than without? `arguments` as the kernel
/// has them. Nothing is learnt from its runs, since whatever started it could not be told PORT without harm.
[[nodiscard]] bool takes_port_for_more(const std::vector<std::string>& arguments);

/// Every variable that some framework takes its port from, PORT first.
[[nodiscard]] const std::vector<std::string_view>& port_variables();

}  // namespace portwrap
