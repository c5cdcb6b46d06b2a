// Random sequences of everything that can be asked of the registry, in a small system of processes, sockets and
// strangers, against what must always hold. The seed of a failure is printed; PORTWRAP_SEED plays that one alone and
// PORTWRAP_SEQUENCES sets their number.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <random>

#include "core/blocks.hpp"
#include "core/care_rules.hpp"
#include "core_world.hpp"

using namespace portwrap;
using namespace std::chrono_literals;

namespace {

struct SystemSocket {
    Port port = 0;
    Protocol protocol = Protocol::tcp;
    bool listening = false;
    ProcessId process;    ///< unknown of a stranger's
    std::string cwd = {};  ///< of a stranger's process; empty for our own
};

/// A machine on which six projects live: a worktree and its sibling, and four strangers to each other.
class Machine : public test::World {
public:
    explicit Machine(std::uint64_t seed) : m_random(seed) {
        // Few ports, so that they meet and run out.
        for (auto& range : config.ranges) {
            if (range.name == "node") { range.intervals = {{3000, 3011}}; }
            if (range.name == "python") { range.intervals = {{5000, 5005}}; }
            if (range.name == "default") { range.intervals = {{3000, 3011}, {5000, 5005}, {8000, 8003}}; }
        }
        config.reserved = {3009};
        if (one_in(3)) { config.strategy = Strategy::random; }
        if (one_in(4)) {
            config.preset = Preset::blocks;
            config.block_size = 4;
        }
        const std::vector<std::string> families{"git:/r", "git:/r", "", "", "", ""};
        for (std::size_t i = 0; i < families.size(); ++i) {
            auto at = place("/p/" + std::string(1, static_cast<char>('a' + i)), families[i]);
            at.project.block = block_for(registry, config, at.project, facts());
            apply({ProjectSeen{at.project}});
            m_places.push_back(std::move(at));
        }
        m_places[3].type = "python";
        m_places[4].config.services = {{"web", Port{3001}, {}, {}, {}, {}, {}, {}, {}, {}, false}, {"db", {}, {}, {}, {}, "database", {}, {}, {}, {}, false}};
        m_places[5].config.claims = false;
    }

    void step() {
        switch (below(20)) {
            case 0: case 1: case 2: case 3: return serve_something();
            case 4: return bind_and_forget();
            case 5: case 6: return close_something();
            case 7: return end_a_process();
            case 8: return get_something();
            case 9: case 10: return allocate_something();
            case 11: return reserve_something();
            case 12: return release_something();
            case 13: return update_something();
            case 14: return transfer_something();
            case 15: return let_a_stranger_in_or_out();
            case 16: return pass_time();
            case 17: return hear_everything();
            case 18: return take_a_census();
            default: return register_or_clean();
        }
    }

    /// What must hold at any moment and does not; empty when everything does.
    std::string problem() {
        for (; m_replayed < journal.size(); ++m_replayed) { m_copy.apply(journal[m_replayed]); }
        if (!(registry == m_copy)) { return "a replay of the events gives another registry"; }
        if (!m_problem.empty()) { return m_problem; }
        std::map<Port, std::vector<const Lease*>> by_port;
        std::set<LeaseKey> keys;
        for (const auto& [id, lease] : registry.leases()) {
            const auto name = lease_name(id);
            if (!lease.live()) {
                if (!lease.sockets.empty() || lease.holder || lease.session) { return name + " is over and has a socket, a holder or a session"; }
                continue;
            }
            if (lease.port == 0) { return name + " has no port"; }
            if (!keys.insert(lease.key).second) { return name + " has the key of another live lease"; }
            for (const auto& socket : lease.sockets) {
                const auto known = m_sockets.find(socket.cookie);
                if (known == m_sockets.end() || known->second.port != lease.port) { return name + " has a socket that is not there"; }
            }
            if ((lease.state == LeaseState::active) != lease.listening()) { return name + " is active and nobody listens, or the other way round"; }
            if (lease.origin != LeaseOrigin::registered && is_system_port(config, lease.port)) { return name + " has a port of portwrap's own"; }
            by_port[lease.port].push_back(&lease);
        }
        for (const auto& [port, leases] : by_port) {
            const auto& first = *leases.front();
            const auto& last = *leases.back();
            // TCP and UDP of one number are one service's.
            const bool share = leases.size() == 2 && first.key.protocol != last.key.protocol && first.key.root == last.key.root && first.key.service == last.key.service;
            if (leases.size() > 1 && !share) {
                return "port " + std::to_string(port) + " is " + first.key.root + ":" + first.key.service + "'s and " + last.key.root + ":" + last.key.service + "'s";
            }
        }
        return {};
    }

