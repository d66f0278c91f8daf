// SPDX-License-Identifier: Apache-2.0
// mprotect, mremap, munmap and new mappings over template pages.
#include <signal.h>
#include <sys/mman.h>

#include "instance.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static struct instance instance;
static const uintptr_t elsewhere = 0x30000000000;

static void protect(enum area_name area, uint64_t first, uint64_t count, int protection) {
    CHECK_OK(mprotect(page_at(&instance, area, first), count * PAGE, protection));
}

static void protect_area(enum area_name area, int protection) {
    protect(area, 0, instance.area[area].pages, protection);
    instance.area[area].protection = protection;
}

static void expect_store_refused(enum area_name area, uint64_t page) {
    int code = 0;
    CHECK_EQ(probe_write(page_at(&instance, area, page), &code), SIGSEGV);
    CHECK_EQ(code, SEGV_ACCERR);
}

TEST(mprotect, take_write_away, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 1, 4, 10);
    protect_area(AREA_RW, PROT_READ);
    for (uint64_t page = 0; page < 64; page += 3) expect_store_refused(AREA_RW, page);
    instance_check(&instance);
    protect_area(AREA_RW, PROT_READ | PROT_WRITE);
    instance_check(&instance);
    write_marks(&instance, 0, 3, 500);
    instance_check(&instance);
}

TEST(mprotect, give_write, EVERY_MODE) {
    instance_setup(&instance);
    protect_area(AREA_RO, PROT_READ | PROT_WRITE);
    instance_check(&instance);
    write_marks(&instance, 0, 2, 10);
    instance_check(&instance);
    protect_area(AREA_RO, PROT_READ);
    expect_store_refused(AREA_RO, 0);
    expect_store_refused(AREA_RO, 1);
    instance_check(&instance);
}

TEST(mprotect, no_access_and_back, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 2, 4, 10);
    protect_area(AREA_RW, PROT_NONE);
    int code = 0;
    for (uint64_t page = 0; page < 64; page += 5) {
        CHECK_EQ(probe_read(page_at(&instance, AREA_RW, page), &code), SIGSEGV);
        CHECK_EQ(code, SEGV_ACCERR);
    }
    instance_check(&instance);
    protect_area(AREA_RW, PROT_READ | PROT_WRITE);
    instance_check(&instance);
}

TEST(mprotect, open_closed_area, EVERY_MODE) {
    instance_setup(&instance);
    protect_area(AREA_NONE, PROT_READ | PROT_WRITE);
    instance_check(&instance);
    write_marks(&instance, 0, 2, 10);
    instance_check(&instance);
}

static int call(uint64_t page) {
    int result = 0, code = 0;
    CHECK_EQ(probe_call(page_at(&instance, AREA_RX, page), &result, &code), 0);
    return result;
}

TEST(mprotect, patch_code, EVERY_MODE) {
    instance_setup(&instance);
    protect_area(AREA_RX, PROT_READ | PROT_WRITE);
    int code = 0, result = 0;
    CHECK_EQ(probe_call(page_at(&instance, AREA_RX, 0), &result, &code), SIGSEGV);
    for (uint64_t page = 0; page < 2; page++) {
        const uint8_t old = ((uint8_t*)page_at(&instance, AREA_RX, page))[1];
        write_byte(&instance, AREA_RX, page, 1, (uint8_t)(old + 1));
    }
    protect_area(AREA_RX, PROT_READ | PROT_EXEC);
    for (uint64_t page = 0; page < 3; page++) {
        const int old = code_result(common_pool.seed, page * 64 + 63);
        CHECK_EQ(call(page), page == 2 ? old : (old & ~0xff) | ((old + 1) & 0xff));
    }
    instance_check(&instance);
}

TEST(mprotect, write_and_execute, EVERY_MODE) {
    instance_setup(&instance);
    protect_area(AREA_RX, PROT_READ | PROT_WRITE | PROT_EXEC);
    for (uint64_t page = 0; page < 3; page++)
        CHECK_EQ(call(page), code_result(common_pool.seed, page * 64 + 63));
    write_byte(&instance, AREA_RX, 0, 100, 1);
    CHECK_EQ(call(0), code_result(common_pool.seed, 63));
    instance_check(&instance);
}

