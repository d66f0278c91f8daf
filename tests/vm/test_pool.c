// SPDX-License-Identifier: Apache-2.0
// POOL: which memory it takes, and which it refuses.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pages.h"

static int make(void* memory, size_t length, uint32_t flags) {
    const struct pseudo_mm_range range = {(uintptr_t)memory, length};
    return call_pool(device_fd, &range, 1, flags);
}

static void* map(size_t length, int protection, int flags, int fd) {
    void* const memory = mmap(NULL, length, protection, flags, fd, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    return memory;
}

static void* anonymous(size_t length) {
    return map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* 8 pages of a memfd, written, mapped for writing and then sealed. */
static int memfd_with(int seals, void** memory) {
    const int fd = (int)CHECK_OK(memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(fd, 8 * PAGE));
    *memory = map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    for (uint64_t page = 0; page < 8; page++) fill_page((char*)*memory + page * PAGE, 5, page);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, seals));
    return fd;
}

TEST(pool, memfd_seals, MODE_API, .sources = SOURCE_MEMFD) {
    static const struct {
        int seals;
        bool enough;
    } cases[] = {
        {F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, true},
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, true},
        {0, false},
        {F_SEAL_SHRINK, false},
        {F_SEAL_GROW, false},
        {F_SEAL_FUTURE_WRITE, false},
        {F_SEAL_SHRINK | F_SEAL_GROW, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void* memory;
        const int fd = memfd_with(cases[i].seals, &memory);
        if (cases[i].enough) {
            struct pool pool = {
                .seed = 5, .pages = 8, .fd = (int)CHECK_OK(make(memory, 8 * PAGE, 0)), .file = -1};
            CHECK(!pool_verify(&pool), "%s", pool_verify(&pool));
            close(pool.fd);
        } else {
            CHECK_ERRNO(make(memory, 8 * PAGE, 0), EPERM);
        }
        munmap(memory, 8 * PAGE);
        close(fd);
    }
    /* What pool_open makes is F_SEAL_WRITE and a read-only mapping. */
    struct pool pool;
    pool_open(&pool, 8, 5);
    CHECK(!pool_verify(&pool), "%s", pool_verify(&pool));
}

TEST(pool, sealed_memfd_cannot_shrink, MODE_API, .sources = SOURCE_MEMFD) {
    void* memory;
    const int fd = memfd_with(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, &memory);
    struct pool pool = {
        .seed = 5, .pages = 8, .fd = (int)CHECK_OK(make(memory, 8 * PAGE, 0)), .file = -1};
    CHECK_ERRNO(ftruncate(fd, 0), EPERM);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 * PAGE), EPERM);
    CHECK(madvise(memory, 8 * PAGE, MADV_REMOVE) == -1, "holes can be made");
    CHECK(!pool_verify(&pool), "%s", pool_verify(&pool));
}

/* Pages come in the order of the ranges, and a range may come twice. */
TEST(pool, ranges_in_order, MODE_API) {
    struct pool whole;
    pool_open_source(&whole, 16, 7);
    char* const start = whole.map;
    const struct pseudo_mm_range ranges[] = {
        {(uintptr_t)start + 8 * PAGE, 4 * PAGE},
        {(uintptr_t)start, 2 * PAGE},
        {(uintptr_t)start + 15 * PAGE, PAGE},
        {(uintptr_t)start, 2 * PAGE},
    };
    static const uint64_t expected[] = {8, 9, 10, 11, 0, 1, 15, 0, 1};
    const int fd = (int)CHECK_OK(
        call_pool(device_fd, ranges, 4, options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0));
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.pages, 9);
    CHECK_EQ(stat.owned_pages, options.source == SOURCE_COPY ? 9 : 0);
    CHECK_EQ(stat.templates, 0);
    const uintptr_t address = 0x30000000000;
    const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = 9};
    const int template_fd = template_of(fd, &extent, 1);
    const char* const memory = mmap((void*)address, 9 * PAGE, PROT_READ,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    CHECK_OK(call_attach(template_fd, 0, NULL));
    for (int i = 0; i < 9; i++)
        CHECK(page_is(memory + i * PAGE, 7, expected[i]), "page %d of the pool", i);
}

TEST(pool, many_ranges, MODE_API) {
    enum { COUNT = 3000 };
    struct pool whole;
    pool_open_source(&whole, 16, 7);
    static struct pseudo_mm_range ranges[COUNT];
    for (int i = 0; i < COUNT; i++)
        ranges[i] =
            (struct pseudo_mm_range){(uintptr_t)whole.map + (size_t)(i * 7 % 16) * PAGE, PAGE};
    const int fd = (int)CHECK_OK(call_pool(
        device_fd, ranges, COUNT, options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0));
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.pages, COUNT);
}

TEST(pool, copy_is_independent, MODE_API, .sources = SOURCE_COPY) {
    char* const memory = anonymous(8 * PAGE);
    for (uint64_t page = 0; page < 8; page++) fill_page(memory + page * PAGE, 5, page);
    struct pool pool = {.seed = 5,
                        .pages = 8,
                        .fd = (int)CHECK_OK(make(memory, 8 * PAGE, PSEUDO_MM_POOL_COPY)),
                        .file = -1};
    memset(memory, 0xee, 8 * PAGE);
    CHECK(!pool_verify(&pool), "%s", pool_verify(&pool));
    munmap(memory, 8 * PAGE);
    CHECK(!pool_verify(&pool), "%s", pool_verify(&pool));
}

