// What tests/bench measures with: an echo server on libuv that does nothing else (the floor), clients that count microseconds,
// one append with fdatasync, many listeners, a flood. Prints numbers, one a line; bench.py makes the table of them.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double, std::micro>(Clock::now() - begin).count(); }

[[noreturn]] void give_up(const char* what) {
    std::perror(what);
    std::exit(1);
}

sockaddr_un address_of(const char* path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

int connect_to(const char* path) {
    const auto address = address_of(path);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) { give_up(path); }
    return fd;
}

std::string ask(int fd, const std::string& line) {
    if (::send(fd, line.data(), line.size(), MSG_NOSIGNAL) < 0) { give_up("send"); }
    std::string reply;
    char buffer[65536];
    while (reply.empty() || reply.back() != '\n') {
        const auto size = ::recv(fd, buffer, sizeof buffer, 0);
        if (size <= 0) { give_up("recv"); }
        reply.append(buffer, static_cast<std::size_t>(size));
    }
    return reply;
}

/// "%d" in a request becomes a number that no other request of this run has.
std::string numbered(const std::string& request, long number) {
    const auto at = request.find("%d");
    return (at == std::string::npos ? request : request.substr(0, at) + std::to_string(number) + request.substr(at + 2)) + "\n";
}

int serve_echo(const char* path) {
    uv_loop_t* loop = uv_default_loop();
    uv_pipe_t server;
    uv_pipe_init(loop, &server, 0);
    ::unlink(path);
    if (uv_pipe_bind(&server, path) != 0) { give_up(path); }
    uv_listen(reinterpret_cast<uv_stream_t*>(&server), 4096, [](uv_stream_t* listening, int) {
        auto* client = new uv_pipe_t;
        uv_pipe_init(listening->loop, client, 0);
        uv_accept(listening, reinterpret_cast<uv_stream_t*>(client));
        uv_read_start(reinterpret_cast<uv_stream_t*>(client),
            [](uv_handle_t*, std::size_t, uv_buf_t* buffer) {
                static char bytes[65536];
                *buffer = uv_buf_init(bytes, sizeof bytes);
            },
            [](uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer) {
                if (size < 0) {
                    uv_close(reinterpret_cast<uv_handle_t*>(stream), [](uv_handle_t* closed) { delete reinterpret_cast<uv_pipe_t*>(closed); });
                    return;
                }
                uv_buf_t reply = uv_buf_init(buffer->base, static_cast<unsigned>(size));
                uv_try_write(stream, &reply, 1);
            });
    });
    std::puts("ready");
    std::fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}

/// Connect, ask, answer, close; the requests take turns with those to a second server, so that both see the same machine.
int take_turns(const char* first, const std::string& first_request, const char* second, const std::string& second_request, long rounds) {
    std::vector<double> times[2];
    const char* paths[] = {first, second};
    const std::string requests[] = {first_request, second_request};
    for (long i = 0; i < rounds; ++i) {
        for (int which = 0; which < 2; ++which) {
            const auto line = numbered(requests[which], i);
            const auto begin = Clock::now();
            const int fd = connect_to(paths[which]);
            const auto reply = ask(fd, line);
            ::close(fd);
            times[which].push_back(since(begin));
            if (reply.find("\"error\"") != std::string::npos) {
                std::fprintf(stderr, "%s", reply.c_str());
                return 1;
            }
        }
    }
    for (auto& one : times) {
        std::sort(one.begin(), one.end());
        std::printf("%.2f\n", one[one.size() / 2]);
    }
    return 0;
}

