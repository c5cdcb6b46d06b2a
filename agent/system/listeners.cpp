// The kernel's own view of its sockets: sock_diag(7) dumps, /proc/net as the substitute, bind as the last proof.
#include "system/listeners.hpp"

#include <algorithm>
#include <array>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "system/bounded_read.hpp"
#include "system/processes.hpp"

namespace portwrap {
namespace {

constexpr unsigned k_established_state = 1;      // TCP_ESTABLISHED, also of UDP sockets that are connected
constexpr unsigned k_close_state = 7;            // TCP_CLOSE, of all other UDP sockets
constexpr unsigned k_listen_state = 10;          // TCP_LISTEN of the kernel's include/net/tcp_states.h
constexpr unsigned k_bound_inactive_state = 13;  // TCP_BOUND_INACTIVE there, Linux 6.8; older kernels ignore the bit
constexpr std::size_t k_proc_net_limit = 64U << 20U;
constexpr std::size_t k_message_buffer = 64U << 10U;

Error system_error(const char* what, int error) {
    return Error{ErrorCode::permission_denied, std::string(what) + ": " + std::strerror(error)};
}

/// Netlink messages want an aligned buffer (NLMSG_ALIGNTO is 4).
struct alignas(nlmsghdr) MessageBuffer {
    std::array<char, k_message_buffer> bytes;
};

Cookie cookie_of(const inet_diag_sockid& id) {
    return (static_cast<Cookie>(id.idiag_cookie[1]) << 32U) | id.idiag_cookie[0];
}

std::string address_text(int family, const void* address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    return ::inet_ntop(family, address, text.data(), text.size()) == nullptr ? std::string() : std::string(text.data());
}

Listener listener_of(const inet_diag_msg& message) {
    Listener listener;
    listener.address = address_text(message.idiag_family, message.id.idiag_src);
    listener.port = ntohs(message.id.idiag_sport);
    listener.cookie = cookie_of(message.id);
    listener.inode = message.idiag_inode;
    listener.uid = message.idiag_uid;
    return listener;
}

/// One message after the other of what one recv brought. Netlink's macros cast in the old style; this does the same.
class Messages {
public:
    Messages(const char* bytes, std::size_t size) : m_at(bytes), m_left(size) {}
    /// False at the end or where a header's length makes no sense.
    [[nodiscard]] bool next() {
        if (m_left < sizeof(nlmsghdr)) { return false; }
        std::memcpy(&header, m_at, sizeof header);
        if (header.nlmsg_len < sizeof(nlmsghdr) || header.nlmsg_len > m_left) { return false; }
        m_body = m_at + sizeof(nlmsghdr);
        const std::size_t step = std::min<std::size_t>((header.nlmsg_len + 3U) & ~std::size_t{3}, m_left);
        m_at += step;
        m_left -= step;
        return true;
    }
    /// False when the message is too short to be a T.
    template <typename T>
    [[nodiscard]] bool read(T& into) const {
        if (header.nlmsg_len < sizeof(nlmsghdr) + sizeof(T)) { return false; }
        std::memcpy(&into, m_body, sizeof into);
        return true;
    }
    nlmsghdr header{};

private:
    const char* m_at;
    const char* m_body = nullptr;
    std::size_t m_left;
};

/// sport == `port`, as the kernel's filter language of inet_diag (inet_diag_bc_op) says it: two comparisons with the
/// number in the following operation's `no`; a jump beyond the end by 4 rejects.
struct PortFilter {
    nlattr attribute{};
    std::array<inet_diag_bc_op, 4> operations{};
};

struct DumpRequest {
    nlmsghdr header{};
    inet_diag_req_v2 body{};
    PortFilter filter;
};
static_assert(offsetof(DumpRequest, filter) == sizeof(nlmsghdr) + sizeof(inet_diag_req_v2));

PortFilter port_filter(Port port) {
    PortFilter filter;
    filter.attribute.nla_type = INET_DIAG_REQ_BYTECODE;
    filter.attribute.nla_len = sizeof(PortFilter);
    constexpr unsigned char k_yes = 2 * sizeof(inet_diag_bc_op);
    constexpr unsigned short k_end = 4 * sizeof(inet_diag_bc_op);
    filter.operations = {{{INET_DIAG_BC_S_GE, k_yes, k_end + 4}, {0, 0, port},
                          {INET_DIAG_BC_S_LE, k_yes, k_end / 2 + 4}, {0, 0, port}}};
    return filter;
}

/// Calls `see` with each socket of one family in one of `states`. 0 or an errno.
template <typename See>
int dump_family(int fd, unsigned char family, unsigned char protocol, unsigned states, std::optional<Port> port, const See& see) {
    DumpRequest request;
    request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.header.nlmsg_len = port ? sizeof request : offsetof(DumpRequest, filter);
    request.body.sdiag_family = family;
    request.body.sdiag_protocol = protocol;
    request.body.idiag_states = states;
    if (port) { request.filter = port_filter(*port); }
    while (::send(fd, &request, request.header.nlmsg_len, 0) < 0) {
        if (errno != EINTR) { return errno; }
    }
    MessageBuffer buffer;
    for (;;) {
        const ssize_t size = ::recv(fd, buffer.bytes.data(), buffer.bytes.size(), MSG_TRUNC);
        if (size < 0) {
            if (errno == EINTR) { continue; }
            return errno;
        }
        if (size == 0 || static_cast<std::size_t>(size) > buffer.bytes.size()) { return EMSGSIZE; }
        Messages messages(buffer.bytes.data(), static_cast<std::size_t>(size));
        while (messages.next()) {
            if (messages.header.nlmsg_type == NLMSG_DONE) {
                int error = 0;
                return messages.read(error) && error < 0 ? -error : 0;
            }
            if (messages.header.nlmsg_type == NLMSG_ERROR) {
                nlmsgerr error{};
                if (!messages.read(error)) { return EPROTO; }
                return error.error < 0 ? -error.error : EPROTO;
            }
            inet_diag_msg message{};
            if (messages.header.nlmsg_type == SOCK_DIAG_BY_FAMILY && messages.read(message)) { see(message); }
        }
    }
}

template <typename See>
int dump(unsigned char protocol, unsigned states, std::optional<Port> port, const See& see) {
    const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    if (!fd.valid()) { return errno; }
    // The kernel answers at once or not at all; a pool thread must not wait for ever all the same.
    const timeval patience{2, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (const int family : {AF_INET, AF_INET6}) {
        const int error = dump_family(fd.get(), static_cast<unsigned char>(family), protocol, states, port, see);
        // A kernel without IPv6 has no handler for it: ENOENT.
        if (error != 0 && !(family == AF_INET6 && error == ENOENT)) { return error; }
    }
    return 0;
}

std::string_view next_field(std::string_view& text) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const std::string_view field = text.substr(0, text.find(' '));
    text.remove_prefix(field.size());
    return field;
}

template <typename T>
bool parse_number(std::string_view text, int base, T& into) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), into, base);
    return error == std::errc() && end == text.data() + text.size();
}

