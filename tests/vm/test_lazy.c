// SPDX-License-Identifier: Apache-2.0
// Mappings of a template: delivery at the first touch, once.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "instance.h"

static struct instance instance;
static const uintptr_t base = 0x30000000000;
enum { PAGES = 256 };

/* One lazy extent of PAGES pages, pool pages from 0, and a hole of 16 pages behind it. */
static char* map_lazy(int* fd) {
    const struct pseudo_mm_extent extent = {
        .addr = base, .nr_pages = PAGES, .kind = PSEUDO_MM_LAZY};
    *fd = template_of(common_pool.fd, &extent, 1);
    char* const memory = mmap((void*)base, (PAGES + 16) * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_FIXED_NOREPLACE, *fd, (off_t)base);
    CHECK(memory == (void*)base, "%s", strerror(errno));
    return memory;
}

static struct pseudo_mm_stat stat_of(int fd) {
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    return stat;
}

static void fault_around(unsigned pages) {
    char text[16];
    snprintf(text, sizeof text, "%u", pages);
    CHECK(write_text("/sys/module/pseudo_mm/parameters/fault_around_pages", text), "%s",
          strerror(errno));
}

static bool is_pool_page(const char* memory, uint64_t page) {
    return page_is(memory + page * PAGE, common_pool.seed, page);
}

/* The mapping alone delivers; ATTACH only checks that it is there. */
TEST(lazy, without_attach, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    CHECK_EQ(stat_of(fd).lazy_delivered, 0);
    CHECK_EQ(stat_of(fd).lazy_regions, 1);
    for (uint64_t page = 0; page < PAGES; page += 3)
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
    for (uint64_t page = PAGES; page < PAGES + 16; page++)
        CHECK(page_is_zero(memory + page * PAGE), "page %d", (int)page);
    close(fd); /* the mapping keeps the template */
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
}

TEST(lazy, delivers_around_a_fault, MODE_LAZY) {
    static const unsigned sizes[] = {1, 16, 64, 512};
    for (int i = 0; i < 4; i++) {
        int fd;
        fault_around(sizes[i]);
        char* const memory = map_lazy(&fd);
        const uint64_t around = sizes[i] > PAGES ? PAGES : sizes[i];
        CHECK(is_pool_page(memory, 70), "page 70");
        CHECK_EQ(stat_of(fd).lazy_faults, 1);
        CHECK_EQ(stat_of(fd).lazy_delivered, around);
        for (uint64_t page = 0; page < PAGES; page++)
            CHECK(is_pool_page(memory, page), "page %d", (int)page);
        CHECK_EQ(stat_of(fd).lazy_delivered, PAGES);
        CHECK_EQ(stat_of(fd).lazy_faults, PAGES / around);
        CHECK_OK(munmap(memory, (PAGES + 16) * PAGE));
        close(fd);
    }
}

TEST(lazy, first_touch_is_a_store, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    for (uint64_t page = 0; page < PAGES; page += 5) memory[page * PAGE + 9] ^= 1;
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page % 5 == 0) memory[page * PAGE + 9] ^= 1;
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
    }
    char* const hole = memory + (PAGES + 3) * PAGE;
    hole[4] = 1;
    CHECK_EQ(hole[4], 1);
    hole[4] = 0;
    CHECK(page_is_zero(hole), "the hole");
}

/* Delivered pages that are dropped stay dropped, here and in children. */
TEST(lazy, dropped_pages_read_zero, MODE_LAZY) {
    int fd;
    fault_around(1);
    char* const memory = map_lazy(&fd);
    for (uint64_t page = 0; page < 60; page++) CHECK(is_pool_page(memory, page), "%d", (int)page);
    CHECK_OK(madvise(memory + 10 * PAGE, 20 * PAGE, MADV_DONTNEED));
    const pid_t pid = child_start();
    for (uint64_t page = 0; page < PAGES; page++) {
        const bool dropped = page >= 10 && page < 30;
        CHECK(dropped ? page_is_zero(memory + page * PAGE) : is_pool_page(memory, page),
              "page %d in the %s", (int)page, pid ? "parent" : "child");
    }
    if (pid == 0) {
        CHECK_OK(madvise(memory, PAGES * PAGE, MADV_DONTNEED));
        for (uint64_t page = 0; page < PAGES; page++)
            CHECK(page_is_zero(memory + page * PAGE), "page %d", (int)page);
        memory[3 * PAGE] = 1;
        child_end();
    }
    child_join(pid);
    CHECK(is_pool_page(memory, 3), "page 3");
    CHECK(is_pool_page(memory, 60), "page 60");
}

