#include "core/frameworks.hpp"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "core/launch_words.hpp"
#include "core/port_text.hpp"
#include "core/shell_words.hpp"

namespace portwrap {
namespace {

// In the place of a word: there is none before the options.
constexpr std::string_view k_bare = "-";

// Left out on purpose: express, fastify, nest and others whose port is the application's own code (what it asks for is
// learnt from its runs).
constexpr std::array k_frameworks{
    Framework{"next", {{{"next", "dev", ""}, {"next", "start", ""}, {"next", k_bare, ""}}}, {}, 3000, {"PORT"}, {}, {"-p", "--port"}, false, false},
    Framework{"react-scripts",
              {{{"react-scripts", "start", ""}, {"craco", "start", "react-scripts"}, {"react-app-rewired", "start", "react-scripts"}}},
              {},
              3000,
              {"PORT"},
              {"WDS_SOCKET_PORT", "0"},
              {},
              false,
              true,
              true},
    Framework{"nuxt", {{{"nuxt", "dev", ""}, {"nuxi", "dev", ""}}}, {}, 3000, {"NUXT_PORT", "NITRO_PORT", "PORT"}, {}, {"-p", "--port"}, false, true},
    Framework{"nitro", {{{"node", ".output/server/index.mjs", ""}}}, {}, 3000, {"NITRO_PORT", "PORT"}, {}, {}, false, false},
    Framework{"webpack-dev-server",
              {{{"webpack", "serve", ""}, {"webpack-dev-server", "", ""}, {"webpack-cli", "serve", ""}}},
              {},
              8080,
              {"WEBPACK_DEV_SERVER_BASE_PORT"},
              {},
              {"--port"},
              false,
              false},
    Framework{"serve", {{{"serve", "", ""}}}, {}, 3000, {"PORT"}, {}, {"-l", "-p", "--listen"}, false, false},
    Framework{"http-server", {{{"http-server", "", ""}}}, {}, 8080, {"PORT"}, {}, {"-p", "--port"}, false, false},
    Framework{"live-server", {{{"live-server", "", ""}}}, {}, 8080, {"PORT"}, {}, {"--port"}, false, false},
    Framework{"sirv", {{{"sirv", "", ""}}}, {}, 8080, {"PORT"}, {}, {"-p", "--port"}, false, false},
    Framework{"nitro dev", {{{"nitro", "dev", ""}, {"nitropack", "dev", ""}}}, {}, 3000, {"PORT"}, {}, {"-p", "--port"}, false, true},
    Framework{"react-router-serve", {{{"react-router-serve", "", ""}}}, {}, 3000, {"PORT"}, {}, {}, false, false},
    Framework{"flask", {{{"flask", "run", ""}}}, {}, 5000, {"FLASK_RUN_PORT"}, {}, {"-p", "--port"}, false, true},
    Framework{"uvicorn", {{{"uvicorn", "", ""}}}, {}, 8000, {"UVICORN_PORT"}, {}, {"--port"}, false, false, false, false, {"--uds", "--fd"}},
    // PORT=8001 makes it leave 127.0.0.1 for 0.0.0.0.
    Framework{"gunicorn", {{{"gunicorn", "", ""}}}, {}, 8000, {"PORT"}, {}, {"-b", "--bind"}, false, false, false, true},
    Framework{"spring-boot",
              {{{"mvn", "spring-boot:run", ""}, {"mvnw", "spring-boot:run", ""}, {"gradlew", "bootRun", ""}, {"java", "-jar", "spring-boot"}}},
              {},
              8080,
              {"SERVER_PORT"},
              {},
              {},
              false,
              false},
    // Servers that take their port from no variable: their natural ports count for {port}, `args` and connections.
    Framework{"vite", {{{"vite", "", ""}}}, {"build", "optimize", "preview"}, 5173, {}, {}, {"--port"}, false, false},
    Framework{"vite preview", {{{"vite", "preview", ""}}}, {}, 4173, {}, {}, {"--port"}, false, false},
    Framework{"django", {{{"manage.py", "runserver", ""}, {"django-admin", "runserver", ""}, {"django", "runserver", ""}}}, {}, 8000, {}, {}, {}, true, false},
    Framework{"http.server", {{{"http.server", "", ""}}}, {}, 8000, {}, {}, {}, true, false},
};

// Programs that run several commands at once, or that may.
constexpr std::array<std::string_view, 24> k_several{
    "concurrently", "conc",  "npm-run-all", "npm-run-all2", "run-p",  "run-s",     "turbo",    "nx",     "lerna", "rush",     "moon",  "wireit",
    "pm2",          "pm2-dev", "pm2-runtime", "foreman",    "nf",     "honcho",    "overmind", "hivemind", "goreman", "mprocs", "stmux", "process-compose"};
// Words of npm, pnpm and yarn that run a script in several packages.
constexpr std::array<std::string_view, 9> k_several_words{"--workspaces", "-ws", "-r", "--recursive", "--parallel", "workspaces", "--filter", "-F", "--stream"};
constexpr std::array<std::string_view, 5> k_containers{"docker", "podman", "docker-compose", "podman-compose", "nerdctl"};
constexpr std::array<std::string_view, 4> k_container_starts{"up", "run", "start", "create"};

template <typename Words>
bool has(const Words& words, std::string_view word) {
    return !word.empty() && std::find(words.begin(), words.end(), word) != words.end();
}

bool has_argument(const SimpleCommand& command, std::string_view word) {
    return std::find(command.words.begin() + 1, command.words.end(), word) != command.words.end();
}

/// Does docker or one of its kin start a container? `docker exec web npm start` does not.
bool starts_container(const SimpleCommand& command) {
    if (!has(k_containers, command.words.front())) { return false; }
    auto at = first_operand(command);
    const bool is_group = at < command.words.size() && (command.words[at] == "compose" || command.words[at] == "container");
    if (is_group) { at = first_operand(command, at + 1); }
    return at < command.words.size() && has(k_container_starts, command.words[at]);
}

bool has_word(const FrameworkCommand& known, const SimpleCommand& command) {
    if (known.word == k_bare) { return command.words.size() == 1 || command.words[1].starts_with('-'); }
    return known.word.empty() || has_argument(command, known.word);
}

using Packages = std::vector<std::string_view>;

bool is_command_of(const FrameworkCommand& known, const SimpleCommand& command, const Packages& packages) {
    return !known.program.empty() && command.words.front() == known.program && has_word(known, command) && (known.package.empty() || has(packages, known.package));
}

const Framework* framework_of(const SimpleCommand& command, const Packages& packages) {
    for (const auto& framework : k_frameworks) {
        const bool is_it = std::any_of(framework.commands.begin(), framework.commands.end(),
                                       [&](const FrameworkCommand& known) { return is_command_of(known, command, packages); });
        if (!is_it) { continue; }
        const bool runs_none = std::any_of(framework.not_with.begin(), framework.not_with.end(),
                                           [&](std::string_view word) { return !word.empty() && has_argument(command, word); });
        if (!runs_none) { return &framework; }
    }
    return nullptr;
}

/// Does a text mention a package, as a whole word (dependencies of any manifest)?
bool mentions_package(std::string_view text, std::string_view package) {
    const auto is_part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '@' || c == '/'; };
    for (auto at = text.find(package); at != std::string_view::npos; at = text.find(package, at + 1)) {
        const auto end = at + package.size();
        // spring-boot-starter-web means spring-boot, too.
        if ((at == 0 || !is_part(text[at - 1])) && (end == text.size() || !is_part(text[end]) || text.substr(end).starts_with("-starter"))) { return true; }
    }
    return false;
}

bool runs_scripts(const SimpleCommand& command) {
    const std::string& program = command.words.front();
    return program == "npm" || program == "pnpm" || program == "yarn" || program == "bun";
}

/// yarn, pnpm and bun run the package's binary where no script has the name: `yarn next dev` is next.
SimpleCommand without_script_runner(const SimpleCommand& command) {
    auto binary = command;
    const auto at = first_operand(command);
    if (!runs_scripts(command) || command.words.front() == "npm" || at >= command.words.size()) { return binary; }
    binary.words.erase(binary.words.begin(), binary.words.begin() + static_cast<std::ptrdiff_t>(at));
    return binary;
}

/// The port at the end of PORT, HOST:PORT, tcp://HOST:PORT.
std::optional<Port> port_at_end(std::string_view text) { return port_in(text.substr(text.rfind(':') + 1)); }

void note_said(std::string_view text, LaunchTraits& traits) {
    if (text.starts_with("unix:") || text.starts_with("fd://")) {
        traits.portless = true;
        return;
    }
    if (const auto otherwise = text.find(":-"); text.starts_with("${") && text.ends_with('}') && otherwise != std::string_view::npos) {
        traits.fallback = port_at_end(text.substr(otherwise + 2, text.size() - otherwise - 3));
    }
    if (const auto port = port_at_end(text)) {
        traits.said = port;
    } else if (text.find('$') != std::string_view::npos || text.find('{') != std::string_view::npos) {
        traits.said_otherwise = true;
    }
}

void read_port_words(const SimpleCommand& command, const Framework* framework, LaunchTraits& traits) {
    for (const auto& [name, value] : command.assignments) {
        const bool meant = framework == nullptr ? name == "PORT" : has(framework->variables, name);
        if (meant) { note_said(value, traits); }
    }
    if (framework == nullptr) { return; }
    for (std::size_t i = 1; i < command.words.size(); ++i) {
        const std::string& word = command.words[i];
        const auto equals = word.find('=');
        const auto is_glued = [&word](std::string_view option) { return option.size() == 2 && word.size() > 2 && word.starts_with(option) && word[2] != '='; };
        if (has(framework->portless_options, std::string_view(word).substr(0, equals))) {
            traits.portless = true;
        } else if (std::any_of(framework->port_options.begin(), framework->port_options.end(), is_glued)) {
            note_said(std::string_view(word).substr(2), traits);  // -p3005
        } else if (has(framework->port_options, word.substr(0, equals))) {
            if (equals != std::string::npos) {
                note_said(std::string_view(word).substr(equals + 1), traits);
            } else if (i + 1 < command.words.size()) {
                note_said(command.words[++i], traits);
            }
        } else if (framework->port_argument && i + 1 == command.words.size() && (port_at_end(word) || word.find('$') != std::string::npos)) {
            note_said(word, traits);
        }
    }
}

}  // namespace

