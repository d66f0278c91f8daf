// SPDX-License-Identifier: Apache-2.0
// What a process sees of a template, and who else sees what it writes.
#include <signal.h>
#include <sys/mman.h>

#include "instance.h"

static struct instance instance, other;

TEST(contents, pristine, EVERY_MODE) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    instance_check(&instance);
}

TEST(contents, dirty, ANONYMOUS) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, true);
    instance_check(&instance);
}

TEST(contents, huge_page_before, ANONYMOUS) {
    attacher_start();
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    instance_map(&instance);
    instance_dirty(&instance);
    char text[1 << 16];
    CHECK(read_text("/proc/self/smaps_rollup", text, sizeof text), "smaps_rollup");
    if (number_after(text, "AnonHugePages:") < 2048) skip("no transparent huge page was given");
    CHECK_OK(instance_attach(&instance));
    instance_check(&instance);
    write_marks(&instance, 0, 2, 500);
    instance_check(&instance);
}

/* Read first: the huge page before it is the one of zeros. */
TEST(contents, huge_zero_page_before, ANONYMOUS) {
    attacher_start();
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    instance_map(&instance);
    CHECK_OK(madvise(page_at(&instance, AREA_BIG, 0), AREA_MAX_PAGES * PAGE, MADV_HUGEPAGE));
    (void)*(volatile char*)page_at(&instance, AREA_BIG, 100);
    CHECK_OK(instance_attach(&instance));
    instance_check(&instance);
    write_marks(&instance, 0, 2, 500);
    instance_check(&instance);
}

TEST(contents, attach_twice, EVERY_MODE) {
    instance_setup(&instance);
    if (current_mode == MODE_LAZY) {
        /* What has been delivered is not delivered again; eager extents are inserted anew. */
        CHECK_OK(instance_attach(&instance));
        instance_check(&instance);
        return;
    }
    write_marks(&instance, 0, 3, 900);
    instance_check(&instance);
    CHECK_OK(instance_attach(&instance));
    instance_check(&instance);
}

TEST(contents, write_every_page, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 1, 4000);
    instance_check(&instance);
}

TEST(contents, write_some_pages, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 1, 2, 4000);
    instance_check(&instance);
    write_marks(&instance, 0, 3, 9000);
    instance_check(&instance);
}

TEST(contents, write_one_byte, EVERY_MODE) {
    instance_setup(&instance);
    for (uint64_t page = 0; page < 64; page++)
        write_byte(&instance, AREA_RW, page, (uint16_t)(page * 67 % PAGE), (uint8_t)(page + 1));
    write_byte(&instance, AREA_BIG, 511, PAGE - 1, 17);
    write_byte(&instance, AREA_BIG, 512, 0, 18);
    instance_check(&instance);
}

TEST(contents, write_before_read, EVERY_MODE) {
    instance_setup(&instance);
    /* A store of the kernel and a locked instruction reach the page first. */
    uint64_t* const word = page_at(&instance, AREA_RW, 3);
    uint64_t expected[PAGE / 8];
    expected_page(&instance, AREA_RW, 3, expected);
    CHECK_EQ(__atomic_fetch_add(&word[5], 0x100, __ATOMIC_SEQ_CST), expected[5]);
    CHECK_EQ(word[5], expected[5] + 0x100);
    word[5] = expected[5];
    instance_check(&instance);
}

TEST(contents, execute, EVERY_MODE) {
    instance_setup(&instance);
    for (uint64_t page = 0; page < 3; page++) {
        int result = 0, code = 0;
        CHECK_EQ(probe_call(page_at(&instance, AREA_RX, page), &result, &code), 0);
        CHECK_EQ(result, code_result(common_pool.seed, page * 64 + 63));
    }
}

TEST(contents, protections, EVERY_MODE) {
    instance_setup(&instance);
    int code = 0, result = 0;
    static const enum area_name read_only[] = {AREA_RO, AREA_RX};
    for (int i = 0; i < 2; i++)
        for (uint64_t page = 0; page < 4; page++) {
            CHECK_EQ(probe_write(page_at(&instance, read_only[i], page), &code), SIGSEGV);
            CHECK_EQ(code, SEGV_ACCERR);
        }
    for (uint64_t page = 0; page < 8; page++) {
        CHECK_EQ(probe_read(page_at(&instance, AREA_NONE, page), &code), SIGSEGV);
        CHECK_EQ(code, SEGV_ACCERR);
        CHECK_EQ(probe_write(page_at(&instance, AREA_NONE, page), &code), SIGSEGV);
        CHECK_EQ(code, SEGV_ACCERR);
    }
    CHECK_EQ(probe_call(page_at(&instance, AREA_RO, 0), &result, &code), SIGSEGV);
    CHECK_EQ(code, SEGV_ACCERR);
    CHECK_EQ(probe_write(page_at(&instance, AREA_SPAN2, 0), &code), SIGSEGV);
    CHECK_EQ(code, SEGV_ACCERR);
    CHECK_EQ(probe_read((char*)page_at(&instance, AREA_RW, 63) + PAGE, &code), SIGSEGV);
    CHECK_EQ(code, SEGV_MAPERR);
    instance_check(&instance);
}

