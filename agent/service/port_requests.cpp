// Questions about port numbers, whoever has them: port.*.
#include "core/blocks.hpp"
#include "core/named_rules.hpp"
#include "service/agent.hpp"

namespace portwrap {
namespace {

Json block_shape(const Registry& registry, const Project& project) {
    return {{"project", project_shape(registry, project.root)}, {"start", project.block->start}, {"end", project.block->end}};
}

/// Why a free port is none for everybody.
Json notes_about(Port port, const Facts& facts) {
    auto notes = Json::array();
    if (port < facts.first_permitted) { notes.push_back(too_low(port, facts)); }
    if (is_bad_port(port)) { notes.push_back("browsers refuse to open it (the Fetch standard's bad ports)"); }
    if (facts.ephemeral.contains(port)) { notes.push_back("the kernel may give it to any connection at any moment (ephemeral range)"); }
    return notes;
}

}  // namespace

void Agent::port_check(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("port");
    const auto port = params.port("port").value_or(0);
    with_project(request, params, reply, [this, request, reply, port](const Place& place) {
        auto seen = std::make_shared<std::vector<SeenListener>>();
        m_file_jobs.run(FileJobs::Lane::processes, {}, [seen, port] { *seen = look_at_listeners({port}); },
                              [this, request, reply, port, seen, root = place.project.root] {
                                  const auto now = facts();
                                  const auto* owner = owner_of(m_registry, port);
                                  const bool live = owner != nullptr && owner->live();
                                  const bool own = live && owner->key.root == root && owner->sockets.empty();
                                  std::optional<ErrorCode> code;
                                  if (!seen->empty() || now.in_use(port, true, true)) {
                                      code = ErrorCode::port_in_use;
                                  } else if (live && !own) {
                                      code = ErrorCode::port_leased;
                                  } else if (is_system_port(m_config, port)) {
                                      code = ErrorCode::system_reserved;
                                  } else if (is_reserved_port(m_config, port)) {
                                      code = ErrorCode::port_reserved;
                                  }
                                  auto result = ok_shape();
                                  result["port"] = port;
                                  result["available"] = !code;
                                  result["code"] = code ? Json(error_code_name(*code)) : Json(nullptr);
                                  result["lease"] = owner != nullptr ? lease_shape(m_registry, *owner) : Json(nullptr);
                                  result["claimed"] = owner != nullptr && !live;
                                  const auto* block = block_owner(m_registry, m_config, "", port);
                                  result["block"] = block != nullptr ? block_shape(m_registry, *block) : Json(nullptr);
                                  result["notes"] = notes_about(port, now);
                                  result["listeners"] = Json::array();
                                  for (const auto& entry : *seen) { result["listeners"].push_back(listener_shape(m_registry, entry)); }
                                  result["suggestions"] = code ? Json(suggest_ports(m_registry, m_config, root, port, 3, now)) : Json::array();
                                  reply({result_line(request.id, result), false});
                              });
    });
}

void Agent::port_who(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("port");
    const auto port = params.port("port").value_or(0);
    (void)params.text("cwd", 4096);
    if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
    auto seen = std::make_shared<std::vector<SeenListener>>();
    m_file_jobs.run(FileJobs::Lane::processes, {}, [seen, port] { *seen = look_at_listeners({port}); },
                          [this, request, reply, port, seen] {
                              auto result = ok_shape();
                              result["port"] = port;
                              result["listeners"] = Json::array();
                              for (const auto& entry : *seen) {
                                  auto listener = listener_shape(m_registry, entry);
                                  listener["parents"] = Json::array();
                                  for (const auto& [pid, command] : entry.parents) { listener["parents"].push_back({{"pid", pid}, {"command", command}}); }
                                  result["listeners"].push_back(std::move(listener));
                              }
                              reply({result_line(request.id, result), false});
                          });
}

std::span<const Agent::Method> Agent::port_methods() {
    static constexpr Method k_methods[] = {{"port.check", &Agent::port_check}, {"port.who", &Agent::port_who}};
    return k_methods;
}

}  // namespace portwrap
