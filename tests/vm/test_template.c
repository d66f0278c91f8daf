// SPDX-License-Identifier: Apache-2.0
// TEMPLATE, ADD, SEAL, and STAT of a template.
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "pages.h"

static const uint64_t address = 0x30000000000;

static struct pseudo_mm_extent extent(uint64_t offset_pages, uint64_t page, uint64_t pages) {
    return (struct pseudo_mm_extent){
        .addr = address + offset_pages * PAGE, .page = page, .nr_pages = pages};
}

static uint64_t extents_of(int fd) {
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    return stat.extents;
}

/* One extent, wrong in the way that `change` makes it. */
#define EXPECT_ADD(error, ...)                         \
    do {                                               \
        struct pseudo_mm_extent one = extent(0, 0, 4); \
        __VA_ARGS__;                                   \
        CHECK_ERRNO(call_add(fd, &one, 1), error);     \
        CHECK_EQ(extents_of(fd), 0);                   \
    } while (0)

TEST(template, add_errors, MODE_API) {
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    EXPECT_ADD(EINVAL, one.addr += 1);
    EXPECT_ADD(EINVAL, one.addr += 2048);
    EXPECT_ADD(EINVAL, one.nr_pages = 0);
    EXPECT_ADD(EINVAL, one.kind = PSEUDO_MM_LAZY + 1);
    EXPECT_ADD(EINVAL, one.kind = UINT32_MAX);
    EXPECT_ADD(EINVAL, one.pad = 1);
    EXPECT_ADD(EINVAL, one.page = COMMON_POOL_PAGES);
    EXPECT_ADD(EINVAL, one.page = COMMON_POOL_PAGES - 3);
    EXPECT_ADD(EINVAL, one.page = UINT64_MAX);
    EXPECT_ADD(EINVAL, one.page = UINT64_MAX - 3);
    EXPECT_ADD(EINVAL, one.nr_pages = UINT64_MAX);
    EXPECT_ADD(EINVAL, one.nr_pages = 1ULL << 52);
    EXPECT_ADD(ERANGE, one.addr = 0xffff888000000000);
    EXPECT_ADD(ERANGE, one.addr = -(uint64_t)PAGE);
    EXPECT_ADD(ERANGE, one.addr = -4 * (uint64_t)PAGE);
    EXPECT_ADD(ERANGE, one.addr = 1ULL << 56);
    struct pseudo_mm_extent good = extent(0, 0, 4);
    CHECK_ERRNO(call_add(fd, &good, 0), EINVAL);
    CHECK_ERRNO(call_add(fd, &good, PSEUDO_MM_MAX_ADD + 1), EINVAL);
    CHECK_ERRNO(call_add(fd, NULL, 1), EFAULT);
    CHECK_ERRNO(call_add(fd, (void*)0xffff888000000000, 1), EFAULT);
    CHECK_OK(call_add(fd, &good, 1));
}

TEST(template, order, MODE_API) {
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    const struct pseudo_mm_extent first = extent(10, 0, 4);
    CHECK_OK(call_add(fd, &first, 1));
    CHECK_ERRNO(call_add(fd, &first, 1), EEXIST);
    const struct pseudo_mm_extent overlap = extent(13, 0, 4);
    CHECK_ERRNO(call_add(fd, &overlap, 1), EEXIST);
    const struct pseudo_mm_extent around = extent(9, 0, 8);
    CHECK_ERRNO(call_add(fd, &around, 1), EEXIST);
    const struct pseudo_mm_extent before = extent(2, 0, 4);
    CHECK_ERRNO(call_add(fd, &before, 1), EINVAL);
    const struct pseudo_mm_extent touching = extent(14, 0, 1);
    CHECK_OK(call_add(fd, &touching, 1));
    CHECK_EQ(extents_of(fd), 2);
    /* Inside one call: nothing of it is added. */
    const struct pseudo_mm_extent pairs[][2] = {
        {extent(20, 0, 4), extent(23, 0, 4)}, /* EEXIST */
        {extent(20, 0, 4), extent(20, 0, 4)}, /* EEXIST */
        {extent(40, 0, 4), extent(30, 0, 4)}, /* EINVAL */
        {extent(20, 0, 4), extent(30, 0, 0)}, /* EINVAL */
    };
    for (int i = 0; i < 4; i++) {
        if (i < 2)
            CHECK_ERRNO(call_add(fd, pairs[i], 2), EEXIST);
        else
            CHECK_ERRNO(call_add(fd, pairs[i], 2), EINVAL);
        CHECK_EQ(extents_of(fd), 2);
    }
    const struct pseudo_mm_extent good[] = {extent(20, 0, 4), extent(24, 9, 4)};
    CHECK_OK(call_add(fd, good, 2));
    CHECK_EQ(extents_of(fd), 4);
}

