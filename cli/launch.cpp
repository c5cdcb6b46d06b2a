// See launch.hpp.
#include "launch.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "browser.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "portwrap/remap_table.hpp"
#include "text.hpp"
#include "visibility.hpp"

extern char** environ;

namespace portwrap {

namespace {

constexpr std::size_t k_told_names = 200;
constexpr std::size_t k_told_names_bytes = 12 * 1024;
constexpr std::size_t k_told_ports = 32;
/// Of the 64 KiB of a request; a byte of an argument takes up to six in JSON, which is why they are counted escaped.
constexpr std::size_t k_told_command_bytes = 40 * 1024;

void say(std::string_view line) { write_line(STDERR_FILENO, "portwrap: " + printable(line)); }

/// Lines of the agent may or may not begin with the program's name already.
void relay(std::string_view line) {
    constexpr std::string_view k_prefix = "portwrap: ";
    if (line.starts_with(k_prefix)) { line.remove_prefix(k_prefix.size()); }
    say(line);
}

bool is_set(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] != '\0' && std::strcmp(value, "0") != 0;
}

[[nodiscard]] int run(const std::vector<std::string>& command) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const auto& word : command) { arguments.push_back(const_cast<char*>(word.c_str())); }
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    const int error = errno;
    say(command[0] + ": " + std::strerror(error));
    return error == ENOENT ? k_exit_not_found : k_exit_cannot_run;
}

int run_unmanaged(const LaunchOptions& options, const std::string& reason) {
    if (!options.quiet || options.dry_run) { say("unmanaged: " + reason); }
    return options.dry_run ? 0 : run(options.command);
}

