// portctl mcp: the Model Context Protocol on standard input and output, one JSON-RPC message a line (MCP 2025-11-25, "stdio").
// Thin over the agent's own requests: this file knows the tools' arguments and how results are wrapped, no rule of ports.
// One thread: everything that has arrived is read before the next request is answered, and while the agent is waited for, so that
// a cancellation is seen in time. A request that was taken back is not answered, and what the agent has not decided is undone by
// hanging up.
// Changes come from a child that watches the agent's events while somebody subscribes.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cli11.hpp"
#include "command.hpp"
#include "portwrap/protocol.hpp"
#include "portwrap/unique_fd.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

/// Newest first; a client that asks for another one is offered the newest.
constexpr std::array<std::string_view, 4> k_revisions{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
/// The only one that has arrays of messages (JSON-RPC's batches), and servers "MUST support receiving" them there.
constexpr std::string_view k_revision_of_batches = "2025-03-26";
constexpr const char* k_leases_uri = "portwrap://leases";
constexpr std::size_t k_max_message = 1'000'000;
constexpr std::size_t k_max_waiting = 1024;
constexpr int k_roots_patience_ms = 3000;
constexpr int k_watch_again_ms = 1000;  ///< after the agent ended

constexpr int k_parse_error = -32700;
constexpr int k_invalid_request = -32600;
constexpr int k_unknown_method = -32601;
constexpr int k_invalid_params = -32602;
constexpr int k_no_resource = -32002;  ///< MCP: resource not found

struct Argument {
    const char* name;
    const char* description;
};
constexpr Argument k_service{"serviceName", "Name of the service inside its project, e.g. web, api, db"};
constexpr Argument k_project{"projectName", "Name or absolute directory of the project; default: the project of the working directory"};
constexpr Argument k_type{"serviceType", "Language or role: node, python, php, static; web, api, database, cache, ..."};
constexpr Argument k_description{"description", "Shown in lists"};
constexpr Argument k_tunnel{"cloudflareHostname", "Public name of a Cloudflare tunnel to the service"};
constexpr Argument k_hostname{"hostname", "Name under which the service is reached"};
constexpr Argument k_protocol{"protocol", "tcp (default) or udp"};
constexpr Argument k_port{"port", "Port number"};

struct Tool {
    const char* name;
    const char* title;
    const char* description;
    std::vector<Argument> arguments;
    std::vector<const char*> required;
    bool reads = false;        ///< readOnlyHint
    bool destroys = false;     ///< destructiveHint
    bool idempotent = false;   ///< idempotentHint
};

const std::vector<Tool>& all_tools() {
    static const std::vector<Tool> k_tools{
        {"get-port", "Get a service's port", "The port of a service: the one that it has, else a new one. Use it before starting a server.",
         {k_service, k_project, k_type, k_description, k_tunnel, k_hostname, k_protocol, k_port}, {"serviceName"}, false, false, true},
        {"allocate-port", "Allocate a new port", "Always a new port for a service, also when it has one already; `port` asks for that very one.",
         {k_service, k_project, k_type, k_description, k_tunnel, k_hostname, k_protocol, k_port}, {"serviceName"}, false, false, false},
        {"list-ports", "List ports", "The ports of a project with their state and who listens.", {k_project}, {}, true, false, true},
        {"audit-ports", "Audit ports", "Compares all leases with what really listens: conflicts, duplicates, silent ones, each with a command that fixes it.", {}, {}, true, false, true},
        {"port-summary", "Summarize ports", "A project's range and how much of it is used.", {k_project}, {}, true, false, true},
        {"release-port", "Release a port", "Gives back the ports of a service of this project that nobody listens on; with `hostname` only the port of that name.", {k_service, k_project, k_hostname}, {"serviceName"}, false, true, true},
        {"update-port", "Update a port", "Changes what is recorded about a service of this project.", {k_service, k_project, k_tunnel, k_description, k_type}, {"serviceName"}, false, false, true},
        {"check-port", "Check a port", "Is a port free, and if not, who has it; free ones instead.", {k_port}, {"port"}, true, false, true},
    };
    return k_tools;
}

Json tool_shape(const Tool& tool) {
    Json properties = Json::object();
    for (const auto& argument : tool.arguments) {
        const std::string_view name = argument.name;
        Json property{{"type", name == "port" ? "integer" : "string"}, {"description", argument.description}};
        if (name == "port") {
            property["minimum"] = 1;
            property["maximum"] = 65535;
        }
        if (name == "protocol") { property["enum"] = {"tcp", "udp"}; }
        properties[argument.name] = std::move(property);
    }
    Json input{{"type", "object"}, {"properties", std::move(properties)}, {"required", tool.required}, {"additionalProperties", false}};
    Json output{{"type", "object"},
                {"properties", {{"success", {{"type", "boolean"}}}, {"message", {{"type", "string"}}}, {"port", {{"type", {"integer", "null"}}}}, {"lease", {{"type", {"object", "null"}}}}}},
                {"required", {"success", "message"}}};
    return Json{{"name", tool.name},
                {"title", tool.title},
                {"description", tool.description},
                {"inputSchema", std::move(input)},
                {"outputSchema", std::move(output)},
                {"annotations", {{"title", tool.title}, {"readOnlyHint", tool.reads}, {"destructiveHint", tool.destroys}, {"idempotentHint", tool.idempotent}, {"openWorldHint", false}}}};
}

/// "file:///home/me/my%20shop" as a path; nothing for what is no local directory.
std::optional<std::string> path_of_uri(std::string_view uri) {
    constexpr std::string_view k_scheme = "file://";
    if (!uri.starts_with(k_scheme)) { return std::nullopt; }
    uri.remove_prefix(k_scheme.size());
    if (uri.starts_with("localhost/")) { uri.remove_prefix(9); }
    if (!uri.starts_with('/')) { return std::nullopt; }
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    std::string path;
    for (std::size_t at = 0; at < uri.size(); ++at) {
        if (uri[at] == '%' && at + 2 < uri.size() && digit(uri[at + 1]) >= 0 && digit(uri[at + 2]) >= 0) {
            path += static_cast<char>(digit(uri[at + 1]) * 16 + digit(uri[at + 2]));
            at += 2;
        } else {
            path += uri[at];
        }
    }
    if (path.find('\0') != std::string::npos || !is_utf8(path)) { return std::nullopt; }
    return path;
}

bool is_directory(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// A word of `serviceType` that chooses the range of a new port and is not recorded; any other one is a role, a lease's kind.
bool is_language(std::string_view word) {
    constexpr std::array<std::string_view, 6> k_languages{"node", "python", "php", "static", "deno", "bun"};
    return std::find(k_languages.begin(), k_languages.end(), word) != k_languages.end();
}

std::string text_of(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

class McpServer {
public:
    explicit McpServer(std::string directory) : m_start_directory(std::move(directory)), m_directory(m_start_directory) {
        m_interruption.fd = STDIN_FILENO;
        m_interruption.go_on = [this] {
            read_input();
            return !m_cancelled;
        };
    }

    int run() {
        while (true) {
            const bool idle = m_waiting.empty() || waits_for_roots();
            if (m_ended && idle) { break; }
            std::array<pollfd, 2> fds{{{m_ended ? -1 : STDIN_FILENO, POLLIN, 0}, {m_changes.get(), POLLIN, 0}}};
            if (::poll(fds.data(), fds.size(), idle ? patience() : 0) < 0 && errno != EINTR) { break; }
            if (fds[0].revents != 0) { read_input(); }
            if (fds[1].revents != 0) { read_changes(); }
            if (m_watch_again && m_watch_again->left() == 0) { watch_again(); }
            if (!m_waiting.empty() && !waits_for_roots()) {
                const auto next = std::move(m_waiting.front());
                m_waiting.pop_front();
                m_batch = next.batch;
                handle(next.message);
                m_batch.reset();
                end_part(next.batch);
            }
        }
        end_watch();
        return 0;
    }

private:
    /// Messages that came in one array: their answers go back in one.
    struct Batch {
        std::size_t open = 1;  ///< requests that are still to be answered, and the reading of the array
        Json answers = Json::array();
    };
    struct Waiting {
        Json message;
        std::shared_ptr<Batch> batch;  ///< null for a message that came by itself
    };

    void send(const Json& message) {
        if (!write_out(message.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n')) { m_ended = true; }
    }
    /// By itself, or with the others of the batch that is at work.
    void reply_with(Json message) {
        if (!m_batch) { return send(message); }
        m_batch->answers.push_back(std::move(message));
    }
    void end_part(const std::shared_ptr<Batch>& batch) {
        // Nothing is said to notifications alone.
        if (batch && --batch->open == 0 && !batch->answers.empty()) { send(batch->answers); }
    }
    void answer(const Json& id, Json result) { reply_with(Json{{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}}); }
    void refuse(const Json& id, int code, const std::string& message) { reply_with(Json{{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}}); }

    void read_input() {
        char buffer[65536];
        const auto count = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) { return; }
        if (count <= 0) {
            m_ended = true;
            m_interruption.fd = -1;
            return;
        }
        std::string_view bytes(buffer, static_cast<std::size_t>(count));
        while (!bytes.empty()) {
            const auto newline = bytes.find('\n');
            const auto part = bytes.substr(0, newline);
            if (m_line.size() + part.size() > k_max_message) { m_too_long = true; }
            if (!m_too_long) { m_line += part; }
            if (newline == std::string_view::npos) { return; }
            bytes.remove_prefix(newline + 1);
            // What is at work meanwhile may be part of a batch: this is not.
            const auto at_work = std::exchange(m_batch, nullptr);
            if (m_too_long) {
                refuse(nullptr, k_invalid_request, "the message is longer than 1 MB");
            } else {
                take_line(m_line);
            }
            m_batch = at_work;
            m_line.clear();
            m_too_long = false;
        }
    }

    void take_line(std::string_view line) {
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) { return; }
        bool too_deep = false;
        auto message = Json::parse(line.begin(), line.end(), [&](int depth, Json::parse_event_t, Json&) { return !(too_deep = too_deep || depth > 32); }, false);
        if (too_deep || message.is_discarded()) { return refuse(nullptr, k_parse_error, "not JSON"); }
        if (!message.is_array()) { return take(std::move(message)); }
        if (m_revision != k_revision_of_batches) {
            return refuse(nullptr, k_invalid_request, "arrays of messages are part of revision " + std::string(k_revision_of_batches) + " alone" +
                                                          (m_revision.empty() ? ", and none is agreed on yet" : "; this is " + m_revision));
        }
        if (message.empty()) { return refuse(nullptr, k_invalid_request, "an empty array is no request"); }
        const auto batch = m_batch = std::make_shared<Batch>();
        for (auto& part : message) { take(std::move(part)); }
        m_batch.reset();
        end_part(batch);
    }

    void take(Json message) {
        if (!message.is_object()) { return refuse(nullptr, k_invalid_request, "not a request object"); }
        const auto id = message.find("id");
        if (id != message.end() && !id->is_string() && !id->is_number_integer()) { return refuse(nullptr, k_invalid_request, "\"id\" is neither a string nor an integer"); }
        if (text_of(message, "jsonrpc") != "2.0") { return refuse(id != message.end() ? *id : Json(nullptr), k_invalid_request, "\"jsonrpc\" is not \"2.0\""); }
        if (message.find("method") == message.end()) { return take_response(message); }
        const auto method = text_of(message, "method");
        if (method.empty()) { return refuse(id != message.end() ? *id : Json(nullptr), k_invalid_request, "\"method\" is not a string"); }
        if (id == message.end()) { return take_notification(std::move(message), method); }
        // Also while a call runs: whoever asks wants to know whether we live.
        if (method == "ping") { return answer(*id, Json::object()); }
        if (method == "initialize" && m_batch) { return refuse(*id, k_invalid_request, "\"initialize\" is not part of an array"); }
        if (m_waiting.size() >= k_max_waiting) { return refuse(*id, k_invalid_request, "too many requests at once"); }
        if (m_batch) { ++m_batch->open; }
        m_waiting.push_back({std::move(message), m_batch});
    }

    /// Never answered. Those that mean nothing to us are not kept, and of those that ask for the roots one is enough.
    void take_notification(Json message, const std::string& method) {
        if (method == "notifications/cancelled") { return cancel(inner_field(message, "params")); }
        if (!is_about_roots(method)) { return; }
        const auto waits = std::any_of(m_waiting.begin(), m_waiting.end(), [](const Waiting& waiting) { return is_about_roots(text_of(waiting.message, "method")); });
        if (!waits) { m_waiting.push_back({std::move(message), nullptr}); }
    }

    static bool is_about_roots(std::string_view method) { return method == "notifications/initialized" || method == "notifications/roots/list_changed"; }

    /// What is answered already cannot be taken back; nobody waits for an answer to the others.
    void cancel(const Json& which) {
        const auto cancelled = which.is_object() ? which.find("requestId") : which.end();
        if (cancelled == which.end()) { return; }
        if (m_running && *m_running == *cancelled) { m_cancelled = true; }
        const auto is_meant = [&](const Waiting& waiting) {
            const auto its = waiting.message.find("id");
            return its != waiting.message.end() && *its == *cancelled;
        };
        for (const auto& waiting : m_waiting) {
            if (is_meant(waiting)) { end_part(waiting.batch); }
        }
        m_waiting.erase(std::remove_if(m_waiting.begin(), m_waiting.end(), is_meant), m_waiting.end());
    }

    /// Which project is meant is not known before the client has said its roots: calls of tools wait for that, for a while.
    [[nodiscard]] bool waits_for_roots() const {
        return !m_ended && m_roots_deadline && m_roots_deadline->left() > 0 && !m_waiting.empty() && text_of(m_waiting.front().message, "method") == "tools/call";
    }

    /// In milliseconds, for poll(2) when there is nothing to do.
    [[nodiscard]] int patience() const {
        int least = -1;
        if (waits_for_roots()) { least = m_roots_deadline->left(); }
        if (m_watch_again) { least = least < 0 ? m_watch_again->left() : std::min(least, m_watch_again->left()); }
        return least;
    }

    /// The client's answer to our question for its roots. A root that is no directory here (it is gone, or of another machine) says
    /// nothing.
    void take_response(const Json& message) {
        if (text_of(message, "id") != "roots-" + std::to_string(m_roots_asked)) { return; }
        m_roots_deadline.reset();
        m_directory = m_start_directory;
        for (const auto& root : inner_field(inner_field(message, "result"), "roots")) {
            if (!root.is_object()) { continue; }
            if (auto path = path_of_uri(text_of(root, "uri")); path && is_directory(*path)) {
                m_directory = std::move(*path);
                return;
            }
        }
    }

    void ask_for_roots() {
        if (!m_client_has_roots) { return; }
        m_roots_deadline = Deadline::in_milliseconds(k_roots_patience_ms);
        send(Json{{"jsonrpc", "2.0"}, {"id", "roots-" + std::to_string(++m_roots_asked)}, {"method", "roots/list"}});
    }

    void handle(const Json& message) {
        const auto method = text_of(message, "method");
        const auto found = message.find("id");
        const auto& params = inner_field(message, "params");
        if (found == message.end()) { return ask_for_roots(); }
        const auto& id = *found;
        m_running = id;
        m_cancelled = false;
        if (method == "initialize") { return initialize(id, params); }
        if (method == "tools/list") {
            Json tools = Json::array();
            for (const auto& tool : all_tools()) { tools.push_back(tool_shape(tool)); }
            return answer(id, Json{{"tools", std::move(tools)}});
        }
        if (method == "tools/call") { return call_tool(id, params); }
        if (method == "resources/list") {
            return answer(id, Json{{"resources", Json::array({Json{{"uri", k_leases_uri}, {"name", "leases"}, {"title", "All leases"},
                                                                   {"description", "Every port of every project, live"}, {"mimeType", "application/json"}}})}});
        }
        if (method == "resources/templates/list") { return answer(id, Json{{"resourceTemplates", Json::array()}}); }
        if (method == "resources/read" || method == "resources/subscribe" || method == "resources/unsubscribe") {
            if (!params.is_object() || text_of(params, "uri") != k_leases_uri) { return refuse(id, k_no_resource, "there is no such resource"); }
            if (method == "resources/read") { return read_leases(id); }
            method == "resources/subscribe" ? begin_watch() : end_watch();
            return answer(id, Json::object());
        }
        refuse(id, k_unknown_method, "there is no method \"" + printable(method) + "\"");
    }

    void initialize(const Json& id, const Json& params) {
        const auto wanted = params.is_object() ? text_of(params, "protocolVersion") : std::string();
        if (wanted.empty()) { return refuse(id, k_invalid_params, "\"protocolVersion\" is missing"); }
        const bool known = std::find(k_revisions.begin(), k_revisions.end(), wanted) != k_revisions.end();
        m_revision = known ? wanted : std::string(k_revisions.front());
        const auto& capabilities = inner_field(params, "capabilities");
        m_client_has_roots = capabilities.is_object() && capabilities.find("roots") != capabilities.end();
        answer(id, Json{{"protocolVersion", m_revision},
                        {"capabilities", {{"tools", Json::object()}, {"resources", {{"subscribe", true}}}}},
                        {"serverInfo", {{"name", "portwrap"}, {"title", "portwrap"}, {"version", k_version}}},
                        {"instructions", "Every project and git worktree has ports of its own. Ask get-port for a service's port before you start it, or start it with `portwrap COMMAND`; never pick a number yourself."}});
    }

    void read_leases(const Json& id) {
        const auto reply = ask("lease.list", Json{{"all", true}});
        if (m_cancelled) { return; }
        if (!reply.ok) { return refuse(id, -32603, text_field(reply.body, "message")); }
        const auto text = reply.body.dump(-1, ' ', false, Json::error_handler_t::replace);
        answer(id, Json{{"contents", Json::array({Json{{"uri", k_leases_uri}, {"mimeType", "application/json"}, {"text", text}}})}});
    }

    Reply ask(std::string_view method, const Json& params) {
        if (m_cancelled) { return {false, refusal_object("INVALID_REQUEST", "the request was taken back")}; }
        auto answered = ask_agent(method, params, Deadline::in_milliseconds(k_portctl_deadline_ms), &m_interruption);
        if (!answered) { return {false, refusal_object(answered.error())}; }
        return std::move(answered->reply);
    }

    // --- tools

    void call_tool(const Json& id, const Json& params) {
        const auto name = params.is_object() ? text_of(params, "name") : std::string();
        const auto& tools = all_tools();
        const auto tool = std::find_if(tools.begin(), tools.end(), [&](const Tool& entry) { return name == entry.name; });
        if (tool == tools.end()) { return refuse(id, k_invalid_params, "there is no tool \"" + printable(name) + "\""); }
        static const Json k_none = Json::object();
        const auto given = params.find("arguments");
        const Json& arguments = given != params.end() && !given->is_null() ? *given : k_none;
        auto reply = check_arguments(*tool, arguments);
        if (!reply) { reply = run_tool(*tool, arguments); }
        if (m_cancelled) { return; }
        Json content;
        if (reply->ok) {
            content = Json{{"success", true}, {"message", message_of(*tool, arguments, reply->body)}};
            if (const auto port = number_field(inner_field(reply->body, "lease"), "port")) { content["port"] = *port; }
        } else {
            content = Json{{"success", false}};
            // No tool has an option that takes what is somebody else's, nor is an agent to be sent to the one of portctl's.
            if (auto details = reply->body.find("details"); details != reply->body.end() && details->is_object()) { details->erase("remedy"); }
        }
        for (const auto& [key, value] : reply->body.items()) {
            if (key != "schema" && key != "ok" && !content.contains(key)) { content[key] = value; }
        }
        const auto text = content.dump(-1, ' ', false, Json::error_handler_t::replace);
        answer(id, Json{{"content", Json::array({Json{{"type", "text"}, {"text", text}}})}, {"structuredContent", std::move(content)}, {"isError", !reply->ok}});
    }

    static std::string message_of(const Tool& tool, const Json& arguments, const Json& result) {
        const std::string_view name = tool.name;
        const auto& lease = inner_field(result, "lease");
        if (name == "list-ports") { return std::to_string(inner_field(result, "leases").size()) + " ports"; }
        if (name == "audit-ports") { return std::to_string(inner_field(result, "findings").size()) + " findings"; }
        if (name == "release-port") { return "released " + std::to_string(inner_field(result, "leases").size()) + " ports"; }
        const bool has_lease = lease.is_object() && !lease.empty();
        if (name == "check-port") {
            const auto kept = has_lease ? ", kept for " + render_lease_name(lease) : std::string();
            const auto available = result.find("available");
            return (available != result.end() && *available == true ? "the port is free" : "the port is taken: " + text_field(result, "code")) + kept;
        }
        if (name == "port-summary") {
            const auto count = [&](const char* field) { return std::to_string(number_field(result, field).value_or(0)); };
            return count("allocated") + " of " + count("total") + " ports of range " + text_field(inner_field(result, "range"), "name") + " are this project's, " + count("active") +
                   " active; " + count("available") + " are available";
        }
        if (!has_lease) { return "done"; }
        const auto port = number_field(lease, "port");
        auto said = render_lease_name(lease) + " has port " + std::to_string(port.value_or(0));
        // What was asked for by number is never silently another one.
        if (const auto asked = number_field(arguments, "port"); name == "get-port" && asked && asked != port) {
            said += " already, so it did not get " + std::to_string(*asked) + "; allocate-port gives a second port";
        }
        if (name == "update-port" && is_language(text_of(arguments, "serviceType"))) { said += "; a language is not recorded: it chooses the range of a new port"; }
        return said;
    }

    static Reply bad(const std::string& message) { return {false, refusal_object("INVALID_REQUEST", message)}; }

    /// What is wrong with the arguments; nothing when they are well.
    static std::optional<Reply> check_arguments(const Tool& tool, const Json& arguments) {
        if (!arguments.is_object()) { return bad("the arguments are not an object"); }
        for (const auto& [name, value] : arguments.items()) {
            const auto known = std::find_if(tool.arguments.begin(), tool.arguments.end(), [&key = name](const Argument& argument) { return key == argument.name; });
            if (known == tool.arguments.end()) { return bad("\"" + printable(name) + "\" is not an argument of " + tool.name); }
            if (name == "port") {
                if (!value.is_number_integer() || value < 1 || value > 65535) { return bad("\"port\" is not an integer from 1 to 65535"); }
            } else if (!value.is_string()) {
                return bad("\"" + name + "\" is not a string");
            }
        }
        const bool both = arguments.contains("hostname") && arguments.contains("cloudflareHostname");
        if (both && arguments["hostname"] != arguments["cloudflareHostname"]) { return bad("\"hostname\" and \"cloudflareHostname\" are the same field; say one"); }
        for (const auto* name : tool.required) {
            if (arguments.find(name) == arguments.end()) { return bad(std::string("\"") + name + "\" is missing"); }
        }
        return std::nullopt;
    }

    /// The agent's parameters that say which project is meant. `own`: only the one that the client works in.
    Reply project_of(const Json& arguments, bool own) {
        const auto named = text_of(arguments, "projectName");
        const Json here_params{{"cwd", m_directory}};  // the client may change its roots meanwhile
        if (named.empty()) { return {true, here_params}; }
        auto here = ask("project.show", here_params);
        if (!here.ok) { return here; }
        const auto& project = inner_field(here.body, "project");
        if (named == text_of(project, "name") || named == text_of(project, "root")) { return {true, here_params}; }
        // A directory of this project, or its root through a symbolic link.
        if (named.starts_with('/')) {
            const auto there = ask("project.show", Json{{"cwd", named}});
            if (there.ok && text_of(inner_field(there.body, "project"), "root") == text_of(project, "root")) { return {true, here_params}; }
        }
        if (own) {
            return {false, refusal_object("NOT_OWNER", "this is project \"" + text_field(project, "name") + "\" (" + text_field(project, "root") + "); another project's ports are not changed from here")};
        }
        return {true, Json{{"project", named}}};
    }

    /// Only what the service has under that hostname: its other ports stay.
    Reply release_hostname(const Json& params, const std::string& hostname) {
        auto listed = ask("lease.list", Json{{"cwd", params["cwd"]}});
        if (!listed.ok) { return listed; }
        std::vector<const Json*> leases;
        for (const auto& lease : inner_field(listed.body, "leases")) {
            if (text_of(lease, "service") == text_of(params, "service") && text_of(lease, "hostname") == hostname) { leases.push_back(&lease); }
        }
        if (leases.empty()) { return {false, refusal_object("NOT_FOUND", "the service is not reached under that hostname")}; }
        // What is listened on is refused: first, so that nothing has been given back then.
        std::stable_partition(leases.begin(), leases.end(), [](const Json* lease) { return text_of(*lease, "state") != "allocated"; });
        Reply all;
        for (const auto* lease : leases) {
            auto released = ask("lease.release", Json{{"cwd", params["cwd"]}, {"port", (*lease)["port"]}});
            if (!released.ok) { return released; }
            if (all.ok) {
                for (auto& entry : released.body["leases"]) { all.body["leases"].push_back(std::move(entry)); }
            } else {
                all = std::move(released);
            }
        }
        return all;
    }

    /// The number that was asked for may be that of another instance of the same service. Whoever gets it has it then, and whoever
    /// wants a new one is told.
    Reply with_own_number(std::string_view tool, const Json& params, Reply reply) {
        const auto asked = number_field(params, "port");
        const auto code = text_field(reply.body, "code");
        const bool differs = reply.ok ? asked != number_field(inner_field(reply.body, "lease"), "port") : code == "PORT_LEASED" || code == "PORT_IN_USE";
        if (!asked || !differs) { return reply; }
        auto where = params.contains("project") ? Json{{"project", params["project"]}} : Json{{"cwd", params["cwd"]}};
        const auto listed = ask("lease.list", where);
        if (!listed.ok) { return reply; }
        const auto protocol = params.contains("protocol") ? text_of(params, "protocol") : std::string("tcp");
        for (const auto& lease : inner_field(listed.body, "leases")) {
            const bool its_own = number_field(lease, "port") == asked && text_of(lease, "service") == text_of(params, "service") && text_of(lease, "protocol") == protocol;
            if (!its_own) { continue; }
            if (tool == "get-port") { return {true, Json{{"lease", lease}}}; }
            reply.body["message"] = "port " + std::to_string(*asked) + " is " + render_lease_name(lease) + "'s own already: get-port returns it, and without a number allocate-port gives a further one";
        }
        return reply;
    }

    Reply run_tool(const Tool& tool, const Json& arguments) {
        const std::string_view name = tool.name;
        if (name == "audit-ports") { return ask("lease.audit", Json{{"all", true}}); }
        const bool changes_theirs = name == "release-port" || name == "update-port";
        auto where = project_of(arguments, changes_theirs);
        if (!where.ok) { return where; }
        Json params = std::move(where.body);
        const auto put = [&](const char* argument, const char* parameter) {
            if (const auto found = arguments.find(argument); found != arguments.end()) { params[parameter] = *found; }
        };
        if (name == "list-ports") { return ask("lease.list", params); }
        if (name == "port-summary") { return ask("range.summary", params); }
        put("serviceName", "service");
        if (name == "release-port") {
            if (arguments.contains("hostname")) { return release_hostname(params, text_of(arguments, "hostname")); }
            return ask("lease.release", params);
        }
        if (name == "check-port") {
            put("port", "port");
            return ask("port.check", params);
        }
        put("description", "description");
        put("hostname", "hostname");
        put("cloudflareHostname", "hostname");
        if (name == "update-port") {
            put("serviceType", "kind");
            if (is_language(text_of(arguments, "serviceType"))) { params["kind"] = ""; }  // it has no role
            return ask("lease.update", params);
        }
        put("protocol", "protocol");
        const auto type = text_of(arguments, "serviceType");
        if (!type.empty()) { params[is_language(type) ? "type" : "kind"] = type; }
        put("port", "port");
        return with_own_number(name, params, ask(name == "get-port" ? "lease.get" : "lease.allocate", params));
    }

    // --- changes

    void begin_watch() {
        if (m_watcher > 0) { return; }
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) { return; }
        m_changes.reset(ends[0]);
        const UniqueFd out(ends[1]);
        const pid_t parent = ::getpid();
        m_watcher = ::fork();
        if (m_watcher == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (::getppid() != parent) { ::_exit(0); }
            const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
            ::dup2(nothing.get(), STDIN_FILENO);
            ::dup2(nothing.get(), STDERR_FILENO);
            ::dup2(out.get(), STDOUT_FILENO);
            relay_changes();
            ::_exit(1);
        }
        if (m_watcher < 0) { m_changes.reset(); }
    }

    /// A line once the stream has begun (what changed before that is told, too), and one for each event; returns when it ends.
    static void relay_changes() {
        auto connection = reach_agent(Deadline::in_milliseconds(k_portctl_deadline_ms));
        if (!connection) { return; }
        const auto begun = connection->call("lease.watch", Json{{"all", true}});
        if (!begun || !begun->ok) { return; }
        connection->wait_without_limit();
        while (write_out("\n") && connection->next_message()) {}
    }

    void end_watch() {
        m_watch_again.reset();
        m_changes.reset();
        if (m_watcher <= 0) { return; }
        ::kill(m_watcher, SIGTERM);
        while (::waitpid(m_watcher, nullptr, 0) < 0 && errno == EINTR) {}
        m_watcher = 0;
    }

    void read_changes() {
        char buffer[65536];
        const auto count = ::read(m_changes.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) { return; }
        if (count <= 0) {
            // The agent was restarted, say: it, or the next one, is watched again, and what happened meanwhile is told.
            end_watch();
            m_watch_again = Deadline::in_milliseconds(k_watch_again_ms);
            return;
        }
        // Several events that came together are one change for whoever reads the resource again.
        if (std::find(buffer, buffer + count, '\n') == buffer + count) { return; }
        tell_of_changes();
    }

    void tell_of_changes() { send(Json{{"jsonrpc", "2.0"}, {"method", "notifications/resources/updated"}, {"params", {{"uri", k_leases_uri}}}}); }

    void watch_again() {
        m_watch_again.reset();
        begin_watch();
    }

    std::string m_start_directory;
    std::string m_directory;  ///< the client's first root that is there, else where we were started
    std::string m_line;
    bool m_too_long = false;
    bool m_ended = false;
    bool m_client_has_roots = false;
    int m_roots_asked = 0;
    std::optional<Deadline> m_roots_deadline;  ///< while the client's answer is due
    std::optional<Deadline> m_watch_again;     ///< while somebody subscribes and nothing is watched
    std::string m_revision;  ///< agreed on; empty before that
    std::deque<Waiting> m_waiting;
    std::shared_ptr<Batch> m_batch;  ///< whose part is taken or handled
    std::optional<Json> m_running;  ///< the id of the request that was taken up last
    bool m_cancelled = false;       ///< that one was taken back
    Interruption m_interruption;
    UniqueFd m_changes;
    pid_t m_watcher = 0;
};

int run_mcp(Globals& globals, const std::vector<std::string>& arguments) {
    const auto end = parse_command(globals, "mcp [-C DIR]", "Serves coding agents: the Model Context Protocol on standard input and output.",
                                   "  claude mcp add portwrap -- portctl mcp\n"
                                   "  { \"mcpServers\": { \"portwrap\": { \"command\": \"portctl\", \"args\": [\"mcp\"] } } }",
                                   arguments, [](CLI::App&) {});
    if (end) { return *end; }
    const auto place = project_parameters(globals, false);
    if (!place) { return report(globals, place.error()); }
    auto directory = text_of(*place, "cwd");
    if (directory.empty()) { return report(globals, Error{ErrorCode::invalid_request, "mcp takes its directory by -C"}); }
    return McpServer(std::move(directory)).run();
}

}  // namespace

std::vector<Command> mcp_commands() { return {{"mcp", "serve coding agents (Model Context Protocol)", run_mcp}}; }

}  // namespace portwrap
