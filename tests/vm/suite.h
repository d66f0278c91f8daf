/* SPDX-License-Identifier: Apache-2.0
 *
 * What every file of the suite shares: the registry of tests, the checks, and the runner's state.
 */
#ifndef PSEUDO_MM_SUITE_H
#define PSEUDO_MM_SUITE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../kmod/include/uapi/linux/pseudo_mm.h"

enum { PAGE = PSEUDO_MM_PAGE_SIZE, HUGE_PAGE = 2 << 20 };

/* How a test's memory gets its contents. A test names the modes in which it is true. */
enum mode {
    MODE_API = 1,    /* tests of the interface itself; run once for each source */
    MODE_SELF = 2,   /* the process attaches to itself */
    MODE_REMOTE = 4, /* the process is stopped and another one attaches to it */
    MODE_LAZY = 8,   /* mappings of the template, most extents lazy */
    MODE_PLAIN = 16, /* no module: memcpy; proves that the checks are true of anonymous memory */
    MODE_FINAL = 32, /* the runner holds no descriptor; may unload the module, unbind the device */
};
#define ANONYMOUS (MODE_SELF | MODE_REMOTE | MODE_PLAIN)
#define ATTACHED (MODE_SELF | MODE_REMOTE)
#define EVERY_MODE (ANONYMOUS | MODE_LAZY)

enum source { SOURCE_MEMFD = 1, SOURCE_COPY = 2, SOURCE_DAX = 4 };

struct test {
    const char* name;
    void (*run)(void);
    unsigned modes;
    unsigned sources; /* 0: all */
    unsigned timeout; /* seconds; 0: the usual */
    bool slow;        /* left out by --quick */
    const char* file;
    int line;
};

#define TEST(subject, title, where, ...)                                              \
    static void subject##_##title(void);                                              \
    static const struct test test_##subject##_##title = {.name = #subject "." #title, \
                                                         .run = subject##_##title,    \
                                                         .modes = (where),            \
                                                         .file = __FILE__,            \
                                                         .line = __LINE__,            \
                                                         ##__VA_ARGS__};              \
    static const struct test* const pointer_##subject##_##title                       \
        __attribute__((used, section("suite_tests"))) = &test_##subject##_##title;    \
    static void subject##_##title(void)

struct options {
    enum source source;
    const char* dax;    /* path of the device, for SOURCE_DAX */
    unsigned modes;     /* those to run */
    const char* filter; /* a glob, or NULL */
    unsigned repeat;
    uint64_t seed;
    unsigned timeout; /* seconds for one test */
    bool quick;
    bool allow_skips; /* for machines of which nobody knows what they have */
    bool fail_nth;
    unsigned fuzz_seconds;
    const char* block_device; /* scratch device for O_DIRECT, or NULL */
    const char* module;       /* file to load after a test that removed the module, or NULL */
};

extern struct options options;
/* Of the test that runs. */
extern enum mode current_mode;
/* /dev/pseudo_mm, opened by the runner; -1 in plain and final mode. */
extern int device_fd;

/* Ends the test (from any of its processes). The first message is the one that is shown. */
void fail_at(const char* file, int line, const char* format, ...)
    __attribute__((format(printf, 3, 4), noreturn));
void fail_check(const char* file, int line, const char* what, const char* format, ...)
    __attribute__((format(printf, 4, 5), noreturn));
/* What the test needs is missing: a failure, unless --allow-skips or plain mode says otherwise. */
void skip(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* `what` is missing, which it may be on kernels before MAJOR.MINOR, and on no others. */
void skip_before(unsigned major, unsigned minor, const char* what) __attribute__((noreturn));
bool test_failed(void);
/* Monotonic, in seconds. */
double now(void);

#define CHECK(condition, ...)                                                         \
    do {                                                                              \
        if (!(condition)) fail_check(__FILE__, __LINE__, #condition, "" __VA_ARGS__); \
    } while (0)

#define CHECK_EQ(actual, expected)                                                              \
    do {                                                                                        \
        const unsigned long long a_ = (unsigned long long)(actual);                             \
        const unsigned long long e_ = (unsigned long long)(expected);                           \
        if (a_ != e_)                                                                           \
            fail_check(__FILE__, __LINE__, #actual, "%llu (%#llx) instead of %llu (%#llx)", a_, \
                       a_, e_, e_);                                                             \
    } while (0)

/* The value of a call that must not return -1. */
#define CHECK_OK(call)                                                              \
    __extension__({                                                                 \
        const long r_ = (long)(call);                                               \
        if (r_ == -1) fail_check(__FILE__, __LINE__, #call, "%s", strerror(errno)); \
        r_;                                                                         \
    })

/* A call that must return -1 with this errno. */
#define CHECK_ERRNO(call, expected)                                                          \
    do {                                                                                     \
        errno = 0;                                                                           \
        const long r_ = (long)(call);                                                        \
        const int e_ = errno;                                                                \
        if (r_ != -1)                                                                        \
            fail_check(__FILE__, __LINE__, #call, "returned %ld instead of " #expected, r_); \
        if (e_ != (expected))                                                                \
            fail_check(__FILE__, __LINE__, #call, "gave %s instead of " #expected,           \
                       strerrorname_np(e_));                                                 \
    } while (0)

/* processes.c: children of a test. A failed check in one of them fails the test. */
pid_t child_start(void); /* fork; 0 in the child, which ends with child_end() */
void child_end(void) __attribute__((noreturn));
void child_join(pid_t pid);               /* it must end with child_end() */
int child_status(pid_t pid);              /* waits; the status of waitpid */
void child_killed(pid_t pid, int signal); /* it must end by this signal */
void wait_stopped(pid_t pid);             /* until SIGSTOP has taken effect */
void sleep_ms(unsigned ms);
void stay_on_first_processor(void);
/* What an access does: 0, or SIGSEGV, SIGBUS, SIGILL; *code is its si_code. */
int probe_read(const volatile void* address, int* code);
int probe_write(volatile void* address, int* code);
int probe_call(const void* address, int* result, int* code);
/* A meeting point of processes: made before the fork. */
struct barrier {
    int pipe[2][2];
};
void barrier_open(struct barrier* barrier);
void barrier_signal(struct barrier* barrier, int side); /* side 0 signals side 1, and back */
void barrier_wait(struct barrier* barrier, int side);
/* Whole small files, for /proc and /sys. */
bool read_text(const char* path, char* text, size_t size);
bool write_text(const char* path, const char* text);
void make_scratch_folder(void); /* and go there; the runner removes it after the test */
/* A number after "key" in text such as /proc/self/smaps; -1: not there. */
long long number_after(const char* text, const char* key);
bool drop_capability(int capability);
int memory_fd(pid_t pid); /* /proc/PID/mem, read and write */

#endif
