// See write_text.hpp.
#include "service/exchange/write_text.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <utility>

#include "portwrap/protocol.hpp"
#include "portwrap/remap_table.hpp"
#include "service/shapes.hpp"
#include "storage/event_codec.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

std::string text_of(const std::optional<Time>& time) { return time ? format_time(*time) : std::string(); }
std::string text_of(const std::optional<Port>& port) { return port ? std::to_string(*port) : std::string(); }

/// One table of the columns for csv and markdown: a new column stands in both or is left out of one on purpose.
struct Field {
    const char* name;
    const char* title;  ///< in markdown; null: not shown there
    std::string (*text)(const Registry&, const Lease&);
};

std::string project_name(const Registry& registry, const Lease& lease) {
    const auto* project = registry.find_project(lease.key.root);
    return project != nullptr ? project->name : lease.key.root;
}

constexpr std::size_t k_longest_cell = 8192;

constexpr Field k_fields[] = {
    {"service", "Service", [](const Registry&, const Lease& lease) { return lease.key.service; }},
    {"port", "Port", [](const Registry&, const Lease& lease) { return std::to_string(lease.port); }},
    {"requested_port", "Asked", [](const Registry&, const Lease& lease) { return text_of(lease.key.requested); }},
    {"protocol", "Protocol", [](const Registry&, const Lease& lease) { return std::string(word(lease.key.protocol)); }},
    {"instance", "Instance", [](const Registry&, const Lease& lease) { return std::to_string(lease.key.instance); }},
    {"project", "Project", project_name},
    {"root", "Root", [](const Registry&, const Lease& lease) { return lease.key.root; }},
    {"environment", "Environment", [](const Registry&, const Lease& lease) { return std::string(word(lease.environment)); }},
    {"kind", "Kind", [](const Registry&, const Lease& lease) { return lease.kind.value_or(""); }},
    {"range", "Range", [](const Registry&, const Lease& lease) { return lease.range; }},
    {"state", "State", [](const Registry&, const Lease& lease) { return std::string(word(lease.state)); }},
    {"description", "Description", [](const Registry&, const Lease& lease) { return lease.description.value_or(""); }},
    {"hostname", "Hostname", [](const Registry&, const Lease& lease) { return lease.hostname.value_or(""); }},
    {"allocated_by", nullptr, [](const Registry&, const Lease& lease) { return lease.allocated_by; }},
    {"allocated_at", "Allocated", [](const Registry&, const Lease& lease) { return format_time(lease.allocated_at); }},
    {"last_active_at", nullptr, [](const Registry&, const Lease& lease) { return text_of(lease.last_active_at); }},
    {"expires_at", "Expires", [](const Registry&, const Lease& lease) { return text_of(lease.expires_at); }},
};

/// People show these tables on their terminals, and what is in them was named by others. import takes no control character
/// either; JSON carries them.
std::string shown(const std::string& text) { return printable(text, k_longest_cell); }

std::string csv_cell(const std::string& text) {
    const bool reads_as_nothing = text == "NULL" || text == "\\N";
    if (!reads_as_nothing && text.find_first_of(",\"\r\n") == std::string::npos && !text.starts_with(' ') && !text.ends_with(' ')) { return text; }
    std::string quoted = "\"";
    for (const char c : text) { quoted += c == '"' ? std::string("\"\"") : std::string(1, c); }
    return quoted + '"';
}

std::string markdown_cell(const std::string& text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '|' || c == '\\') { escaped += '\\'; }
        escaped += c == '\n' || c == '\r' ? ' ' : c;
    }
    return escaped;
}

std::string csv(const Registry& registry, const std::vector<const Lease*>& leases) {
    std::string text;
    for (const auto& field : k_fields) { text += (text.empty() ? "" : ",") + std::string(field.name); }
    text += '\n';
    for (const auto* lease : leases) {
        std::string line;
        for (const auto& field : k_fields) { line += csv_cell(shown(field.text(registry, *lease))) + ','; }
        line.back() = '\n';
        text += line;
    }
    return text;
}

std::string markdown(const Registry& registry, const std::vector<const Lease*>& leases) {
    std::string titles = "|";
    std::string rule = "|";
    for (const auto& field : k_fields) {
        if (field.title == nullptr) { continue; }
        titles += " " + std::string(field.title) + " |";
        rule += " --- |";
    }
    auto text = titles + "\n" + rule + "\n";
    for (const auto* lease : leases) {
        text += '|';
        for (const auto& field : k_fields) {
            if (field.title != nullptr) { text += " " + markdown_cell(shown(field.text(registry, *lease))) + " |"; }
        }
        text += '\n';
    }
    return text;
}

