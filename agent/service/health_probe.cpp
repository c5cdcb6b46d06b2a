// One poll(2) over all sockets: a health check of twenty services takes as long as the slowest and one thread.
#include "service/health_probe.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "portwrap/unique_fd.hpp"
#include "service/tls_hello.hpp"

namespace portwrap {
namespace {

using Clock = std::chrono::steady_clock;
/// For the words of a refusal that come behind its status; a server need not hang up then.
constexpr std::chrono::milliseconds k_rest_of_answer{250};

struct Running {
    Probe* probe = nullptr;
    UniqueFd fd;
    Clock::time_point end;
    bool connected = false;
    bool last_words = false;  ///< the verdict is clear, and at the end of the time it is given
    std::string to_send;
    std::string received;
};

void fail(Running& running, std::string error) {
    running.probe->error = std::move(error);
    running.fd.reset();
}

void succeed(Running& running, Clock::time_point started) {
    running.probe->healthy = true;
    running.probe->response_ms = std::chrono::duration<double, std::milli>(Clock::now() - started).count();
    running.fd.reset();
}

/// Begins to connect; what is wrong, or 0.
int connect_to(UniqueFd& fd, const std::string& text, Port port) {
    sockaddr_in ipv4{};
    sockaddr_in6 ipv6{};
    const bool is_ipv4 = ::inet_pton(AF_INET, text.c_str(), &ipv4.sin_addr) == 1;
    if (!is_ipv4 && ::inet_pton(AF_INET6, text.c_str(), &ipv6.sin6_addr) != 1) { return EINVAL; }
    ipv4.sin_family = AF_INET;
    ipv4.sin_port = htons(port);
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_port = htons(port);
    fd.reset(::socket(is_ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) { return errno; }
    const int result = is_ipv4 ? ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4)
                               : ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6);
    return result == 0 || errno == EINPROGRESS ? 0 : errno;
}

Running start(Probe& probe, Clock::time_point now) {
    Running running;
    running.probe = &probe;
    running.end = now + probe.timeout;
    int error = connect_to(running.fd, probe.address, probe.port);
    // A listener on "::" in a place where IPv6 has no loopback address.
    if (error != 0 && probe.address == "::1") { error = connect_to(running.fd, "127.0.0.1", probe.port); }
    if (error != 0) {
        fail(running, std::strerror(error));
        return running;
    }
    if (probe.tls) {
        running.to_send = tls_client_hello();
    } else if (probe.path) {
        running.to_send = "GET " + *probe.path + " HTTP/1.1\r\nHost: localhost:" + std::to_string(probe.port) + "\r\nUser-Agent: portwrap\r\nAccept: */*\r\nConnection: close\r\n\r\n";
    }
    return running;
}

void judge_tls(Running& running, Clock::time_point started, bool closed) {
    switch (read_tls_answer(running.received)) {
        case TlsAnswer::hello: return succeed(running, started);
        case TlsAnswer::alert:  // it is up, and of another mind about ciphers or names than this hello
            running.probe->error = "speaks TLS, and not with this check (" + tls_alert_text(running.received) + ")";
            return succeed(running, started);
        case TlsAnswer::other: return fail(running, "the answer is not TLS");
        case TlsAnswer::incomplete: break;
    }
    if (closed) { fail(running, "closed the connection without an answer to TLS"); }
}

void judge_http(Running& running, Clock::time_point started, bool closed) {
    constexpr const char* k_perhaps_tls = R"( (does it speak TLS? "health": {"https": true} asks for that))";
    const auto& received = running.received;
    const int status = http_status(received);
    if (status >= 200 && status < 400) { return succeed(running, started); }
    // Servers that speak TLS either say so, in words or in TLS, or hang up.
    const bool says_so = status == 400 && received.find("HTTPS") != std::string::npos;
    if (status == 400 && !says_so && !closed && received.size() < 4096) {
        if (!running.last_words) { running.end = std::min(running.end, Clock::now() + k_rest_of_answer); }
        running.last_words = true;
        return;
    }
    if (status > 0) { return fail(running, "HTTP status " + std::to_string(status) + (says_so ? k_perhaps_tls : "")); }
    const bool is_tls = read_tls_answer(received) != TlsAnswer::other;
    if (status < 0 || received.size() > 65536) { return fail(running, std::string("the answer is not HTTP") + (is_tls ? k_perhaps_tls : "")); }
    if (closed) { fail(running, std::string("closed the connection without an answer") + (received.empty() ? k_perhaps_tls : "")); }
}

void go_on(Running& running, Clock::time_point started) {
    if (!running.connected) {
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(running.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) { return fail(running, std::strerror(error)); }
        running.connected = true;
        if (running.to_send.empty()) { return succeed(running, started); }
    }
    if (!running.to_send.empty()) {
        const auto sent = ::send(running.fd.get(), running.to_send.data(), running.to_send.size(), MSG_NOSIGNAL);
        if (sent < 0) { return errno == EAGAIN || errno == EINTR ? void() : fail(running, std::strerror(errno)); }
        running.to_send.erase(0, static_cast<std::size_t>(sent));
        return;
    }
    char buffer[4096];
    auto count = ::recv(running.fd.get(), buffer, sizeof buffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) { return; }
    // Closed with our request unread: what a server does that does not like it.
    if (count < 0 && errno == ECONNRESET) { count = 0; }
    if (count < 0) { return fail(running, std::strerror(errno)); }
    running.received.append(buffer, static_cast<std::size_t>(count));
    (running.probe->tls ? judge_tls : judge_http)(running, started, count == 0);
}

}  // namespace

int http_status(std::string_view bytes) {
    constexpr std::string_view k_prefix = "HTTP/1.";
    if (bytes.size() < 13) { return bytes.starts_with(k_prefix.substr(0, std::min(bytes.size(), k_prefix.size()))) ? 0 : -1; }
    if (!bytes.starts_with(k_prefix) || bytes[8] != ' ') { return -1; }
    int status = 0;
    for (const char c : bytes.substr(9, 3)) {
        if (c < '0' || c > '9') { return -1; }
        status = status * 10 + (c - '0');
    }
    return status >= 100 && (bytes[12] == ' ' || bytes[12] == '\r') ? status : -1;
}

void run_probes(std::vector<Probe>& probes) {
    const auto started = Clock::now();
    std::vector<Running> running;
    running.reserve(probes.size());
    for (auto& probe : probes) { running.push_back(start(probe, started)); }
    for (;;) {
        std::vector<pollfd> waiting;
        std::vector<Running*> whose;
        auto next = Clock::time_point::max();
        for (auto& one : running) {
            if (!one.fd.valid()) { continue; }
            if (one.end <= Clock::now()) {
                if (one.last_words) {
                    judge_http(one, started, true);
                } else {
                    fail(one, "no answer within " + std::to_string(one.probe->timeout.count()) + " ms");
                }
                continue;
            }
            next = std::min(next, one.end);
            waiting.push_back({one.fd.get(), static_cast<short>(!one.connected || !one.to_send.empty() ? POLLOUT : POLLIN), 0});
            whose.push_back(&one);
        }
        if (waiting.empty()) { return; }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
        if (::poll(waiting.data(), static_cast<nfds_t>(waiting.size()), static_cast<int>(std::max<long>(left, 0))) <= 0) { continue; }
        for (std::size_t i = 0; i < waiting.size(); ++i) {
            if (waiting[i].revents != 0) { go_on(*whose[i], started); }
        }
    }
}

}  // namespace portwrap
