// SPDX-License-Identifier: Apache-2.0
// The memory pools are made of, and what it contains.
#include "pages.h"

#include <fcntl.h>
#include <sys/mman.h>

struct pool common_pool = {.fd = -1, .file = -1};

enum { WORDS = PAGE / sizeof(uint64_t) };
static const uintptr_t scratch_address = 0x20000000000;

int code_result(uint64_t seed, uint64_t page) {
    return (int)(seed * 1000003 + page) & 0x7fffffff;
}

static void fill_words(uint64_t* words, uint64_t first, uint64_t step) {
    for (int i = 0; i < WORDS; i++, first += step) words[i] = first;
}

void fill_page(void* destination, uint64_t seed, uint64_t page) {
    fill_words(destination, (seed << 48 | page << 20) * 0x9e3779b97f4a7c15u + 1,
               0xd1342543de82ef95u);
    if (IS_CODE_PAGE(page)) {
        const int result = code_result(seed, page);
        unsigned char code[] = {0xb8, 0, 0, 0, 0, 0xc3, 0xcc, 0xcc}; /* mov $result,%eax; ret */
        memcpy(code + 1, &result, sizeof result);
        memcpy(destination, code, sizeof code);
    }
}

void fill_mark(void* destination, uint64_t tag) {
    fill_words(destination, tag * 0x2545f4914f6cdd1du + 2, 0xa0761d6478bd642fu);
}

bool page_is(const void* actual, uint64_t seed, uint64_t page) {
    uint64_t expected[WORDS];
    fill_page(expected, seed, page);
    return memcmp(actual, expected, PAGE) == 0;
}

bool page_is_zero(const void* actual) {
    static const char zeros[PAGE];
    return memcmp(actual, zeros, PAGE) == 0;
}

static void fill_pool(struct pool* pool) {
    for (uint64_t page = 0; page < pool->pages; page++)
        fill_page((char*)pool->map + page * PAGE, pool->seed, page);
}

static void open_memfd(struct pool* pool) {
    pool->file = (int)CHECK_OK(memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    CHECK_OK(ftruncate(pool->file, (off_t)pool->size));
    pool->map = mmap(NULL, pool->size, PROT_READ | PROT_WRITE, MAP_SHARED, pool->file, 0);
    CHECK(pool->map != MAP_FAILED, "%s", strerror(errno));
    fill_pool(pool);
    CHECK_OK(munmap(pool->map, pool->size));
    CHECK_OK(fcntl(pool->file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    /* Older kernels refuse shared mappings of a write-sealed file that is open for writing. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", pool->file);
    const int file = (int)CHECK_OK(open(path, O_RDONLY | O_CLOEXEC));
    close(pool->file);
    pool->file = file;
    pool->map = mmap(NULL, pool->size, PROT_READ, MAP_SHARED, pool->file, 0);
    CHECK(pool->map != MAP_FAILED, "%s", strerror(errno));
}

/* Pools that exist at the same time lie one behind the other; after a test all is free again. */
static void open_dax(struct pool* pool) {
    static off_t next;
    const size_t length = (pool->size + HUGE_PAGE - 1) & -(size_t)HUGE_PAGE;
    pool->file = (int)CHECK_OK(open(options.dax, O_RDWR | O_CLOEXEC));
    pool->map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, pool->file, next);
    CHECK(pool->map != MAP_FAILED, "%s", strerror(errno));
    next += (off_t)length;
    pool->size = length;
    fill_pool(pool);
}

static void open_anonymous(struct pool* pool) {
    pool->map = mmap(NULL, pool->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pool->map != MAP_FAILED, "%s", strerror(errno));
    fill_pool(pool);
}

void pool_open_source(struct pool* pool, uint64_t pages, uint64_t seed) {
    *pool = (struct pool){.source = options.source,
                          .seed = seed,
                          .pages = pages,
                          .fd = -1,
                          .file = -1,
                          .size = pages * PAGE};
    switch (options.source) {
        case SOURCE_MEMFD:
            open_memfd(pool);
            break;
        case SOURCE_COPY:
            open_anonymous(pool);
            break;
        case SOURCE_DAX:
            open_dax(pool);
            break;
    }
}

int pool_make(struct pool* pool) {
    const struct pseudo_mm_range range = {(uintptr_t)pool->map, pool->pages * PAGE};
    return pool->fd = call_pool(device_fd, &range, 1,
                                pool->source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0);
}

void pool_open(struct pool* pool, uint64_t pages, uint64_t seed) {
    if (current_mode == MODE_PLAIN) {
        *pool = (struct pool){.seed = seed, .pages = pages, .fd = -1, .file = -1};
        return;
    }
    pool_open_source(pool, pages, seed);
    CHECK_OK(pool_make(pool));
}

void pool_close_source(struct pool* pool) {
    if (pool->map) munmap(pool->map, pool->size);
    if (pool->file != -1) close(pool->file);
    pool->map = NULL;
    pool->file = -1;
}

void pool_close(struct pool* pool) {
    pool_close_source(pool);
    if (pool->fd != -1) close(pool->fd);
    pool->fd = -1;
}

const char* pool_verify(const struct pool* pool) {
    static char problem[128];
    const char* result = NULL;
    const size_t length = pool->pages * PAGE;
    const struct pseudo_mm_extent extent = {
        .addr = scratch_address, .nr_pages = pool->pages, .kind = PSEUDO_MM_SHARED};
    char* const memory = mmap((void*)scratch_address, length, PROT_READ,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory == MAP_FAILED) return "no scratch memory";
    const int fd = call_template(pool->fd);
    if (fd == -1 || call_add(fd, &extent, 1) || call_seal(fd) || call_attach(fd, 0, NULL)) {
        snprintf(problem, sizeof problem, "the pool cannot be attached: %s", strerror(errno));
        result = problem;
    }
    for (uint64_t page = 0; page < pool->pages && !result; page++) {
        if (page_is(memory + page * PAGE, pool->seed, page)) continue;
        snprintf(problem, sizeof problem, "page %llu of the pool was changed",
                 (unsigned long long)page);
        result = problem;
    }
    munmap(memory, length);
    if (fd != -1) close(fd);
    return result;
}