/// `number` tells services apart whose names give the same variable: MY_API_PORT, MY_API_2_PORT.
std::string variable_of(const Lease& lease, int number) {
    std::string name;
    if (lease.key.service != "main") {
        for (const char c : lease.key.service) {
            name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : '_';
        }
        if (std::isdigit(static_cast<unsigned char>(name.front())) != 0) { name.insert(name.begin(), '_'); }
        name += '_';
    }
    if (number > 1) { name += std::to_string(number) + "_"; }
    name += "PORT";
    if (lease.key.instance > 0) { name += "_" + std::to_string(lease.key.instance + 1); }
    return name;
}

/// The variables of these leases in their order; empty for a second lease of the same role: the first has the variable.
std::vector<std::string> variables_of(const std::vector<const Lease*>& leases) {
    std::set<std::string> plain;  // what a name gives by itself is nobody else's number
    for (const auto* lease : leases) { plain.insert(variable_of(*lease, 1)); }
    std::set<std::string> used;
    std::set<std::pair<std::string, int>> roles;
    std::vector<std::string> names;
    for (const auto* lease : leases) {
        names.emplace_back();
        if (!roles.emplace(lease->key.service, lease->key.instance).second) { continue; }
        auto& name = names.back();
        name = variable_of(*lease, 1);
        for (int number = 2; used.contains(name) || (number > 2 && plain.contains(name)); ++number) { name = variable_of(*lease, number); }
        used.insert(name);
    }
    return names;
}

/// One variable for each instance of a service. What cannot have one is named in a comment, so that nothing is missing unsaid.
std::string env(const Registry& registry, const std::vector<const Lease*>& leases) {
    const auto names = variables_of(leases);
    std::map<std::pair<std::string, int>, std::pair<std::string, const Lease*>> written;
    std::string text;
    for (std::size_t i = 0; i < leases.size(); ++i) {
        const auto* lease = leases[i];
        const std::pair role(lease->key.service, lease->key.instance);
        if (const auto before = written.find(role); before != written.end()) {  // the lowest port stands first
            const auto* other = before->second.second;
            const bool elsewhere = other->key.root != lease->key.root;
            const auto named = [&](const Lease& one) {
                return std::to_string(one.port) + (one.key.protocol == Protocol::udp ? "/udp" : "") +
                       (elsewhere ? " of project \"" + printable(project_name(registry, one)) + "\"" : "");
            };
            text += "# not written: " + lease->key.service + " " + named(*lease) + "; " + before->second.first + " is " + named(*other) + "\n";
            continue;
        }
        const auto& name = names[i];
        written.emplace(role, std::pair(name, lease));
        const auto said = read_variable_name(name);
        if (!said || said->service != lease->key.service) { text += "# service: " + lease->key.service + "\n"; }
        text += name + "=" + std::to_string(lease->port) + "\n";
    }
    return text;
}

std::string yaml_key(const std::string& text) {
    const bool plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text.front())) != 0 &&
                       std::all_of(text.begin(), text.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.'; });
    return plain && text != "true" && text != "false" && text != "null" && text != "yes" && text != "no" && text != "on" && text != "off" ? text : Json(text).dump();
}

/// As compose wants the names of projects: lower case, digits, "-" and "_", a letter or digit first. Of the root's own name, so that
/// worktrees and clones differ where their directories' names do.
std::string plain_compose_project(const std::string& root) {
    std::string name;
    for (const char c : root.substr(root.rfind('/') + 1)) {
        const auto lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        const bool kept = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || ((lower == '-' || lower == '_') && !name.empty());
        if (kept) { name += lower; }
    }
    return name.empty() ? "project" : name;
}

/// The same, told apart from other known projects that would get it (z1/app and z2/app) by six digits of the root's hash.
std::string compose_project(const std::string& root, const std::set<std::string>& known_roots) {
    auto name = plain_compose_project(root);
    const bool shared = std::any_of(known_roots.begin(), known_roots.end(), [&](const std::string& other) { return other != root && plain_compose_project(other) == name; });
    if (!shared) { return name; }
    constexpr std::string_view k_digits = "0123456789abcdef";
    name += '-';
    auto hash = remap_table::hash_of(root.data(), root.size());
    for (int i = 0; i < 6; ++i, hash >>= 4) { name += k_digits[hash & 15]; }
    return name;
}