/* "Any readable memory": of a file, read-only, shared, never touched. */
TEST(pool, copy_of_anything, MODE_API, .sources = SOURCE_COPY) {
    const int exe = (int)CHECK_OK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    close((int)CHECK_OK(
        make(map(4 * PAGE, PROT_READ, MAP_PRIVATE, exe), 4 * PAGE, PSEUDO_MM_POOL_COPY)));
    close((int)CHECK_OK(make(anonymous(4 * PAGE), 4 * PAGE, PSEUDO_MM_POOL_COPY)));
    void* memory;
    memfd_with(0, &memory);
    close((int)CHECK_OK(make(memory, 8 * PAGE, PSEUDO_MM_POOL_COPY)));
    CHECK_ERRNO(
        make(map(PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1), PAGE, PSEUDO_MM_POOL_COPY),
        EFAULT);
}

TEST(pool, bad_ranges, MODE_API) {
    struct pool pool;
    pool_open_source(&pool, 8, 5);
    const uint32_t flags = options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0;
    char* const good = pool.map;
    const struct pseudo_mm_range range = {(uintptr_t)good, PAGE};
    CHECK_ERRNO(call_pool(device_fd, &range, 0, flags), EINVAL);
    CHECK_ERRNO(call_pool(device_fd, NULL, 0, flags), EINVAL);
    CHECK_ERRNO(call_pool(device_fd, &range, PSEUDO_MM_MAX_RANGES + 1, flags), EINVAL);
    CHECK_ERRNO(call_pool(device_fd, &range, UINT32_MAX, flags), EINVAL);
    CHECK_ERRNO(call_pool(device_fd, NULL, 1, flags), EFAULT);
    CHECK_ERRNO(call_pool(device_fd, (void*)0xffff888000000000, 1, flags), EFAULT);
    CHECK_ERRNO(make(good, 0, flags), EINVAL);
    CHECK_ERRNO(make(good, PAGE + 1, flags), EINVAL);
    CHECK_ERRNO(make(good, 100, flags), EINVAL);
    CHECK_ERRNO(make(good + 1, PAGE, flags), EINVAL);
    CHECK_ERRNO(make(good + 512, PAGE, flags), EINVAL);
    CHECK_ERRNO(make((void*)0xffff888000000000, PAGE, flags), EFAULT);
    CHECK_ERRNO(make((void*)(uintptr_t)-PAGE, PAGE, flags), EFAULT);
    CHECK_ERRNO(make(good, -(size_t)PAGE, flags), EFAULT);
    CHECK_ERRNO(make((void*)0x300000000000, PAGE, flags), EFAULT);
    /* The good part of a call that fails is given back: the runner looks. */
    const struct pseudo_mm_range half[] = {{(uintptr_t)good, 8 * PAGE}, {0x300000000000, PAGE}};
    CHECK_ERRNO(call_pool(device_fd, half, 2, flags), EFAULT);
    char* const cut = anonymous(8 * PAGE);
    CHECK_OK(munmap(cut + 4 * PAGE, 4 * PAGE));
    if (flags) CHECK_ERRNO(make(cut, 8 * PAGE, flags), EFAULT);
    close((int)CHECK_OK(make(good, PAGE, flags)));
}

TEST(pool, other_memory, MODE_API, .sources = SOURCE_MEMFD | SOURCE_DAX) {
    char* const private = anonymous(4 * PAGE);
    CHECK_ERRNO(make(private, 4 * PAGE, 0), EOPNOTSUPP);
    memset(private, 1, 4 * PAGE);
    CHECK_ERRNO(make(private, 4 * PAGE, 0), EOPNOTSUPP);
    /* Shared anonymous memory is a memfd without seals in all but name. */
    void* const shared = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    CHECK(make(shared, PAGE, 0) == -1 && (errno == EOPNOTSUPP || errno == EPERM), "%s",
          strerror(errno));
    void* sealed;
    const int fd = memfd_with(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, &sealed);
    CHECK_ERRNO(make(map(PAGE, PROT_READ, MAP_PRIVATE, fd), PAGE, 0), EOPNOTSUPP);
    CHECK_ERRNO(make(map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd), PAGE, 0), EOPNOTSUPP);
    const int exe = (int)CHECK_OK(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    CHECK_ERRNO(make(map(PAGE, PROT_READ, MAP_SHARED, exe), PAGE, 0), EOPNOTSUPP);
    CHECK_ERRNO(make(map(PAGE, PROT_READ, MAP_PRIVATE, exe), PAGE, 0), EOPNOTSUPP);
    /* A good range before a bad one. */
    const struct pseudo_mm_range mixed[] = {{(uintptr_t)sealed, 8 * PAGE},
                                            {(uintptr_t)private, PAGE}};
    CHECK_ERRNO(call_pool(device_fd, mixed, 2, 0), EOPNOTSUPP);
    if (options.source == SOURCE_DAX) {
        struct pool dax;
        pool_open_source(&dax, 8, 1);
        const struct pseudo_mm_range both[] = {{(uintptr_t)dax.map, PAGE},
                                               {(uintptr_t)sealed, PAGE}};
        CHECK_ERRNO(call_pool(device_fd, both, 2, 0), EOPNOTSUPP);
    }
    /* The kernel's own mappings. */
    char line[512];
    FILE* const maps = fopen("/proc/self/maps", "re");
    CHECK(maps, "%s", strerror(errno));
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vvar]") || strstr(line, "[vdso]")) {
            void* const start = (void*)strtoul(line, NULL, 16);
            CHECK_ERRNO(make(start, PAGE, 0), EOPNOTSUPP);
        }
    fclose(maps);
}

