// The user's config in a running agent: read again, shown with the origin of each value, judged. And what follows from it
// besides decisions: the log's level, what the snapshot shows of ranges, leaving when idle.
#include <algorithm>

#include "service/agent.hpp"
#include "service/requests.hpp"
#include "service/shapes.hpp"

namespace portwrap {
namespace {

Json interval_shape(const PortInterval& part) { return {{"start", part.start}, {"end", part.end}}; }

Json range_value(const Range& range) {
    Json value;
    if (range.intervals.size() == 1) {
        value = interval_shape(range.intervals.front());
    } else {
        value["ports"] = Json::array();
        for (const auto& part : range.intervals) { value["ports"].push_back(interval_shape(part)); }
    }
    value["kind"] = word(range.kind);
    value["exclusive"] = range.exclusive;
    value["fallback"] = range.fallback.empty() ? Json(nullptr) : Json(range.fallback);
    value["description"] = range.description;
    return value;
}

std::int64_t days(std::chrono::hours hours) { return hours.count() / 24; }

/// Every key of the config with its value, in the order of docs/configuration.md.
std::vector<std::pair<std::string, Json>> values_of(const Config& config) {
    Json blocks = Json::object();
    for (const auto& [name, port] : config.pinned_blocks) { blocks[name] = port; }
    std::vector<std::pair<std::string, Json>> values{
        {"preset", word(config.preset)},
        {"reserved", config.reserved},
        {"strategy", word(config.strategy)},
        {"sticky", config.claims ? "claim" : "prefer"},
        {"connect", config.connect ? "project" : "off"},
        {"port_zero", config.port_zero_kernel ? "kernel" : "range"},
        {"auto_cleanup", config.auto_cleanup},
        {"block_size", config.block_size},
        {"blocks", std::move(blocks)},
        {"inactive_days", days(config.inactive)},
        {"released_days", days(config.remembered)},
        {"history_days", days(config.history)},
        {"idle_exit", config.idle_exit ? Json(std::to_string(config.idle_exit->count()) + "m") : Json(false)},
        {"health_interval", config.health_interval ? Json(std::to_string(config.health_interval->count()) + "s") : Json(false)},
        {"health_timeout", std::to_string(config.health_timeout.count()) + "s"},
        {"log_level", config.log_level},
    };
    for (const auto& range : config.ranges) { values.emplace_back("ranges." + range.name, range_value(range)); }
    return values;
}

}  // namespace

std::span<const Agent::Method> Agent::config_methods() {
    static constexpr Method k_methods[] = {
        {"config.show", &Agent::config_show}, {"config.validate", &Agent::config_validate}, {"config.reload", &Agent::config_reload}};
    return k_methods;
}

void Agent::apply_config() {
    m_config = m_options.user.config;
    m_range_fill = RangeFill(m_config, m_registry);
    for (const auto& warning : m_options.user.warnings) { m_options.log_trouble("config: " + warning); }
    if (m_options.set_log_level && !m_options.log_level_given) { m_options.set_log_level(m_config.log_level); }
    Json ranges = Json::array();
    for (const auto& range : m_config.ranges) {
        auto value = range_value(range);
        value["name"] = range.name;
        ranges.push_back(std::move(value));
    }
    m_store->set_ranges(ranges.dump());
    mind_idleness();
    mind_health();
}

void Agent::read_config(const std::string& path, std::function<void(Result<UserConfig>)> then) {
    auto read = std::make_shared<Result<UserConfig>>(Error{ErrorCode::agent_unavailable, {}});
    const auto work = [read, path, variables = m_options.variables, ephemeral = m_ephemeral] { *read = read_user_config(path, variables, ephemeral); };
    m_file_jobs.run(path, work, [path, read, then = std::move(then)](FileJobs::Progress progress) {
        if (progress == FileJobs::Progress::ended) { return then(std::move(*read)); }
        then(Error{ErrorCode::agent_unavailable, "the file system of " + path + " does not answer"});
    });
}

void Agent::reload_config(std::function<void()> then) {
    auto answered = std::make_shared<bool>(false);
    read_config(m_options.config_path, [this, then = std::move(then), answered](Result<UserConfig> read) {
        if (read) {
            m_options.user = std::move(*read);
            m_config_problem.clear();
            apply_config();
            m_options.log("config reloaded");
            on_timer();  // what expires may do so earlier or later now
        } else {
            m_config_problem = read.error().message;
            m_options.log_trouble("config: " + m_config_problem + "; the last good one stays in use");
        }
        if (then && !std::exchange(*answered, true)) { then(); }
    });
}

void Agent::mind_idleness() {
    if (!m_config.idle_exit || m_idleness_watched) { return; }
    m_idleness_watched = true;
    (void)m_outside.call_after(*m_config.idle_exit, [this] {
        m_idleness_watched = false;
        if (!m_config.idle_exit) { return; }
        const bool idle = m_talking == 0 && m_socketed.empty() && m_registry.sessions().empty() && m_outside.now() - m_last_used >= *m_config.idle_exit;
        if (!idle) { return mind_idleness(); }
        m_options.log("idle for " + std::to_string(m_config.idle_exit->count()) + " minutes");
        m_outside.stop();
    });
}

void Agent::with_config_news(std::function<void(const std::string&)> then) {
    auto answered = std::make_shared<bool>(false);
    read_config(m_options.config_path, [this, then = std::move(then), answered](const Result<UserConfig>& read) {
        if (std::exchange(*answered, true)) { return; }
        if (!read) { return then(read.error().message); }
        if (values_of(read->config) == values_of(m_config)) { return then(m_config_problem); }
        then(m_options.config_path + " has changed since it was read (`portctl config reload` takes it)");
    });
}

void Agent::config_show(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    with_config_news([this, request, reply](const std::string& news) { answer_config(request, reply, news); });
}

void Agent::answer_config(const Request& request, const ReplyTo& reply, const std::string& news) const {
    auto result = ok_shape();
    result["path"] = m_options.config_path;
    result["problem"] = news.empty() ? Json(nullptr) : Json(news);
    result["warnings"] = m_options.user.warnings;
    result["values"] = Json::array();
    for (auto& [key, value] : values_of(m_config)) {
        const auto origin = m_options.user.origins.find(key);
        result["values"].push_back({{"key", key}, {"value", std::move(value)}, {"origin", origin != m_options.user.origins.end() ? origin->second : "default"}});
    }
    reply({result_line(request.id, result), false});
}

void Agent::config_validate(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    auto path = params.text("path", 4096).value_or(m_options.config_path);
    if (path.front() != '/') { params.fail("path", "is not an absolute path"); }
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    auto answered = std::make_shared<bool>(false);
    read_config(path, [request, reply, path, answered](const Result<UserConfig>& read) {
        if (std::exchange(*answered, true)) { return; }
        auto result = ok_shape();
        result["path"] = path;
        result["valid"] = read.has_value();
        result["problem"] = read ? Json(nullptr) : Json(read.error().message);
        result["warnings"] = read ? Json(read->warnings) : Json::array();
        reply({result_line(request.id, result), false});
    });
}

void Agent::config_reload(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    reload_config([this, request, reply] { answer_config(request, reply, m_config_problem); });
}

}  // namespace portwrap
