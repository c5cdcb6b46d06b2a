// Values to JSON and to sentences.
#include "service/shapes.hpp"

#include <ctime>

#include "portwrap/protocol.hpp"
#include "storage/event_codec.hpp"
#include "system/containers.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

template <typename T>
Json or_null(const std::optional<T>& value) {
    return value ? Json(*value) : Json(nullptr);
}

Json time_or_null(const std::optional<Time>& time) { return time ? Json(format_time(*time)) : Json(nullptr); }

/// "10:02" today, else "2026-11-20 10:02", in local time: for people.
std::string clock(Time time, std::optional<Time> now = std::nullopt) {
    const auto local = [](Time t) {
        const std::time_t seconds = std::chrono::system_clock::to_time_t(t);
        std::tm parts{};
        ::localtime_r(&seconds, &parts);
        return parts;
    };
    const auto parts = local(time);
    bool today = true;
    if (now) {
        const auto current = local(*now);
        today = current.tm_yday == parts.tm_yday && current.tm_year == parts.tm_year;
    }
    char text[32];
    std::strftime(text, sizeof text, today ? "%H:%M" : "%Y-%m-%d %H:%M", &parts);
    return text;
}

std::string age(Time then, Time now) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
    const auto say = [](long count, const char* unit) { return std::to_string(count) + " " + unit + (count == 1 ? "" : "s") + " ago"; };
    if (seconds < 60) { return "just now"; }
    if (seconds < 3600) { return say(seconds / 60, "minute"); }
    if (seconds < 86400) { return say(seconds / 3600, "hour"); }
    return say(seconds / 86400, "day");
}

std::string name_of(const Registry& registry, const std::string& root) {
    const auto* project = registry.find_project(root);
    return project != nullptr ? project->name : root;
}

}  // namespace

Json ok_shape() { return {{"schema", k_json_schema}, {"ok", true}}; }

Json project_shape(const Registry& registry, const std::string& root) {
    const auto* project = registry.find_project(root);
    if (project == nullptr) { return {{"name", root}, {"root", root}, {"branch", nullptr}, {"worktree_of", nullptr}}; }
    return {{"name", project->name}, {"root", root}, {"branch", or_null(project->branch)}, {"worktree_of", or_null(project->worktree_of)}};
}

Json lease_shape(const Registry& registry, const Lease& lease) {
    Json holder = nullptr;
    if (lease.holder && !lease.sockets.empty()) {
        holder = {{"pid", lease.holder->process.pid},
                  {"command", lease.holder->command},
                  {"cwd", lease.holder->cwd},
                  {"started_at", format_time(lease.holder->started_at)}};
    }
    // Member by member: a list in braces is made of arrays of two first, which costs three times as much.
    Json shape = Json::object();
    shape["port"] = lease.port;
    shape["requested_port"] = or_null(lease.key.requested);
    shape["protocol"] = word(lease.key.protocol);
    shape["service"] = lease.key.service;
    shape["instance"] = lease.key.instance;
    shape["project"] = project_shape(registry, lease.key.root);
    shape["range"] = lease.range.empty() ? Json(nullptr) : Json(lease.range);
    shape["environment"] = word(lease.environment);
    shape["kind"] = or_null(lease.kind);
    shape["state"] = word(lease.state);
    shape["health"] = word(lease.health);
    shape["holder"] = std::move(holder);
    shape["description"] = or_null(lease.description);
    shape["hostname"] = or_null(lease.hostname);
    shape["allocated_by"] = lease.allocated_by;
    shape["allocated_at"] = format_time(lease.allocated_at);
    shape["last_active_at"] = time_or_null(lease.last_active_at);
    shape["released_at"] = time_or_null(lease.released_at);
    shape["expires_at"] = time_or_null(lease.expires_at);
    return shape;
}

