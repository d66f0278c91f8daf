// SPDX-License-Identifier: Apache-2.0
// ATTACH: what it refuses, where it says so, and that it leaves nothing then.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "instance.h"

/* Three extents of four pages, with a gap of four pages behind each. */
static char* const memory = (char*)0x30000000000;
enum { EXTENTS = 3, PAGES = 4, DISTANCE = 8 };

static int make_template(uint32_t kind) {
    struct pseudo_mm_extent list[EXTENTS];
    for (uint64_t i = 0; i < EXTENTS; i++)
        list[i] = (struct pseudo_mm_extent){.addr = (uintptr_t)memory + i * DISTANCE * PAGE,
                                            .page = i * 10,
                                            .nr_pages = PAGES,
                                            .kind = i == EXTENTS - 1 ? kind : (uint32_t)(i % 2)};
    return template_of(common_pool.fd, list, EXTENTS);
}

static char* page_of(uint64_t extent, uint64_t page) {
    return memory + (extent * DISTANCE + page) * PAGE;
}

static void map_at(void* place, uint64_t pages, int protection, int flags, int fd) {
    CHECK(mmap(place, pages * PAGE, protection, flags | MAP_FIXED, fd, 0) == place, "%s",
          strerror(errno));
}

static void map_all(void) {
    map_at(memory, EXTENTS * DISTANCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void dirty_all(void) {
    for (uint64_t e = 0; e < EXTENTS; e++)
        for (uint64_t page = 0; page < PAGES; page++) fill_mark(page_of(e, page), e * 10 + page);
}

/* After an error no page is the template's. */
static void expect_nothing_attached(void) {
    const int fd = memory_fd(getpid());
    for (uint64_t e = 0; e < EXTENTS; e++)
        for (uint64_t page = 0; page < PAGES; page++) {
            char actual[PAGE];
            if (pread(fd, actual, PAGE, (off_t)(uintptr_t)page_of(e, page)) != PAGE) continue;
            CHECK(!page_is(actual, common_pool.seed, e * 10 + page), "extent %d page %d stayed",
                  (int)e, (int)page);
        }
    close(fd);
}

static void expect_refused(int fd, int error, const void* place) {
    struct pseudo_mm_attach result;
    errno = 0;
    const int value = attach_here(fd, &result);
    CHECK(value == -1 && errno == error, "%d, %s instead of %s", value, strerrorname_np(errno),
          strerrorname_np(error));
    CHECK_EQ(result.error_addr, (uintptr_t)place);
    CHECK_EQ(result.pages_shared, 0);
    CHECK_EQ(result.pages_copied, 0);
    if (error != ENXIO) expect_nothing_attached(); /* lazy mappings deliver by themselves */
}

static void expect_accepted(int fd) {
    CHECK_OK(attach_here(fd, NULL));
    for (uint64_t e = 0; e < EXTENTS; e++)
        for (uint64_t page = 0; page < PAGES; page++)
            CHECK(page_is(page_of(e, page), common_pool.seed, e * 10 + page), "extent %d page %d",
                  (int)e, (int)page);
}

TEST(attach, not_mapped, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_COPIED);
    expect_refused(fd, EFAULT, page_of(0, 0)); /* nothing at all */
    for (uint64_t e = 0; e < EXTENTS; e++)
        for (uint64_t page = 0; page < PAGES; page++) {
            map_all();
            if (page % 2) dirty_all();
            CHECK_OK(munmap(page_of(e, page), PAGE));
            expect_refused(fd, EFAULT, page_of(e, page));
        }
    map_all();
    /* Gaps of the template need no memory. */
    for (uint64_t e = 0; e < EXTENTS; e++) CHECK_OK(munmap(page_of(e, PAGES), PAGE));
    expect_accepted(fd);
}

/* Puts other memory at one page of the last extent. */
static void refuse_other(int fd, int protection, int flags, int file) {
    map_all();
    dirty_all();
    map_at(page_of(2, 1), 1, protection, flags, file);
    expect_refused(fd, EOPNOTSUPP, page_of(2, 1));
}

TEST(attach, other_memory, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    const int read_write = PROT_READ | PROT_WRITE;
    refuse_other(fd, read_write, MAP_SHARED | MAP_ANONYMOUS, -1);
    refuse_other(fd, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1);
    const int memfd = (int)CHECK_OK(memfd_create("file", MFD_CLOEXEC));
    CHECK_OK(ftruncate(memfd, PAGE));
    refuse_other(fd, read_write, MAP_SHARED, memfd);
    refuse_other(fd, PROT_READ, MAP_SHARED, memfd);
    refuse_other(fd, read_write, MAP_PRIVATE, memfd);
    const int exe = (int)CHECK_OK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    refuse_other(fd, PROT_READ, MAP_PRIVATE, exe);
    refuse_other(fd, read_write, MAP_PRIVATE, exe);
    const int zero = (int)CHECK_OK(open("/dev/zero", O_RDWR | O_CLOEXEC));
    refuse_other(fd, read_write, MAP_SHARED, zero);
    /* A private mapping of /dev/zero has a file, though it is called anonymous. */
    refuse_other(fd, read_write, MAP_PRIVATE, zero);
    map_all();
    expect_accepted(fd);
}

TEST(attach, device_memory, ATTACHED, .sources = SOURCE_DAX) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    /* Aligned to huge pages: 2 MiB around the first extent. */
    const int dax = (int)CHECK_OK(open(options.dax, O_RDWR | O_CLOEXEC));
    CHECK_OK(munmap(memory, EXTENTS * DISTANCE * PAGE));
    CHECK(mmap(memory, HUGE_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, dax, 0) == memory, "%s",
          strerror(errno));
    struct pseudo_mm_attach result;
    CHECK_ERRNO(attach_here(fd, &result), EOPNOTSUPP);
    CHECK_EQ(result.error_addr, (uintptr_t)memory);
}