/* Parent and child touch the same pages for the first time, each for itself. */
TEST(lazy, fork_before_delivery, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    CHECK(is_pool_page(memory, 0), "page 0");
    const pid_t pid = child_start();
    CHECK(stat_of(fd).lazy_regions >= 1, "regions");
    for (uint64_t page = 0; page < PAGES; page += 2) {
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
        memory[page * PAGE] ^= (char)(pid ? 1 : 2);
    }
    if (pid == 0) {
        const pid_t grandchild = child_start();
        for (uint64_t page = 1; page < PAGES; page += 2)
            CHECK(is_pool_page(memory, page), "page %d", (int)page);
        for (uint64_t page = 0; page < PAGES; page += 2) {
            memory[page * PAGE] ^= 2;
            CHECK(is_pool_page(memory, page), "page %d", (int)page);
        }
        if (grandchild) child_join(grandchild);
        child_end();
    }
    child_join(pid);
    for (uint64_t page = 0; page < PAGES; page += 2) {
        memory[page * PAGE] ^= 1;
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
    }
    for (const double deadline = now() + 5; stat_of(fd).lazy_regions != 1; sleep_ms(5))
        CHECK(now() < deadline, "%d regions", (int)stat_of(fd).lazy_regions);
}

/* Pages are known by their offset: neither splits nor moves change what comes. */
TEST(lazy, split_and_moved_before_delivery, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    CHECK_OK(mprotect(memory + 50 * PAGE, 10 * PAGE, PROT_READ));
    CHECK_OK(munmap(memory + 100 * PAGE, 10 * PAGE));
    char* const moved = mremap(memory + 150 * PAGE, 50 * PAGE, 50 * PAGE,
                               MREMAP_MAYMOVE | MREMAP_FIXED, memory + 0x10000000);
    CHECK(moved == memory + 0x10000000, "%s", strerror(errno));
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page >= 100 && page < 110) continue;
        const char* const place =
            page >= 150 && page < 200 ? moved + (page - 150) * PAGE : memory + page * PAGE;
        CHECK(page_is(place, common_pool.seed, page), "page %d", (int)page);
    }
    CHECK_EQ(stat_of(fd).lazy_regions, 1);
    CHECK_OK(madvise(moved, 5 * PAGE, MADV_DONTNEED));
    CHECK(page_is_zero(moved), "dropped after the move");
    /* Back to its own place, where the pages stay dropped. */
    CHECK(mremap(moved, 50 * PAGE, 50 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 150 * PAGE) ==
              memory + 150 * PAGE,
          "%s", strerror(errno));
    CHECK(page_is_zero(memory + 152 * PAGE), "dropped and moved back");
    CHECK(is_pool_page(memory, 160), "page 160");
}

/* Fork copies what was delivered to each part of a mapping, wherever the part is now. */
TEST(lazy, fork_of_parts, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    fault_around(4);
    for (uint64_t page = 0; page < PAGES; page += 8)
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
    CHECK_OK(madvise(memory + 64 * PAGE, 64 * PAGE, MADV_DONTNEED)); /* half of it delivered */
    CHECK_OK(mprotect(memory + 40 * PAGE, 50 * PAGE, PROT_READ));
    CHECK_OK(munmap(memory + 100 * PAGE, 10 * PAGE));
    char* const moved = mremap(memory + 120 * PAGE, 30 * PAGE, 30 * PAGE,
                               MREMAP_MAYMOVE | MREMAP_FIXED, memory + 0x10000000);
    CHECK(moved == memory + 0x10000000, "%s", strerror(errno));
    /* A grandchild looks at everything before its ancestors have touched more. */
    for (int generation = 0; generation < 2; generation++) {
        const pid_t pid = child_start();
        if (pid == 0) continue;
        child_join(pid);
        if (generation == 1) child_end();
        return;
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page >= 100 && page < 110) continue;
        const char* const place =
            page >= 120 && page < 150 ? moved + (page - 120) * PAGE : memory + page * PAGE;
        const bool dropped = page >= 64 && page < 128 && page % 8 < 4;
        CHECK(dropped ? page_is_zero(place) : page_is(place, common_pool.seed, page), "page %d",
              (int)page);
    }
    child_end();
}