/// "8000:80": on the host, in the container.
std::string published(const std::string& address, Port outside, Port inside, Protocol protocol) {
    return address + std::to_string(outside) + ":" + std::to_string(inside) + (protocol == Protocol::udp ? "/udp" : "");
}

struct ComposePorts {
    std::vector<std::string> ports;
    std::vector<const Lease*> unplaced;  ///< which of the ports theirs is the file does not say
};

/// The ports of one service: what the file publishes, on the leases' ports where these are for it. What the file says of a lease:
/// its number on the host, else in the container, else it is the first port that is nobody's. What has the same number on the host, on
/// another address or for UDP, goes with it.
ComposePorts compose_ports(const std::vector<const Lease*>& leases, const std::vector<ComposePort>& file) {
    std::vector<const Lease*> whose(file.size(), nullptr);
    ComposePorts result;
    for (const int round : {0, 1, 2}) {
        for (const auto* lease : leases) {
            if (std::find(whose.begin(), whose.end(), lease) != whose.end()) { continue; }
            const auto asked = lease->key.requested.value_or(0);
            for (std::size_t i = 0; i < file.size(); ++i) {
                if (whose[i] != nullptr || file[i].target == 0 || file[i].protocol != lease->key.protocol) { continue; }
                const bool fits = round == 0 ? asked != 0 && file[i].published == asked : round == 1 ? asked != 0 && file[i].target == asked : asked == 0;
                if (!fits) { continue; }
                whose[i] = lease;
                break;
            }
        }
    }
    for (const bool same_protocol : {true, false}) {
        for (std::size_t i = 0; i < file.size(); ++i) {
            for (std::size_t j = 0; j < file.size() && whose[i] == nullptr && file[i].published && file[i].target != 0; ++j) {
                if (file[j].published == file[i].published && (file[j].protocol == file[i].protocol) == same_protocol) { whose[i] = whose[j]; }
            }
        }
    }
    bool unknown = false;
    for (std::size_t i = 0; i < file.size(); ++i) {
        unknown = unknown || (whose[i] == nullptr && (file[i].target == 0 || !file[i].published));
        result.ports.push_back(whose[i] != nullptr ? published(file[i].address, whose[i]->port, file[i].target, file[i].protocol) : file[i].text);
    }
    for (const auto* lease : leases) {
        if (std::find(whose.begin(), whose.end(), lease) != whose.end()) { continue; }
        const auto asked = lease->key.requested.value_or(0);
        if (unknown && asked != 0) {
            result.unplaced.push_back(lease);
        } else if (asked != 0 || file.empty()) {  // of a service whose ports the file has, one that it does not have is no container's
            result.ports.push_back(published("", lease->port, asked != 0 ? asked : lease->port, lease->key.protocol));
        }
    }
    return result;
}

