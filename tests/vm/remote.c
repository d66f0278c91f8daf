// SPDX-License-Identifier: Apache-2.0
// The attacher: a process that waits for a request, waits until who asked has stopped, attaches to
// it by process number and lets it go on. It is started before there is any memory to attach to,
// so that it shares none of it.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "instance.h"

struct request {
    pid_t pid;
    uint32_t slot;
};

enum { SLOTS = 64 };
struct answer {
    int result;
    int error;
    struct pseudo_mm_attach attach;
};

static struct answer* answers; /* shared */
static int request_socket = -1;

static bool receive(int socket_fd, struct request* request, int* fd) {
    struct iovec vector = {request, sizeof *request};
    char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    if (recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *request) return false;
    const struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (!header) return false;
    memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return true;
}

static void serve(int socket_fd) {
    struct request request;
    for (int fd; receive(socket_fd, &request, &fd);) {
        struct answer* const answer = &answers[request.slot];
        wait_stopped(request.pid);
        answer->result = call_attach(fd, request.pid, &answer->attach);
        answer->error = errno;
        close(fd);
        kill(request.pid, SIGCONT);
    }
    _exit(0);
}

void attacher_start(void) {
    if (current_mode != MODE_REMOTE || request_socket != -1) return;
    answers = mmap(NULL, SLOTS * sizeof *answers, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(answers != MAP_FAILED, "%s", strerror(errno));
    int sockets[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets));
    if (child_start() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(sockets[0]);
        serve(sockets[1]);
    }
    close(sockets[1]);
    request_socket = sockets[0];
}

int attach_by_helper(int template_fd, struct pseudo_mm_attach* result) {
    CHECK(request_socket != -1, "attacher_start() comes first");
    struct request request = {.pid = getpid(), .slot = (uint32_t)getpid() % SLOTS};
    struct iovec vector = {&request, sizeof request};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &template_fd, sizeof template_fd);
    struct answer* const answer = &answers[request.slot];
    answer->result = 1;
    CHECK_OK(sendmsg(request_socket, &message, MSG_NOSIGNAL));
    raise(SIGSTOP);
    CHECK(answer->result != 1, "continued before the attacher answered");
    if (result) *result = answer->attach;
    errno = answer->error;
    return answer->result;
}

int attach_here(int template_fd, struct pseudo_mm_attach* result) {
    return current_mode == MODE_REMOTE ? attach_by_helper(template_fd, result)
                                       : call_attach(template_fd, 0, result);
}