TEST(attach, special_mappings, ATTACHED) {
    attacher_start();
    char line[512];
    FILE* const maps = fopen("/proc/self/maps", "re");
    CHECK(maps, "%s", strerror(errno));
    while (fgets(line, sizeof line, maps)) {
        if (!strstr(line, "[vvar]") && !strstr(line, "[vdso]")) continue;
        const struct pseudo_mm_extent extent = {.addr = strtoul(line, NULL, 16), .nr_pages = 1};
        const int fd = template_of(common_pool.fd, &extent, 1);
        struct pseudo_mm_attach result;
        CHECK_ERRNO(attach_here(fd, &result), EOPNOTSUPP);
        CHECK_EQ(result.error_addr, extent.addr);
        close(fd);
    }
    fclose(maps);
}

TEST(attach, hugetlb, ATTACHED, .sources = SOURCE_MEMFD) {
    attacher_start();
    static const char path[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    char old[32];
    if (!read_text(path, old, sizeof old)) skip("no hugetlbfs");
    if (strtol(old, NULL, 10) < 2 && !write_text(path, "2")) skip("no huge pages");
    const int fd = make_template(PSEUDO_MM_SHARED);
    if (mmap(memory, HUGE_PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0) != memory) {
        write_text(path, old);
        skip("no huge page");
    }
    memory[0] = 1;
    struct pseudo_mm_attach result;
    const int value = attach_here(fd, &result), error = errno;
    munmap(memory, HUGE_PAGE);
    write_text(path, old);
    CHECK(value == -1 && error == EOPNOTSUPP, "%d, %s", value, strerror(error));
    CHECK_EQ(result.error_addr, (uintptr_t)memory);
}

TEST(attach, locked, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    for (int on_fault = 0; on_fault < 2; on_fault++) {
        map_all();
        CHECK_OK(mlock2(page_of(2, 2), PAGE, on_fault ? MLOCK_ONFAULT : 0));
        expect_refused(fd, EOPNOTSUPP, page_of(2, 2));
        CHECK_OK(munlock(page_of(2, 2), PAGE));
        expect_accepted(fd);
    }
}

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
enum { MSEAL = 462 }; /* x86-64 */

/* The kernel may take it away at any time: nothing for a template. */
TEST(attach, droppable, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    if (mmap(page_of(2, 1), PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED,
             -1, 0) == MAP_FAILED)
        skip_before(6, 11, "MAP_DROPPABLE");
    expect_refused(fd, EOPNOTSUPP, page_of(2, 1));
}

/* Sealed mappings must not be changed from outside. */
TEST(attach, sealed_memory, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    if (syscall(MSEAL, page_of(2, 0), PAGE, 0)) skip_before(6, 10, "mseal()");
    expect_refused(fd, EOPNOTSUPP, page_of(2, 0));
}

TEST(attach, lazy_without_mapping, ATTACHED | MODE_LAZY) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_LAZY);
    map_all();
    dirty_all();
    expect_refused(fd, ENXIO, page_of(2, 0));
    expect_nothing_attached();
    /* A mapping of the template, but not at its own offset. */
    CHECK(mmap(page_of(2, 0), PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
               (off_t)(uintptr_t)page_of(0, 0)) == page_of(2, 0),
          "%s", strerror(errno));
    expect_refused(fd, ENXIO, page_of(2, 0));
    /* That of another template. */
    const int other = make_template(PSEUDO_MM_LAZY);
    CHECK(mmap(page_of(2, 0), PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, other,
               (off_t)(uintptr_t)page_of(2, 0)) == page_of(2, 0),
          "%s", strerror(errno));
    expect_refused(fd, ENXIO, page_of(2, 0));
    /* Only a part of it. */
    map_all();
    CHECK(mmap(page_of(2, 0), (PAGES - 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
               fd, (off_t)(uintptr_t)page_of(2, 0)) == page_of(2, 0),
          "%s", strerror(errno));
    expect_refused(fd, ENXIO, page_of(2, PAGES - 1));
    CHECK(mmap(page_of(2, 0), PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
               (off_t)(uintptr_t)page_of(2, 0)) == page_of(2, 0),
          "%s", strerror(errno));
    expect_accepted(fd);
}

