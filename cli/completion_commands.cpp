// portctl completion: the completions of the shells, and what they call at each TAB. The scripts of shell/ only carry the
// words here; what may follow is read off the parsers (completion.hpp), and live values are asked of the agent if one runs.
// A TAB never starts an agent, never waits for one that does not answer, and never prints an error.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "completion.hpp"
#include "launch.hpp"
#include "render.hpp"
#include "shell_texts.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

/// For the agent's part in one TAB.
constexpr int k_tab_deadline_ms = 300;

struct Candidate {
    std::string value;
    std::string description;
};

/// Is the word one of a list's, whose last comma ends it? An option's name and `=` may stand before.
bool in_list(std::string_view list, std::string_view word) {
    if (const auto equals = list.find('='); equals != std::string_view::npos) { list.remove_prefix(equals + 1); }
    for (std::size_t comma = 0; (comma = list.find(',')) != std::string_view::npos; list.remove_prefix(comma + 1)) {
        if (list.substr(0, comma) == word) { return true; }
    }
    return false;
}

class Candidates {
public:
    explicit Candidates(std::string typed) : m_typed(std::move(typed)) {}
    void add(const std::string& value, const std::string& description) {
        const bool known = std::any_of(m_found.begin(), m_found.end(), [&](const Candidate& other) { return other.value == value; });
        // Each is printed on a line of its own, and lines that begin with a colon are for the script.
        if (known || value.empty() || value[0] == ':' || !value.starts_with(m_typed) || printable(value) != value) { return; }
        m_found.push_back({value, printable(description)});
    }
    /// What the list before the cursor, `--state=active,` say, has already.
    void leave_out(std::string_view list) {
        std::erase_if(m_found, [&](const Candidate& candidate) { return in_list(list, candidate.value); });
    }
    [[nodiscard]] const std::vector<Candidate>& found() const { return m_found; }

private:
    std::string m_typed;
    std::vector<Candidate> m_found;
};

std::string number_text(const Json& object, const char* name) {
    const auto number = number_field(object, name);
    return number && *number > 0 ? std::to_string(*number) : std::string();
}

/// What the agent knows, asked for when it is needed.
class LiveValues {
public:
    LiveValues(const Globals& globals, std::string command) : m_globals(globals), m_command(std::move(command)) {}

    void add(const std::string& kind, Candidates& candidates) {
        if (kind == "COMMAND") {
            for (const auto& command : all_commands()) { candidates.add(command.name, command.summary); }
        } else if (kind == "SERVICE") {
            for (const auto& lease : leases(false)) { candidates.add(text_field(lease, "service"), number_text(lease, "port") + ' ' + text_field(lease, "state")); }
            const auto shown = ask_running("project.show", false);
            for (const auto& service : inner_field(inner_field(shown, "project"), "services")) {
                if (service.is_string()) { candidates.add(service.get<std::string>(), ".portwrap.json"); }
            }
        } else if (kind == "REQUESTED") {
            for (const auto& lease : leases(false)) { candidates.add(number_text(lease, "requested_port"), "is " + number_text(lease, "port")); }
        } else if (kind == "PORT") {
            const bool of_all = m_command == "check" || m_command == "who" || m_command == "history";
            for (const auto& lease : leases(of_all)) { candidates.add(number_text(lease, "port"), render_lease_name(lease) + ' ' + text_field(lease, "state")); }
        } else if (kind == "PATH" || kind == "PROJECT") {
            add_projects(candidates);
        } else if (kind == "WORKTREE") {
            for (const auto& lease : leases(true)) {
                const auto& project = inner_field(lease, "project");
                candidates.add(text_field(project, "branch"), text_field(project, "root"));
            }
        } else if (kind == "KIND" && m_command == "template") {
            const auto known = ask_running("exchange.template", Json::object());
            for (const auto& entry : inner_field(known, "templates")) {
                candidates.add(text_field(entry, "kind"), text_field(entry, "description"));
            }
        } else {
            add_ranges(kind, candidates);
        }
    }

private:
    /// The result, null without an agent, or when it refuses.
    Json ask_running(const char* method, const Json& parameters) {
        auto agent = find_running_agent(Deadline::in_milliseconds(k_tab_deadline_ms));
        if (!agent || !agent->has_value()) { return nullptr; }
        auto reply = (*agent)->call(method, parameters);
        return reply && reply->ok ? std::move(reply->body) : Json(nullptr);
    }

