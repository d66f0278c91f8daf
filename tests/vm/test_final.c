// SPDX-License-Identifier: Apache-2.0
// Taking the module or the device away while pages are in use. The runner holds no descriptor here.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "pages.h"

static char* const memory = (char*)0x30000000000;
enum { PAGES = 64 };

static int remove_module(void) {
    return (int)syscall(SYS_delete_module, "pseudo_mm", O_NONBLOCK);
}

/* Attaches and closes everything; the pages alone are left. */
static void attach_and_close(void) {
    device_fd = (int)CHECK_OK(open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC));
    struct pool pool;
    pool_open(&pool, PAGES, 5);
    const struct pseudo_mm_extent extent = {.addr = (uintptr_t)memory, .nr_pages = PAGES};
    const int fd = template_of(pool.fd, &extent, 1);
    CHECK(mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory,
          "%s", strerror(errno));
    CHECK_OK(call_attach(fd, 0, NULL));
    close(fd);
    pool_close(&pool);
    close(device_fd);
    device_fd = -1;
}

static void check_pages(void) {
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(page_is(memory + page * PAGE, 5, page), "page %d", (int)page);
}

TEST(final, removal_refused_while_in_use, MODE_FINAL) {
    attach_and_close();
    for (int i = 0; i < 10; i++) {
        CHECK_ERRNO(remove_module(), EWOULDBLOCK);
        check_pages();
        sleep_ms(50);
    }
    const int device = (int)CHECK_OK(open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC));
    CHECK_OK(munmap(memory, PAGES * PAGE));
    CHECK_ERRNO(remove_module(), EWOULDBLOCK); /* the descriptor alone */
    close(device);
}

TEST(final, removal_and_return, MODE_FINAL) {
    if (!options.module) skip("--module says what to load again");
    for (int round = 0; round < 3; round++) {
        const pid_t pid = child_start();
        if (pid == 0) {
            attach_and_close();
            check_pages();
            child_end();
        }
        child_join(pid);
        /* The last pages have just gone; the module notices at its leisure. */
        int result = -1;
        for (const double deadline = now() + 10; result && now() < deadline; sleep_ms(5))
            result = remove_module();
        CHECK(result == 0, "%s", strerror(errno));
        CHECK_EQ(access(PSEUDO_MM_DEVICE, F_OK), -1);
        const int file = (int)CHECK_OK(open(options.module, O_RDONLY | O_CLOEXEC));
        CHECK_OK(syscall(SYS_finit_module, file, "", 0));
        close(file);
        for (const double deadline = now() + 10; access(PSEUDO_MM_DEVICE, F_OK); sleep_ms(5))
            CHECK(now() < deadline, "no device");
    }
}

static void unbind_path(char* path, size_t size, const char* action) {
    snprintf(path, size, "/sys/bus/dax/drivers/device_dax/%s", action);
}

static const char* device_name(void) {
    const char* const slash = strrchr(options.dax, '/');
    return slash ? slash + 1 : options.dax;
}

static bool has_ended(pid_t pid) {
    siginfo_t state = {0};
    return waitid(P_PID, (id_t)pid, &state, WEXITED | WNOHANG | WNOWAIT) == 0 && state.si_pid;
}

/* Runs last by its place in the file: afterwards the device is bound anew. */
TEST(final, unbinding_waits_for_pages, MODE_FINAL, .sources = SOURCE_DAX) {
    char path[128];
    unbind_path(path, sizeof path, "unbind");
    if (access(path, W_OK)) skip("%s: %s", path, strerror(errno));
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t instance = child_start();
    if (instance == 0) {
        attach_and_close();
        barrier_signal(&barrier, 1);
        barrier_wait(&barrier, 1);
        check_pages();
        memory[0] = 1;
        const pid_t pid = child_start();
        if (pid == 0) {
            CHECK(page_is(memory + 3 * PAGE, 5, 3), "the child's page");
            child_end();
        }
        child_join(pid);
        for (uint64_t page = 1; page < PAGES; page++)
            CHECK(page_is(memory + page * PAGE, 5, page), "page %d", (int)page);
        child_end();
    }
    barrier_wait(&barrier, 0);
    const pid_t unbinder = child_start();
    if (unbinder == 0) {
        CHECK(write_text(path, device_name()), "%s", strerror(errno));
        child_end();
    }
    sleep_ms(1500);
    const bool early = has_ended(unbinder);
    barrier_signal(&barrier, 0);
    child_join(instance);
    for (const double deadline = now() + 20; !has_ended(unbinder); sleep_ms(20))
        CHECK(now() < deadline, "unbinding does not end");
    child_join(unbinder);
    unbind_path(path, sizeof path, "bind");
    CHECK(write_text(path, device_name()), "%s", strerror(errno));
    for (const double deadline = now() + 10; access(options.dax, R_OK); sleep_ms(20))
        CHECK(now() < deadline, "%s is not back", options.dax);
    CHECK(!early, "the device was taken away while its pages were in use");
    attach_and_close();
    check_pages();
}