/// "  0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 12345 ..." (proc(5)): the
/// address in words of the machine's byte order.
std::optional<Listener> parse_proc_line(std::string_view line, int family, Protocol protocol) {
    next_field(line);  // number of the line
    const std::string_view local = next_field(line);
    next_field(line);  // remote
    if (next_field(line) != (protocol == Protocol::tcp ? "0A" : "07")) { return std::nullopt; }
    for (int i = 0; i < 3; ++i) { next_field(line); }  // queues, timer, retransmits
    Listener listener;
    listener.protocol = protocol;
    const std::string_view uid = next_field(line);
    next_field(line);  // timeout
    const std::string_view inode = next_field(line);
    const std::size_t words = family == AF_INET ? 1 : 4;
    if (local.size() != words * 8 + 5 || !parse_number(local.substr(words * 8 + 1), 16, listener.port) ||
        !parse_number(uid, 10, listener.uid) || !parse_number(inode, 10, listener.inode)) {
        return std::nullopt;
    }
    std::array<std::uint32_t, 4> address{};
    for (std::size_t i = 0; i < words; ++i) {
        if (!parse_number(local.substr(i * 8, 8), 16, address[i])) { return std::nullopt; }
    }
    listener.address = address_text(family, address.data());
    return listener;
}

bool read_proc_net_file(const char* path, int family, Protocol protocol, std::optional<Port> port, std::vector<Listener>& into) {
    const auto text = read_system_file(path, k_proc_net_limit);
    if (!text) { return false; }
    std::string_view rest = *text;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const auto listener = parse_proc_line(rest.substr(0, end), family, protocol);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (listener && (!port || listener->port == *port)) { into.push_back(*listener); }
    }
    return true;
}