    [[nodiscard]] const std::vector<std::string>& story() const { return m_story; }

private:
    std::string lease_name(LeaseId id) {
        const auto& known = lease(id);
        return known.key.root + ":" + known.key.service + " on " + std::to_string(known.port) + ", " + std::string(word(known.state)) + ", " +
               std::string(word(known.environment)) + ", " + std::string(word(known.origin));
    }
    std::size_t below(std::size_t count) { return m_random() % count; }
    bool one_in(std::size_t count) { return below(count) == 0; }
    template <typename T>
    const T& one_of(const std::vector<T>& choice) { return choice[below(choice.size())]; }
    Port some_port() { return one_of<Port>({0, 80, 2601, 3000, 3001, 3002, 3003, 3007, 3009, 3010, 5000, 5001, 5432, 8000, 12345, 40000}); }
    Port some_real_port() { return std::max<Port>(some_port(), 1); }
    std::string some_service() { return one_of<std::string>({"main", "web", "api", "db", "main.debug"}); }
    Protocol some_protocol() { return one_in(6) ? Protocol::udp : Protocol::tcp; }

    Facts facts() {
        auto facts = test::World::facts();
        facts.in_use = [this](Port port, bool tcp, bool udp) { return is_taken(port, Protocol::tcp, tcp) || is_taken(port, Protocol::udp, udp); };
        facts.is_alive = [this](const ProcessId& process) { return m_callers.contains(process); };
        facts.is_gone = [this](const Socket& socket, const Lease&) { return !m_sockets.contains(socket.cookie); };
        facts.random = m_random();
        facts.first_permitted = 1024;
        return facts;
    }
    bool is_taken(Port port, Protocol protocol, bool asked) {
        return asked && std::any_of(m_sockets.begin(), m_sockets.end(), [&](const auto& entry) { return entry.second.port == port && entry.second.protocol == protocol; });
    }

    template <typename Answer>
    void carry_out(const char* what, Decision<Outcome<Answer>> decision) {
        tell(what);
        if (std::holds_alternative<Refusal>(decision.answer) && !decision.changes.empty()) { m_problem = std::string(what) + " is refused and changes something"; }
        apply(std::move(decision.changes));
    }
    void tell(std::string what) { m_story.push_back(std::move(what)); }

    Caller& some_caller() {
        if (m_callers.size() < 2 || (m_callers.size() < 10 && one_in(2))) {
            const auto& at = one_of(m_places);
            Caller caller = start(at);
            if (at.type == "python") { caller.executable = "python3.11"; }
            if (one_in(3)) { caller.scope->service = some_service(); }
            return m_callers.emplace(caller.holder.process, caller).first->second;
        }
        auto caller = m_callers.begin();
        std::advance(caller, static_cast<std::ptrdiff_t>(below(m_callers.size())));
        return caller->second;
    }