LaunchTraits traits_of_launch(const std::vector<std::string>& command, std::string_view script, const std::vector<std::string_view>& packages, bool workspace_root) {
    LaunchTraits traits;
    auto& all = traits.commands;
    all = simple_commands(command);
    if (all.size() == 1) {
        const auto& words = all.front().words;
        for (std::size_t i = 1; i < std::min<std::size_t>(words.size(), 3); ++i) { traits.other_work = traits.other_work || is_other_work_word(words[i]); }
        traits.other_work = traits.other_work || is_other_work(script_name_of(all.front()));
        traits.container_client = has(k_containers, words.front());
    }
    const std::size_t typed = all.size();
    traits.ends.push_back(typed);
    for (auto& line : simple_commands_of_lines(script)) {
        std::move(line.begin(), line.end(), std::back_inserter(all));
        traits.ends.push_back(all.size());
    }
    std::vector<const Framework*> found;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& one = all[i];
        const bool in_packages = runs_scripts(one) && std::any_of(one.words.begin() + 1, one.words.end(), [](const std::string& word) {
            return has(k_several_words, std::string_view(word).substr(0, word.find('=')));
        });
        if (one.beside || in_packages || has(k_several, one.words.front())) { traits.one_server = false; }
        traits.container = traits.container || starts_container(one);
        // A script's name where the command led to a text: to its own, or from there to another line.
        const bool is_binary = traits.ends.size() <= (i < typed ? 1U : 2U);
        const auto server = is_binary ? without_script_runner(one) : one;
        const auto* framework = framework_of(server, packages);
        if (framework != nullptr) { found.push_back(framework); }
        if (framework != nullptr || all.size() == 1 || !one.assignments.empty()) { read_port_words(server, framework, traits); }
    }
    if (found.size() > 1 || (workspace_root && found.empty())) { traits.one_server = false; }
    if (traits.one_server && found.size() == 1) { traits.framework = found.front(); }
    if (!traits.one_server) {
        traits.said.reset();
        traits.fallback.reset();
    }
    return traits;
}