/* Around the extents there is nothing but zeros, also in mappings without a single page of them. */
TEST(lazy, outside_of_template, MODE_LAZY) {
    const struct pseudo_mm_extent extent = {
        .addr = base, .nr_pages = PAGES, .kind = PSEUDO_MM_LAZY};
    const int fd = template_of(common_pool.fd, &extent, 1);
    static const struct {
        int64_t first; /* page of the mapping, from the extent's first */
        uint64_t pages;
    } cases[] = {{-64, 32},  {-64, 64},       {-8, 16},        {PAGES - 8, 16},
                 {PAGES, 8}, {PAGES + 40, 8}, {-8, PAGES + 16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const uintptr_t start = base + (uintptr_t)cases[i].first * PAGE;
        char* const memory = mmap((void*)start, cases[i].pages * PAGE, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, (off_t)start);
        CHECK(memory == (void*)start, "%s", strerror(errno));
        const pid_t pid = child_start();
        for (uint64_t page = 0; page < cases[i].pages; page++) {
            const int64_t number = cases[i].first + (int64_t)page;
            const char* const place = memory + page * PAGE;
            CHECK(number >= 0 && number < PAGES ? page_is(place, common_pool.seed, (uint64_t)number)
                                                : page_is_zero(place),
                  "mapping %d, page %d", (int)i, (int)number);
            fill_mark(memory + page * PAGE, page);
        }
        if (pid == 0) child_end();
        child_join(pid);
        CHECK_OK(munmap(memory, cases[i].pages * PAGE));
    }
}

/* Memory behind the range of the first mmap reads as zeros, where growing is possible at all. */
TEST(lazy, growth, MODE_LAZY) {
    const struct pseudo_mm_extent extent = {
        .addr = base, .nr_pages = PAGES, .kind = PSEUDO_MM_LAZY};
    const int fd = template_of(common_pool.fd, &extent, 1);
    char* const memory = mmap((void*)base, 10 * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, (off_t)base);
    CHECK(memory == (void*)base, "%s", strerror(errno));
    /* It would show pages of other addresses, or deliver one twice. */
    CHECK_ERRNO(mremap(memory, 10 * PAGE, 20 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0,
                EFAULT);
    CHECK_OK(mremap(memory, 10 * PAGE, 5 * PAGE, 0) == memory ? 0 : -1);
    CHECK_ERRNO(mremap(memory, 5 * PAGE, 10 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0, EFAULT);
    for (uint64_t page = 0; page < 5; page++)
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
}

/* Two mappings of one template in one process deliver each for itself. */
TEST(lazy, two_mappings, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    char* const other =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)base);
    CHECK(other != MAP_FAILED, "%s", strerror(errno));
    CHECK_EQ(stat_of(fd).lazy_regions, 2);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
        if (page % 2) fill_mark(memory + page * PAGE, page);
    }
    CHECK_OK(madvise(memory, PAGES * PAGE, MADV_DONTNEED));
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(page_is(other + page * PAGE, common_pool.seed, page), "page %d", (int)page);
        CHECK(page_is_zero(memory + page * PAGE), "page %d", (int)page);
    }
    /* Side by side, offsets in a row: still two, and both right. */
    char* const third =
        mmap((char*)base - 0x1000000, 8 * PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)base);
    CHECK(third != MAP_FAILED, "%s", strerror(errno));
    CHECK(mmap(third + 8 * PAGE, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
               (off_t)base + 8 * PAGE) == third + 8 * PAGE,
          "%s", strerror(errno));
    CHECK_EQ(stat_of(fd).lazy_regions, 4);
    for (uint64_t page = 0; page < 16; page++)
        CHECK(page_is(third + page * PAGE, common_pool.seed, page), "page %d", (int)page);
}

struct toucher {
    const char* memory;
    bool wrong;
};

static void* touch_all(void* argument) {
    struct toucher* const toucher = argument;
    for (uint64_t page = 0; page < PAGES; page++)
        toucher->wrong |= !page_is(toucher->memory + page * PAGE, common_pool.seed, page);
    return NULL;
}

