// Prints what every socket call of one scene returns, and errno: run with and without the shim, the outputs must be the
// same byte for byte. Ports are chosen by the caller (free ones) and printed as names, so that nothing depends on them.
//   calls SCENE PORT
// Built with glibc and with musl, static never: what cannot be seen cannot be harmed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int g_port;

static void say(const char *what, long result) {
    char line[128];
    int error = errno;
    int size = snprintf(line, sizeof line, "%s %ld %s\n", what, result, result < 0 ? strerror(error) : "-");
    if (write(1, line, (size_t)size) != size) { _exit(99); }
    errno = 0;
}

static struct sockaddr_in v4(const char *host, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}
static struct sockaddr_in6 v6(const char *host, int port) {
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, host, &a.sin6_addr);
    return a;
}
// A socket for a server: what an earlier scene left in TIME_WAIT does not count.
static int server4(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return fd;
}
#define ADDRESS(a) ((struct sockaddr *)&(a)), sizeof(a)

static void name_of(const char *what, int fd, int peer) {
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    memset(&a, 0x55, sizeof a);
    int result = peer ? getpeername(fd, (struct sockaddr *)&a, &size) : getsockname(fd, (struct sockaddr *)&a, &size);
    say(what, result);
    if (result != 0) { return; }
    char host[64] = "";
    int port = 0;
    if (a.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, host, sizeof host);
        port = ntohs(((struct sockaddr_in *)&a)->sin_port);
    } else if (a.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, host, sizeof host);
        port = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
    }
    printf("  family %d size %d %s %s\n", a.ss_family, (int)size, host, port == g_port ? "PORT" : port == 0 ? "none" : "other");
    fflush(stdout);
}

