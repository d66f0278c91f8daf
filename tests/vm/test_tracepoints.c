// SPDX-License-Identifier: Apache-2.0
// The tracepoints say what has happened, in a trace buffer of their own.
#include <sys/mman.h>
#include <sys/stat.h>

#include "pages.h"

static const uintptr_t address = 0x30000000000;
static const char folder[] = "/sys/kernel/tracing/instances/pseudo_mm_test";
static char trace[1 << 16];
enum { POOL_PAGES = 64, SHARED = 5, COPIED = 3, LAZY = 40 };

static void path_of(const char* file, char* path, size_t size) {
    snprintf(path, size, "%s/%s", folder, file);
}

/* Left-overs of a failed test are removed here, too. */
static void start_tracing(void) {
    char path[128];
    if (access("/sys/kernel/tracing/events/pseudo_mm", F_OK)) skip("no tracefs with our events");
    rmdir(folder);
    CHECK_OK(mkdir(folder, 0755));
    path_of("events/pseudo_mm/enable", path, sizeof path);
    CHECK(write_text(path, "1"), "%s: %s", path, strerror(errno));
}

static void read_trace(void) {
    char path[128];
    path_of("trace", path, sizeof path);
    CHECK(read_text(path, trace, sizeof trace), "%s: %s", path, strerror(errno));
}

/* The fields of the next such line, from `*place` on; NULL: there is none. */
static const char* next_event(const char** place, const char* event) {
    char key[64];
    snprintf(key, sizeof key, ": %s: ", event);
    const char* const found = strstr(*place, key);
    return found ? *place = found + strlen(key) : NULL;
}

static void expect_attach(const char** place, pid_t pid, const struct pseudo_mm_attach* result,
                          int error) {
    char expected[160];
    snprintf(expected, sizeof expected, "pid=%d shared=%llu copied=%llu nanoseconds=%llu ret=%d",
             pid, (unsigned long long)result->pages_shared,
             (unsigned long long)result->pages_copied, (unsigned long long)result->nanoseconds,
             -error);
    const char* const line = next_event(place, "pseudo_mm_attach");
    CHECK(line, "no line for this: %s", expected);
    const int length = (int)strcspn(line, "\n");
    CHECK((size_t)length == strlen(expected) && !memcmp(line, expected, (size_t)length),
          "%.*s instead of %s", length, line, expected);
}

/* Whether the pool that was made is said to have had this happen to it, and to how many pages. */
static bool pool_event(const char* event, unsigned long* pages) {
    const char* place = trace;
    char pool[32] = "", name[20], other[32];
    for (const char* line; (line = next_event(&place, "pseudo_mm_pool"));) {
        CHECK_EQ(sscanf(line, "pool=%31s event=%19s pages=%lu\n", other, name, pages), 3);
        if (!*pool) {
            CHECK(!strcmp(name, "made"), "begins with %s", name);
            memcpy(pool, other, sizeof pool);
        }
        if (!strcmp(name, event) && !strcmp(pool, other)) return true;
    }
    return false;
}

static void* map(uint64_t pages, int fd) {
    void* const memory = mmap((void*)address, pages * PAGE, PROT_READ | PROT_WRITE,
                              fd == -1 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE, fd,
                              fd == -1 ? 0 : (off_t)address);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    return memory;
}

TEST(tracepoints, attach, MODE_API) {
    const struct pseudo_mm_extent list[] = {
        {.addr = address, .nr_pages = SHARED},
        {.addr = address + SHARED * PAGE, .nr_pages = COPIED, .kind = PSEUDO_MM_COPIED}};
    const int fd = template_of(common_pool.fd, list, 2);
    start_tracing();
    struct pseudo_mm_attach failed, here, by_number;
    CHECK_ERRNO(call_attach(fd, 0, &failed), EFAULT);
    /* A store first: without it one page more is copied. */
    *(char*)map(SHARED + COPIED, -1) = 1;
    CHECK_OK(call_attach(fd, 0, &here));
    CHECK_OK(call_attach(fd, getpid(), &by_number));
    /* Without ROLLBACK the page that is in the way is overwritten. */
    const bool clears = info().features & PSEUDO_MM_FEATURE_ROLLBACK;
    CHECK_EQ(here.pages_shared, SHARED - !clears);
    CHECK_EQ(here.pages_copied, COPIED + !clears);
    read_trace();
    const char* place = trace;
    expect_attach(&place, 0, &failed, EFAULT);
    expect_attach(&place, 0, &here, 0);
    expect_attach(&place, getpid(), &by_number, 0);
    CHECK(!next_event(&place, "pseudo_mm_attach"), "one line too many: %.100s", place);
    CHECK_OK(rmdir(folder));
}

TEST(tracepoints, lazy_fault, MODE_API) {
    const struct pseudo_mm_extent extent = {
        .addr = address, .nr_pages = LAZY, .kind = PSEUDO_MM_LAZY};
    CHECK(write_text("/sys/module/pseudo_mm/parameters/fault_around_pages", "16"), "%s",
          strerror(errno));
    const char* const memory = map(LAZY, template_of(common_pool.fd, &extent, 1));
    start_tracing();
    CHECK(page_is(memory + 21 * PAGE, common_pool.seed, 21), "page 21");
    CHECK(page_is(memory + 39 * PAGE, common_pool.seed, 39), "page 39"); /* of a window cut off */
    read_trace();
    static const unsigned long pages[][2] = {{21, 16}, {39, LAZY - 32}};
    const char* place = trace;
    for (int i = 0; i < 2; i++) {
        unsigned long at, delivered;
        const char* const line = next_event(&place, "pseudo_mm_lazy_fault");
        CHECK(line && sscanf(line, "addr=%lx pages=%lu\n", &at, &delivered) == 2, "fault %d", i);
        CHECK_EQ(at, address + pages[i][0] * PAGE);
        CHECK_EQ(delivered, pages[i][1]);
    }
    CHECK(!next_event(&place, "pseudo_mm_lazy_fault"), "one line too many");
    CHECK_OK(rmdir(folder));
}

TEST(tracepoints, pool, MODE_API) {
    struct pool pool;
    start_tracing();
    pool_open(&pool, POOL_PAGES, 3);
    read_trace();
    unsigned long pages = 0;
    CHECK(pool_event("made", &pages), "nothing was made");
    CHECK_EQ(pages, POOL_PAGES);

    const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = SHARED};
    const int fd = template_of(pool.fd, &extent, 1);
    char* const memory = map(SHARED, -1);
    CHECK_OK(call_attach(fd, 0, NULL));
    close(fd);
    pool_close(&pool);
    read_trace();
    /* Copies need no pool once they are in a process. */
    struct pseudo_mm_info info;
    CHECK_OK(call_info(device_fd, &info));
    CHECK_EQ(pool_event("lingers", &pages), info.lingering_pools == 1);
    CHECK_EQ(pool_event("freed", &pages), info.lingering_pools == 0);
    if (info.lingering_pools) {
        CHECK(pool_event("lingers", &pages), "lingers");
        /* All, if they are one large page of a device. */
        CHECK((pages > 0 && pages <= SHARED) || pages == POOL_PAGES, "%lu pages", pages);
    }
    CHECK_OK(munmap(memory, SHARED * PAGE));
    for (const double deadline = now() + 10; !pool_event("freed", &pages); sleep_ms(20)) {
        CHECK(now() < deadline, "the pool is not freed");
        read_trace();
    }
    CHECK_OK(rmdir(folder));
}
