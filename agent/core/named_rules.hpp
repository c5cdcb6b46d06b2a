// What people and scripts ask for by name or number, besides get, offer and release (policy.hpp): new instances, records of
// ports that are managed elsewhere, reservations, changes and hand-overs. Pure.
#pragma once

#include <set>

#include "core/policy.hpp"

namespace portwrap {

/// A port that somebody asks for by its number.
struct PortWish {
    std::string root;
    std::string service;
    Protocol protocol = Protocol::tcp;
    Port port = 0;
    const Range* range = nullptr;  ///< that serves the request; null: any port will do
    bool force = false;            ///< although something listens there, or it is out of the range or in the config's list
    LeaseId own = 0;               ///< a lease that may have it already
};
/// Why it cannot be had, with suggestions; nothing when it can. PORT_IN_USE and PORT_LEASED come without a message: who
/// listens is known outside of the rules.
[[nodiscard]] std::optional<Refusal> judge_port(const Registry& registry, const Config& config, const PortWish& wish,
                                                const Facts& facts);

/// The lowest instance of the service in the environment that are asked for, of what is live or of what is remembered; null: none.
[[nodiscard]] const Lease* lowest_asked_for(const Registry& registry, const GetRequest& request, bool live);

/// Which ranges serve a request by name. `service` decides where neither options nor config do.
[[nodiscard]] RangeQuery range_query_of(const Config& config, const GetRequest& request);

/// Always new leases: `count` of them, all or none.
struct AllocateRequest : GetRequest {
    std::optional<Port> port;       ///< this one or a refusal; with `count`: the first of a block
    std::optional<Port> preferred;  ///< this one if it is free
    int count = 1;
    bool block = false;             ///< neighbours
    bool force = false;
};
inline constexpr int k_max_count = 1000;
[[nodiscard]] Decision<Outcome<std::vector<LeaseId>>> decide_allocate(const Registry& registry, const Config& config,
                                                                      const AllocateRequest& request, const Facts& facts);

/// decide_get, where a service that has no port yet gets `request.port` or a refusal. Of two who ask at once for different numbers
/// the second gets what the first has got.
[[nodiscard]] Decision<Outcome<LeaseId>> decide_get_at(const Registry& registry, const Config& config, const AllocateRequest& request,
                                                       const Facts& facts);

/// The record of a port that is managed elsewhere: it may lie anywhere and something may listen there.
struct RegisterRequest : GetRequest {
    Port port = 0;
};
struct Registered {
    LeaseId lease = 0;
    std::string warning;  ///< it lies in another environment's range; empty when all is well
};
[[nodiscard]] Decision<Outcome<Registered>> decide_register(const Registry& registry, const Config& config,
                                                            const RegisterRequest& request, const Facts& facts);

/// A claim in advance: of a number, or of a port for a service. What the project has already is answered as it is; a
/// reservation gets the new time to live, or keeps the one it has.
struct ReserveRequest : GetRequest {
    std::optional<Port> port;
    std::optional<std::chrono::seconds> ttl;
    bool force = false;
};
[[nodiscard]] Decision<Outcome<LeaseId>> decide_reserve(const Registry& registry, const Config& config,
                                                        const ReserveRequest& request, const Facts& facts);

/// Which lease is meant: that of a port, or of a service of the project.
struct LeaseTarget {
    std::string root;
    std::optional<Port> port;
    std::optional<std::string> service;
    bool force = false;  ///< also another project's
    std::optional<Protocol> protocol{};  ///< of a number that both have; none: TCP before UDP
};

/// What is not given stays; an empty text takes the value away.
struct UpdateRequest {
    LeaseTarget target;
    Place place;  ///< of target.root
    std::optional<std::string> description;
    std::optional<std::string> hostname;
    std::optional<std::string> kind;
    std::optional<Environment> environment;
    std::optional<std::string> service;
    std::optional<Port> port;  ///< moves the lease, and where the key's sticky port is
    std::optional<std::string> range;
};
[[nodiscard]] Decision<Outcome<LeaseId>> decide_update(const Registry& registry, const Config& config,
                                                       const UpdateRequest& request, const Facts& facts);

struct TransferRequest {
    LeaseTarget target;
    Project to;
};
/// What a program of the old owner listens on (with force alone) becomes the new one's without that program: a conflict
/// until it ends, and not the new owner's to stop.
[[nodiscard]] Decision<Outcome<LeaseId>> decide_transfer(const Registry& registry, const TransferRequest& request);

/// Which leases a list shows.
struct ListFilter {
    std::shared_ptr<const Project> project;        ///< of this project; one for all that ask for it
    std::optional<std::string> worktree;           ///< instead: of that worktree of its repository (a branch, directory or path; "" for all)
    std::optional<std::set<std::string>> roots;    ///< of these projects
    std::set<LeaseState> states;                   ///< empty: all but released
    bool claims = false;                           ///< also released ones that keep their port
    std::optional<Environment> environment;
    std::optional<std::string> range;
};
/// By project, then by port.
[[nodiscard]] std::vector<const Lease*> list_leases(const Registry& registry, const ListFilter& filter);

/// "port 3001 belongs to project "blog" (/home/me/blog)"
[[nodiscard]] Refusal not_owner(const Registry& registry, const Lease& lease, std::string remedy);
/// What a PERMISSION_DENIED says.
[[nodiscard]] std::string too_low(Port port, const Facts& facts);
[[nodiscard]] Refusal unknown_range(const std::string& name);
/// Takes a port from the project's own silent leases that are in the way of a forced request.
void end_own_silent(const Registry& registry, const Config& config, const PortWish& wish, const Facts& facts, std::vector<Change>& changes);
/// Why nothing can be chosen from these: there is no range of that name, or it is portwrap's own.
[[nodiscard]] std::optional<Refusal> refuse_ranges(const std::vector<const Range*>& ranges, const std::optional<std::string>& named);
/// The lease as a request by name leaves it: allocated, for this port of this range.
[[nodiscard]] Lease granted_by_name(Lease lease, const GetRequest& request, const RangeQuery& query, Port port,
                                    std::string range, const Facts& facts);

}  // namespace portwrap