/// `clients` connections at once, each asking `rounds` times; requests a second. The numbers of the requests begin with `first`.
int crowd(const char* path, const std::string& request, long clients, long rounds, long first) {
    std::vector<std::thread> threads;
    const auto begin = Clock::now();
    for (long client = 0; client < clients; ++client) {
        threads.emplace_back([&, client] {
            const int fd = connect_to(path);
            for (long i = 0; i < rounds; ++i) {
                const auto reply = ask(fd, numbered(request, first + client * rounds + i));
                if (reply.find("\"error\"") != std::string::npos) {
                    std::fprintf(stderr, "%s", reply.c_str());
                    std::exit(1);
                }
            }
            ::close(fd);
        });
    }
    for (auto& thread : threads) { thread.join(); }
    std::printf("%.0f\n", static_cast<double>(clients * rounds) / since(begin) * 1e6);
    return 0;
}

/// One connection, one request after the other; microseconds of all.
int series(const char* path, const std::string& request, long rounds) {
    const int fd = connect_to(path);
    const auto begin = Clock::now();
    for (long i = 0; i < rounds; ++i) {
        const auto reply = ask(fd, numbered(request, i));
        if (reply.find("\"error\"") != std::string::npos) {
            std::fprintf(stderr, "%s", reply.c_str());
            return 1;
        }
    }
    std::printf("%.0f\n", since(begin));
    ::close(fd);
    return 0;
}

void allow_files() {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
}

/// Listens on so many ports from `first` on until stdin ends; says "ready" before.
int hold_listeners(long first, long count) {
    allow_files();
    long open = 0;
    for (long port = first; port < 65536 && open < count; ++port) {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0) { give_up("socket"); }
        if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(fd, 1) == 0) { ++open; }
    }
    std::printf("%ld\n", open);
    std::fflush(stdout);
    char byte = 0;
    return ::read(STDIN_FILENO, &byte, 1) < 0 ? 1 : 0;
}

/// What an unfriendly program can send: half messages, requests whose replies nobody reads, connections without a word.
int flood(const char* path, long connections) {
    allow_files();
    const std::string half = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" + std::string(40000, 'x');
    const std::string ask_much = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lease.list\",\"params\":{}}\n";
    std::vector<int> fds;
    for (long i = 0; i < connections; ++i) {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const auto address = address_of(path);
        if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) { break; }
        fds.push_back(fd);
        if (i % 3 == 0) { [[maybe_unused]] const auto sent = ::send(fd, half.data(), half.size(), MSG_NOSIGNAL | MSG_DONTWAIT); }
        if (i % 3 == 1) {
            for (int line = 0; line < 20; ++line) {
                [[maybe_unused]] const auto sent = ::send(fd, ask_much.data(), ask_much.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            }
        }
    }
    std::printf("%zu\n", fds.size());
    std::fflush(stdout);
    char byte = 0;
    return ::read(STDIN_FILENO, &byte, 1) < 0 ? 1 : 0;
}

int append(const char* path, long rounds) {
    const int fd = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    std::vector<double> times;
    const std::string line(200, 'x');
    for (long i = 0; i < rounds; ++i) {
        const auto begin = Clock::now();
        if (::write(fd, line.data(), line.size()) < 0 || ::fdatasync(fd) != 0) { give_up(path); }
        times.push_back(since(begin));
    }
    std::sort(times.begin(), times.end());
    std::printf("%.2f\n", times[times.size() / 2]);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "echo" && argc == 3) { return serve_echo(argv[2]); }
    if (what == "turns" && argc == 7) { return take_turns(argv[2], argv[3], argv[4], argv[5], std::atol(argv[6])); }
    if (what == "crowd" && argc >= 6) {
        return crowd(argv[2], argv[3], std::atol(argv[4]), std::atol(argv[5]), argc > 6 ? std::atol(argv[6]) : 0);
    }
    if (what == "series" && argc == 5) { return series(argv[2], argv[3], std::atol(argv[4])); }
    if (what == "listeners" && argc == 4) { return hold_listeners(std::atol(argv[2]), std::atol(argv[3])); }
    if (what == "flood" && argc == 4) { return flood(argv[2], std::atol(argv[3])); }
    if (what == "append" && argc == 4) { return append(argv[2], std::atol(argv[3])); }
    std::fputs("usage: see bench.py\n", stderr);
    return 2;
}