std::vector<SeenListener> look_at_listeners(const std::set<Port>& ports) {
    constexpr int k_max_parents = 32;
    std::vector<SeenListener> seen;
    const auto only = ports.size() == 1 ? std::optional(*ports.begin()) : std::nullopt;
    auto listeners = list_listeners(only, Heard::tcp_and_udp);
    if (!listeners) { return seen; }
    std::erase_if(*listeners, [&](const Listener& listener) { return !ports.contains(listener.port); });
    if (listeners->empty()) { return seen; }
    std::vector<ino_t> inodes;
    for (const auto& listener : *listeners) { inodes.push_back(listener.inode); }
    const auto holders = find_socket_holders(inodes, {});
    for (auto& listener : *listeners) {
        SeenListener entry;
        entry.user = user_name(listener.uid);
        if (const auto it = holders.find(listener.inode); it != holders.end()) {
            entry.process = it->second;
            entry.command = read_command(it->second.pid);
            entry.cwd = read_cwd(it->second.pid).path;
            auto stat = read_process(it->second.pid);
            if (stat) { entry.started_at = stat->started_at; }
            for (int level = 0; stat && stat->parent > 0 && level < k_max_parents; ++level) {
                entry.parents.emplace_back(stat->parent, read_command(stat->parent));
                stat = read_process(stat->parent);
            }
        }
        entry.listener = std::move(listener);
        seen.push_back(std::move(entry));
    }
    std::vector<ContainerClue> clues;
    for (const auto& entry : seen) {
        ContainerClue clue{entry.listener.port, entry.listener.protocol, {}};
        if (entry.process) { clue.pids.push_back(entry.process->pid); }
        for (const auto& parent : entry.parents) { clue.pids.push_back(parent.first); }
        clues.push_back(std::move(clue));
    }
    auto containers = find_containers(clues, engine_sockets());
    for (std::size_t i = 0; i < seen.size(); ++i) {
        if (!containers[i]) { continue; }
        seen[i].container = std::move(containers[i]->name);
        // A container of a compose file works for the project that the file lies in, wherever its proxy was started.
        if (!containers[i]->directory.empty()) { seen[i].cwd = std::move(containers[i]->directory); }
    }
    return seen;
}

Json refusal_shape(const Registry& registry, const Refusal& refusal, const SeenListener* stranger) {
    Json details = Json::object();
    if (refusal.code == ErrorCode::port_in_use || refusal.code == ErrorCode::port_leased || refusal.code == ErrorCode::not_owner) {
        details = {{"conflicting_project", nullptr}, {"conflicting_root", nullptr}, {"conflicting_service", nullptr}, {"started_at", nullptr},
                   {"pid", nullptr}, {"user", nullptr}, {"command", nullptr}, {"container", nullptr}, {"external", !refusal.conflict.has_value()}};
        if (refusal.conflict) {
            const auto& lease = *refusal.conflict;
            details["conflicting_project"] = name_of(registry, lease.key.root);
            details["conflicting_root"] = lease.key.root;
            details["conflicting_service"] = lease.key.service;
            if (lease.holder && !lease.sockets.empty()) {
                details["started_at"] = format_time(lease.holder->started_at);
                details["pid"] = lease.holder->process.pid;
                details["command"] = lease.holder->command;
                if (const auto uid = read_uid(lease.holder->process.pid)) { details["user"] = user_name(*uid); }
            }
        } else if (stranger != nullptr) {
            details["started_at"] = time_or_null(stranger->started_at);
            details["user"] = stranger->user;
            details["container"] = or_null(stranger->container);
            if (stranger->process) {
                details["pid"] = stranger->process->pid;
                details["command"] = stranger->command;
            }
        }
    } else {
        if (refusal.port != 0) { details["port"] = refusal.port; }
        if (!refusal.range.empty()) { details["range"] = refusal.range; }
        if (refusal.exhausted) {
            const auto& exhausted = *refusal.exhausted;
            details["ranges"] = exhausted.ranges;
            details["total"] = exhausted.total;
            details["allocated"] = exhausted.allocated;
            details["cleanup_frees"] = exhausted.cleanup_frees;
            details["holders"] = Json::array();
            for (const auto& holder : exhausted.holders) {
                details["holders"].push_back({{"project", holder.name}, {"root", holder.root}, {"ports", holder.ports}});
            }
        }
    }
    if (!refusal.remedy.empty()) { details["remedy"] = refusal.remedy; }
    return {{"code", error_code_name(refusal.code)}, {"message", refusal.message}, {"details", details}, {"suggestions", refusal.suggestions}};
}

std::string stranger_words(const SeenListener& seen) {
    std::string words;
    const auto add = [&words](const std::string& part) { words += (words.empty() ? " (" : ", ") + part; };
    if (seen.process) { add("pid " + std::to_string(seen.process->pid)); }
    if (!seen.process) { add("user " + seen.user); }
    if (!seen.command.empty()) { add(seen.command); }
    if (seen.container) { add("container " + printable(*seen.container, 128)); }
    if (seen.started_at) { add("since " + clock(*seen.started_at)); }
    return words + ")";
}

std::string url_of(const Lease& lease, bool tls) {
    const bool web = lease.key.protocol == Protocol::tcp && lease.kind != "database" && lease.kind != "cache";
    const std::string scheme(!web ? word(lease.key.protocol) : tls ? "https" : "http");
    return scheme + "://localhost:" + std::to_string(lease.port);
}