// A whole conversation: bind, listen, connect, accept, names of both ends, a second listener.
static void converse(int domain, struct sockaddr *to_bind, struct sockaddr *to_connect, socklen_t size, int v6only) {
    int one = 1;
    int server = socket(domain, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (domain == AF_INET6) { setsockopt(server, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only); }
    say("bind", bind(server, to_bind, size));
    name_of("getsockname", server, 0);
    say("bind again", bind(server, to_bind, size));
    say("listen", listen(server, 8));
    say("listen again", listen(server, 4));
    int second = socket(domain, SOCK_STREAM, 0);
    if (domain == AF_INET6) { setsockopt(second, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only); }
    say("second bind", bind(second, to_bind, size));
    say("second listen", listen(second, 8) < 0 ? -1 : 0);
    close(second);
    int client = socket(domain, SOCK_STREAM, 0);
    say("connect", connect(client, to_connect, size));
    say("connect again", connect(client, to_connect, size));
    name_of("getpeername", client, 1);
    int accepted = accept(server, NULL, NULL);
    say("accept", accepted >= 0);
    name_of("accepted", accepted, 0);
    say("send", send(client, "hello", 5, MSG_NOSIGNAL));
    char word[8] = "";
    say("recv", recv(accepted, word, sizeof word, 0));
    say("connect of a listener", connect(server, to_connect, size));
    close(accepted);
    close(client);
    int slow = socket(domain, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long first = connect(slow, to_connect, size);
    say("non-blocking connect", first);
    struct pollfd ready = {slow, POLLOUT, 0};
    say("poll", poll(&ready, 1, 5000));
    int error = -1;
    socklen_t error_size = sizeof error;
    getsockopt(slow, SOL_SOCKET, SO_ERROR, &error, &error_size);
    say("SO_ERROR", error);
    close(slow);
    close(server);
    int nobody = socket(domain, SOCK_STREAM, 0);
    say("connect to nobody", connect(nobody, to_connect, size));
    close(nobody);
}

static void scene_tcp4(void) {
    struct sockaddr_in any = v4("0.0.0.0", g_port), loop = v4("127.0.0.1", g_port);
    converse(AF_INET, (struct sockaddr *)&any, (struct sockaddr *)&loop, sizeof any, 0);
    converse(AF_INET, (struct sockaddr *)&loop, (struct sockaddr *)&loop, sizeof any, 0);
}
static void scene_tcp6(void) {
    struct sockaddr_in6 loop = v6("::1", g_port);
    converse(AF_INET6, (struct sockaddr *)&loop, (struct sockaddr *)&loop, sizeof loop, 0);
}
static void scene_dual(void) {
    struct sockaddr_in6 any = v6("::", g_port), mapped = v6("::ffff:127.0.0.1", g_port);
    converse(AF_INET6, (struct sockaddr *)&any, (struct sockaddr *)&mapped, sizeof any, 0);
}
static void scene_v6only(void) {
    struct sockaddr_in6 any = v6("::", g_port), loop = v6("::1", g_port), mapped = v6("::ffff:127.0.0.1", g_port);
    converse(AF_INET6, (struct sockaddr *)&any, (struct sockaddr *)&loop, sizeof any, 1);
    int only = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
    setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    say("bind of a mapped address", bind(only, ADDRESS(mapped)));
    say("connect to a mapped address", connect(only, ADDRESS(mapped)));
}
static void scene_unix(void) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "portwrap-harm-%d", g_port);
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    say("bind", bind(server, ADDRESS(a)));
    say("bind again", bind(server, ADDRESS(a)));
    say("listen", listen(server, 8));
    name_of("getsockname", server, 0);
    say("connect", connect(client, ADDRESS(a)));
    name_of("getpeername", client, 1);
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/directory/socket"};
    int third = socket(AF_UNIX, SOCK_STREAM, 0);
    say("bind to a bad path", bind(third, ADDRESS(path)));
    say("connect to a bad path", connect(third, ADDRESS(path)));
}
static void scene_udp(void) {
    for (int family = 0; family < 2; ++family) {
        struct sockaddr_in a4 = v4("127.0.0.1", g_port);
        struct sockaddr_in6 a6 = v6("::1", g_port);
        struct sockaddr *a = family == 0 ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
        socklen_t size = family == 0 ? sizeof a4 : sizeof a6;
        int domain = family == 0 ? AF_INET : AF_INET6;
        int server = socket(domain, SOCK_DGRAM, 0), client = socket(domain, SOCK_DGRAM, 0);
        say("bind", bind(server, a, size));
        say("bind again", bind(server, a, size));
        say("second bind", bind(client, a, size));
        say("listen", listen(server, 8));
        name_of("getsockname", server, 0);
        say("sendto", sendto(client, "x", 1, 0, a, size));
        say("connect", connect(client, a, size));
        name_of("getpeername", client, 1);
        say("send", send(client, "y", 1, 0));
        struct iovec part = {"zz", 2};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        say("sendmsg", sendmsg(client, &message, 0));
        char word[8];
        for (int i = 0; i < 3; ++i) { say("recv", recv(server, word, sizeof word, 0)); }
        struct sockaddr none = {.sa_family = AF_UNSPEC};
        say("disconnect", connect(client, &none, sizeof none));
        close(server);
        close(client);
    }
}
static void scene_raw(void) {
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    say("socket", raw >= 0 ? 0 : -1);
    say("bind", bind(raw, ADDRESS(a)));
    say("connect", connect(raw, ADDRESS(a)));
    say("listen", listen(raw, 1));
    name_of("getsockname", raw, 0);
    struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
    int netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    say("netlink bind", bind(netlink, ADDRESS(nl)));
    say("netlink connect", connect(netlink, ADDRESS(nl)));
    say("netlink listen", listen(netlink, 1));
}
static void scene_lengths(void) {
    struct sockaddr_storage big;
    memset(&big, 0, sizeof big);
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    memcpy(&big, &a, sizeof a);
    static const unsigned sizes[] = {0, 1, 2, 7, 8, 15, 16, 17, 27, 28, 127, 128, 129, 4096, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        for (int domain = 0; domain < 3; ++domain) {
            static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
            int one = 1, fd = socket(families[domain], SOCK_STREAM, 0);
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            char what[64];
            snprintf(what, sizeof what, "bind family %d size %u", domain, sizes[i]);
            say(what, bind(fd, (struct sockaddr *)&big, sizes[i]));
            close(fd);
            fd = socket(families[domain], SOCK_STREAM, 0);
            snprintf(what, sizeof what, "connect family %d size %u", domain, sizes[i]);
            say(what, connect(fd, (struct sockaddr *)&big, sizes[i]));
            close(fd);
        }
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_storage out;
        socklen_t size = sizes[i];
        memset(&out, 0x55, sizeof out);
        if (sizes[i] <= sizeof out || sizes[i] > 0x7fffffff) {
            say("getsockname", getsockname(fd, (struct sockaddr *)&out, &size));
            unsigned sum = 0;
            for (size_t j = 0; j < sizeof out; ++j) { sum = sum * 31 + ((unsigned char *)&out)[j]; }
            printf("  size %u bytes %x\n", (unsigned)size, sum);
            fflush(stdout);
        }
        close(fd);
    }
    for (int family = -1; family < 50; ++family) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        big.ss_family = (sa_family_t)family;
        if (family == AF_UNSPEC || family == AF_INET) { close(fd); continue; }
        say("bind of a wrong family", bind(fd, (struct sockaddr *)&big, sizeof a));
        say("connect of a wrong family", connect(fd, (struct sockaddr *)&big, sizeof a));
        close(fd);
    }
}
static void scene_pointers(void) {
    long page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, (size_t)page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + page, (size_t)page, PROT_NONE);
    char *hidden = memory + 2 * page;
    mprotect(hidden, (size_t)page, PROT_NONE);
    char *edges[] = {NULL, (char *)1, (char *)-1, (char *)-16, (char *)0x7ffffffff000, memory + page, memory + page - 1, memory + page - 15,
                     memory + page - 8, hidden, memory - 1};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; ++i) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        say("bind", bind(fd, (struct sockaddr *)edges[i], 16));
        say("connect", connect(fd, (struct sockaddr *)edges[i], 16));
        socklen_t size = 16;
        say("getsockname", getsockname(fd, (struct sockaddr *)edges[i], &size));
        struct sockaddr_in a;
        say("getsockname size", getsockname(fd, (struct sockaddr *)&a, (socklen_t *)edges[i]));
        say("sendto", sendto(fd, "x", 1, MSG_NOSIGNAL | MSG_FASTOPEN, (struct sockaddr *)edges[i], 16));
