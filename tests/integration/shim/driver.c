// A server's life in words, for test_shim.py: each argument is one step, each step prints one line to the standard output
// that there was at the start. Built with glibc and with musl.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int out = 1;
static int fd = -1;
static int errno_before = 0;

static void say(const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[size++] = '\n';
    if (write(out, line, (size_t)size) != size) {
        _exit(99);
    }
}

static socklen_t address_of(const char *host, int port, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1) {
        abort();
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    return sizeof *v6;
}

static void say_result(const char *what, int result) {
    int error = errno;
    say("%s %d %d", what, result, error);
}

static void bind_host(char *argument) {
    char *port = strrchr(argument, '/');
    *port++ = '\0';
    struct sockaddr_storage address;
    socklen_t size = address_of(argument, atoi(port), &address);
    struct sockaddr_storage copy = address;
    errno = errno_before;
    int result = bind(fd, (struct sockaddr *)&address, size);
    say_result("bind", result);
    if (memcmp(&copy, &address, sizeof copy) != 0) {
        say("the caller's address was changed");
    }
}

// The bytes at the end of a page whose successor is not there; `size` may reach into it.
static void bind_at_edge(socklen_t size) {
    long page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory + page, (size_t)page);
    struct sockaddr_in *address = (struct sockaddr_in *)(memory + page - 16);
    address->sin_family = AF_INET;
    address->sin_port = htons(4242);
    int result = bind(fd, (struct sockaddr *)address, size);
    say_result("bind", result);
}

static void name(void) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[64] = "?";
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        say("name ? 0");
    } else if (address.ss_family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
        say("name %s %d", inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host), ntohs(v4->sin_port));
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
        say("name %s %d", inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host), ntohs(v6->sin6_port));
    }
}

// A connection of its own; what is at the other end by its port.
static void connect_host(char *argument) {
    char *port = strrchr(argument, '/');
    *port++ = '\0';
    struct sockaddr_storage address;
    socklen_t size = address_of(argument, atoi(port), &address);
    struct sockaddr_storage copy = address;
    int client = socket(address.ss_family, SOCK_STREAM, 0);
    errno = errno_before;
    int result = connect(client, (struct sockaddr *)&address, size);
    int error = errno;
    if (memcmp(&copy, &address, sizeof copy) != 0) {
        say("the caller's address was changed");
    }
    size = sizeof address;
    int peer = getpeername(client, (struct sockaddr *)&address, &size) == 0 ? ntohs(((struct sockaddr_in *)&address)->sin_port) : 0;
    say("connect %d %d %d", result, error, peer);
    close(client);
}

static void *connect_in_thread(void *argument) {
    char copy[64];
    strcpy(copy, argument);
    connect_host(copy);
    return NULL;
}

static void on_usr1(int signal) {
    (void)signal;
    char copy[64];
    strcpy(copy, getenv("CONNECT_IN_HANDLER"));
    connect_host(copy);
}

static void descriptors(void) {
    char line[512] = "fds";
    for (int i = 0; i < 256; ++i) {
        if (fcntl(i, F_GETFD) >= 0) {
            sprintf(line + strlen(line), " %d", i);
        }
    }
    say("%s", line);
}

static void *bind_in_thread(void *argument) {
    bind_host(argument);
    return NULL;
}

static volatile sig_atomic_t alarms = 0;
static void on_alarm(int signal) {
    (void)signal;
    ++alarms;
}

static void wait_for_word(void) {
    char c;
    if (read(0, &c, 1) != 1) {
        _exit(98);
    }
}