    Json ask_running(const char* method, bool of_all) {
        auto globals = m_globals;
        globals.all = of_all;
        if (of_all) { globals.project.clear(); }
        const auto parameters = project_parameters(globals, true);
        return parameters ? ask_running(method, *parameters) : Json(nullptr);
    }

    Json leases(bool of_all) { return inner_field(ask_running("lease.list", of_all), "leases"); }

    void add_projects(Candidates& candidates) {
        std::vector<std::pair<std::string, std::string>> projects;  // name, root
        for (const auto& lease : leases(true)) {
            const auto& project = inner_field(lease, "project");
            std::pair entry(text_field(project, "name"), text_field(project, "root"));
            if (std::find(projects.begin(), projects.end(), entry) == projects.end()) { projects.push_back(std::move(entry)); }
        }
        for (const auto& [name, root] : projects) {
            const auto& wanted = name;
            const auto namesakes = std::count_if(projects.begin(), projects.end(), [&](const auto& other) { return other.first == wanted; });
            // A name that several worktrees have means none of them.
            if (namesakes == 1) { candidates.add(name, root); }
            candidates.add(root, name);
        }
    }

    void add_ranges(const std::string& kind, Candidates& candidates) {
        constexpr std::pair<const char*, const char*> k_kinds[] = {{"TYPE", "type"}, {"KIND", "service"}, {"ENV", "environment"}, {"RANGE", ""}};
        const auto* wanted = std::find_if(std::begin(k_kinds), std::end(k_kinds), [&](const auto& row) { return kind == row.first; });
        if (wanted == std::end(k_kinds)) { return; }
        const std::string_view of_kind = wanted->second;
        const auto known = ask_running("range.list", false);
        for (const auto& range : inner_field(known, "ranges")) {
            if (of_kind.empty() || text_field(range, "kind") == of_kind) { candidates.add(text_field(range, "name"), text_field(range, "description")); }
        }
        if (kind == "ENV") {
            for (const char* name : {"dev", "test", "production"}) { candidates.add(name, ""); }
        }
    }

    Globals m_globals;
    std::string m_command;
};

std::string in_home(std::string path) {
    const char* home = std::getenv("HOME");
    if (home != nullptr && (path == "~" || path.starts_with("~/"))) { path.replace(0, 1, home); }
    return path;
}

/// Takes over what the line says about the project that is meant.
void read_globals(const CLI::App& app, const CursorPlace& place, Globals& globals) {
    if (const auto directory = place.value_of(app, "-C"); !directory.empty()) { globals.directory = in_home(directory); }
    if (const auto project = place.value_of(app, "--project"); !project.empty()) { globals.project = in_home(project); }
}

std::string complete_option(const CLI::App& app, const CursorPlace& place) {
    Candidates candidates(place.typed);
    for (const auto* option : app.get_options()) {
        const bool again = option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
        const bool given = std::any_of(place.given.begin(), place.given.end(), [&](const auto& entry) { return entry.first == option; });
        if (given && !again) { continue; }
        const auto names = option_names(*option);
        for (const auto& name : names) {
            // A short name beside a long one only when it has been typed.
            if (name == names.front() || name == place.typed) { candidates.add(name, option->get_description()); }
        }
    }
    std::string text;
    for (const auto& [value, description] : candidates.found()) { text.append(value).append(1, '\t').append(description).append(1, '\n'); }
    return text;
}

