// SPDX-License-Identifier: Apache-2.0
// Children of tests, probes of memory that may not be there, and small files.
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "suite.h"

enum { CHILD_OK = 55 };

pid_t child_start(void) {
    const pid_t pid = fork();
    CHECK(pid != -1, "%s", strerror(errno));
    return pid;
}

void child_end(void) {
    _exit(CHILD_OK);
}

int child_status(pid_t pid) {
    int status = 0;
    pid_t result;
    do result = waitpid(pid, &status, 0);
    while (result == -1 && errno == EINTR);
    CHECK(result == pid, "%s", strerror(errno));
    return status;
}

void child_join(pid_t pid) {
    const int status = child_status(pid);
    if (test_failed()) _exit(1);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_OK, "a child ended with status %#x",
          (unsigned)status);
}

void child_killed(pid_t pid, int signal) {
    const int status = child_status(pid);
    if (test_failed()) _exit(1);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal,
          "a child ended with status %#x instead of signal %d", (unsigned)status, signal);
}

void sleep_ms(unsigned ms) {
    const struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000 * 1000};
    nanosleep(&time, NULL);
}

void wait_stopped(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (const double deadline = now() + 30; now() < deadline; sleep_ms(1)) {
        if (!read_text(path, text, sizeof text)) continue;
        const char* const state = strrchr(text, ')');
        if (state && (state[2] == 'T' || state[2] == 't')) return;
    }
    CHECK(false, "process %d does not stop", pid);
}

static __thread sigjmp_buf probe_return;
static __thread volatile int probe_code;

static void probe_caught(int signal, siginfo_t* info, void* context) {
    (void)context;
    probe_code = info->si_code;
    siglongjmp(probe_return, signal);
}

static void probe_prepare(void) {
    struct sigaction action = {.sa_sigaction = probe_caught, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

static void probe_finish(int* code) {
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    signal(SIGILL, SIG_DFL);
    if (code) *code = probe_code;
}

int probe_read(const volatile void* address, int* code) {
    probe_code = 0;
    probe_prepare();
    const int signal = sigsetjmp(probe_return, 1);
    if (!signal) (void)*(const volatile char*)address;
    probe_finish(code);
    return signal;
}

int probe_write(volatile void* address, int* code) {
    probe_code = 0;
    probe_prepare();
    const int signal = sigsetjmp(probe_return, 1);
    if (!signal) {
        volatile char* const byte = address;
        *byte = *byte;
    }
    probe_finish(code);
    return signal;
}

int probe_call(const void* address, int* result, int* code) {
    probe_code = 0;
    probe_prepare();
    const int signal = sigsetjmp(probe_return, 1);
    if (!signal) {
        int (*function)(void);
        memcpy(&function, &address, sizeof function);
        *result = function();
    }
    probe_finish(code);
    return signal;
}

void barrier_open(struct barrier* barrier) {
    CHECK_OK(pipe2(barrier->pipe[0], O_CLOEXEC));
    CHECK_OK(pipe2(barrier->pipe[1], O_CLOEXEC));
}

void barrier_signal(struct barrier* barrier, int side) {
    CHECK_EQ(write(barrier->pipe[side][1], "x", 1), 1);
}

void barrier_wait(struct barrier* barrier, int side) {
    char byte;
    struct pollfd poll_fd = {.fd = barrier->pipe[!side][0], .events = POLLIN};
    /* Not for ever: the other side may have died, and both ends of the pipe are open here. */
    while (poll(&poll_fd, 1, 500) < 1)
        if (test_failed()) _exit(1);
    CHECK_EQ(read(barrier->pipe[!side][0], &byte, 1), 1);
}

bool read_text(const char* path, char* text, size_t size) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1) return false;
    size_t used = 0;
    ssize_t part = 0;
    while (used + 1 < size && (part = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)part;
    close(fd);
    text[used] = 0;
    return part != -1;
}

bool write_text(const char* path, const char* text) {
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd == -1) return false;
    const ssize_t length = (ssize_t)strlen(text);
    const bool ok = write(fd, text, (size_t)length) == length;
    const int error = errno;
    close(fd);
    errno = error;
    return ok;
}

long long number_after(const char* text, const char* key) {
    const char* const place = strstr(text, key);
    return place ? strtoll(place + strlen(key), NULL, 10) : -1;
}

bool drop_capability(int capability) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data)) return false;
    data[capability / 32].effective &= ~(1U << capability % 32);
    data[capability / 32].permitted &= ~(1U << capability % 32);
    data[capability / 32].inheritable &= ~(1U << capability % 32);
    return syscall(SYS_capset, &header, data) == 0;
}

int memory_fd(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    return (int)CHECK_OK(open(path, O_RDWR | O_CLOEXEC));
}

void stay_on_first_processor(void) {
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    CHECK_OK(sched_setaffinity(0, sizeof first, &first));
}
