/* A server as small as possible, for tests that need hundreds of them.
 *
 *   listener bind PORT       binds 0.0.0.0:PORT with SO_REUSEADDR, listens, writes "PID REAL-PORT\n" (or "PID -ERRNO\n")
 *                            to stdout in one write and waits for the end of its stdin
 *   listener gate FD CMD...  waits for the end of file on descriptor FD, closes it and becomes CMD: many processes
 *                            start at the same instant when the last writer goes
 *   listener without diag|groups CMD...
 *                            becomes CMD on a kernel that has no sock_diag, or no socket-destroy groups (seccomp(2))
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for_end(int fd) {
    char byte;
    ssize_t got;
    do {
        got = read(fd, &byte, 1);
    } while (got > 0 || (got < 0 && errno == EINTR));
}

static void report(int value) {
    char line[64];
    int length = snprintf(line, sizeof line, "%d %d\n", (int)getpid(), value);
    if (write(1, line, (size_t)length) != length) { _exit(3); }
}

/* The system call `number` fails with `error` when these two of its arguments have these values. */
static int take_away(int number, int index, int value, int other_index, int other_value, int error) {
#define WORD(index) (unsigned)(offsetof(struct seccomp_data, args) + 8 * (unsigned)(index))
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, WORD(index)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)value, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, WORD(other_index)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)other_value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

int main(int argc, char** argv) {
    if (argc >= 4 && strcmp(argv[1], "gate") == 0) {
        int fd = atoi(argv[2]);
        wait_for_end(fd);
        close(fd);
        execvp(argv[3], argv + 3);
        return 127;
    }
    if (argc >= 4 && strcmp(argv[1], "without") == 0) {
        /* socket(AF_NETLINK, _, NETLINK_SOCK_DIAG); setsockopt(_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP) */
        int done = strcmp(argv[2], "diag") == 0 ? take_away(SYS_socket, 0, 16, 2, 4, EPROTONOSUPPORT)
                                                : take_away(SYS_setsockopt, 1, 270, 2, 1, ENOPROTOOPT);
        if (!done) { return 4; }
        execvp(argv[3], argv + 3);
        return 127;
    }
    if (argc != 3 || strcmp(argv[1], "bind") != 0) { return 2; }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    if (bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 8) != 0) {
        report(-errno);
        return 1;
    }
    socklen_t size = sizeof address;
    getsockname(fd, (struct sockaddr*)&address, &size);
    report(ntohs(address.sin_port));
    wait_for_end(0);
    return 0;
}