TEST(mprotect, parts, EVERY_MODE) {
    instance_setup(&instance);
    for (uint64_t page = 3; page < 60; page += 10) {
        protect(AREA_RW, page, 3, PROT_READ);
        expect_store_refused(AREA_RW, page);
        expect_store_refused(AREA_RW, page + 2);
        write_mark(&instance, AREA_RW, page + 3, page);
    }
    protect(AREA_BIG, 100, 300, PROT_READ);
    expect_store_refused(AREA_BIG, 399);
    instance_check(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        expect_store_refused(AREA_RW, 3);
        child_end();
    }
    child_join(pid);
    protect(AREA_RW, 0, 64, PROT_READ | PROT_WRITE);
    protect(AREA_BIG, 0, 768, PROT_READ | PROT_WRITE);
    write_marks(&instance, 0, 2, 9000);
    instance_check(&instance);
}

static void move_to(enum area_name area, uintptr_t address) {
    const uint64_t length = instance.area[area].pages * PAGE;
    CHECK(mremap(page_at(&instance, area, 0), length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
                 (void*)address) == (void*)address,
          "%s", strerror(errno));
    int code = 0;
    CHECK_EQ(probe_read(page_at(&instance, area, 0), &code), SIGSEGV);
    CHECK_EQ(code, SEGV_MAPERR);
    instance.area[area].address = address;
}

TEST(mremap, move, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 1, 6, 10);
    move_to(AREA_RW, elsewhere);
    move_to(AREA_RO, elsewhere + 0x1000000);
    move_to(AREA_RX, elsewhere + 0x2000000);
    move_to(AREA_NONE, elsewhere + 0x3000000);
    move_to(AREA_BIG, elsewhere + 0x4000000);
    instance_check(&instance);
    write_marks(&instance, 0, 5, 900);
    instance_check(&instance);
    move_to(AREA_BIG, elsewhere + 0x5001000); /* no longer aligned */
    instance_check(&instance);
}

static void expect_gone(enum area_name area, uint64_t page) {
    int code = 0;
    CHECK_EQ(probe_read(page_at(&instance, area, page), &code), SIGSEGV);
    CHECK_EQ(code, SEGV_MAPERR);
}

TEST(mremap, move_part, EVERY_MODE) {
    instance_setup(&instance);
    char* const target = (char*)elsewhere;
    CHECK(mremap(page_at(&instance, AREA_RW, 10), 30 * PAGE, 30 * PAGE,
                 MREMAP_MAYMOVE | MREMAP_FIXED, target) == target,
          "%s", strerror(errno));
    uint64_t expected[PAGE / 8];
    for (uint64_t page = 0; page < 30; page++) {
        expected_page(&instance, AREA_RW, 10 + page, expected);
        CHECK(memcmp(target + page * PAGE, expected, PAGE) == 0, "page %d", (int)page);
    }
    record_pages(&instance, AREA_RW, 10, 30, CONTENT_GONE, 0);
    expect_gone(AREA_RW, 10);
    expect_gone(AREA_RW, 39);
    instance_check(&instance);
    fill_mark(target, 1);
    write_marks(&instance, 0, 2, 60);
    instance_check(&instance);
}

TEST(mremap, grow_in_place, ANONYMOUS) {
    instance_setup(&instance);
    CHECK(mremap(page_at(&instance, AREA_RW, 0), 64 * PAGE, 96 * PAGE, 0) ==
              page_at(&instance, AREA_RW, 0),
          "%s", strerror(errno));
    instance.area[AREA_RW].pages = 96;
    CHECK(mremap(page_at(&instance, AREA_RO, 0), 16 * PAGE, 20 * PAGE, 0) ==
              page_at(&instance, AREA_RO, 0),
          "%s", strerror(errno));
    instance.area[AREA_RO].pages = 20;
    instance_check(&instance);
    write_marks(&instance, 1, 3, 70);
    instance_check(&instance);
}