TEST(lazy, threads_touch_at_once, MODE_LAZY) {
    for (int round = 0; round < 10; round++) {
        int fd;
        fault_around(round % 2 ? 1 : 16);
        char* const memory = map_lazy(&fd);
        pthread_t threads[4];
        struct toucher touchers[4];
        for (int i = 0; i < 4; i++) {
            touchers[i] = (struct toucher){memory, false};
            CHECK_EQ(pthread_create(&threads[i], NULL, touch_all, &touchers[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(!touchers[i].wrong, "round %d thread %d", round, i);
        }
        CHECK_EQ(stat_of(fd).lazy_delivered, PAGES);
        CHECK_OK(munmap(memory, (PAGES + 16) * PAGE));
        close(fd);
    }
}

/* Faults of the kernel, too, deliver. */
TEST(lazy, touched_by_the_kernel, MODE_LAZY) {
    int fd;
    char* const memory = map_lazy(&fd);
    int ends[2];
    CHECK_OK(pipe(ends));
    char copy[PAGE];
    for (uint64_t page = 0; page < 64; page += 7) {
        CHECK_EQ(write(ends[1], memory + page * PAGE, PAGE), PAGE);
        CHECK_EQ(read(ends[0], copy, PAGE), PAGE);
        CHECK(page_is(copy, common_pool.seed, page), "page %d", (int)page);
    }
    const int own = memory_fd(getpid());
    for (uint64_t page = 65; page < 128; page += 7) {
        CHECK_EQ(pread(own, copy, PAGE, (off_t)(base + page * PAGE)), PAGE);
        CHECK(page_is(copy, common_pool.seed, page), "page %d", (int)page);
    }
    CHECK_OK(madvise(memory + 128 * PAGE, 64 * PAGE, MADV_POPULATE_READ));
    CHECK_OK(madvise(memory + 192 * PAGE, 64 * PAGE, MADV_POPULATE_WRITE));
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(is_pool_page(memory, page), "page %d", (int)page);
}

static bool can_be_watched(char* memory) {
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd == -1) skip("userfaultfd: %s", strerror(errno));
    struct uffdio_api api = {.api = UFFD_API};
    CHECK_OK(ioctl(fd, UFFDIO_API, &api));
    struct uffdio_register range = {.range = {(uintptr_t)memory, PAGE},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    const bool can = ioctl(fd, UFFDIO_REGISTER, &range) == 0;
    CHECK(can || errno == EINVAL, "%s", strerror(errno));
    close(fd);
    return can;
}

static long long locked_memory(void) {
    char text[8192];
    CHECK(read_text("/proc/self/status", text, sizeof text), "%s", strerror(errno));
    return number_after(text, "VmLck:");
}

/* What INFO says of these mappings is so; growing and core dumps have tests of their own. */
TEST(lazy, told_differences, MODE_LAZY) {
    struct pseudo_mm_info info;
    CHECK_OK(call_info(device_fd, &info));
    int fd;
    char* const memory = map_lazy(&fd);
    const bool executable = mprotect(memory, PAGE, PROT_READ | PROT_EXEC) == 0;
    CHECK_EQ(executable, !(info.lazy_differences & PSEUDO_MM_LAZY_NOT_EXECUTABLE));
    const bool advice = !(info.lazy_differences & PSEUDO_MM_LAZY_NO_ANONYMOUS_ADVICE);
    CHECK_EQ(madvise(memory, PAGE, MADV_FREE) == 0, advice);
    CHECK_EQ(madvise(memory, PAGE, MADV_WIPEONFORK) == 0, advice);
    CHECK_EQ(can_be_watched(memory), advice);
    CHECK_OK(mlock(memory, 4 * PAGE));
    CHECK_EQ(locked_memory() > 0, advice);
    CHECK_OK(munlock(memory, 4 * PAGE));
    CHECK_OK(madvise(memory + 32 * PAGE, 32 * PAGE, MADV_DONTNEED));
    const bool zero = page_is_zero(memory + 40 * PAGE);
    CHECK_EQ(zero, !(info.lazy_differences & PSEUDO_MM_LAZY_DONTNEED_UNTOUCHED));
}

/* Eager extents in a lazy mapping: there before the first touch, and dropped like any other. */
TEST(lazy, eager_extents, MODE_LAZY) {
    instance_setup(&instance);
    const struct pseudo_mm_stat before = stat_of(instance.template_fd);
    CHECK(page_is(page_at(&instance, AREA_RW, 45), common_pool.seed, 51), "shared");
    CHECK(page_is(page_at(&instance, AREA_RW, 17), common_pool.seed, 17), "copied");
    CHECK_EQ(stat_of(instance.template_fd).lazy_faults, before.lazy_faults);
    CHECK_OK(madvise(page_at(&instance, AREA_RW, 44), 12 * PAGE, MADV_DONTNEED));
    CHECK_OK(madvise(page_at(&instance, AREA_RW, 16), 8 * PAGE, MADV_DONTNEED));
    record_pages(&instance, AREA_RW, 44, 12, CONTENT_ZERO, 0);
    record_pages(&instance, AREA_RW, 16, 8, CONTENT_ZERO, 0);
    const pid_t pid = child_start();
    instance_check(&instance);
    if (pid == 0) child_end();
    child_join(pid);
}