bool read_proc_net(Protocol protocol, std::optional<Port> port, std::vector<Listener>& into) {
    const bool tcp = protocol == Protocol::tcp;
    if (!read_proc_net_file(tcp ? "/proc/net/tcp" : "/proc/net/udp", AF_INET, protocol, port, into)) { return false; }
    // Absent on a machine without IPv6.
    static_cast<void>(read_proc_net_file(tcp ? "/proc/net/tcp6" : "/proc/net/udp6", AF_INET6, protocol, port, into));
    return true;
}

/// Whether a bind of the family's wildcard finds somebody there; none where it tells nothing (no such family, IPv6
/// switched off, a privileged port). Without descriptors or memory nothing can be known, and nobody is to be given the port
/// of a stranger: taken. That of IPv6 is for both families at once: it conflicts with
/// whatever is bound to the port, of either.
std::optional<bool> try_bind(int family, int type, Port port) {
    const UniqueFd fd(::socket(family, type | SOCK_CLOEXEC, 0));
    if (!fd.valid()) { return is_shortage(errno) ? std::optional(true) : std::nullopt; }
    const int on = 1;
    // Without it remains in TIME_WAIT would count, and a stranger's bind at this very moment would fail.
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int result = 0;
    if (family == AF_INET) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        result = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    } else {
        const int off = 0;
        if (::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0) { return std::nullopt; }
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(port);
        result = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    if (result == 0) { return false; }
    return errno == EADDRINUSE ? std::optional(true) : std::nullopt;
}

bool is_taken(int type, Port port) {
    const auto either = try_bind(AF_INET6, type, port);
    return either ? *either : try_bind(AF_INET, type, port).value_or(false);
}

std::vector<PortInterval> parse_intervals(std::string_view text) {
    std::vector<PortInterval> intervals;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of(",\n"), text.size());
        const std::string_view part = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const std::size_t dash = part.find('-');
        PortInterval interval;
        const std::string_view last = dash == std::string_view::npos ? part : part.substr(dash + 1);
        if (parse_number(part.substr(0, dash), 10, interval.start) && parse_number(last, 10, interval.end)) {
            intervals.push_back(interval);
        }
    }
    return intervals;
}

/// Keeps messages about sockets with a source port and without a destination port, that is listeners and bound
/// sockets, not the connections that end all the time. A UDP server may be connected, too (nc): these have the state of
/// an established connection still, which no TCP socket has at its end, and clients have ports of the kernel's choice.
/// Loads of classic BPF take network byte order.
bool attach_destroy_filter(int fd) {
    constexpr auto k_state = static_cast<unsigned>(sizeof(nlmsghdr) + offsetof(inet_diag_msg, idiag_state));
    constexpr auto k_id = static_cast<unsigned>(sizeof(nlmsghdr) + offsetof(inet_diag_msg, id));
    constexpr auto k_sport = k_id + static_cast<unsigned>(offsetof(inet_diag_sockid, idiag_sport));
    constexpr auto k_dport = k_id + static_cast<unsigned>(offsetof(inet_diag_sockid, idiag_dport));
    static_assert(k_state == 17 && k_sport == 20 && k_dport == 22);
    const auto ephemeral = read_ephemeral_range();
    std::array<sock_filter, 11> program{{
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, k_sport},
        {BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 0},
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, k_dport},
        {BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 0},
        {BPF_LD | BPF_B | BPF_ABS, 0, 0, k_state},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, k_established_state},
        {BPF_LD | BPF_H | BPF_ABS, 0, 0, k_sport},
        {BPF_JMP | BPF_JGE | BPF_K, 0, 2, ephemeral.start},
        {BPF_JMP | BPF_JGT | BPF_K, 1, 0, ephemeral.end},
        {BPF_RET | BPF_K, 0, 0, 0},
        {BPF_RET | BPF_K, 0, 0, UINT_MAX},
    }};
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0;
}

}  // namespace

Result<std::vector<Listener>> list_listeners(std::optional<Port> port, Heard heard) {
    std::vector<Listener> listeners;
    const auto dump_all = [&](Protocol protocol) {
        const bool tcp = protocol == Protocol::tcp;
        return dump(tcp ? IPPROTO_TCP : IPPROTO_UDP, 1U << (tcp ? k_listen_state : k_close_state), port, [&](const inet_diag_msg& message) {
            Listener listener = listener_of(message);
            listener.protocol = protocol;
            // A kernel without CONFIG_INET_DIAG's filter language would have sent all of them.
            if (listener.port != 0 && (!port || listener.port == *port)) { listeners.push_back(std::move(listener)); }
        });
    };
    int error = dump_all(Protocol::tcp);
    if (error == 0 && heard == Heard::tcp_and_udp) { error = dump_all(Protocol::udp); }
    if (error == 0) { return listeners; }
    listeners.clear();
    if (!read_proc_net(Protocol::tcp, port, listeners)) { return system_error("cannot list listening sockets", error); }
    if (heard == Heard::tcp_and_udp) { static_cast<void>(read_proc_net(Protocol::udp, port, listeners)); }
    return listeners;
}