static void step(char *word) {
    char *argument = strchr(word, '=');
    if (argument != NULL) {
        *argument++ = '\0';
    }
    if (strcmp(word, "tcp4") == 0) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
    } else if (strcmp(word, "tcp6") == 0) {
        fd = socket(AF_INET6, SOCK_STREAM, 0);
    } else if (strcmp(word, "mptcp") == 0) {
        fd = socket(AF_INET, SOCK_STREAM, 262);
        say("mptcp %d", fd >= 0);
    } else if (strcmp(word, "udp4") == 0) {
        fd = socket(AF_INET, SOCK_DGRAM, 0);
    } else if (strcmp(word, "unix") == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strcpy(address.sun_path, argument);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        int result = bind(fd, (struct sockaddr *)&address, sizeof address);
        say_result("bind", result);
    } else if (strcmp(word, "v6only") == 0 || strcmp(word, "reuseport") == 0 || strcmp(word, "no_port") == 0) {
        int one = 1;
        int level = word[0] == 'v' ? IPPROTO_IPV6 : word[0] == 'r' ? SOL_SOCKET : IPPROTO_IP;
        int option = word[0] == 'v' ? IPV6_V6ONLY : word[0] == 'r' ? SO_REUSEPORT : 24;
        if (setsockopt(fd, level, option, &one, sizeof one) != 0) {
            abort();
        }
    } else if (strcmp(word, "reuseaddr") == 0) {
        int one = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    } else if (strcmp(word, "errno") == 0) {
        errno_before = atoi(argument);
    } else if (strcmp(word, "bind") == 0) {
        bind_host(argument);
    } else if (strcmp(word, "bind_pointer") == 0) {
        int result = bind(fd, (const struct sockaddr *)strtol(argument, NULL, 0), 16);
        say_result("bind", result);
    } else if (strcmp(word, "bind_edge") == 0) {
        bind_at_edge((socklen_t)atoi(argument));
    } else if (strcmp(word, "bind_size") == 0) {
        struct sockaddr_storage address;
        address_of("127.0.0.1", 4242, &address);
        int result = bind(fd, (struct sockaddr *)&address, (socklen_t)strtol(argument, NULL, 0));
        say_result("bind", result);
    } else if (strcmp(word, "listen") == 0) {
        errno = errno_before;
        int result = listen(fd, 8);
        say_result("listen", result);
    } else if (strcmp(word, "name") == 0) {
        name();
    } else if (strcmp(word, "fds") == 0) {
        descriptors();
    } else if (strcmp(word, "close") == 0) {
        close(fd);
    } else if (strcmp(word, "close_standard") == 0) {
        out = fcntl(1, F_DUPFD_CLOEXEC, 20);
        close(0);
        close(1);
        close(2);
    } else if (strcmp(word, "limit") == 0) {
        struct rlimit none = {(rlim_t)fd + 1, (rlim_t)fd + 1};
        if (setrlimit(RLIMIT_NOFILE, &none) != 0) {
            abort();
        }
    } else if (strcmp(word, "file_limit") == 0) {
        struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_FSIZE, &none) != 0) {
            abort();
        }
    } else if (strcmp(word, "uid") == 0) {
        uid_t uid = (uid_t)atoi(argument);
        if (setresuid(uid, uid, uid) != 0) {
            abort();
        }
    } else if (strcmp(word, "wait") == 0) {
        wait_for_word();
    } else if (strcmp(word, "alarms") == 0) {
        struct sigaction action = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &action, NULL);
        struct itimerval every = {{0, 20000}, {0, 20000}};
        setitimer(ITIMER_REAL, &every, NULL);
    } else if (strcmp(word, "fork_during") == 0) {
        // One thread binds; when the test says so, this one forks, and the child binds another socket meanwhile.
        pthread_t thread;
        pthread_create(&thread, NULL, bind_in_thread, argument);
        wait_for_word();
        if (fork() == 0) {
            fd = socket(AF_INET, SOCK_STREAM, 0);
            struct sockaddr_storage address;
            socklen_t size = address_of("127.0.0.1", 4343, &address);
            int result = bind(fd, (struct sockaddr *)&address, size);
            say_result("child_bind", result);
            name();
            _exit(0);
        }
        wait(NULL);
        pthread_join(thread, NULL);
    } else if (strcmp(word, "connect") == 0) {
        connect_host(argument);
    } else if (strcmp(word, "connect_in_threads") == 0) {
        pthread_t threads[16];
        for (int i = 0; i < 16; ++i) {
            pthread_create(&threads[i], NULL, connect_in_thread, argument);
        }
        for (int i = 0; i < 16; ++i) {
            pthread_join(threads[i], NULL);
        }
    } else if (strcmp(word, "connect_in_handler") == 0) {
        struct sigaction action = {.sa_handler = on_usr1};
        sigaction(SIGUSR1, &action, NULL);
        raise(SIGUSR1);
    } else if (strcmp(word, "connect_in_child") == 0) {
        if (fork() == 0) {
            connect_host(argument);
            _exit(0);
        }
        wait(NULL);
    } else if (strcmp(word, "chdir") == 0) {
        if (chdir(argument) != 0) {
            abort();
        }
    } else if (strcmp(word, "vfork_bind") == 0) {
        struct sockaddr_storage address;
        socklen_t size = address_of("127.0.0.1", atoi(argument), &address);
        pid_t child = vfork();
        if (child == 0) {
            _exit(bind(fd, (struct sockaddr *)&address, size) == 0 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        say("vfork_bind %d", status);
    } else {
        say("unknown step %s", word);
        _exit(97);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; ++i) {
        step(argv[i]);
    }
    return 0;
}
