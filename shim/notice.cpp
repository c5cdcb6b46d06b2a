// See notice.hpp.
#include "notice.hpp"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include "ask.hpp"
#include "page.hpp"
#include "sockets.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

constexpr int k_stderr = 2;

struct StandardError {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
};

StandardError standard_error() noexcept {
    struct stat status {};
    if (sys::fstat(k_stderr, status) != 0) {
        return {};
    }
    return {status.st_dev, status.st_ino};
}

constexpr SignalMask mask_of(int signal) noexcept { return SignalMask{1} << (signal - 1); }

/// Without a signal: of a reader that has gone (SIGPIPE), a file at its limit (SIGXFSZ), a terminal that stops
/// background writers (SIGTTOU, not sent while blocked).
void write_line(const char* line, std::size_t size) noexcept {
    pollfd what{k_stderr, POLLOUT, 0};
    if (sys::poll_now(what) != 1 || what.revents != POLLOUT) {
        return;
    }
    constexpr SignalMask k_ours = mask_of(SIGPIPE) | mask_of(SIGXFSZ);
    const SignalMask blocked = k_ours | mask_of(SIGTTOU);
    SignalMask before = 0;
    SignalMask pending = 0;
    if (sys::signal_mask(SIG_BLOCK, &blocked, &before) != 0) {
        return;
    }
    if (sys::pending_signals(pending) == 0) {
        sys::write(k_stderr, line, size);
        SignalMask raised = 0;
        sys::pending_signals(raised);
        raised &= k_ours & ~pending;
        while (raised != 0) {
            const int consumed = sys::consume_signal(raised);
            if (consumed > 0) {
                raised &= ~mask_of(consumed);
            } else if (consumed != -EINTR) {
                break;
            }
        }
    }
    sys::signal_mask(SIG_SETMASK, &before, nullptr);
}

void write_notice(const StandardError& before, const Page& page, std::size_t length) noexcept {
    if (length == 0) {
        return;
    }
    // Another thread may have put another file there while the agent thought.
    const StandardError after = standard_error();
    if (before.inode != after.inode || before.device != after.device) {
        return;
    }
    page.bytes()[length++] = '\n';  // there is room: the braces and quotes around the notice are gone
    write_line(page.bytes(), length);
}

/// True once for each port, as far as there is room to remember.
bool is_first_of(std::uint16_t port) noexcept {
    static std::uint16_t s_told[16] = {};
    for (auto& told : s_told) {
        std::uint16_t seen = __atomic_load_n(&told, __ATOMIC_RELAXED);
        if (seen == 0 && __atomic_compare_exchange_n(&told, &seen, port, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return true;
        }
        if (seen == port) {
            return false;
        }
    }
    return false;
}

}  // namespace

void tell_listening(const Environment& where, int fd, int error) noexcept {
    SocketKind kind;
    Address address;
    Endpoint endpoint;
    auto size = static_cast<socklen_t>(sizeof address.bytes);
    if (!read_kind(fd, kind) || sys::getsockname(fd, address.bytes, &size) != 0) {
        return;
    }
    address.size = size;
    if (!classify(address, endpoint) || endpoint.port == 0) {
        return;
    }
    const StandardError before = standard_error();
    shim_frame::ListeningRequest request;
    request.port = endpoint.port;
    request.error = static_cast<std::uint32_t>(error);
    request.family = endpoint.family;
    request.scope = static_cast<std::uint32_t>(endpoint.scope);
    request.session = where.session;
    request.stderr_device = before.device;
    request.stderr_inode = before.inode;
    request.protocol = static_cast<std::uint32_t>(kind.is_udp() ? IPPROTO_UDP : IPPROTO_TCP);
    request.cookie = cookie_of(fd);
    if (request.cookie == 0) {
        return;
    }
    const Page page;
    std::size_t length = 0;
    {
        Exchange exchange(where);
        if (page.valid() && exchange.open()) {
            length = exchange.ask_listening(request, page.bytes());
        }
    }
    write_notice(before, page, length);
}

void tell_refused(const Environment& where, std::uint16_t port) noexcept {
    if (!is_first_of(port)) {
        return;
    }
    const StandardError before = standard_error();
    const Page page;
    std::size_t length = 0;
    {
        Exchange exchange(where, Patience::brief);
        if (page.valid() && exchange.open()) {
            length = exchange.ask_refused({port, where.session, before.device, before.inode}, page.bytes());
        }
    }
    write_notice(before, page, length);
}

}  // namespace portwrap::shim