bool takes_port_for_more(const std::vector<std::string>& arguments) {
    // "/usr/bin/python3 /usr/bin/gunicorn app:app", and "gunicorn: master [app:app]" once it has named itself.
    const auto end = arguments.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(arguments.size(), 3));
    return std::any_of(arguments.begin(), end, [](const std::string& argument) {
        const auto name = std::string_view(argument).substr(argument.rfind('/') + 1);
        return std::any_of(k_frameworks.begin(), k_frameworks.end(), [&](const Framework& one) {
            const auto program = one.commands.front().program;
            return one.only_by_user && (name == program || (name.starts_with(program) && name.substr(program.size()).starts_with(": ")));
        });
    });
}

const std::vector<std::string_view>& port_variables() {
    static const std::vector<std::string_view> k_all = [] {
        std::vector<std::string_view> all{"PORT"};
        for (const auto& framework : k_frameworks) {
            for (const auto name : framework.variables) {
                if (!name.empty() && !has(all, name)) { all.push_back(name); }
            }
        }
        return all;
    }();
    return k_all;
}

std::vector<std::string_view> packages_in(std::string_view manifest) {
    static const Packages k_all = [] {
        Packages all;
        for (const auto& framework : k_frameworks) {
            for (const auto& known : framework.commands) {
                if (!known.package.empty() && !has(all, known.package)) { all.push_back(known.package); }
            }
        }
        return all;
    }();
    Packages found;
    std::copy_if(k_all.begin(), k_all.end(), std::back_inserter(found), [&](std::string_view package) { return mentions_package(manifest, package); });
    return found;
}

}  // namespace portwrap
