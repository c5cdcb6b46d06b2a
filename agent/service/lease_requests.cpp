// What people and scripts ask for by name: lease.*.
#include <algorithm>

#include "core/lease_steps.hpp"
#include "core/named_rules.hpp"
#include "service/agent.hpp"
#include "service/requests.hpp"

namespace portwrap {

namespace {

/// What get, allocate, register and reserve have in common.
GetRequest read_get(Params& params, const std::string& user_at_host) {
    GetRequest get;
    get.service = read_service(params, "service").value_or("");
    get.type = params.text("type", 64);
    get.kind = params.text("kind", 64);
    get.range = params.text("range", 64);
    get.environment = params.choice<Environment>("environment").value_or(Environment::dev);
    get.description = params.text("description", 1024);
    get.hostname = read_hostname(params, "hostname");
    get.protocol = params.choice<Protocol>("protocol").value_or(Protocol::tcp);
    get.allocated_by = params.text("allocated_by").value_or(user_at_host);
    return get;
}

/// One of "port" and "service", for what exists already.
LeaseTarget read_target(Params& params) {
    LeaseTarget target;
    target.port = params.port("port");
    target.service = params.text("service", 64);
    target.force = params.flag("force");
    if (target.port.has_value() == target.service.has_value()) { params.fail("port", "or \"service\": exactly one of them is needed"); }
    return target;
}

/// Whose listener is looked for before they are changed: a server that was started without portwrap is known only after a look.
std::vector<const Lease*> leases_meant(const Registry& registry, const LeaseTarget& target) {
    return target.port ? registry.on_port(*target.port) : registry.of_project(target.root);
}

}  // namespace

void Agent::lease_get(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    params.require("service");
    AllocateRequest get;
    static_cast<GetRequest&>(get) = read_get(params, m_options.user_at_host);
    get.port = params.port("port");
    with_project(request, params, reply, [this, request, reply, get](const Place& place) {
        refresh();
        with_heard(m_registry.of_service(place.project.root, get.service), [this, request, reply, get, kept = kept_place(place)] {
            auto whole = get;
            whole.place = kept.whole();
            answer_lease(decide_get_at(m_registry, m_config, whole, facts()), *kept.project, request, reply);
        });
    });
}

void Agent::lease_allocate(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    AllocateRequest allocate;
    params.require("service");
    static_cast<GetRequest&>(allocate) = read_get(params, m_options.user_at_host);
    allocate.port = params.port("port");
    allocate.preferred = params.port("preferred");
    const auto count = params.number("count", k_max_count);
    allocate.count = static_cast<int>(count.value_or(1));
    allocate.block = params.flag("block");
    allocate.force = params.flag("force");
    if (count == 0) { params.fail("count", "is not an integer from 1 to " + std::to_string(k_max_count)); }
    if (allocate.port && allocate.preferred) { params.fail("preferred", "and \"port\" exclude each other"); }
    if (allocate.port && allocate.count > 1 && !allocate.block) { params.fail("count", "with \"port\" means a block: \"block\" is needed too"); }
    if (allocate.preferred && allocate.block) { params.fail("preferred", "and \"block\" exclude each other"); }
    with_project(request, params, reply, [this, request, reply, allocate, several = count.has_value()](const Place& place) mutable {
        allocate.place = place;
        refresh();
        auto decision = decide_allocate(m_registry, m_config, allocate, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse_port(request, reply, std::move(*refusal)); }
        const auto ids = std::get<std::vector<LeaseId>>(decision.answer);
        if (!several) { return answer_lease({std::move(decision.changes), ids.front()}, place.project, request, reply); }
        see_project(place.project, decision.changes);
        commit_durably(std::move(decision.changes), request, reply, [this, ids] { return leases_result(ids); });
    });
}

void Agent::lease_register(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    RegisterRequest record;
    params.require("service");
    params.require("port");
    static_cast<GetRequest&>(record) = read_get(params, m_options.user_at_host);
    record.port = params.port("port").value_or(0);
    with_project(request, params, reply, [this, request, reply, record](const Place& place) mutable {
        record.place = place;
        refresh();
        auto decision = decide_register(m_registry, m_config, record, facts());
        if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse_port(request, reply, std::move(*refusal)); }
        const auto registered = std::get<Registered>(decision.answer);
        see_project(place.project, decision.changes);
        commit_durably(std::move(decision.changes), request, reply, [this, registered] {
            auto result = ok_shape();
            const auto* lease = m_registry.find(registered.lease);
            result["lease"] = lease != nullptr ? lease_shape(m_registry, *lease) : Json(nullptr);
            result["warning"] = registered.warning.empty() ? Json(nullptr) : Json(registered.warning);
            return result;
        });
    });
}