/* Nothing of a call is added if its list ends in memory that is not there. */
TEST(template, cut_list, MODE_API) {
    char* const memory =
        mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    CHECK_OK(munmap(memory + PAGE, PAGE));
    struct pseudo_mm_extent* const list = (void*)(memory + PAGE - 2 * sizeof *list);
    list[0] = extent(0, 0, 1);
    list[1] = extent(1, 0, 1);
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    CHECK_ERRNO(call_add(fd, list, 3), EFAULT);
    CHECK_EQ(extents_of(fd), 0);
    CHECK_OK(call_add(fd, list, 2));
}

TEST(template, seal, MODE_API) {
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    CHECK_ERRNO(call_seal(fd), EINVAL);
    struct pseudo_mm_extent one = extent(0, 0, 4);
    CHECK_OK(call_add(fd, &one, 1));
    CHECK_ERRNO(call_attach(fd, 0, NULL), EBADFD);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)address) == MAP_FAILED, "mapped");
    CHECK_EQ(errno, EBADFD);
    CHECK_OK(call_seal(fd));
    CHECK_ERRNO(call_seal(fd), EROFS);
    one = extent(100, 0, 4);
    CHECK_ERRNO(call_add(fd, &one, 1), EROFS);
    CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, (off_t)address) == MAP_FAILED, "mapped");
    CHECK_EQ(errno, EINVAL);
    CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)address) == MAP_FAILED,
          "mapped");
    CHECK_EQ(errno, EINVAL);
    void* const memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)address);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.lazy_regions, 1);
    CHECK_OK(munmap(memory, PAGE));
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.lazy_regions, 0);
    CHECK_EQ(stat.extents, 1);
    CHECK_EQ(stat.pages, 4);
    CHECK_EQ(stat.pages_shared, 4);
}

TEST(template, stat_takes_no_range, MODE_API) {
    const struct pseudo_mm_extent one = extent(0, 0, 4);
    const int fd = template_of(common_pool.fd, &one, 1);
    struct pseudo_mm_stat stat = {.first_page = 1};
    CHECK_ERRNO(call_stat(fd, &stat), EINVAL);
    stat = (struct pseudo_mm_stat){.nr_pages = 1};
    CHECK_ERRNO(call_stat(fd, &stat), EINVAL);
}

TEST(template, many_extents, MODE_API) {
    enum { COUNT = 20000 };
    static struct pseudo_mm_extent list[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        list[i] = extent(i * 2, i % COMMON_POOL_PAGES, 1);
        list[i].kind = i % 3 == 0 ? PSEUDO_MM_COPIED : PSEUDO_MM_SHARED;
    }
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    /* In calls of all sizes. */
    for (uint32_t done = 0, size = 1; done < COUNT; done += size, size = size * 2 + 1) {
        if (size > COUNT - done) size = COUNT - done;
        CHECK_OK(call_add(fd, list + done, size));
    }
    CHECK_OK(call_seal(fd));
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(fd, &stat));
    CHECK_EQ(stat.extents, COUNT);
    CHECK_EQ(stat.pages, COUNT);
    CHECK_EQ(stat.pages_copied, (COUNT + 2) / 3);
    char* const memory = mmap((void*)address, COUNT * 2 * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    CHECK_OK(call_attach(fd, 0, NULL));
    for (uint64_t i = 0; i < COUNT; i += 97) {
        CHECK(page_is(memory + i * 2 * PAGE, common_pool.seed, i % COMMON_POOL_PAGES), "extent %d",
              (int)i);
        CHECK(page_is_zero(memory + (i * 2 + 1) * PAGE), "hole %d", (int)i);
    }
}

/* An extent at the lowest and at the highest address a process can have. */
TEST(template, ends_of_the_address_space, MODE_API) {
    const uint64_t last = (1ULL << 47) - 2 * PAGE;
    const struct pseudo_mm_extent list[] = {{.addr = 0, .page = 1, .nr_pages = 1},
                                            {.addr = 16 * PAGE, .page = 2, .nr_pages = 1},
                                            {.addr = last, .page = 3, .nr_pages = 1}};
    struct pseudo_mm_attach result;
    const int all = template_of(common_pool.fd, list, 3);
    CHECK_ERRNO(call_attach(all, 0, &result), EFAULT);
    CHECK_EQ(result.error_addr, 0);
    const int ends = template_of(common_pool.fd, list + 1, 2);
    char* const low = mmap((void*)list[1].addr, PAGE, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (low == MAP_FAILED) skip("mmap_min_addr is above 64 KiB");
    char* const high = mmap((void*)last, PAGE, PROT_READ,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(high != MAP_FAILED, "%s", strerror(errno));
    CHECK_OK(call_attach(ends, 0, &result));
    CHECK(page_is(low, common_pool.seed, 2), "the lowest page");
    CHECK(page_is(high, common_pool.seed, 3), "the highest page");
}
