// See connecting.hpp. The order of the questions is that of their cost: most connections are settled by the address, most
// others by the table.
#include "connecting.hpp"

#include "ask.hpp"
#include "notice.hpp"
#include "sockets.hpp"
#include "table.hpp"

namespace portwrap::shim {

namespace {

/// The table speaks of TCP in the agent's network namespace.
bool is_meant(int fd, const remap_table::Table& table) noexcept { return is_tcp(fd) && is_in_netns_of(fd, table); }

/// What a dead agent said of others is not true for long. From a pid namespace of one's own (a sandbox) a living agent
/// looks dead; but it still takes connections.
bool is_written_by_the_living(const Environment& where, const remap_table::Table& table) noexcept {
    const auto agent = __atomic_load_n(&table.agent_pid, __ATOMIC_RELAXED);
    if (agent == 0 || agent > INT32_MAX) {
        return false;
    }
    const auto pid = static_cast<int>(agent);
    if (!is_gone(pid)) {
        return !is_stopped(pid);
    }
    Exchange exchange(where, Patience::brief);
    return exchange.open();
}

}  // namespace

Way way_of(const Environment& where, int fd, const sockaddr* caller_address, socklen_t size, Address& changed) noexcept {
    if (caller_address == nullptr || size < k_least_inet || size > Address::k_capacity) {
        return Way::as_asked;
    }
    Address address;
    Endpoint endpoint;
    if (is_another_family(caller_address) || !copy_in(caller_address, size, address) || !classify(address, endpoint) ||
        endpoint.scope == Scope::other || endpoint.port == 0) {
        return Way::as_asked;
    }
    remap_table::Found found;
    const auto find = [&](const TableView& seen) {
        found = seen.connect ? remap_table::find_connect(*seen.table, endpoint.port, seen.asker) : remap_table::Found{};
    };
    const TableView* const view = look_up(where, true, find);
    if (view == nullptr || !found.known || (!found.refused && found.target == endpoint.port) || !is_meant(fd, *view->table)) {
        return Way::as_asked;
    }
    if (!found.refused) {
        changed = with_port(address, found.target);
        return Way::elsewhere;
    }
    // A socket that is connected already, or of another family, gets the kernel's own answer.
    SocketKind kind;
    if (!read_kind(fd, kind) || endpoint.family != static_cast<std::uint32_t>(kind.domain) || !is_closed(fd) || !is_written_by_the_living(where, *view->table)) {
        return Way::as_asked;
    }
    tell_refused(where, endpoint.port);
    return Way::refused;
}

}  // namespace portwrap::shim