Json listener_shape(const Registry& registry, const SeenListener& seen) {
    Json project = nullptr;
    for (const auto* lease : registry.on_port(seen.listener.port)) {
        const bool ours = std::any_of(lease->sockets.begin(), lease->sockets.end(),
                                      [&](const Socket& socket) { return socket.cookie == seen.listener.cookie; });
        if (lease->live() && ours) { project = project_shape(registry, lease->key.root); }
    }
    if (project.is_null()) {
        // A program without portwrap: the innermost known project that it works in.
        std::size_t deepest = 0;
        for (const auto& [root, known] : registry.projects()) {
            const bool below = seen.cwd == root || (seen.cwd.starts_with(root) && seen.cwd[root.size()] == '/');
            if (below && root.size() > deepest) {
                deepest = root.size();
                project = project_shape(registry, root);
            }
        }
    }
    return {{"address", seen.listener.address},
            {"protocol", word(seen.listener.protocol)},
            {"pid", seen.process ? Json(seen.process->pid) : Json(nullptr)},
            {"user", seen.user},
            {"command", seen.process ? Json(seen.command) : Json(nullptr)},
            {"cwd", seen.cwd.empty() ? Json(nullptr) : Json(seen.cwd)},
            {"project", std::move(project)},
            {"container", or_null(seen.container)},
            {"started_at", time_or_null(seen.started_at)}};
}

std::string taken_message(const Registry& registry, Port port, const Lease* owner, bool listens) {
    const std::string number = "Port " + std::to_string(port);
    if (owner == nullptr) { return number + " is already used by a program outside of portwrap"; }
    const std::string project = "project \"" + name_of(registry, owner->key.root) + "\"";
    if (!listens || !owner->holder) { return number + " is kept for " + project + " (" + owner->key.service + ")"; }
    return number + " is already used by " + project + " (pid " + std::to_string(owner->holder->process.pid) + ", since " +
           clock(owner->holder->started_at) + ")";
}

std::string moved_notice(const Registry& registry, const Lease& lease, const Move& move, Time now) {
    const auto asked = std::to_string(lease.key.requested.value_or(0));
    std::string why;
    switch (move.reason) {
        case MoveReason::held:
            why = "asked for " + asked + ": held by " + name_of(registry, move.other->key.root) + "/" + move.other->key.service;
            if (move.other->holder) { why += ", pid " + std::to_string(move.other->holder->process.pid) + ", " + move.other->holder->command; }
            break;
        case MoveReason::already_running:
            why = asked + ": already running here";
            if (move.other->holder) { why += " since " + clock(move.other->holder->started_at, now) + ", pid " + std::to_string(move.other->holder->process.pid); }
            break;
        case MoveReason::claimed:
            why = "asked for " + asked + ": kept for " + name_of(registry, move.other->key.root) + "/" + move.other->key.service + ", last used " +
                  age(move.other->last_used(), now) + "; ";
            // A server of the project's that has been given another name since is used to the port under its old one.
            if (move.other->key.root == lease.key.root && move.other->key.requested == lease.key.requested && move.other->key.service != lease.key.service) {
                why += "portctl update " + asked + " --service " + lease.key.service + " if that is this server";
            } else {
                why += "portwrap -p " + asked + " takes it";
            }
            break;
        case MoveReason::external: why = "asked for " + asked + ": in use by a program outside of portwrap; portctl check " + asked + " tells more"; break;
        case MoveReason::reserved: why = "asked for " + asked + ": reserved"; break;
        case MoveReason::block: why = "asked for " + asked + ": in the block of project " + printable(move.project, 64); break;
        case MoveReason::not_permitted: why = "asked for " + asked + ": not permitted to this user"; break;
        case MoveReason::asked: why = "as you said; the program asked for " + asked; break;
        case MoveReason::none:
        case MoveReason::usual: why = "asked for " + asked + "; " + std::to_string(lease.port) + " is its usual port here"; break;
    }
    const bool udp = lease.key.protocol == Protocol::udp;
    const auto scheme = udp || is_auxiliary_service(lease.key.service) || lease.kind == "database" || lease.kind == "cache" ? "" : "http://";
    return printable("portwrap: " + name_of(registry, lease.key.root) + "/" + lease.key.service + " listens on " + scheme + "localhost:" +
                         std::to_string(lease.port) + (udp ? "/udp" : "") + " (" + why + ")", 1024);
}

std::string refused_notice(const Registry& registry, const std::string& asker, const Lease& theirs) {
    const auto number = std::to_string(theirs.port);
    std::string who = name_of(registry, theirs.key.root) + "/" + theirs.key.service + " in " + theirs.key.root;
    if (theirs.holder) { who += ", pid " + std::to_string(theirs.holder->process.pid); }
    return printable("portwrap: refused a connection of " + name_of(registry, asker) + "'s to localhost:" + number + ": there listens " + who +
                         ", and " + (theirs.key.requested == theirs.port ? "this copy's own " + number : "what this project has for " + number) +
                         " is not running (portwrap --no-connect allows it)", 1024);
}

}  // namespace portwrap
