// See write_text.hpp.
#include "service/exchange/write_text.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <utility>

#include "portwrap/protocol.hpp"
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
        for (const auto& field : k_fields) { line += csv_cell(field.text(registry, *lease)) + ','; }
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
            if (field.title != nullptr) { text += " " + markdown_cell(field.text(registry, *lease)) + " |"; }
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

/// One variable for each instance of a service. What cannot have one is named in a comment, so that nothing is missing unsaid.
std::string env(const Registry& registry, const std::vector<const Lease*>& leases) {
    std::set<std::string> plain;  // what a name gives by itself is nobody else's number
    for (const auto* lease : leases) { plain.insert(variable_of(*lease, 1)); }
    std::set<std::string> used;
    std::map<std::pair<std::string, int>, std::pair<std::string, const Lease*>> written;
    std::string text;
    for (const auto* lease : leases) {
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
        auto name = variable_of(*lease, 1);
        for (int number = 2; used.contains(name) || (number > 2 && plain.contains(name)); ++number) { name = variable_of(*lease, number); }
        used.insert(name);
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
/// worktrees and clones differ.
std::string compose_project(const std::string& root) {
    std::string name;
    for (const char c : root.substr(root.rfind('/') + 1)) {
        const auto lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        const bool kept = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || ((lower == '-' || lower == '_') && !name.empty());
        if (kept) { name += lower; }
    }
    return name.empty() ? "project" : name;
}

/// Compose appends lists of ports of several files: without !override the port of the first file stays published.
std::string compose(const std::vector<const Lease*>& leases) {
    std::string text =
        "# Made by `portctl export --format compose`: the ports of this copy of the project on the host. `!override` needs Docker Compose\n"
        "# 2.24 or later: without it the ports of the first file stay published, too. Containers, networks and volumes of copies are kept\n"
        "# apart by a name of their own:\n";
    std::set<std::string> roots;
    for (const auto* lease : leases) { roots.insert(lease->key.root); }
    for (const auto& root : roots) { text += "#   COMPOSE_PROJECT_NAME=" + compose_project(root) + " docker compose -f compose.yaml -f THIS_FILE up\n"; }
    text += "services:\n";
    std::vector<std::string> services;
    for (const auto* lease : leases) {
        if (!is_auxiliary_service(lease->key.service) && std::find(services.begin(), services.end(), lease->key.service) == services.end()) {
            services.push_back(lease->key.service);
        }
    }
    for (const auto& service : services) {
        text += "  " + yaml_key(service) + ":\n    ports: !override\n";
        for (const auto* lease : leases) {
            if (lease->key.service != service || lease->key.instance != 0) { continue; }
            const auto inside = lease->key.requested.value_or(0) != 0 ? *lease->key.requested : lease->port;
            text += "      - \"" + std::to_string(lease->port) + ":" + std::to_string(inside) + (lease->key.protocol == Protocol::udp ? "/udp" : "") + "\"\n";
        }
    }
    if (services.empty()) { text.replace(text.rfind("services:"), std::string::npos, "services: {}\n"); }
    return text;
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

std::string variable_name(const Lease& lease) { return variable_of(lease, 1); }

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

std::string write_text(ExportFormat format, const Registry& registry, const Config& config, const std::vector<const Lease*>& leases, Time now) {
    switch (format) {
        case ExportFormat::csv: return csv(registry, leases);
        case ExportFormat::markdown: return markdown(registry, leases);
        case ExportFormat::env: return env(registry, leases);
        case ExportFormat::compose: return compose(leases);
        case ExportFormat::json: break;
    }
    return json(registry, config, leases, now);
}

}  // namespace portwrap