#ifdef __GLIBC__
        // musl reads the header itself, and dies of a bad one.
        say("sendmsg", sendmsg(fd, (struct msghdr *)edges[i], MSG_NOSIGNAL | MSG_FASTOPEN));
#endif
        struct iovec part = {"x", 1};
        struct msghdr message = {.msg_name = edges[i], .msg_namelen = 16, .msg_iov = &part, .msg_iovlen = 1};
        say("sendmsg name", sendmsg(fd, &message, MSG_NOSIGNAL | MSG_FASTOPEN));
        close(fd);
    }
    // At the very end of what is readable: fine.
    struct sockaddr_in *last = (struct sockaddr_in *)(memory + page - 16);
    *last = v4("127.0.0.1", g_port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say("bind at the edge", bind(fd, (struct sockaddr *)last, 16));
    mprotect(memory, (size_t)page, PROT_READ);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    say("connect at the edge", connect(client, (struct sockaddr *)last, 16));
    say("connect beyond", connect(client, (struct sockaddr *)last, 28));
}
static void scene_descriptors(void) {
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    socklen_t size = sizeof a;
    int bad[] = {-1, 999, 1 << 20, open("/dev/null", O_RDWR), open("/", O_RDONLY), open("/", O_PATH)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
        say("bind", bind(bad[i], ADDRESS(a)));
        say("listen", listen(bad[i], 1));
        say("connect", connect(bad[i], ADDRESS(a)));
        say("getsockname", getsockname(bad[i], (struct sockaddr *)&a, &size));
        say("accept", accept(bad[i], NULL, NULL));
        say("sendto", sendto(bad[i], "x", 1, MSG_FASTOPEN, ADDRESS(a)));
        struct msghdr message = {0};
        say("sendmsg", sendmsg(bad[i], &message, MSG_FASTOPEN));
    }
    int pipes[2];
    say("pipe", pipe(pipes));
    say("listen", listen(pipes[0], 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("listen unbound", listen(fd, 1));
    name_of("getsockname", fd, 0);
    say("connect of a listener", connect(fd, ADDRESS(a)));
    int shut = server4();
    say("bind", bind(shut, ADDRESS(a)));
    say("shutdown", shutdown(shut, SHUT_RDWR));
    say("listen", listen(shut, 1));
}
static void scene_closed(void) {
    // All descriptors closed but a copy of the output.
    int out = fcntl(1, F_DUPFD, 200);
    int file = out;
    for (int fd = 0; fd < 200; ++fd) { close(fd); }
    int fd = server4();
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    int bound = bind(fd, ADDRESS(a)), listening = listen(fd, 8);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    int connected = connect(client, ADDRESS(a));
    int next = dup(fd);
    dprintf(file, "fd %d bind %d listen %d client %d connect %d next %d\n", fd, bound, listening, client, connected, next);
}
static void scene_exhausted(void) {
    int fd = server4(), client = socket(AF_INET, SOCK_STREAM, 0), nobody = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit none = {(rlim_t)nobody + 1, (rlim_t)nobody + 1};
    say("setrlimit", setrlimit(RLIMIT_NOFILE, &none));
    struct sockaddr_in a = v4("127.0.0.1", g_port), b = v4("127.0.0.1", 1);
    say("bind", bind(fd, ADDRESS(a)));
    say("listen", listen(fd, 8));
    say("connect", connect(client, ADDRESS(a)));
    say("connect to nobody", connect(nobody, ADDRESS(b)));
    say("accept", accept(fd, NULL, NULL));
    name_of("getsockname", fd, 0);
}
static volatile sig_atomic_t g_handled;
static void on_signal(int number) {
    (void)number;
    int saved = errno;
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    errno = 42;
    g_handled = bind(fd, ADDRESS(a)) == 0 && errno == 42 && listen(fd, 8) == 0 && errno == 42;
    int client = socket(AF_INET, SOCK_STREAM, 0);
    g_handled = g_handled && connect(client, ADDRESS(a)) == 0;
    close(client);
    close(fd);
    errno = saved;
}
static void scene_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 3; ++i) {
        errno = 7;
        raise(SIGUSR1);
        say("handled", g_handled);
    }
    // While another call of ours waits: a blocking accept is interrupted, a bind is not.
    pid_t self = getpid();
    if (fork() == 0) {
        for (int i = 0; i < 50; ++i) { kill(self, SIGUSR1); usleep(200); }
        _exit(0);
    }
    int good = 0;
    for (int i = 0; i < 50; ++i) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        struct sockaddr_in a = v4("127.0.0.2", g_port);
        good += bind(fd, ADDRESS(a)) == 0;
        close(fd);
    }
    while (wait(NULL) < 0 && errno == EINTR) {}
    say("binds", good);
}
// SIGSTKSZ as it was for decades, of which the kernel's own frame takes half where registers are wide.
static void scene_small_stack(void) {
    static _Alignas(64) char memory[8192];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    long set = sigaltstack(&stack, NULL);
    say("sigaltstack", set);
    if (set != 0) { return; }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    say("handled", g_handled);
}
static void *thread_of(void *argument) {
    long index = (long)argument;
    long good = 0;
    for (int i = 0; i < 10; ++i) {
        char host[32];
        snprintf(host, sizeof host, "127.0.1.%ld", index + 1);
        struct sockaddr_in a = v4(host, g_port);
        int one = 1, server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        struct sockaddr_in seen;
        socklen_t size = sizeof seen;
        good += bind(server, ADDRESS(a)) == 0 && listen(server, 8) == 0 && connect(client, ADDRESS(a)) == 0 &&
                getsockname(server, (struct sockaddr *)&seen, &size) == 0 && ntohs(seen.sin_port) == g_port;
        close(client);
        close(server);
    }
    return (void *)good;
}
static void scene_threads(void) {
    pthread_t threads[16];
    for (long i = 0; i < 16; ++i) { pthread_create(&threads[i], NULL, thread_of, (void *)i); }
    for (int i = 0; i < 16; ++i) {
        void *good;
        pthread_join(threads[i], &good);
        say("thread", (long)good);
    }
}
static int g_cleaned;
static void clean(void *nothing) {
    (void)nothing;
    g_cleaned = 1;
}
static void *waiting_connect(void *argument) {
    int *fds = argument;
    pthread_cleanup_push(clean, NULL);
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    for (;;) {
        connect(fds[1], ADDRESS(a));
        int more = socket(AF_INET, SOCK_STREAM, 0);  // until the listener's queue is full and one waits
        fds[1] = more;
    }
    pthread_cleanup_pop(1);
    return NULL;
}
static void scene_cancel(void) {
    int fds[2] = {server4(), socket(AF_INET, SOCK_STREAM, 0)};
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    say("bind", bind(fds[0], ADDRESS(a)));
    say("listen", listen(fds[0], 0));
    pthread_t thread;
    pthread_create(&thread, NULL, waiting_connect, fds);
    usleep(50000);
    say("cancel", pthread_cancel(thread));
    void *result;
    pthread_join(thread, &result);
    say("canceled", result == PTHREAD_CANCELED);
    say("cleaned", g_cleaned);
}
static void scene_vfork(void) {
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    int fd = server4();
    pid_t child = vfork();
    if (child == 0) { _exit(bind(fd, ADDRESS(a)) != 0 || listen(fd, 8) != 0); }
    int status = -1;
    waitpid(child, &status, 0);
    say("vfork child bound", status);
    name_of("getsockname", fd, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    child = vfork();
    if (child == 0) { _exit(connect(client, ADDRESS(a)) != 0); }
    waitpid(child, &status, 0);
    say("vfork child connected", status);
    name_of("getpeername", client, 1);
    say("accept", accept(fd, NULL, NULL) >= 0);
    child = fork();
    if (child == 0) {
        int again = socket(AF_INET, SOCK_STREAM, 0);
        _exit(connect(again, ADDRESS(a)) != 0);
    }
    waitpid(child, &status, 0);
    say("fork child connected", status);
}
static void forbid(const int *calls, size_t count) {
    struct sock_filter program[64];
    size_t n = 0;
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; ++i) {
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {(unsigned short)n, program};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    say("seccomp", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
}
static void scene_seccomp(void) {
    int server = server4(), client = socket(AF_INET, SOCK_STREAM, 0);
    static const int calls[] = {SYS_openat, SYS_socket, SYS_getsockopt, SYS_setsockopt, SYS_mmap, SYS_getcwd, SYS_kill, SYS_faccessat,
                                SYS_fcntl, SYS_fstat, SYS_clock_gettime, SYS_sendto, SYS_recvfrom};
    forbid(calls, sizeof calls / sizeof *calls);
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    say("bind", bind(server, ADDRESS(a)));
    say("listen", listen(server, 8));
    say("connect", connect(client, ADDRESS(a)));
    say("socket", socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    say("getsockname", getsockname(server, (struct sockaddr *)&name, &size));
}
static void scene_chroot(void) {
    char directory[] = "/tmp/portwrap-harm-XXXXXX";
    if (mkdtemp(directory) == NULL) { _exit(98); }
    say("chroot", chroot(directory));
    say("chdir", chdir("/"));
    scene_tcp4();
    rmdir(directory);
}
static void scene_fastopen(void) {
    struct sockaddr_in a = v4("127.0.0.1", g_port);
    int server = server4(), queue = 8;
    say("bind", bind(server, ADDRESS(a)));
    setsockopt(server, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue);
    say("listen", listen(server, 8));
    int client = socket(AF_INET, SOCK_STREAM, 0);
    say("sendto", sendto(client, "hello", 5, MSG_FASTOPEN, ADDRESS(a)));
    name_of("getpeername", client, 1);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    struct iovec part = {"hello", 5};
    struct msghdr message = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &part, .msg_iovlen = 1};
    say("sendmsg", sendmsg(other, &message, MSG_FASTOPEN));
    say("sendmsg again", sendmsg(other, &message, MSG_FASTOPEN));
    close(server);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    say("sendto nobody", sendto(late, "hello", 5, MSG_FASTOPEN, ADDRESS(a)));
}
static void scene_options(void) {
    // Reuse in all its forms, as far as one process goes.
    for (int reuse = 0; reuse < 4; ++reuse) {
        int fds[2];
        for (int i = 0; i < 2; ++i) {
            fds[i] = socket(AF_INET, SOCK_STREAM, 0);
            int address = reuse & 1, port = reuse >> 1;
            setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &address, sizeof address);
            setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &port, sizeof port);
            struct sockaddr_in a = v4("127.0.0.1", g_port);
            say("bind", bind(fds[i], ADDRESS(a)));
        }
        struct sockaddr_in seen;
        socklen_t size = sizeof seen;
        say("listen", listen(fds[0], 8));
        if (getsockname(fds[1], (struct sockaddr *)&seen, &size) == 0 && seen.sin_port != 0) { say("second listen", listen(fds[1], 8)); }
        close(fds[0]);
        close(fds[1]);
    }
    struct sockaddr_in foreign = v4("192.0.2.1", g_port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    say("bind elsewhere", bind(fd, ADDRESS(foreign)));
    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
    say("bind elsewhere freely", bind(fd, ADDRESS(foreign)));
    name_of("getsockname", fd, 0);
    struct sockaddr_in none = v4("0.0.0.0", 0);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(late, IPPROTO_IP, 24, &one, sizeof one);
    say("bind without a port yet", bind(late, ADDRESS(none)));
    name_of("getsockname", late, 0);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*play)(void);
    } scenes[] = {{"tcp4", scene_tcp4}, {"tcp6", scene_tcp6}, {"dual", scene_dual}, {"v6only", scene_v6only}, {"unix", scene_unix},
                  {"udp", scene_udp}, {"raw", scene_raw}, {"lengths", scene_lengths}, {"pointers", scene_pointers},
                  {"descriptors", scene_descriptors}, {"closed", scene_closed}, {"exhausted", scene_exhausted}, {"signals", scene_signals},
                  {"small_stack", scene_small_stack},
                  {"threads", scene_threads}, {"cancel", scene_cancel}, {"vfork", scene_vfork}, {"seccomp", scene_seccomp},
                  {"chroot", scene_chroot}, {"fastopen", scene_fastopen}, {"options", scene_options}};
    if (argc != 3) {
        for (size_t i = 0; i < sizeof scenes / sizeof *scenes; ++i) { puts(scenes[i].name); }
        return argc == 1 ? 0 : 2;
    }
    g_port = atoi(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; ++i) {
        if (strcmp(scenes[i].name, argv[1]) == 0) {
            scenes[i].play();
            return 0;
        }
    }
    return 2;
}