    /// As the shim does: ask, bind, and ask again where the kernel refuses.
    void serve_something() {
        auto& caller = some_caller();
        BindRequest request{some_port(), some_protocol(), 0, {}, false};
        std::vector<LeaseId> granted;
        for (int attempt = 0; attempt < 4; ++attempt) {
            auto decision = decide_bind(registry, config, caller, request, facts());
            const auto answer = decision.answer;
            tell("bind " + std::to_string(request.port) + " in " + caller.place->project.root + ": " + std::to_string(answer.port));
            apply(std::move(decision.changes));
            if (!granted.empty() && granted.back() != answer.lease) { apply(decide_unbound(registry, config, granted.back(), true, facts())); }
            granted.push_back(answer.lease);
            if (answer.port == 0 || answer.lease == 0) { return; }
            const bool permitted = answer.port >= 1024;
            if (!permitted || is_taken(answer.port, request.protocol, true)) {
                request.refused[answer.port] = permitted ? EADDRINUSE : EACCES;
                continue;
            }
            const auto cookie = ++next_cookie;
            const bool listens = request.protocol == Protocol::udp || !one_in(5);
            m_sockets[cookie] = {answer.port, request.protocol, listens, caller.holder.process};
            apply(decide_bound(registry, caller, answer.lease, answer.port, cookie, facts()));
            if (listens) { apply(decide_listening(registry, config, caller, answer.port, cookie, facts(), request.protocol).changes); }
            return;
        }
        apply(decide_unbound(registry, config, granted.back(), true, facts()));
    }
    void bind_and_forget() {
        auto& caller = some_caller();
        auto decision = decide_bind(registry, config, caller, {some_port(), Protocol::tcp, 0, {}, false}, facts());
        tell("ask and leave " + std::to_string(decision.answer.port));
        apply(std::move(decision.changes));
        apply(decide_unbound(registry, config, decision.answer.lease, one_in(2), facts()));
    }
    void close_something() {
        if (m_sockets.empty()) { return; }
        auto socket = m_sockets.begin();
        std::advance(socket, static_cast<std::ptrdiff_t>(below(m_sockets.size())));
        close_socket(socket->first);
    }
    void close_socket(Cookie cookie) {
        const auto port = m_sockets.at(cookie).port;
        tell("close on " + std::to_string(port));
        m_sockets.erase(cookie);
        apply(decide_destroyed(registry, config, cookie, facts()));
        std::vector<Lease> conflicts;
        for (const auto* lease : registry.on_port(port)) {
            if (lease->state == LeaseState::conflict && !is_taken(port, lease->key.protocol, true)) { conflicts.push_back(*lease); }
        }
        apply(decide_heard(registry, conflicts, {}, facts()));
    }
    void end_a_process() {
        if (m_callers.empty()) { return; }
        const auto process = some_caller().holder.process;
        tell("end of " + std::to_string(process.pid));
        m_callers.erase(process);
        std::vector<Cookie> its;
        for (const auto& [cookie, socket] : m_sockets) {
            if (socket.process == process) { its.push_back(cookie); }
        }
        for (const auto cookie : its) { close_socket(cookie); }
        apply(decide_session_ended(registry, config, process, facts()));
    }
    template <typename Request>
    Request named() {
        Request request;
        request.place = one_of(m_places);
        request.service = some_service();
        request.protocol = some_protocol();
        if (one_in(6)) { request.environment = Environment::test; }
        if (one_in(6)) { request.range = one_of<std::string>({"python", "system", "nobody's", "node"}); }
        return request;
    }
    void get_something() {
        const auto request = named<GetRequest>();
        auto decision = decide_get(registry, config, request, facts());
        const auto* id = std::get_if<LeaseId>(&decision.answer);
        const auto answered = id != nullptr ? *id : 0;
        carry_out("get", std::move(decision));
        if (answered == 0) { return; }
        // Idempotent.
        const auto again = decide_get(registry, config, request, facts());
        const auto* same = std::get_if<LeaseId>(&again.answer);
        if (same == nullptr || *same != answered || !again.changes.empty()) { m_problem = "get is not idempotent: " + lease_name(answered) + ", then " + (same != nullptr ? lease_name(*same) : "refused: " + std::get<Refusal>(again.answer).message); }
    }
    void allocate_something() {
        auto request = named<AllocateRequest>();
        if (one_in(2)) { request.port = some_real_port(); }
        if (one_in(4)) { request.preferred = some_real_port(); }
        if (one_in(4)) { request.count = 1 + static_cast<int>(below(4)); }
        request.block = one_in(4);
        request.force = one_in(4);
        if (one_in(3)) { request.protocol = Protocol::tcp; }
        carry_out("allocate", decide_allocate(registry, config, request, facts()));
    }
    void reserve_something() {
        auto request = named<ReserveRequest>();
        if (one_in(2)) { request.port = some_real_port(); }
        if (one_in(2)) { request.ttl = 1h; }
        request.force = one_in(4);
        carry_out("reserve", decide_reserve(registry, config, request, facts()));
    }
    LeaseTarget some_target() {
        LeaseTarget target{one_of(m_places).project.root, std::nullopt, std::nullopt, one_in(3)};
        if (one_in(2)) {
            target.port = some_real_port();
        } else {
            target.service = some_service();
        }
        return target;
    }
    void release_something() {
        const auto target = some_target();
        carry_out("release", decide_release(registry, config, {target.root, target.port, target.service, false, target.force}, facts()));
    }
    void update_something() {
        UpdateRequest request;
        request.target = some_target();
        request.place = *std::find_if(m_places.begin(), m_places.end(), [&](const Place& at) { return at.project.root == request.target.root; });
        if (one_in(2)) { request.port = some_real_port(); }
        if (one_in(3)) { request.service = some_service(); }
        if (one_in(4)) { request.environment = Environment::test; }
        carry_out("update", decide_update(registry, config, request, facts()));
    }
    void transfer_something() { carry_out("transfer", decide_transfer(registry, {some_target(), one_of(m_places).project})); }
    void let_a_stranger_in_or_out() {
        const auto port = some_real_port();
        for (const auto& [cookie, socket] : m_sockets) {
            if (socket.port == port && !socket.cwd.empty()) { return close_socket(cookie); }
        }
        if (is_taken(port, Protocol::tcp, true)) { return; }
        tell("a stranger on " + std::to_string(port));
        m_sockets[++next_cookie] = {port, Protocol::tcp, true, {}, one_in(2) ? "/elsewhere" : one_of(m_places).project.root};
    }
    void pass_time() {
        now += one_of<std::chrono::seconds>({1s, 11s, 2min, 1h, 30h, 24h * 8, 24h * 31});
        tell("time passes");
        apply(decide_expiry(registry, config, facts()).changes);
    }
    void hear_everything() {
        tell("everything is heard");
        std::vector<Lease> looked_at;
        for (const auto& [id, lease] : registry.leases()) { looked_at.push_back(lease); }
        std::vector<HeardSocket> seen;
        for (const auto& [cookie, socket] : m_sockets) {
            if (!socket.listening) { continue; }
            auto listener = heard(socket.port, socket.cwd);
            if (socket.process.known()) { listener.holder = m_callers.at(socket.process).holder; }
            listener.protocol = socket.protocol;
            listener.cookie = cookie;
            seen.push_back(std::move(listener));
        }
        apply(decide_heard(registry, looked_at, seen, facts()));
    }
    void take_a_census() {
        tell("census");
        Census census;
        for (const auto& [cookie, socket] : m_sockets) {
            census.sockets.insert(cookie);
            if (socket.listening) { census.listening.insert(cookie); }
        }
        census.is_alive = [this](const ProcessId& process) { return m_callers.contains(process); };
        apply(decide_census(registry, config, census, facts()));
    }
    void register_or_clean() {
        if (one_in(2)) {
            auto request = named<RegisterRequest>();
            request.port = some_real_port();
            return carry_out("register", decide_register(registry, config, request, facts()));
        }
        tell("cleanup");
        const std::set<std::string> gone = one_in(4) ? std::set{one_of(m_places).project.root} : std::set<std::string>{};
        apply(decide_cleanup(registry, config, gone, [](const std::string&) { return true; }, facts()).changes);
    }

