// .portwrap.json: a strict reader of a file that comes with a repository and is therefore not trusted. Every key is
// known, every value has its kind and bounds, and an error says the line.
#include <algorithm>

#include "system/json_tree.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

using namespace json_tree;

/// What launches carry about for everybody who asks; more than any command line that people write.
constexpr std::size_t k_max_arguments = 1024;      // of all services
constexpr std::size_t k_max_text = 64 * 1024;      // bytes of all their arguments and paths, and of all values of variables

Problem check_variable(const Node& node, const std::string& path, const std::string& name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const bool good = !name.empty() && name.size() <= 128 && letter(name.front()) &&
                      std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
    if (!good) { return problem_at(node, path, "is not the name of an environment variable"); }
    if (is_refused_variable(name)) { return problem_at(node, path, "a repository may not set " + name); }
    return std::nullopt;
}

Problem read_directory(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    if (text.starts_with('/')) { return problem_at(node, path, "must be relative to the project's root"); }
    std::string clean;
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t slash = rest.find('/');
        const std::string_view part = rest.substr(0, slash);
        rest.remove_prefix(slash == std::string_view::npos ? rest.size() : slash + 1);
        if (part == "..") { return problem_at(node, path, "must not leave the project's root"); }
        if (part.empty() || part == ".") { continue; }
        if (!clean.empty()) { clean += '/'; }
        clean += part;
    }
    into = clean;
    return std::nullopt;
}

/// It becomes part of a request line.
Problem read_health_path(const Node& node, const std::string& path, std::optional<std::string>& into) {
    std::string text;
    if (auto problem = read_text(node, path, text)) { return problem; }
    const bool good = text.starts_with('/') && text.size() <= 1024 &&
                      std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
    if (!good) { return problem_at(node, path, "must be a path that begins with / and has no spaces"); }
    into = text;
    return std::nullopt;
}