Result<std::vector<Cookie>> existing_sockets() {
    std::vector<Cookie> cookies;
    const auto take = [&cookies](const inet_diag_msg& message) { cookies.push_back(cookie_of(message.id)); };
    int error = dump(IPPROTO_TCP, (1U << k_listen_state) | (1U << k_bound_inactive_state), std::nullopt, take);
    if (error == 0) { error = dump(IPPROTO_UDP, (1U << k_close_state) | (1U << k_established_state), std::nullopt, take); }
    if (error != 0) { return system_error("cannot list sockets", error); }
    std::sort(cookies.begin(), cookies.end());
    return cookies;
}

bool is_port_in_use(Port port, bool tcp, bool udp) {
    return (tcp && is_taken(SOCK_STREAM, port)) || (udp && is_taken(SOCK_DGRAM, port));
}

PortInterval read_ephemeral_range() {
    const auto text = read_system_file("/proc/sys/net/ipv4/ip_local_port_range", 64).value_or("");
    PortInterval range;
    const std::size_t blank = text.find_first_of("\t ");
    if (blank != std::string::npos) {
        const std::string_view all = text;
        const std::size_t second = std::min(all.find_first_not_of("\t ", blank), all.size());
        const std::string_view last = all.substr(second, all.find('\n') - second);
        if (parse_number(all.substr(0, blank), 10, range.start) && parse_number(last, 10, range.end)) { return range; }
    }
    return {32768, 60999};  // the kernel's default
}

Port read_first_permitted_port() {
    constexpr unsigned k_net_bind_service = 10;  // CAP_NET_BIND_SERVICE, capabilities(7); root may lack it in a container
    const auto status = read_system_file("/proc/self/status", 64U << 10U).value_or("");
    if (const auto at = status.find("\nCapEff:\t"); at != std::string::npos) {
        const auto effective = std::strtoull(status.c_str() + at + 9, nullptr, 16);
        if ((effective >> k_net_bind_service & 1U) != 0) { return 1; }
    }
    const auto text = read_system_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", 64).value_or("1024");
    const auto first = std::strtoul(text.c_str(), nullptr, 10);
    return static_cast<Port>(std::clamp<unsigned long>(first, 1, 65535));
}

std::vector<PortInterval> read_kernel_reserved_ports() {
    return parse_intervals(read_system_file("/proc/sys/net/ipv4/ip_local_reserved_ports", 1U << 20U).value_or(""));
}

Result<DestroyWatch> DestroyWatch::open() {
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
    if (!fd.valid()) { return system_error("cannot watch sockets", errno); }
    // Before joining, so that the first message is filtered too.
    if (!attach_destroy_filter(fd.get())) { return system_error("cannot filter socket notifications", errno); }
    const int size = 4 << 20;
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0) {
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return system_error("cannot watch sockets", errno);
    }
    for (const int group : {SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY}) {
        if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
            return system_error("the kernel has no socket-destroy notifications", errno);
        }
    }
    // Without these the end of a UDP socket is seen by the census alone.
    for (const int group : {SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_UDP_DESTROY}) {
        ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
    }
    return DestroyWatch(std::move(fd));
}

DestroyWatch::Batch DestroyWatch::drain() {
    Batch batch;
    MessageBuffer buffer;
    for (;;) {
        const ssize_t size = ::recv(m_fd.get(), buffer.bytes.data(), buffer.bytes.size(), MSG_TRUNC);
        if (size < 0) {
            if (errno == EINTR) { continue; }
            if (errno == ENOBUFS) {
                batch.overrun = true;
                continue;
            }
            return batch;
        }
        if (static_cast<std::size_t>(size) > buffer.bytes.size()) {
            batch.overrun = true;
            continue;
        }
        Messages messages(buffer.bytes.data(), static_cast<std::size_t>(size));
        while (messages.next()) {
            inet_diag_msg message{};
            if (!messages.read(message)) { continue; }
            if (message.idiag_family != AF_INET && message.idiag_family != AF_INET6) { continue; }
            batch.destroyed.push_back({cookie_of(message.id), ntohs(message.id.idiag_sport)});
        }
    }
}

}  // namespace portwrap