TEST(pool, huge_page_file, MODE_API, .sources = SOURCE_MEMFD) {
    static const char path[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    char old[32];
    if (!read_text(path, old, sizeof old)) skip("no hugetlbfs");
    if (strtol(old, NULL, 10) < 2 && !write_text(path, "2")) skip("no huge pages");
    const int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING);
    void* memory = MAP_FAILED;
    if (fd != -1 && ftruncate(fd, HUGE_PAGE) == 0)
        memory = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        write_text(path, old);
        skip("no huge page: %s", strerror(errno));
    }
    memset(memory, 1, HUGE_PAGE);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE));
    const int result = make(memory, HUGE_PAGE, 0), error = errno;
    munmap(memory, HUGE_PAGE);
    close(fd);
    write_text(path, old);
    CHECK(result == -1 && error == EOPNOTSUPP, "%d, %s", result, strerror(error));
}

TEST(pool, damaged_page, MODE_API, .sources = SOURCE_MEMFD) {
    void* memory;
    memfd_with(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, &memory);
    /* In a child: some kernels kill who asks for it. */
    const pid_t child = fork();
    CHECK(child >= 0, "%s", strerror(errno));
    if (child == 0) _exit(madvise((char*)memory + 3 * PAGE, PAGE, MADV_HWPOISON) == 0 ? 0 : errno);
    int status;
    CHECK(waitpid(child, &status, 0) == child, "%s", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        skip("MADV_HWPOISON: %s", strerror(WEXITSTATUS(status)));
    CHECK_ERRNO(make(memory, 8 * PAGE, 0), EIO);
    close((int)CHECK_OK(make(memory, 3 * PAGE, 0)));
}

TEST(pool, stat, MODE_API) {
    struct pool pool;
    pool_open(&pool, 16, 5);
    struct pseudo_mm_stat stat = {.first_page = 4, .nr_pages = 5};
    CHECK_OK(call_stat(pool.fd, &stat));
    CHECK_EQ(stat.pages, 5);
    CHECK_EQ(stat.first_page, 4);
    CHECK_EQ(stat.nr_pages, 5);
    static const uint64_t outside[][2] = {{16, 1},         {15, 2},         {0, 17},
                                          {UINT64_MAX, 1}, {1, UINT64_MAX}, {4, 0}};
    for (int i = 0; i < 6; i++) {
        struct pseudo_mm_stat wrong = {.first_page = outside[i][0], .nr_pages = outside[i][1]};
        CHECK_ERRNO(call_stat(pool.fd, &wrong), EINVAL);
    }
    /* References appear with an attach and go with the memory. */
    pool_close_source(&pool);
    const uintptr_t address = 0x30000000000;
    const struct pseudo_mm_extent extent = {.addr = address, .page = 4, .nr_pages = 5};
    const int fd = template_of(pool.fd, &extent, 1);
    char* const memory = mmap((void*)address, 5 * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    memory[0] = 1; /* so that ATTACH need not make a copy */
    stat = (struct pseudo_mm_stat){0};
    CHECK_OK(call_stat(pool.fd, &stat));
    CHECK_EQ(stat.live_references, 0);
    CHECK_OK(call_attach(fd, 0, NULL));
    stat = (struct pseudo_mm_stat){0};
    CHECK_OK(call_stat(pool.fd, &stat));
    /* Without ROLLBACK the page that is in the way is overwritten. */
    CHECK_EQ(stat.live_references, info().features & PSEUDO_MM_FEATURE_ROLLBACK ? 5 : 4);
    CHECK_EQ(stat.templates, 1);
    stat = (struct pseudo_mm_stat){.first_page = 5, .nr_pages = 2};
    CHECK_OK(call_stat(pool.fd, &stat));
    CHECK_EQ(stat.live_references, 2);
    memory[PAGE] = 1;
    stat = (struct pseudo_mm_stat){.first_page = 5, .nr_pages = 2};
    CHECK_OK(call_stat(pool.fd, &stat));
    CHECK_EQ(stat.live_references, 1);
    CHECK_OK(munmap(memory, 5 * PAGE));
    stat = (struct pseudo_mm_stat){0};
    CHECK_OK(call_stat(pool.fd, &stat));
    CHECK_EQ(stat.live_references, 0);
    close(fd);
}