std::string complete_value(const CursorPlace& place, LiveValues& live) {
    const auto form = value_form(*place.option);
    Candidates candidates(place.typed);
    for (const auto& literal : form.literals) { candidates.add(literal, ""); }
    for (const auto& kind : form.kinds) { live.add(kind, candidates); }
    if (form.is_list) { candidates.leave_out(place.kept); }
    std::string text;
    for (const auto& [value, description] : candidates.found()) { text.append(place.kept).append(value).append(1, '\t').append(description).append(1, '\n'); }
    const auto is_one_of = [&](std::string_view kind) { return std::find(form.kinds.begin(), form.kinds.end(), kind) != form.kinds.end(); };
    if (is_one_of("FILE")) { text += ":files\n"; }
    if (is_one_of("DIR") || (is_one_of("PATH") && candidates.found().empty())) { text += ":directories\n"; }
    return text;
}

std::string complete_place(const CLI::App& app, const CursorPlace& place, const Globals& globals, const std::string& command) {
    switch (place.what) {
        case CursorPlace::What::option: return complete_option(app, place);
        case CursorPlace::What::value: {
            LiveValues live(globals, command);
            return complete_value(place, live);
        }
        case CursorPlace::What::command:
        case CursorPlace::What::nothing: return {};
    }
    return {};
}

std::string complete_portwrap(const Words& words) {
    std::string text;
    (void)parse_launch_options({}, [&](const CLI::App& app) {
        const auto place = find_cursor(app, words, true);
        if (place.what == CursorPlace::What::command) {
            // Counted with the program's name, as shells do.
            text = ":command " + std::to_string(place.command_at + 1) + '\n';
        } else {
            text = complete_place(app, place, Globals{}, "portwrap");
        }
    });
    return text;
}

std::string complete_portctl(const Words& words) {
    Globals globals;
    Globals unused;
    bool version = false;
    CLI::App first;
    add_first_options(first, unused, version);
    const auto before = find_cursor(first, words, true);
    read_globals(first, before, globals);
    if (before.what != CursorPlace::What::command) { return complete_place(first, before, globals, ""); }
    const auto& name = words.empty() ? std::string() : words[before.command_at];
    std::string text;
    if (before.command_at + 1 >= words.size()) {
        for (const auto& command : all_commands()) {
            if (std::string_view(command.name).starts_with(name)) { text += std::string(command.name) + '\t' + command.summary + '\n'; }
        }
        return text;
    }
    for (const auto& command : all_commands()) {
        if (name != command.name) { continue; }
        Globals asked;
        asked.inspect = [&](const CommandForm& form) {
            const auto place = find_cursor(form.app, std::span(words).subspan(before.command_at + 1), false);
            read_globals(form.app, place, globals);
            text = complete_place(form.app, place, globals, name);
        };
        (void)command.run(asked, {});
    }
    return text;
}

int run_completion(Globals& globals, const Words& arguments) {
    std::string shell;
    const auto end = parse_command(
        globals, "completion bash|zsh|fish", "Prints the completions of portctl and portwrap for a shell. Installed packages bring them along.",
        "  eval \"$(portctl completion bash)\"        in ~/.bashrc\n"
        "  eval \"$(portctl completion zsh)\"         in ~/.zshrc, after compinit\n"
        "  portctl completion fish | source         in ~/.config/fish/config.fish",
        arguments, [&](CLI::App& app) { app.add_option("shell", shell, "The shell")->option_text("bash|zsh|fish")->required(); });
    if (end) { return *end; }
    const auto text = shell_text("completion." + shell);
    if (text.empty()) { return report(globals, Error{ErrorCode::invalid_request, "no such shell: '" + printable(shell) + "' (bash, zsh or fish)"}); }
    return print_text(shell == "zsh" ? for_zsh(text) : std::string(text));
}

}  // namespace

int run_complete(const Words& arguments) {
    if (arguments.empty()) { return 0; }
    const Words words(arguments.begin() + 1, arguments.end());
    return print_text(arguments[0] == "portwrap" ? complete_portwrap(words) : complete_portctl(words));
}

std::vector<Command> completion_commands() { return {{"completion", "the completions for bash, zsh or fish", run_completion}}; }

}  // namespace portwrap