std::string basename_of(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

/// A path to the shim that LD_PRELOAD can carry: a link in `directory` when its own has a blank or a colon.
Result<std::string> preloadable_shim(const std::string& shim, const std::string& runtime) {
    if (is_preloadable(shim)) { return shim; }
    for (const auto& directory : {runtime, "/tmp/portwrap-" + std::to_string(::geteuid())}) {
        const auto link = directory + '/' + k_shim_name;
        if (!is_preloadable(link) || !ensure_private_directory(directory)) { continue; }
        std::string target(PATH_MAX, '\0');
        const auto size = ::readlink(link.c_str(), target.data(), target.size());
        if (size > 0 && std::string_view(target.data(), static_cast<std::size_t>(size)) == shim) { return link; }
        // By rename, so that a program that starts at this moment finds either the old link or the new one.
        const auto fresh = link + '.' + std::to_string(::getpid());
        if (::symlink(shim.c_str(), fresh.c_str()) == 0 && ::rename(fresh.c_str(), link.c_str()) == 0) { return link; }
        ::unlink(fresh.c_str());
    }
    return Error{ErrorCode::permission_denied, shim + " cannot be preloaded from a path with a blank or a colon"};
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

std::vector<std::string> strings_of(const Json& body, const char* name) {
    std::vector<std::string> strings;
    const auto found = body.find(name);
    if (found == body.end() || !found->is_array()) { return strings; }
    for (const auto& item : *found) {
        if (item.is_string()) { strings.push_back(item.get<std::string>()); }
    }
    return strings;
}

std::string string_of(const Json& body, const char* name) {
    const auto found = body.find(name);
    return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool flag_of(const Json& body, const char* name, bool otherwise) {
    const auto found = body.find(name);
    return found != body.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

void set_or_unset(const char* name, const std::string& value) {
    if (value.empty()) {
        ::unsetenv(name);
    } else {
        ::setenv(name, value.c_str(), 1);
    }
}

bool contains(const std::vector<std::string>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

/// Variables of the user's that the agent was not told of are left as they are. What an outer portwrap set for another
/// session or project goes: it would lead this command to a port that is not its own.
void set_variables(const Json& body, const std::vector<std::string>& told, const std::vector<std::string>& inherited, bool is_nested) {
    std::vector<std::pair<std::string, std::string>> set;
    if (const auto found = body.find("set"); found != body.end() && found->is_object()) {
        for (const auto& [name, value] : found->items()) {
            if (!value.is_string() || !is_variable_name(name)) { continue; }
            const bool is_users = std::getenv(name.c_str()) != nullptr && !contains(told, name) && !contains(inherited, name);
            if (!is_users) { set.emplace_back(name, value.get<std::string>()); }
        }
    }
    for (const auto& name : inherited) {
        if (std::any_of(set.begin(), set.end(), [&](const auto& entry) { return entry.first == name; })) { continue; }
        if (is_nested) {
            set.emplace_back(name, std::getenv(name.c_str()));
        } else {
            ::unsetenv(name.c_str());
        }
    }
    for (const auto& [name, value] : set) { ::setenv(name.c_str(), value.c_str(), 1); }
    set_or_unset(k_env_set, record_of(set));
}

/// One line about a program whose own sockets cannot be intercepted; empty where they can.
std::string sight_notice(Visibility visibility, const std::string& command, const Json& body) {
    std::string why;
    if (flag_of(body, "container_client", false)) { return {}; }  // nobody expects its sockets to be seen
    switch (visibility) {
        case Visibility::seen: return {};
        case Visibility::go: why = "it is written in Go, and Go makes its own system calls"; break;
        case Visibility::statically_linked: why = "it is statically linked"; break;
        case Visibility::other_machine: why = "it is built for another kind of machine"; break;
    }
    const auto set = body.find("set");
    const auto port = set != body.end() && set->is_object() ? string_of(*set, "PORT") : std::string();
    const auto instead = port.empty() ? std::string("where it takes a port as an argument, give it {port}")
                                      : "PORT=" + port + " is set for it; where it takes a port as an argument, give it {port}";
    return basename_of(command) + " cannot be intercepted (" + why + "); " + instead;
}

}  // namespace

std::string merge_preload(std::string_view present, std::string_view shim) {
    constexpr std::string_view k_separators = ": ";
    std::string merged;
    char separator = ':';
    bool there = false;
    for (std::size_t at = 0; at < present.size();) {
        const auto end = std::min(present.find_first_of(k_separators, at), present.size());
        const auto entry = present.substr(at, end - at);
        there = there || entry == shim;
        if (!entry.empty() && basename_of(entry) != k_shim_name) {
            if (!merged.empty()) { merged += separator; }
            merged += entry;
        }
        if (end < present.size()) { separator = present[end]; }
        at = end + 1;
    }
    if (there) { return std::string(present); }
    if (!merged.empty()) { merged += separator; }
    return merged += shim;
}

bool is_preloadable(std::string_view path) { return path.find_first_of(": $\t\n") == std::string_view::npos; }

std::vector<std::string> told_names(const std::vector<std::string_view>& environment) {
    std::vector<std::string_view> names;
    for (const auto entry : environment) {
        const auto name = entry.substr(0, entry.find('='));
        if (name.size() < entry.size() && is_variable_name(name)) { names.push_back(name); }
    }
    const auto rank = [](std::string_view name) {
        if (name.ends_with("PORT")) { return 0; }
        for (const std::string_view end : {"HOST", "URL", "URI", "ADDR", "ADDRESS", "ORIGIN"}) {
            if (name.ends_with(end)) { return 1; }
        }
        return 2;
    };
    std::stable_sort(names.begin(), names.end(), [&](auto a, auto b) { return rank(a) < rank(b); });
    std::vector<std::string> told;
    std::size_t bytes = 0;
    for (const auto name : names) {
        if (told.size() == k_told_names) { break; }
        if (bytes + name.size() + 3 > k_told_names_bytes) { continue; }
        bytes += name.size() + 3;
        told.emplace_back(name);
    }
    return told;
}

std::vector<std::string> told_ports(const std::vector<std::string_view>& environment) {
    std::vector<std::string> told;
    for (const auto entry : environment) {
        const auto equals = entry.find('=');
        if (equals == std::string_view::npos || told.size() == k_told_ports) { continue; }
        const auto name = entry.substr(0, equals);
        const auto value = entry.substr(equals + 1);
        const bool digits = !value.empty() && value.size() <= 5 && value.find_first_not_of("0123456789") == std::string_view::npos;
        if (!name.ends_with("PORT") || name.size() > 128 || !is_variable_name(name) || !digits) { continue; }
        const int number = std::atoi(std::string(value).c_str());
        if (number >= 1 && number <= 65535) { told.push_back(std::string(name) + "=" + std::to_string(number)); }
    }
    return told;
}

std::vector<std::string> told_command(const std::vector<std::string>& command) {
    std::vector<std::string> told;
    std::size_t bytes = 0;
    for (const auto& word : command) {
        std::size_t size = 3;
        for (const char c : word) { size += static_cast<unsigned char>(c) < 0x20 ? 6 : c == '"' || c == '\\' ? 2 : 1; }
        if (bytes + size > k_told_command_bytes) {
            // The agent wants a command; an absurd first word tells it nothing anyway.
            if (told.empty()) { told.emplace_back("?"); }
            break;
        }
        bytes += size;
        told.push_back(is_utf8(word) ? word : "?");
    }
    return told;
}

std::vector<std::string> command_to_run(const std::vector<std::string>& command, const std::vector<std::string>& told,
                                        const std::vector<std::string>& returned) {
    if (returned.size() < told.size()) { return command; }
    auto result = command;
    for (std::size_t i = 0; i < told.size() && i < command.size(); ++i) {
        if (returned[i] != told[i]) { result[i] = returned[i]; }
    }
    result.insert(result.end(), returned.begin() + static_cast<std::ptrdiff_t>(told.size()), returned.end());
    return result;
}

std::string record_of(const std::vector<std::pair<std::string, std::string>>& set) {
    std::string record;
    for (const auto& [name, value] : set) {
        char digits[remap_table::k_name_digits];
        remap_table::write_name(remap_table::hash_of(value.data(), value.size()), digits);
        record += (record.empty() ? "" : ",") + name + "=" + std::string(digits, sizeof digits);
    }
    return record;
}

std::vector<std::string> names_of_record(std::string_view record, const std::function<const char*(const char*)>& value_of) {
    std::vector<std::string> names;
    while (!record.empty()) {
        const auto entry = record.substr(0, record.find(','));
        record.remove_prefix(std::min(entry.size() + 1, record.size()));
        const auto name = std::string(entry.substr(0, entry.find('=')));
        const char* value = is_variable_name(name) ? value_of(name.c_str()) : nullptr;
        if (value != nullptr && record_of({{name, value}}) == entry) { names.push_back(name); }
    }
    return names;
}

std::string asan_options(std::string_view present) {
    constexpr std::string_view k_name = "verify_asan_link_order";
    std::string options(present);
    if (present.find(k_name) == std::string_view::npos) { options += (options.empty() ? "" : ":") + std::string(k_name) + "=0"; }
    return options;
}

int launch(const LaunchOptions& given) {
    LaunchOptions options = given;
    options.quiet = options.quiet || is_set(k_env_quiet);
    if (is_set(k_env_disable)) { return options.dry_run ? 0 : run(options.command); }

    const auto own = own_program();
    if (own.empty()) { return run_unmanaged(options, k_no_proc); }
    const auto shim = directory_of(directory_of(own)) + "/lib/portwrap/" + k_shim_name;
    if (::access(shim.c_str(), R_OK) != 0) { return run_unmanaged(options, shim + ": " + std::strerror(errno)); }
    std::string cwd(PATH_MAX, '\0');
    if (::getcwd(cwd.data(), cwd.size()) == nullptr) {
        return run_unmanaged(options, std::string("no working directory: ") + std::strerror(errno));
    }
    cwd.resize(std::strlen(cwd.c_str()));
    if (!is_utf8(cwd) || cwd[0] != '/') { return run_unmanaged(options, "the working directory's path is not UTF-8"); }

    const auto told = told_command(options.command);
    std::vector<std::string_view> environment;
    const auto value_of = [](const char* name) -> const char* { return std::getenv(name); };
    const auto text_of = [&](const char* name) {
        const char* value = value_of(name);
        return std::string_view(value != nullptr ? value : "");
    };
    const auto inherited = names_of_record(text_of(k_env_set), value_of);
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view variable = *entry;
        if (!contains(inherited, variable.substr(0, variable.find('=')))) { environment.push_back(variable); }
    }
    // Our own programs are static, and serve nobody.
    const auto program = basename_of(options.command[0]);
    const auto visibility = program == "portwrap" || program == "portctl" ? Visibility::seen : look_at_program(options.command[0]);
    const auto names = told_names(environment);
    Json params{{"cwd", cwd},
                {"command", told},
                {"environment_names", names},
                {"environment_ports", told_ports(environment)},
                {"port", options.port ? Json(*options.port) : Json(nullptr)},
                {"service", text_or_null(options.service)},
                {"type", text_or_null(options.type)},
                {"environment", text_or_null(options.environment)},
                {"range", text_or_null(options.range)},
                {"kind", text_or_null(options.kind)},
                {"quiet", options.quiet},
                {"connect", options.connect},
                {"intercepted", visibility == Visibility::seen},
                {"dry_run", options.dry_run}};
    struct stat standard_error {};
    if (::fstat(STDERR_FILENO, &standard_error) == 0) {
        params["stderr"] = {standard_error.st_dev, standard_error.st_ino};
    }
    const auto answer = ask_agent("session.open", params, Deadline::in_milliseconds(k_deadline_ms));
    if (!answer) {
        if (answer.error().code == ErrorCode::invalid_request) {
            say(answer.error().message);
            return k_exit_refused;
        }
        return run_unmanaged(options, "no agent (" + answer.error().message + ")");
    }
    const auto& body = answer->reply.body;
    if (!answer->reply.ok) {
        const auto code = string_of(body, "code");
        const auto message = string_of(body, "message");
        if (code == "VERSION_MISMATCH" || code == "AGENT_UNAVAILABLE") {
            return run_unmanaged(options, "no agent (" + message + ")");
        }
        relay(message);
        return k_exit_refused;
    }
    if (options.dry_run || options.verbose) {
        for (const auto& line : strings_of(body, "explain")) { relay(line); }
    }
    if (!options.quiet) {
        for (const auto& line : strings_of(body, "notices")) { relay(line); }
        if (const auto line = sight_notice(visibility, options.command[0], body); !line.empty()) { say(line); }
    }
    if (options.dry_run) { return 0; }

    const auto runtime = directory_of(answer->socket);
    const auto preload = preloadable_shim(shim, runtime);
    if (!preload) { return run_unmanaged(options, preload.error().message); }
    // A loader that cannot load it would complain for each process.
    if (visibility != Visibility::other_machine) {
        ::setenv("LD_PRELOAD", merge_preload(text_of("LD_PRELOAD"), *preload).c_str(), 1);
        ::setenv("ASAN_OPTIONS", asan_options(text_of("ASAN_OPTIONS")).c_str(), 1);
    }
    // Not a child of the command's, which has this process: it would be a stranger to it.
    if (options.open) { (void)run_detached({directory_of(own_program()) + "/portctl", "open", "--wait", "10m", "--", string_of(body, "service")}); }
    const bool is_nested = text_of(k_env_session) == string_of(body, "session") && text_of(k_env_table) == string_of(body, "table");
    set_variables(body, names, inherited, is_nested);
    ::setenv(k_env_runtime, runtime.c_str(), 1);
    ::setenv(k_env_session, string_of(body, "session").c_str(), 1);
    set_or_unset(k_env_table, string_of(body, "table"));
    set_or_unset(k_env_connect, flag_of(body, "connect", true) ? "" : "off");
    return run(command_to_run(options.command, told, strings_of(body, "command")));
}

}  // namespace portwrap