void Agent::lease_reserve(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    constexpr std::uint64_t k_max_ttl_s = 10ULL * 366 * 24 * 3600;
    Params params(request.params);
    ReserveRequest reserve;
    static_cast<GetRequest&>(reserve) = read_get(params, m_options.user_at_host);
    reserve.port = params.port("port");
    reserve.force = params.flag("force");
    const auto ttl = params.number("ttl_s", k_max_ttl_s);
    if (ttl) { reserve.ttl = std::chrono::seconds(*ttl); }
    if (ttl == 0) { params.fail("ttl_s", "is not an integer from 1 to " + std::to_string(k_max_ttl_s)); }
    if (!reserve.port && reserve.service.empty()) { params.fail("port", "or \"service\" is needed"); }
    with_project(request, params, reply, [this, request, reply, reserve](const Place& place) mutable {
        reserve.place = place;
        // A number alone is kept for the service that would ask for it here.
        if (reserve.service.empty()) { reserve.service = service_of(place, std::nullopt, reserve.port); }
        refresh();
        answer_lease(decide_reserve(m_registry, m_config, reserve, facts()), place.project, request, reply);
    });
}

void Agent::lease_update(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    UpdateRequest update;
    update.target = read_target(params);
    update.target.protocol = params.choice<Protocol>("protocol");
    update.description = params.text("description", 1024, true);
    update.hostname = read_hostname(params, "hostname", true);
    update.kind = params.text("kind", 64, true);
    update.environment = params.choice<Environment>("environment");
    update.range = params.text("range", 64);
    update.service = read_service(params, "new_service");
    update.port = params.port("new_port");
    if (!update.description && !update.hostname && !update.kind && !update.environment && !update.service && !update.port) {
        params.fail("description", "or another change is needed");
    }
    if (update.range && !update.port) { params.fail("range", "means the range of \"new_port\""); }
    with_project(request, params, reply, [this, request, reply, update](const Place& place) mutable {
        update.target.root = place.project.root;
        refresh();
        with_heard(leases_meant(m_registry, update.target), [this, request, reply, update, kept = kept_place(place)] {
            auto whole = update;
            whole.place = kept.whole();
            answer_lease(decide_update(m_registry, m_config, whole, facts()), *kept.project, request, reply);
        });
    });
}

void Agent::lease_transfer(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    TransferRequest transfer;
    transfer.target = read_target(params);
    params.require("to");
    const auto to = params.text("to", 4096).value_or("/");
    with_project(request, params, reply, [this, request, reply, transfer, to](const Place& place) mutable {
        transfer.target.root = place.project.root;
        with_named_project(request, to, reply, [this, request, reply, transfer](const Place& target) {
            refresh();
            with_heard(leases_meant(m_registry, transfer.target), [this, request, reply, transfer, kept = kept_project(target.project)] {
                auto whole = transfer;
                whole.to = *kept;
                answer_lease(decide_transfer(m_registry, whole), *kept, request, reply);
            });
        });
    });
}

void Agent::lease_list(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    mind_removed_roots();
    Params params(request.params);
    ListFilter filter;
    const bool all = params.flag("all");
    for (const auto& text : params.texts("states", 8, 16)) {
        if (const auto state = from_word<LeaseState>(text)) {
            filter.states.insert(*state);
        } else {
            params.fail("states", "has a word that is no state");
        }
    }
    filter.environment = params.choice<Environment>("environment");
    filter.range = params.text("range", 64);
    filter.worktree = params.text("worktree", 4096, true);
    const bool orphans = params.flag("orphans");
    if (filter.range && find_range(m_config, *filter.range) == nullptr) { return refuse(request, reply, unknown_range(printable(*filter.range, 64))); }
    if (filter.worktree && (all || orphans)) { params.fail("worktree", "means those of one repository"); }
    const auto answer = [this, request, reply](const ListFilter& chosen_by) {
        with_all_heard([this, request, reply, chosen_by] {
            auto chosen = list_leases(m_registry, chosen_by);
            // A number of the kernel's choice that is on its way to its program.
            std::erase_if(chosen, [](const Lease* lease) { return lease->key.requested == Port{0} && lease->state != LeaseState::active; });
            reply({result_line(request.id, ok_shape(), "leases", chosen.size(), [&](std::size_t index) { return lease_shape(m_registry, *chosen[index]); }), false});
        });
    };
    if (all || orphans) {
        for (const auto* name : {"cwd", "project"}) { (void)params.text(name, 4096); }
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        if (!orphans) { return answer(filter); }
        return with_orphans([answer, filter](std::set<std::string> gone) mutable {
            filter.roots = std::move(gone);
            filter.claims = true;
            answer(filter);
        });
    }
    with_project(request, params, reply, [this, answer, filter](const Place& place) mutable {
        filter.project = kept_project(place.project);
        answer(filter);
    });
}

