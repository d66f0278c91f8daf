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

static void check_pages(void) {
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(page_is(memory + page * PAGE, 5, page), "page %d", (int)page);
}

static void open_pool(struct pool* pool) {
    device_fd = (int)CHECK_OK(open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC));
    pool_open(pool, PAGES, 5);
    pool_close_source(pool);
    close(device_fd);
    device_fd = -1;
}

/* The ways to hold on to pages with nothing else. */
static void hold_pool(void) {
    struct pool pool;
    open_pool(&pool);
}

static int make_template(uint32_t kind) {
    struct pool pool;
    open_pool(&pool);
    const struct pseudo_mm_extent extent = {
        .addr = (uintptr_t)memory, .nr_pages = PAGES, .kind = kind};
    const int fd = template_of(pool.fd, &extent, 1);
    close(pool.fd);
    return fd;
}

static void hold_template(void) {
    make_template(PSEUDO_MM_SHARED);
}

static void hold_mapping(void) {
    const int fd = make_template(PSEUDO_MM_LAZY);
    CHECK(mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd,
               (off_t)(uintptr_t)memory) == memory,
          "%s", strerror(errno));
    close(fd);
}

static void hold_pages(void) {
    const int fd = make_template(PSEUDO_MM_SHARED);
    CHECK(mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory,
          "%s", strerror(errno));
    CHECK_OK(call_attach(fd, 0, NULL));
    close(fd);
}

static const struct {
    const char* name;
    void (*hold)(void);
    bool in_memory; /* the pages can be seen in `memory` */
} holders[] = {
    {"a pool", hold_pool, false},
    {"a template", hold_template, false},
    {"a lazy mapping", hold_mapping, true},
    {"attached pages", hold_pages, true},
};
enum { HOLDERS = sizeof holders / sizeof *holders };

TEST(final, removal_refused_while_in_use, MODE_FINAL) {
    for (int h = 0; h < HOLDERS; h++) {
        const pid_t pid = child_start();
        if (pid == 0) {
            holders[h].hold();
            for (int i = 0; i < 4; i++) {
                errno = 0;
                CHECK(remove_module() == -1 && errno == EWOULDBLOCK, "held by %s: %s",
                      holders[h].name, strerror(errno));
                if (holders[h].in_memory) check_pages();
                sleep_ms(50);
            }
            child_end();
        }
        child_join(pid);
    }
    const int device = (int)CHECK_OK(open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC));
    CHECK_ERRNO(remove_module(), EWOULDBLOCK); /* the descriptor alone */
    close(device);
}

TEST(final, removal_and_return, MODE_FINAL) {
    if (!options.module) skip("--module says what to load again");
    for (int round = 0; round < 3; round++) {
        const pid_t pid = child_start();
        if (pid == 0) {
            hold_pages();
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

static void tell_driver(const char* action, const char* device) {
    char path[128];
    snprintf(path, sizeof path, "/sys/bus/dax/drivers/device_dax/%s", action);
    CHECK(write_text(path, device), "%s: %s", path, strerror(errno));
}

static bool has_ended(pid_t pid) {
    siginfo_t state = {0};
    return waitid(P_PID, (id_t)pid, &state, WEXITED | WNOHANG | WNOWAIT) == 0 && state.si_pid;
}

/* Pages that nobody else has any more are used in every way. */
static void use_pages(void) {
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
}

/* Unbinding waits for whatever holds pages. Afterwards the device is bound anew. */
TEST(final, unbinding_waits, MODE_FINAL, .sources = SOURCE_DAX) {
    const char* const slash = strrchr(options.dax, '/');
    const char* const device = slash ? slash + 1 : options.dax;
    for (int h = 0; h < HOLDERS; h++) {
        struct barrier barrier;
        barrier_open(&barrier);
        const pid_t holder = child_start();
        if (holder == 0) {
            holders[h].hold();
            barrier_signal(&barrier, 1);
            barrier_wait(&barrier, 1);
            if (holders[h].in_memory) use_pages();
            child_end();
        }
        barrier_wait(&barrier, 0);
        const pid_t unbinder = child_start();
        if (unbinder == 0) {
            tell_driver("unbind", device);
            child_end();
        }
        sleep_ms(500);
        const bool early = has_ended(unbinder);
        barrier_signal(&barrier, 0);
        child_join(holder);
        for (const double deadline = now() + 20; !has_ended(unbinder); sleep_ms(20))
            CHECK(now() < deadline, "held by %s: unbinding does not end", holders[h].name);
        child_join(unbinder);
        tell_driver("bind", device);
        for (const double deadline = now() + 10; access(options.dax, R_OK); sleep_ms(20))
            CHECK(now() < deadline, "%s is not back", options.dax);
        CHECK(!early, "the device was taken away while it was held by %s", holders[h].name);
    }
    hold_pages();
    check_pages();
}
