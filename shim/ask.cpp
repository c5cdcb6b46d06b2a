// See ask.hpp. The socket is blocking with time-outs: a non-blocking connect to a full backlog gives EAGAIN at once and
// nothing to poll. A machine that starts hundreds of processes is slow although the agent is well, so a late answer is
// waited for as long as the agent is seen alive and not stopped.
#include "ask.hpp"

#include <errno.h>
#include <signal.h>
#include <sys/time.h>

#include "page.hpp"
#include "portwrap/protocol.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

/// struct ucred, which the C libraries show to _GNU_SOURCE only.
struct PeerCredentials {
    std::int32_t pid;
    std::uint32_t uid;
    std::uint32_t gid;
};

/// struct sockaddr_un.
struct UnixAddress {
    sa_family_t family = AF_UNIX;
    char path[k_socket_path_capacity] = {};
};

/// Until when this process asks nobody (milliseconds of CLOCK_MONOTONIC). A forked child inherits it.
std::int64_t g_quiet_until = 0;

}  // namespace

bool is_gone(int pid) noexcept { return sys::kill(pid, 0) == -ESRCH; }

bool is_stopped(int pid) noexcept {
    char path[32];
    shim_frame::Writer writer(path, sizeof path - 1);
    const std::size_t size = writer.text("/proc/").number(static_cast<std::uint64_t>(pid)).text("/stat").size();
    path[size] = '\0';
    const int fd = above_standard(sys::open_for_reading(path));
    if (fd < 0) {
        return false;  // no descriptor left, or no /proc: nothing is known
    }
    char text[256];
    const long count = sys::read(fd, text, sizeof text);
    sys::close(fd);
    // The command in brackets may itself contain brackets; the state is the third field.
    long at = count - 1;
    while (at >= 0 && text[at] != ')') {
        --at;
    }
    if (at < 0 || at + 2 >= count) {
        return false;
    }
    const char state = text[at + 2];
    return state == 'T' || state == 't' || state == 'Z' || state == 'X' || state == 'x';
}

bool Exchange::give_up() noexcept {
    close();
    if (m_patience == Patience::full) {
        __atomic_store_n(&g_quiet_until, sys::now_ms() + k_quiet_ms, __ATOMIC_RELAXED);
    }
    return false;
}

void Exchange::close() noexcept {
    if (m_fd >= 0) {
        sys::close(m_fd);
        m_fd = -1;
    }
}

/// Called whenever a call came back without having ended the matter.
bool Exchange::may_wait_on() noexcept {
    const std::int64_t now = sys::now_ms();
    if (now - m_began >= (m_patience == Patience::full ? k_deadline_ms : k_patience_ms)) {
        return false;
    }
    if (now - m_looked >= k_patience_ms) {
        m_looked = now;
        return m_agent == 0 || !(is_gone(m_agent) || is_stopped(m_agent));
    }
    return true;
}

