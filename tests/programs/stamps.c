// SPDX-License-Identifier: Apache-2.0
//
// Does what tracing sees, and stamps CLOCK_MONOTONIC before and after: tests compare.
//   /PATH/stamps PORT    prints "WHAT PID BEFORE AFTER" for exec, listen, fork, accept, answer
//   /PATH/stamps         does nothing
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void check(int good, const char* what) {
    if (good) return;
    perror(what);
    exit(1);
}

static void tell(const char* what, pid_t pid, uint64_t before, uint64_t after) {
    printf("%s %d %" PRIu64 " %" PRIu64 "\n", what, pid, before, after);
}

static void serve(int port, uint64_t exec_before, uint64_t exec_after) {
    tell("exec", getpid(), exec_before, exec_after);
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    const int yes = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check(bind(server, (struct sockaddr*)&address, sizeof address) == 0, "bind");
    uint64_t before = now();
    check(listen(server, 8) == 0, "listen");
    tell("listen", getpid(), before, now());

    int pipe_ends[2];
    check(pipe(pipe_ends) == 0, "pipe");
    fflush(stdout);
    before = now();
    const pid_t client = fork();
    if (client == 0) {
        const int connection = socket(AF_INET, SOCK_STREAM, 0);
        uint64_t connect_before = now();
        check(write(pipe_ends[1], &connect_before, sizeof connect_before) > 0, "write");
        check(connect(connection, (struct sockaddr*)&address, sizeof address) == 0, "connect");
        char answer = 0;
        check(read(connection, &answer, 1) == 1, "read");
        _exit(0);
    }
    check(client > 0, "fork");
    tell("fork", client, before, now());
    check(read(pipe_ends[0], &before, sizeof before) == sizeof before, "read");
    const int connection = accept(server, NULL, NULL);
    check(connection >= 0, "accept");
    tell("accept", getpid(), before, now());
    before = now();
    check(send(connection, "!", 1, 0) == 1, "send");
    tell("answer", getpid(), before, now());
    check(waitpid(client, NULL, 0) == client, "waitpid");
}

int main(int argc, char** argv) {
    const uint64_t entered = now();
    if (argc == 2) {
        char before[32];
        snprintf(before, sizeof before, "%" PRIu64, now());
        execl(argv[0], argv[0], argv[1], before, NULL);
        perror("execl");
        return 1;
    }
    if (argc == 3) serve(atoi(argv[1]), strtoull(argv[2], NULL, 10), entered);
    return 0;
}