/// Compose appends lists of ports of several files: without !override the port of the first file stays published. A service
/// that the file before does not have would be one without an image, so it is left out.
std::string compose(const Registry& registry, const std::vector<const Lease*>& leases, const ComposeFile* file) {
    const auto name = file != nullptr ? file->name : std::string("compose.yaml");
    std::string text =
        "# Made by `portctl export --format compose`: the ports of this copy of the project on the host. `!override` needs Docker Compose\n"
        "# 2.24 or later: without it the ports of the first file stay published, too. Containers, networks and volumes of copies are kept\n"
        "# apart by a name of their own:\n";
    std::set<std::string> roots;
    for (const auto* lease : leases) { roots.insert(lease->key.root); }
    auto known_roots = roots;
    for (const auto& [root, project] : registry.projects()) { known_roots.insert(root); }
    for (const auto& root : roots) { text += "#   COMPOSE_PROJECT_NAME=" + compose_project(root, known_roots) + " docker compose -f " + name + " -f THIS_FILE up\n"; }
    if (file == nullptr) {
        text += "# No compose file was read: there is none, or it is written in a form that is not understood. So each service publishes its own\n"
                "# number, and other ports that the compose file publishes for it are not published. What compose itself makes of the file is\n"
                "# understood: docker compose config | portctl export --format compose --compose-file -\n";
    }
    std::vector<std::pair<std::string, std::vector<const Lease*>>> services;
    for (const auto* lease : leases) {
        if (is_auxiliary_service(lease->key.service) || lease->key.instance != 0) { continue; }
        auto found = std::find_if(services.begin(), services.end(), [&](const auto& entry) { return entry.first == lease->key.service; });
        if (found == services.end()) { found = services.insert(services.end(), {lease->key.service, {}}); }
        found->second.push_back(lease);
    }
    std::string body;
    for (const auto& [service, its] : services) {
        std::vector<ComposePort> ports;
        if (file != nullptr) {
            const auto& said_name = service;
            const auto found = std::find_if(file->services.begin(), file->services.end(), [&said_name](const ComposeService& entry) { return entry.name == said_name; });
            if (found == file->services.end()) {
                text += "# not in " + name + ": " + printable(service) + " " + std::to_string(its.front()->port) + "\n";
                continue;
            }
            if (!found->own_network) {
                text += "# not published: " + printable(service) + " " + std::to_string(its.front()->port) + "; it has no network of its own in " + name + "\n";
                continue;
            }
            ports = found->ports;
        }
        const auto placed = compose_ports(its, ports);
        for (const auto* lease : placed.unplaced) {
            text += "# not written: " + printable(service) + " " + std::to_string(lease->port) + " for " + text_of(lease->key.requested) + ", which may be in a range or variable of " + name + "\n";
        }
        body += "  " + yaml_key(service) + ":\n    ports: !override\n";
        for (const auto& port : placed.ports) { body += "      - \"" + port + "\"\n"; }
    }
    return text + (body.empty() ? "services: {}\n" : "services:\n" + body);
}

std::string json(const Registry& registry, const Config& config, const std::vector<const Lease*>& leases, Time now) {
    auto document = ok_shape();
    document["version"] = k_version;
    document["exported_at"] = format_time(now);
    document["ranges"] = Json::array();
    for (const auto& range : config.ranges) {
        Json intervals = Json::array();
        for (const auto& part : range.intervals) { intervals.push_back({{"start", part.start}, {"end", part.end}}); }
        document["ranges"].push_back({{"name", range.name}, {"kind", word(range.kind)}, {"description", range.description}, {"exclusive", range.exclusive}, {"intervals", std::move(intervals)}});
    }
    document["leases"] = Json::array();
    for (const auto* lease : leases) { document["leases"].push_back(lease_shape(registry, *lease)); }
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string variable_name(const Registry& registry, const Lease& lease) {
    ListFilter filter;
    const auto* project = registry.find_project(lease.key.root);
    filter.project = std::make_shared<const Project>(project != nullptr ? *project : Project{lease.key.root, {}, {}, {}, {}, {}});
    const auto leases = list_leases(registry, filter);
    const auto names = variables_of(leases);
    for (std::size_t i = 0; i < leases.size(); ++i) {
        if (leases[i]->key.service == lease.key.service && leases[i]->key.instance == lease.key.instance && !names[i].empty()) { return names[i]; }
    }
    return variable_of(lease, 1);
}

std::optional<SaidVariable> read_variable_name(std::string_view name) {
    SaidVariable said;
    const auto is_port = [](std::string_view text) { return text == "PORT" || (text.size() > 5 && text.ends_with("_PORT")); };
    if (const auto line = name.rfind('_'); line != std::string_view::npos && is_port(name.substr(0, line))) {
        const auto digits = name.substr(line + 1);
        int number = 0;
        const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
        if (problem == std::errc() && end == digits.data() + digits.size() && number > 1 && number <= 10'000) {
            said.instance = number - 1;
            name = name.substr(0, line);
        }
    }
    if (!is_port(name)) { return std::nullopt; }
    if (name == "PORT") {
        said.service = "main";
        return said;
    }
    for (const char c : name.substr(0, name.size() - 5)) { said.service += static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }
    return said;
}

std::string write_text(ExportFormat format, const Registry& registry, const Config& config, const std::vector<const Lease*>& leases, Time now, const ComposeFile* file) {
    switch (format) {
        case ExportFormat::csv: return csv(registry, leases);
        case ExportFormat::markdown: return markdown(registry, leases);
        case ExportFormat::env: return env(registry, leases);
        case ExportFormat::compose: return compose(registry, leases, file);
        case ExportFormat::json: break;
    }
    return json(registry, config, leases, now);
}

}  // namespace portwrap
