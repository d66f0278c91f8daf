// SPDX-License-Identifier: Apache-2.0
// Who may make pools, and who may attach to whom.
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pages.h"
#include "runner.h"

static const uintptr_t address = 0x30000000000;
enum { PAGES = 4 };

static void map_target(void) {
    CHECK(mmap((void*)address, PAGES * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void*)address,
          "%s", strerror(errno));
}

/* A program of its own, so that its memory belongs to the user namespace it runs in: it stops and
 * then says whether page `i` of the memory ends in the byte that page i of the template does. */
int helper_target(void) {
    const char* const memory = mmap((void*)address, PAGES * PAGE, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory != (void*)address) return 2;
    raise(SIGSTOP);
    return page_is_zero(memory) ? 3 : 0;
}

static int make_template(void) {
    const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = PAGES};
    return template_of(common_pool.fd, &extent, 1);
}

static pid_t stopped_target(void) {
    const pid_t pid = child_start();
    if (pid == 0) {
        map_target();
        raise(SIGSTOP);
        child_end();
    }
    int status; /* not wait_stopped(): /proc may show another namespace */
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status), "%#x", (unsigned)status);
    return pid;
}

static void let_go(pid_t pid) {
    CHECK_OK(kill(pid, SIGCONT));
    child_join(pid);
}

TEST(permission, pool_needs_ipc_lock, MODE_API) {
    struct pool pool;
    pool_open_source(&pool, 8, 1);
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK(drop_capability(CAP_IPC_LOCK), "%s", strerror(errno));
        CHECK_ERRNO(pool_make(&pool), EPERM);
        child_end();
    }
    child_join(pid);
    CHECK_OK(pool_make(&pool));
}

TEST(permission, other_process_needs_ptrace, MODE_API) {
    const int fd = make_template();
    const pid_t target = stopped_target();
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK(drop_capability(CAP_SYS_PTRACE), "%s", strerror(errno));
        CHECK_ERRNO(call_attach(fd, target, NULL), EPERM);
        child_end();
    }
    child_join(pid);
    CHECK_OK(call_attach(fd, target, NULL));
    let_go(target);
}

/* A process may do to itself what it likes; templates may be handed to it for that. */
TEST(permission, itself_needs_nothing, MODE_API) {
    const int fd = make_template();
    const pid_t pid = child_start();
    if (pid == 0) {
        for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
            drop_capability(capability);
        map_target();
        CHECK_OK(call_attach(fd, 0, NULL));
        CHECK_OK(call_attach(fd, getpid(), NULL));
        CHECK(page_is((void*)address, common_pool.seed, 0), "not the template's page");
        child_end();
    }
    child_join(pid);
}

TEST(permission, from_user_namespace, MODE_API) {
    const int fd = make_template();
    const pid_t outside = stopped_target();
    const pid_t pid = child_start();
    if (pid == 0) {
        if (unshare(CLONE_NEWUSER)) skip("no user namespaces: %s", strerror(errno));
        /* All capabilities, but only inside. */
        CHECK_ERRNO(call_attach(fd, outside, NULL), EPERM);
        const struct pseudo_mm_range range = {(uintptr_t)common_pool.map, PAGE};
        CHECK_ERRNO(call_pool(device_fd, &range, 1, PSEUDO_MM_POOL_COPY), EPERM);
        const pid_t inside = child_start();
        if (inside == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            execl("/proc/self/exe", "pseudo_mm_test", "--helper-target", NULL);
            _exit(4);
        }
        wait_stopped(inside);
        CHECK_OK(call_attach(fd, inside, NULL));
        CHECK_OK(kill(inside, SIGCONT));
        CHECK_EQ(child_status(inside), 0);
        child_end();
    }
    const int status = child_status(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) _exit(77);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 55, "%#x", (unsigned)status);
    let_go(outside);
}

TEST(permission, into_user_namespace, MODE_API) {
    const int fd = make_template();
    const pid_t pid = child_start();
    if (pid == 0) {
        if (unshare(CLONE_NEWUSER)) _exit(4);
        execl("/proc/self/exe", "pseudo_mm_test", "--helper-target", NULL);
        _exit(5);
    }
    int status;
    CHECK_OK(waitpid(pid, &status, WUNTRACED));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 4) skip("no user namespaces");
    CHECK(WIFSTOPPED(status), "%#x", (unsigned)status);
    CHECK_OK(call_attach(fd, pid, NULL));
    CHECK_OK(kill(pid, SIGCONT));
    CHECK_EQ(child_status(pid), 0);
}

/* Process numbers are those of the caller's namespace. */
TEST(permission, process_namespace, MODE_API) {
    const int fd = make_template();
    const pid_t pid = child_start();
    if (pid == 0) {
        if (unshare(CLONE_NEWPID)) skip("no process namespaces: %s", strerror(errno));
        const pid_t first = child_start();
        if (first == 0) {
            CHECK_EQ(getpid(), 1);
            const pid_t target = stopped_target();
            CHECK_EQ(target, 2);
            CHECK_OK(call_attach(fd, target, NULL));
            let_go(target);
            CHECK_ERRNO(call_attach(fd, 1000, NULL), ESRCH);
            child_end();
        }
        child_join(first);
        child_end();
    }
    child_join(pid);
}