Problem read_health(const Node& node, const std::string& path, ServiceConfig& service) {
    if (node.kind != Node::Kind::object) { return read_health_path(node, path, service.health); }
    for (const auto& child : node.children) {
        const std::string where = path_of(path, child.key);
        Problem problem;
        if (child.key == "path") {
            problem = read_health_path(child, where, service.health);
        } else if (child.key == "timeout") {
            std::chrono::seconds timeout{};
            problem = read_health_timeout(child, where, timeout);
            service.health_timeout = timeout;
        } else if (child.key == "https") {
            std::optional<bool> https;
            problem = read_boolean(child, where, https);
            service.health_tls = https.value_or(false);
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    return std::nullopt;
}

Problem read_service(const Node& node, const std::string& path, ServiceConfig& service) {
    if (node.kind != Node::Kind::object) { return problem_at(node, path, "must be an object"); }
    for (const auto& child : node.children) {
        const std::string where = path_of(path, child.key);
        Problem problem;
        if (child.key == "port") {
            problem = read_port(child, where, service.port);
        } else if (child.key == "args") {
            problem = read_texts(child, where, service.args);
        } else if (child.key == "env") {
            std::string name;
            problem = read_text(child, where, name);
            if (!problem) { problem = check_variable(child, where, name); }
            service.env = name;
        } else if (child.key == "dir") {
            problem = read_directory(child, where, service.dir);
        } else if (child.key == "kind") {
            problem = read_word(child, where, service.kind);
        } else if (child.key == "type") {
            problem = read_word(child, where, service.type);
        } else if (child.key == "health") {
            problem = read_health(child, where, service);
        } else if (child.key == "shared") {
            problem = read_boolean(child, where, service.shared);
        } else if (child.key == "sockname") {
            std::size_t choice = 0;
            problem = read_choice(child, where, {"requested", "real"}, choice);
            service.sockname_requested = choice == 0;
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    return std::nullopt;
}

Problem read_services(const Node& node, std::vector<ServiceConfig>& into) {
    if (node.kind != Node::Kind::object) { return problem_at(node, "services", "must be an object"); }
    std::size_t arguments = 0;
    std::size_t bytes = 0;
    for (const auto& child : node.children) {
        const std::string path = path_of("services", child.key);
        if (!is_word(child.key)) { return problem_at(child, path, std::string("the name ") + k_word_rule); }
        if (child.key.find_first_not_of("0123456789") == std::string::npos) { return problem_at(child, path, "the name must not be a number, which means a port"); }
        ServiceConfig service;
        service.name = child.key;
        if (auto problem = read_service(child, path, service)) { return problem; }
        arguments += service.args.size();
        for (const auto& argument : service.args) { bytes += argument.size(); }
        bytes += service.dir.value_or("").size() + service.health.value_or("").size();
        if (arguments > k_max_arguments) { return problem_at(child, path + ".args", "makes more than 1024 arguments of all services together"); }
        if (bytes > k_max_text) { return problem_at(child, path, "makes more than 64 KiB of arguments and paths of all services together"); }
        for (const auto& other : into) {
            if (service.env && service.env == other.env) { return problem_at(child, path + ".env", "is the variable of \"" + other.name + "\" already"); }
            if (service.port && service.port == other.port && service.dir == other.dir) {
                return problem_at(child, path + ".port", "is what \"" + other.name + "\" asks for already");
            }
        }
        into.push_back(std::move(service));
    }
    return std::nullopt;
}

Problem read_environment(const Node& node, std::vector<std::pair<std::string, std::string>>& into) {
    if (node.kind != Node::Kind::object) { return problem_at(node, "env", "must be an object"); }
    std::size_t bytes = 0;
    for (const auto& child : node.children) {
        const std::string path = path_of("env", child.key);
        if (auto problem = check_variable(child, path, child.key)) { return problem; }
        std::string value;
        if (auto problem = read_text(child, path, value)) { return problem; }
        bytes += value.size();
        if (bytes > k_max_text) { return problem_at(child, path, "makes more than 64 KiB of values altogether"); }
        into.emplace_back(child.key, std::move(value));
    }
    return std::nullopt;
}

Problem read_config(const Node& node, ProjectConfig& config) {
    if (node.kind != Node::Kind::object) { return std::to_string(node.line) + ": the file must be a JSON object"; }
    for (const auto& child : node.children) {
        const std::string where = path_of("", child.key);
        Problem problem;
        std::string ignored;
        if (child.key == "name") {
            problem = read_shown_name(child, where, config.name);
        } else if (child.key == "type") {
            problem = read_word(child, where, config.type);
        } else if (child.key == "services") {
            problem = read_services(child, config.services);
        } else if (child.key == "env") {
            problem = read_environment(child, config.env);
        } else if (child.key == "connect") {
            std::size_t choice = 0;
            problem = read_choice(child, where, {"project", "off"}, choice);
            config.connect = choice == 0;
        } else if (child.key == "port_zero") {
            std::size_t choice = 0;
            problem = read_choice(child, where, {"range", "kernel"}, choice);
            config.port_zero_kernel = choice == 1;
        } else if (child.key == "rewrite_env") {
            std::optional<bool> rewrite;
            problem = read_boolean(child, where, rewrite);
            config.rewrite_env = rewrite.value_or(false);
        } else if (child.key == "sticky") {
            std::size_t choice = 0;
            problem = read_choice(child, where, {"claim", "prefer"}, choice);
            config.claims = choice == 0;
        } else if (child.key == "$schema") {
            problem = read_text(child, where, ignored);
        } else {
            problem = problem_at(child, where, "unknown key");
        }
        if (problem) { return problem; }
    }
    return std::nullopt;
}

}  // namespace

Result<ProjectConfig> parse_project_config(std::string_view text) {
    const auto tree = json_tree::parse(text);
    if (!tree) { return tree.error(); }
    ProjectConfig config;
    if (auto problem = read_config(*tree, config)) { return Error{ErrorCode::invalid_request, *problem}; }
    return config;
}

}  // namespace portwrap