bool Exchange::open() noexcept {
    m_began = sys::now_ms();
    m_looked = m_began;
    if (m_began < __atomic_load_n(&g_quiet_until, __ATOMIC_RELAXED)) {
        return false;
    }
    m_fd = above_standard(sys::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (m_fd < 0) {
        return false;  // not the agent's failure: descriptors may be had again in a moment
    }
    return connect() || give_up();
}

bool Exchange::connect() noexcept {
    const timeval slice{k_patience_ms / 1000, (k_patience_ms % 1000) * 1000};
    if (sys::setsockopt(m_fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice) != 0 ||
        sys::setsockopt(m_fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice) != 0) {
        return false;
    }
    UnixAddress address;
    for (std::size_t i = 0; i < m_environment.socket_path_size; ++i) {
        address.path[i] = m_environment.socket_path[i];
    }
    const std::size_t size = offsetof(UnixAddress, path) + m_environment.socket_path_size + 1;
    // EAGAIN: the backlog stayed full for a slice. An interrupted connect of a Unix socket has not happened.
    for (;;) {
        const int result = sys::connect(m_fd, &address, size);
        if (result == 0) {
            break;
        }
        if ((result != -EAGAIN && result != -EINTR) || !may_wait_on()) {
            return false;
        }
    }
    PeerCredentials peer{};
    if (!sys::getsockopt(m_fd, SOL_SOCKET, SO_PEERCRED, peer) || peer.uid != sys::geteuid()) {
        return false;
    }
    m_agent = peer.pid;  // 0 where this process is in a pid namespace of its own: then its state cannot be seen
    return true;
}

bool Exchange::send(const char* request, std::size_t size) noexcept {
    std::size_t sent = 0;
    while (sent < size) {
        const long count = sys::send(m_fd, request + sent, size - sent, MSG_NOSIGNAL);
        if (count > 0) {
            sent += static_cast<std::size_t>(count);
        } else if ((count != -EAGAIN && count != -EINTR) || !may_wait_on()) {
            return false;
        }
    }
    return size > 0;
}

bool Exchange::receive(char (&line)[shim_frame::k_max_reply], std::size_t& size) noexcept {
    size = 0;
    while (size < sizeof line) {
        const long count = sys::receive(m_fd, line + size, sizeof line - size);
        if (count > 0) {
            const std::size_t before = size;
            size += static_cast<std::size_t>(count);
            for (std::size_t i = before; i < size; ++i) {
                // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel filled it
                if (line[i] == '\n') {
                    return true;  // the reader refuses what comes behind it
                }
            }
        } else if (count != -EAGAIN && count != -EINTR) {
            return false;
        }
        if (!may_wait_on()) {
            return false;
        }
    }
    return false;
}

bool Exchange::exchange(const char* request, std::size_t request_size, char (&line)[shim_frame::k_max_reply],
                        std::size_t& size) noexcept {
    return (send(request, request_size) && receive(line, size)) || give_up();
}

bool Exchange::take_grant(const char* line, std::size_t size, std::uint32_t id, std::uint16_t asked,
                          Grant& grant) noexcept {
    shim_frame::Reply reply;
    switch (shim_frame::read_port_reply(line, size, id, asked, reply)) {
        case shim_frame::ReplyKind::result: break;
        case shim_frame::ReplyKind::refusal: close(); return false;
        case shim_frame::ReplyKind::malformed: return give_up();
    }
    grant.lease = reply.lease;
    grant.port = static_cast<std::uint16_t>(reply.port);
    grant.shows_requested = reply.requested != 0;
    return true;
}

bool Exchange::ask_bind(const shim_frame::BindRequest& request, Grant& grant) noexcept {
    char text[shim_frame::k_max_request];
    const Page page;
    std::size_t size = 0;
    return page.valid() && exchange(text, shim_frame::write_bind(text, sizeof text, request), page.bytes(), size) &&
           take_grant(page.bytes(), size, 1, static_cast<std::uint16_t>(request.port), grant);
}

bool Exchange::ask_failed(const shim_frame::FailedRequest& request, std::uint16_t asked, Grant& grant) noexcept {
    char text[shim_frame::k_max_request];
    const Page page;
    std::size_t size = 0;
    return page.valid() && exchange(text, shim_frame::write_failed(text, sizeof text, request), page.bytes(), size) &&
           take_grant(page.bytes(), size, request.id, asked, grant);
}

void Exchange::tell_bound(const shim_frame::BoundNotification& bound) noexcept {
    char text[shim_frame::k_max_request];
    if (!send(text, shim_frame::write_bound(text, sizeof text, bound))) {
        give_up();
    }
}

std::size_t Exchange::ask_notice(const char* request, std::size_t request_size,
                                 char (&line)[shim_frame::k_max_reply]) noexcept {
    std::size_t size = 0;
    if (!exchange(request, request_size, line, size)) {
        return 0;
    }
    shim_frame::Reply reply;
    switch (shim_frame::read_notice_reply(line, size, 1, reply)) {
        case shim_frame::ReplyKind::result: return shim_frame::copy_notice(reply, line);
        case shim_frame::ReplyKind::refusal: break;
        case shim_frame::ReplyKind::malformed: give_up(); break;
    }
    return 0;
}

std::size_t Exchange::ask_listening(const shim_frame::ListeningRequest& request,
                                    char (&line)[shim_frame::k_max_reply]) noexcept {
    char text[shim_frame::k_max_request];
    return ask_notice(text, shim_frame::write_listening(text, sizeof text, request), line);
}

std::size_t Exchange::ask_refused(const shim_frame::RefusedRequest& request,
                                  char (&line)[shim_frame::k_max_reply]) noexcept {
    char text[shim_frame::k_max_request];
    return ask_notice(text, shim_frame::write_refused(text, sizeof text, request), line);
}

bool Exchange::ask_table(const shim_frame::Session& session, TableAnswer& answer) noexcept {
    char text[shim_frame::k_max_request];
    const Page page;
    std::size_t size = 0;
    if (!page.valid() || !exchange(text, shim_frame::write_table(text, sizeof text, session), page.bytes(), size)) {
        return false;
    }
    shim_frame::Reply reply;
    switch (shim_frame::read_table_reply(page.bytes(), size, 1, reply)) {
        case shim_frame::ReplyKind::result: break;
        case shim_frame::ReplyKind::refusal: return false;
        case shim_frame::ReplyKind::malformed: return give_up();
    }
    answer = {reply.table, reply.connect != 0};
    return true;
}

}  // namespace portwrap::shim
