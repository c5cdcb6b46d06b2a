// What one call costs, in nanoseconds: run with and without the shim by shim_bench.py, and the difference is the shim's.
//   shim_calls bind_unix | connect_other | connect_loopback PORT | connect_tcp PORT      prints the median of the batches
//   shim_calls start N PROGRAM                                                           microseconds of one start, N times
//   shim_calls binds PORT N                        microseconds of the first bind of a process, and the median of N further ones
//   shim_calls server PORT                         listens, prints the port that it has, and stays until stdin ends
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { BATCHES = 301, CALLS = 200 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double median(double *figures, int count) {
    qsort(figures, (size_t)count, sizeof *figures, compare);
    return figures[count / 2];
}

int main(int argc, char **argv) {
    if (argc < 2) { return 2; }
    double figures[BATCHES];
    if (strcmp(argv[1], "start") == 0) {
        int count = atoi(argv[2]);
        double *starts = malloc(sizeof *starts * (size_t)count);
        char *words[] = {argv[3], NULL};
        for (int i = 0; i < count; ++i) {
            double began = now();
            pid_t child;
            if (posix_spawn(&child, argv[3], NULL, NULL, words, environ) != 0) { return 1; }
            waitpid(child, NULL, 0);
            starts[i] = (now() - began) / 1000;
        }
        printf("%.1f\n", median(starts, count));
        return 0;
    }
    if (strcmp(argv[1], "binds") == 0 || strcmp(argv[1], "server") == 0) {
        int count = argc > 3 ? atoi(argv[3]) + 1 : 1;
        double *binds = malloc(sizeof *binds * (size_t)count);
        for (int i = 0; i < count; ++i) {
            struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(atoi(argv[2]) + i))};
            int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
            double began = now();
            if (bind(fd, (struct sockaddr *)&where, sizeof where) != 0) { return 1; }
            binds[i] = (now() - began) / 1000;
            if (strcmp(argv[1], "server") == 0) {
                socklen_t size = sizeof where;
                if (listen(fd, 16) != 0 || getsockname(fd, (struct sockaddr *)&where, &size) != 0) { return 1; }
                printf("%d\n", ntohs(where.sin_port));
                fflush(stdout);
                return read(0, binds, 1) < 0;
            }
        }
        printf("%.1f\n%.1f\n", binds[0], median(binds + 1, count - 1));
        return 0;
    }
    // On the heap, where most programs have their addresses: what cannot be seen without asking the kernel.
    struct sockaddr_in *address = calloc(1, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 9));
    inet_pton(AF_INET, strcmp(argv[1], "connect_other") == 0 ? "203.0.113.1" : "127.0.0.1", &address->sin_addr);
    for (int batch = 0; batch < BATCHES; ++batch) {
        int fds[CALLS];
        double total = 0;
        if (strcmp(argv[1], "bind_unix") == 0) {
            struct sockaddr_un name;
            memset(&name, 0, sizeof name);
            name.sun_family = AF_UNIX;
            for (int i = 0; i < CALLS; ++i) { fds[i] = socket(AF_UNIX, SOCK_STREAM, 0); }
            double began = now();
            for (int i = 0; i < CALLS; ++i) {
                if (bind(fds[i], (struct sockaddr *)&name, sizeof(sa_family_t)) != 0) { return 1; }
            }
            total = now() - began;
            for (int i = 0; i < CALLS; ++i) { close(fds[i]); }
        } else if (strcmp(argv[1], "connect_tcp") == 0) {
            enum { FEW = 20 };
            for (int i = 0; i < FEW; ++i) { fds[i] = socket(AF_INET, SOCK_STREAM, 0); }
            double began = now();
            for (int i = 0; i < FEW; ++i) {
                if (connect(fds[i], (struct sockaddr *)address, sizeof *address) != 0) {
                    perror("connect");
                    return 1;
                }
            }
            total = (now() - began) * CALLS / FEW;
            struct linger at_once = {1, 0};
            for (int i = 0; i < FEW; ++i) {
                setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
                close(fds[i]);
            }
        } else {
            // UDP: the same question to the shim, and a kernel that answers in a moment.
            int fd = socket(AF_INET, SOCK_DGRAM, 0);
            double began = now();
            for (int i = 0; i < CALLS; ++i) { connect(fd, (struct sockaddr *)address, sizeof *address); }
            total = now() - began;
            close(fd);
        }
        figures[batch] = total / CALLS;
    }
    printf("%.1f\n", median(figures, BATCHES));
    return 0;
}