    std::mt19937_64 m_random;
    std::vector<Place> m_places;
    std::map<ProcessId, Caller> m_callers;
    std::map<Cookie, SystemSocket> m_sockets;
    std::vector<std::string> m_story;
    std::string m_problem;
    Registry m_copy;  ///< fed with the same events, as at a start
    std::size_t m_replayed = 0;
};

std::uint64_t number_of(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

TEST_CASE("whatever is asked in whatever order, no two live leases have one port, and a replay gives the same registry", "[random]") {
    const auto only = number_of("PORTWRAP_SEED", 0);
    const auto sequences = number_of("PORTWRAP_SEQUENCES", 150);
    for (std::uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : sequences); ++seed) {
        Machine machine(seed);
        std::string problem;
        for (int i = 0; i < 300 && problem.empty(); ++i) {
            machine.step();
            problem = machine.problem();
        }
        std::string story;
        const auto& told = machine.story();
        for (std::size_t i = told.size() < 8 ? 0 : told.size() - 8; i < told.size(); ++i) { story += told[i] + "; "; }
        CAPTURE(seed, story);
        CHECK(problem == "");
    }
}

TEST_CASE("whichever starts first, each server has the port again that it had before", "[random]") {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random(seed);
        test::World world;
        struct Server {
            Place place;
            Port asks;
            Port had = 0;
            test::World::Bound bound{};
        };
        std::vector<Server> servers;
        for (int i = 0; i < 12; ++i) {
            const auto place = world.place("/p/" + std::to_string(i / 2), i % 3 == 0 ? "git:/r" : "");
            servers.push_back({place, static_cast<Port>(i % 2 == 0 ? 3000 : 4000 + random() % 2)});
        }
        for (int round = 0; round < 8; ++round) {
            std::shuffle(servers.begin(), servers.end(), random);
            const auto running = round == 0 ? servers.size() : 1 + random() % servers.size();
            for (std::size_t i = 0; i < running; ++i) {
                auto& server = servers[i];
                server.bound = world.serve(world.start(server.place), server.asks);
                if (server.had == 0) { server.had = server.bound.port; }
                CAPTURE(seed, round, server.place.project.root, server.asks);
                CHECK(server.bound.port == server.had);
            }
            std::shuffle(servers.begin(), servers.begin() + static_cast<std::ptrdiff_t>(running), random);
            for (std::size_t i = 0; i < running; ++i) { world.close(servers[i].bound.cookie); }
            world.now += std::chrono::hours(random() % 48);
            world.apply(decide_expiry(world.registry, world.config, world.facts()).changes);
        }
    }
}
