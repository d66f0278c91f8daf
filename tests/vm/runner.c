// SPDX-License-Identifier: Apache-2.0
// One test in a process of its own, with a time limit; nothing of it is left behind.
#include "runner.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>

/* Seen by every process of a test. */
static struct {
    int state; /* 0: nothing yet, 1: being written, 2: failed, 3: skip */
    char message[480];
    char folder[64];
}* shared;

static pid_t runner;

enum { EXIT_FAILED = 1, EXIT_SKIPPED = 77 };

void processes_prepare(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("pseudo_mm_test: mmap");
        exit(1);
    }
    runner = getpid();
    /* Whatever a test starts comes back to the runner when its parent dies. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
}

static void set_message(int state, const char* text) {
    int expected = 0;
    if (!__atomic_compare_exchange_n(&shared->state, &expected, 1, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return;
    snprintf(shared->message, sizeof shared->message, "%s", text);
    __atomic_store_n(&shared->state, state, __ATOMIC_SEQ_CST);
}

/* The runner itself uses checked functions, too, before and after tests. */
static _Noreturn void fail_with(const char* file, int line, const char* what, const char* detail) {
    const char* const slash = strrchr(file, '/');
    char text[sizeof shared->message];
    char where[80] = "";
    if (line) snprintf(where, sizeof where, "%s:%d: ", slash ? slash + 1 : file, line);
    snprintf(text, sizeof text, "%s%s%s%s", where, what, *what && *detail ? ": " : "", detail);
    if (getpid() == runner) fprintf(stderr, "pseudo_mm_test: %s\n", text);
    set_message(2, text);
    _exit(EXIT_FAILED);
}

void fail_check(const char* file, int line, const char* what, const char* format, ...) {
    char detail[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    fail_with(file, line, what, detail);
}

void fail_at(const char* file, int line, const char* format, ...) {
    char detail[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    fail_with(file, line, "", detail);
}

static _Noreturn void end_skipped(const char* reason) {
    set_message(3, reason);
    _exit(EXIT_SKIPPED);
}

void skip(const char* format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (options.allow_skips || current_mode == MODE_PLAIN) end_skipped(text);
    fail_with("", 0, "skips are not allowed here", text);
}

void skip_before(unsigned major, unsigned minor, const char* what) {
    struct utsname name;
    unsigned running[2];
    CHECK_OK(uname(&name));
    CHECK_EQ(sscanf(name.release, "%u.%u", &running[0], &running[1]), 2);
    if (running[0] > major || (running[0] == major && running[1] >= minor))
        skip("no %s, which kernels have from %u.%u on", what, major, minor);
    char text[200];
    snprintf(text, sizeof text, "no %s before %u.%u", what, major, minor);
    end_skipped(text);
}

bool test_failed(void) {
    return __atomic_load_n(&shared->state, __ATOMIC_SEQ_CST) == 2;
}

void make_scratch_folder(void) {
    if (shared->folder[0]) return;
    char name[] = "/tmp/pseudo_mm_test.XXXXXX";
    CHECK(mkdtemp(name), "%s", strerror(errno));
    memcpy(shared->folder, name, sizeof name);
    CHECK_OK(chdir(name));
}

static void remove_scratch_folder(void) {
    if (!shared->folder[0]) return;
    DIR* const folder = opendir(shared->folder);
    if (folder) {
        for (struct dirent* entry; (entry = readdir(folder));)
            if (entry->d_name[0] != '.') unlinkat(dirfd(folder), entry->d_name, 0);
        closedir(folder);
    }
    rmdir(shared->folder);
    shared->folder[0] = 0;
}

/* Kills and reaps the group of a test, and whatever else became the runner's child. */
static bool reap_all(pid_t group) {
    const double deadline = now() + 20;
    kill(-group, SIGKILL);
    while (now() < deadline) {
        const pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid == -1 && errno == ECHILD) return true;
        if (pid == 0) {
            /* Children that left the group, and those that were not ours when it was killed. */
            char path[64], text[512];
            snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
            if (read_text(path, text, sizeof text))
                for (char* word = strtok(text, " "); word; word = strtok(NULL, " "))
                    kill((pid_t)strtol(word, NULL, 10), SIGKILL);
            sleep_ms(5);
        }
    }
    return false;
}

static bool wait_for(pid_t pid, unsigned timeout, int* status) {
    sigset_t child, old;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &old);
    const double deadline = now() + timeout;
    bool ended = false;
    while (!(ended = waitpid(pid, status, WNOHANG) == pid) && now() < deadline) {
        const struct timespec tick = {0, 200 * 1000 * 1000};
        sigtimedwait(&child, NULL, &tick);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return ended;
}

enum outcome run_process(void (*run)(void), unsigned timeout, char* message, size_t size) {
    memset(shared, 0, sizeof *shared);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == -1) {
        snprintf(message, size, "fork: %s", strerror(errno));
        return FAILED;
    }
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run();
        _exit(0);
    }
    setpgid(pid, pid);
    int status = 0;
    const bool ended = wait_for(pid, timeout, &status);
    char stack[2048] = "";
    if (!ended) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/stack", pid);
        read_text(path, stack, sizeof stack);
    }
    const bool reaped = reap_all(pid);
    remove_scratch_folder();

    snprintf(message, size, "%s", shared->message);
    if (!reaped) {
        snprintf(message, size, "processes of the test cannot be killed; %s", shared->message);
        return FAILED;
    }
    if (!ended) {
        snprintf(message, size, "still running after %u s; %s %s", timeout, shared->message, stack);
        for (char* end = message; (end = strchr(end, '\n'));) *end = ' ';
        return FAILED;
    }
    if (shared->state == 2) return FAILED;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED && shared->state == 3)
        return SKIPPED;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return PASSED;
    if (WIFSIGNALED(status)) {
        snprintf(message, size, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    } else {
        snprintf(message, size, "ended with status %#x and no message", (unsigned)status);
    }
    return FAILED;
}