TEST(mremap, grow_and_move, ANONYMOUS) {
    instance_setup(&instance);
    char* const obstacle = page_at(&instance, AREA_RW, 64);
    CHECK(mmap(obstacle, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
               0) == obstacle,
          "%s", strerror(errno));
    CHECK(mremap(page_at(&instance, AREA_RW, 0), 64 * PAGE, 100 * PAGE, 0) == MAP_FAILED &&
              errno == ENOMEM,
          "grew over another mapping");
    void* const moved =
        mremap(page_at(&instance, AREA_RW, 0), 64 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED, "%s", strerror(errno));
    instance.area[AREA_RW].address = (uintptr_t)moved;
    instance.area[AREA_RW].pages = 100;
    instance_check(&instance);
    write_marks(&instance, 2, 3, 70);
    instance_check(&instance);
}

TEST(mremap, shrink_and_grow, ANONYMOUS) {
    instance_setup(&instance);
    void* const start = page_at(&instance, AREA_RW, 0);
    CHECK(mremap(start, 64 * PAGE, 10 * PAGE, 0) == start, "%s", strerror(errno));
    expect_gone(AREA_RW, 10);
    CHECK(mremap(start, 10 * PAGE, 64 * PAGE, 0) == start, "%s", strerror(errno));
    record_pages(&instance, AREA_RW, 10, 54, CONTENT_ZERO, 0);
    instance_check(&instance);
}

TEST(mremap, leave_old_range, ANONYMOUS) {
    instance_setup(&instance);
    write_marks(&instance, 0, 4, 40);
    char* const target = (char*)elsewhere;
    CHECK(mremap(page_at(&instance, AREA_RW, 0), 64 * PAGE, 64 * PAGE,
                 MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, target) == target,
          "%s", strerror(errno));
    for (uint64_t page = 0; page < 64; page++) {
        uint64_t expected[PAGE / 8];
        expected_page(&instance, AREA_RW, page, expected);
        CHECK(memcmp(target + page * PAGE, expected, PAGE) == 0, "page %d", (int)page);
    }
    record_pages(&instance, AREA_RW, 0, 64, CONTENT_ZERO, 0);
    instance_check(&instance);
}

TEST(munmap, holes, EVERY_MODE) {
    instance_setup(&instance);
    for (uint64_t page = 2; page < 60; page += 9) {
        CHECK_OK(munmap(page_at(&instance, AREA_RW, page), 2 * PAGE));
        record_pages(&instance, AREA_RW, page, 2, CONTENT_GONE, 0);
        expect_gone(AREA_RW, page);
        expect_gone(AREA_RW, page + 1);
    }
    CHECK_OK(munmap(page_at(&instance, AREA_BIG, 150), 200 * PAGE));
    record_pages(&instance, AREA_BIG, 150, 200, CONTENT_GONE, 0);
    instance_check(&instance);
    write_marks(&instance, 0, 2, 60);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        expect_gone(AREA_BIG, 150);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

TEST(munmap, all_but_one_page, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(munmap(page_at(&instance, AREA_RW, 0), 5 * PAGE));
    CHECK_OK(munmap(page_at(&instance, AREA_RW, 6), 58 * PAGE));
    record_pages(&instance, AREA_RW, 0, 5, CONTENT_GONE, 0);
    record_pages(&instance, AREA_RW, 6, 58, CONTENT_GONE, 0);
    instance_check(&instance);
    write_mark(&instance, AREA_RW, 5, 1);
    instance_check(&instance);
}

TEST(munmap, new_mapping_in_hole, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(munmap(page_at(&instance, AREA_RW, 4), 8 * PAGE));
    void* const hole = page_at(&instance, AREA_RW, 4);
    CHECK(mmap(hole, 8 * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == hole,
          "%s", strerror(errno));
    record_pages(&instance, AREA_RW, 4, 8, CONTENT_ZERO, 0);
    instance_check(&instance);
    write_marks(&instance, 0, 2, 60);
    instance_check(&instance);
}

TEST(munmap, mapping_over, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 3, 60);
    void* const over = page_at(&instance, AREA_RW, 7);
    CHECK(mmap(over, 30 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) == over,
          "%s", strerror(errno));
    record_pages(&instance, AREA_RW, 7, 30, CONTENT_ZERO, 0);
    instance_check(&instance);
    write_marks(&instance, 1, 3, 90);
    instance_check(&instance);
}