void Agent::with_orphans(std::function<void(std::set<std::string>)> then) {
    struct Looking {
        std::set<std::string> gone;
        std::size_t left = 0;
        std::function<void(std::set<std::string>)> then;
    };
    auto looking = std::make_shared<Looking>();
    std::set<std::string> roots;
    for (const auto& [id, lease] : m_registry.leases()) { roots.insert(lease.key.root); }
    looking->left = roots.size();
    looking->then = std::move(then);
    if (roots.empty()) { return looking->then({}); }
    for (const auto& root : roots) {
        auto gone = std::make_shared<bool>(false);
        auto counted = std::make_shared<bool>(false);
        m_file_jobs.run(root, [gone, root] { *gone = is_gone(root); }, [looking, gone, counted, root](FileJobs::Progress progress) {
            if (std::exchange(*counted, true)) { return; }
            // A file system that does not answer has not lost anything.
            if (progress == FileJobs::Progress::ended && *gone) { looking->gone.insert(root); }
            if (--looking->left == 0) { looking->then(std::move(looking->gone)); }
        });
    }
}

void Agent::lease_port(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    with_current_lease(exchange, request, reply, [this, request, reply](const Lease& lease, const Place&) {
        auto result = ok_shape();
        result["lease"] = lease_shape(m_registry, lease);
        reply({result_line(request.id, result), false});
    });
}

void Agent::lease_url(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply) {
    with_current_lease(exchange, request, reply, [this, request, reply](const Lease& lease, const Place& place) {
        auto result = ok_shape();
        const auto service = configured(place, lease.key.service);
        result["url"] = url_of(lease, service && service->health_tls);
        result["lease"] = lease_shape(m_registry, lease);
        reply({result_line(request.id, result), false});
    });
}

void Agent::with_current_lease(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply, std::function<void(const Lease&, const Place&)> then) {
    Params params(request.params);
    const auto service = params.text("service", 64);
    const auto requested = params.port("requested");
    const auto protocol = params.choice<Protocol>("protocol");
    with_project(request, params, reply, [this, request, reply, service, requested, protocol, then = std::move(then)](const Place& asked) {
        refresh();
        with_heard(m_registry.of_project(asked.project.root), [this, request, reply, service, requested, protocol, kept = kept_place(asked), then] {
            const auto place = kept.whole();
            const auto* lease = current_lease(m_registry, place, service, requested, protocol);
            if (lease != nullptr) { return then(*lease, place); }
            const std::string what = requested ? "nobody in project \"" + place.project.name + "\" asked for port " + std::to_string(*requested)
                                     : service ? "project \"" + place.project.name + "\" has no port for \"" + printable(*service) + "\""
                                               : "project \"" + place.project.name + "\" has no port";
            refuse(request, reply, {ErrorCode::not_found, what, {}, {}});
        });
    });
}

void Agent::lease_release(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    ReleaseRequest release;
    release.port = params.port("port");
    release.service = params.text("service", 64);
    release.everything = params.flag("everything");
    release.force = params.flag("force");
    release.protocol = params.choice<Protocol>("protocol");
    if (int{release.port.has_value()} + int{release.service.has_value()} + int{release.everything} != 1) {
        params.fail("port", "or \"service\" or \"everything\": exactly one of them is needed");
    }
    with_project(request, params, reply, [this, request, reply, release](const Place& place) mutable {
        release.root = place.project.root;
        refresh();
        with_heard(leases_meant(m_registry, {release.root, release.port, release.service, release.force, release.protocol}), [this, request, reply, release] {
            auto decision = decide_release(m_registry, m_config, release, facts());
            if (auto* refusal = std::get_if<Refusal>(&decision.answer)) { return refuse(request, reply, *refusal); }
            const auto ids = std::get<std::vector<LeaseId>>(decision.answer);
            commit_durably(std::move(decision.changes), request, reply, [this, ids] { return leases_result(ids); });
        });
    });
}

std::span<const Agent::Method> Agent::lease_methods() {
    static constexpr Method k_methods[] = {{"lease.port", &Agent::lease_port},
                                           {"lease.get", &Agent::lease_get},
                                           {"lease.list", &Agent::lease_list},
                                           {"lease.release", &Agent::lease_release},
                                           {"lease.allocate", &Agent::lease_allocate},
                                           {"lease.register", &Agent::lease_register},
                                           {"lease.reserve", &Agent::lease_reserve},
                                           {"lease.update", &Agent::lease_update},
                                           {"lease.transfer", &Agent::lease_transfer},
                                           {"lease.url", &Agent::lease_url}};
    return k_methods;
}

}  // namespace portwrap