/* Two processes attach the same template; neither sees what the other writes. */
TEST(contents, two_instances, EVERY_MODE) {
    attacher_start();
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    struct barrier barrier;
    barrier_open(&barrier);
    pid_t children[2];
    for (int side = 0; side < 2; side++) {
        children[side] = child_start();
        if (children[side]) continue;
        instance_map(&instance);
        CHECK_OK(instance_attach(&instance));
        instance_check(&instance);
        barrier_signal(&barrier, side);
        barrier_wait(&barrier, side);
        write_marks(&instance, (uint64_t)side, 3, side ? 2000 : 1000);
        barrier_signal(&barrier, side);
        barrier_wait(&barrier, side);
        instance_check(&instance);
        child_end();
    }
    child_join(children[0]);
    child_join(children[1]);
}

/* Two templates in one process, at different addresses, of the same pool pages. */
TEST(contents, two_templates, ATTACHED) {
    instance_setup(&instance);
    const uintptr_t address = 0x30000000000;
    const struct pseudo_mm_extent extent = {
        .addr = address, .page = 5, .nr_pages = 20, .kind = PSEUDO_MM_SHARED};
    const int fd = template_of(common_pool.fd, &extent, 1);
    char* const memory = mmap((void*)address, 20 * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    CHECK_OK(attach_here(fd, NULL));
    for (uint64_t page = 0; page < 20; page++) {
        CHECK(page_is(memory + page * PAGE, common_pool.seed, 5 + page), "page %d", (int)page);
        if (page & 1) fill_mark(memory + page * PAGE, page);
    }
    instance_check(&instance);
    CHECK_OK(munmap(memory, 20 * PAGE));
    instance_check(&instance);
    close(fd);
}

/* The same pool page many times: what deduplication makes of equal pages. */
TEST(contents, one_page_many_times, ATTACHED) {
    attacher_start();
    enum { COUNT = 200 };
    const uintptr_t address = 0x30000000000;
    static struct pseudo_mm_extent extent[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        extent[i] =
            (struct pseudo_mm_extent){.addr = address + i * PAGE,
                                      .page = 9,
                                      .nr_pages = 1,
                                      .kind = i % 4 == 3 ? PSEUDO_MM_COPIED : PSEUDO_MM_SHARED};
    const int fd = template_of(common_pool.fd, extent, COUNT);
    char* const memory = mmap((void*)address, COUNT * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    CHECK_OK(attach_here(fd, NULL));
    for (uint64_t i = 0; i < COUNT; i += 2) fill_mark(memory + i * PAGE, i);
    char mark[PAGE];
    for (uint64_t i = 0; i < COUNT; i++) {
        fill_mark(mark, i);
        CHECK(i % 2 ? page_is(memory + i * PAGE, common_pool.seed, 9)
                    : memcmp(memory + i * PAGE, mark, PAGE) == 0,
              "page %d", (int)i);
    }
}

TEST(contents, result, ATTACHED | MODE_LAZY) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    uint64_t pages[3] = {0, 0, 0};
    for (uint32_t e = 0; e < instance.extents; e++)
        pages[instance.extent[e].kind] += instance.extent[e].nr_pages;
    const struct pseudo_mm_attach* const result = &instance.attach;
    /* Each mapping that nobody had written to costs a copy of one of its shared pages. */
    CHECK_EQ(result->pages_shared + result->pages_copied,
             pages[PSEUDO_MM_SHARED] + pages[PSEUDO_MM_COPIED]);
    CHECK(result->pages_copied >= pages[PSEUDO_MM_COPIED] &&
              result->pages_copied <= pages[PSEUDO_MM_COPIED] + AREAS,
          "%llu copied, the template has %llu and %d areas",
          (unsigned long long)result->pages_copied, (unsigned long long)pages[PSEUDO_MM_COPIED],
          AREAS);
    CHECK(result->nanoseconds > 0, "no time");
    struct pseudo_mm_stat stat = {0};
    CHECK_OK(call_stat(instance.template_fd, &stat));
    CHECK_EQ(stat.pages_shared, pages[PSEUDO_MM_SHARED]);
    CHECK_EQ(stat.pages_copied, pages[PSEUDO_MM_COPIED]);
    CHECK_EQ(stat.pages_lazy, pages[PSEUDO_MM_LAZY]);
    CHECK_EQ(stat.pages, pages[0] + pages[1] + pages[2]);
    CHECK_EQ(stat.extents, instance.extents);
    CHECK_EQ(stat.attaches, 1);
    CHECK_EQ(stat.failed_attaches, 0);
    CHECK_EQ(stat.templates, 1);
    CHECK_EQ(stat.attach_ns_total, result->nanoseconds);
    CHECK_EQ(stat.attach_ns_max, result->nanoseconds);
    CHECK(stat.live_references >= pages[PSEUDO_MM_SHARED] - AREAS, "%llu live references",
          (unsigned long long)stat.live_references);
}

/* Afterwards nothing tells the areas from others: no special flags, no file. */
TEST(contents, ordinary_mappings, ANONYMOUS) {
    instance_setup(&instance);
    const bool no_huge_pages = says_no_to_huge_pages();
    static char text[1 << 18];
    CHECK(read_text("/proc/self/smaps", text, sizeof text), "smaps");
    for (int a = 0; a < AREAS; a++) {
        if (a == AREA_HEAP || a == AREA_STACK) continue; /* more in the line, or a guard gap */
        char key[64];
        snprintf(key, sizeof key, "%llx-", (unsigned long long)instance.area[a].address);
        const char* const line = strstr(text, key);
        CHECK(line, "area %d is not in smaps", a);
        const char* const flags = strstr(line, "VmFlags:");
        CHECK(flags, "no VmFlags");
        const size_t length = strcspn(flags, "\n");
        CHECK(!memmem(flags, length, " mm", 3), "area %d: %.*s", a, (int)length, flags);
        CHECK(!memmem(flags, length, " io", 3), "area %d: %.*s", a, (int)length, flags);
        CHECK((memmem(flags, length, " nh", 3) != NULL) == no_huge_pages, "area %d: %.*s", a,
              (int)length, flags);
        CHECK(!memmem(line, strcspn(line, "\n"), "/", 1), "area %d is of a file", a);
    }
    /* New memory beside an area becomes part of it, as the kernel does with ordinary ones. */
    char* const next = page_at(&instance, AREA_RW, 64);
    CHECK(mmap(next, PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == next,
          "%s", strerror(errno));
    if (no_huge_pages) CHECK_OK(madvise(next, PAGE, MADV_NOHUGEPAGE));
    char merged[64];
    snprintf(merged, sizeof merged, "%llx-%llx ",
             (unsigned long long)instance.area[AREA_RW].address,
             (unsigned long long)(uintptr_t)next + PAGE);
    CHECK(read_text("/proc/self/maps", text, sizeof text), "maps");
    CHECK(strstr(text, merged), "the neighbour was not merged");
    CHECK(page_is_zero(next), "the neighbour is not zero");
    instance_check(&instance);
}

TEST(contents, heap_grows_and_shrinks, EVERY_MODE) {
    instance_setup(&instance);
    char* const end = page_at(&instance, AREA_HEAP, 16);
    CHECK(sbrk(4 * PAGE) == end, "brk moved");
    for (int page = 0; page < 4; page++) CHECK(page_is_zero(end + page * PAGE), "page %d", page);
    /* Down into the attached pages, and up again. */
    CHECK_OK(brk(page_at(&instance, AREA_HEAP, 6)));
    CHECK_OK(brk(end));
    record_pages(&instance, AREA_HEAP, 6, 10, CONTENT_ZERO, 0);
    instance_check(&instance);
    write_mark(&instance, AREA_HEAP, 7, 3);
    instance_check(&instance);
}

TEST(contents, stack_grows, EVERY_MODE) {
    instance_setup(&instance);
    volatile char* const below = (char*)page_at(&instance, AREA_STACK, 0) - 3 * PAGE;
    for (int page = 2; page >= 0; page--)
        CHECK(page_is_zero((const void*)(below + page * PAGE)), "page %d", page);
    below[0] = 1;
    write_mark(&instance, AREA_STACK, 5, 9);
    instance_check(&instance);
}

TEST(contents, exit_with_copies, ATTACHED | MODE_LAZY) {
    for (int i = 0; i < 4; i++) {
        const pid_t pid = child_start();
        if (pid == 0) {
            instance_setup(&other);
            write_marks(&other, (uint64_t)i, 4, 70);
            instance_check(&other);
            child_end();
        }
        child_join(pid);
    }
}