TEST(attach, bad_process_numbers, MODE_API) {
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    CHECK_ERRNO(call_attach(fd, -1, NULL), EINVAL);
    CHECK_ERRNO(call_attach(fd, INT32_MIN, NULL), EINVAL);
    CHECK_ERRNO(call_attach(fd, INT32_MAX, NULL), ESRCH);
    CHECK_ERRNO(call_attach(fd, 2, NULL), ESRCH); /* a kernel thread */
    CHECK_OK(call_attach(fd, getpid(), NULL));    /* itself by number */
    /* One that has ended and was not waited for, and then not even that. */
    const pid_t pid = child_start();
    if (pid == 0) child_end();
    siginfo_t info;
    CHECK_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    CHECK_ERRNO(call_attach(fd, pid, NULL), ESRCH);
    child_join(pid);
    CHECK_ERRNO(call_attach(fd, pid, NULL), ESRCH);
}

static void* report_thread(void* argument) {
    pid_t* const number = argument;
    __atomic_store_n(number, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    for (;;) pause();
    return NULL;
}

/* Processes have numbers; those of their other threads do not count. */
TEST(attach, number_of_a_thread, MODE_API) {
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    pid_t number = 0;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, report_thread, &number), 0);
    while (!__atomic_load_n(&number, __ATOMIC_SEQ_CST)) sleep_ms(1);
    CHECK_ERRNO(call_attach(fd, number, NULL), ESRCH);
}

/* A process lives on in its other threads; its number has no memory any more. */
TEST(attach, main_thread_ended, MODE_API) {
    const int fd = make_template(PSEUDO_MM_SHARED);
    map_all();
    const pid_t pid = child_start();
    if (pid == 0) {
        pid_t number = 0;
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, report_thread, &number), 0);
        while (!__atomic_load_n(&number, __ATOMIC_SEQ_CST)) sleep_ms(1);
        syscall(SYS_exit, 0);
    }
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (const double deadline = now() + 10; !strstr(text, ") Z "); sleep_ms(1))
        CHECK(now() < deadline && read_text(path, text, sizeof text), "%s", text);
    CHECK_ERRNO(call_attach(fd, pid, NULL), ESRCH);
    siginfo_t info = {0};
    CHECK_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
    CHECK_EQ(info.si_pid, 0); /* it has not ended */
    CHECK_OK(kill(pid, SIGKILL));
    child_killed(pid, SIGKILL);
}

TEST(attach, failures_are_counted, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_SHARED);
    struct pseudo_mm_info before, after;
    CHECK_OK(call_info(device_fd, &before));
    expect_refused(fd, EFAULT, page_of(0, 0));
    map_all();
    expect_accepted(fd);
    CHECK_OK(call_info(device_fd, &after));
    CHECK_EQ(after.failed_attaches, before.failed_attaches + 1);
    CHECK_EQ(after.attaches, before.attaches + 1);
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.failed_attaches, 1);
    CHECK_EQ(stat.attaches, 1);
}

/* A mapping whose protection forbids everything still becomes whole. */
TEST(attach, protections, ATTACHED) {
    attacher_start();
    const int fd = make_template(PSEUDO_MM_COPIED);
    static const int protections[] = {PROT_NONE,
                                      PROT_READ,
                                      PROT_WRITE,
                                      PROT_EXEC,
                                      PROT_READ | PROT_EXEC,
                                      PROT_READ | PROT_WRITE | PROT_EXEC};
    for (size_t i = 0; i < sizeof protections / sizeof *protections; i++) {
        map_at(memory, EXTENTS * DISTANCE, protections[i], MAP_PRIVATE | MAP_ANONYMOUS, -1);
        CHECK_OK(attach_here(fd, NULL));
        CHECK_OK(mprotect(memory, EXTENTS * DISTANCE * PAGE, PROT_READ | PROT_WRITE));
        for (uint64_t e = 0; e < EXTENTS; e++)
            for (uint64_t page = 0; page < DISTANCE; page++)
                CHECK(page < PAGES ? page_is(page_of(e, page), common_pool.seed, e * 10 + page)
                                   : page_is_zero(page_of(e, page)),
                      "protection %d extent %d page %d", protections[i], (int)e, (int)page);
        for (uint64_t e = 0; e < EXTENTS; e++) page_of(e, 1)[7]++;
    }
}
