// SPDX-License-Identifier: Apache-2.0
// mlock, mincore, page map, soft-dirty bits.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "instance.h"

static struct instance instance;

static uint64_t page_map(const void* address) {
    const int fd = (int)CHECK_OK(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    uint64_t entry = 0;
    CHECK_EQ(pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)address / PAGE * sizeof entry)),
             sizeof entry);
    close(fd);
    return entry;
}

static long long locked_kilobytes(void) {
    char text[8192];
    CHECK(read_text("/proc/self/status", text, sizeof text), "status");
    return number_after(text, "VmLck:");
}

TEST(memory, mlock, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 4, 30);
    CHECK_OK(mlock(page_at(&instance, AREA_RW, 0), 64 * PAGE));
    CHECK_OK(mlock(page_at(&instance, AREA_RO, 0), 16 * PAGE));
    CHECK_OK(mlock(page_at(&instance, AREA_BIG, 0), 768 * PAGE));
    /* The kernel accepts mlock() of lazy mappings, and ignores it. */
    CHECK(current_mode == MODE_LAZY || locked_kilobytes() >= (64 + 16 + 768) * 4, "%lld kB",
          locked_kilobytes());
    instance_check(&instance);
    write_marks(&instance, 1, 4, 90);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    CHECK_OK(munlock(page_at(&instance, AREA_RW, 0), 64 * PAGE));
    CHECK_OK(munlock(page_at(&instance, AREA_BIG, 0), 768 * PAGE));
    instance_check(&instance);
    write_marks(&instance, 2, 4, 150);
    instance_check(&instance);
}

TEST(memory, mlock_on_fault, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(mlock2(page_at(&instance, AREA_RW, 0), 64 * PAGE, MLOCK_ONFAULT));
    CHECK_OK(mlock2(page_at(&instance, AREA_BIG, 0), 768 * PAGE, MLOCK_ONFAULT));
    write_marks(&instance, 1, 4, 90);
    instance_check(&instance);
    CHECK_OK(munlockall());
    instance_check(&instance);
}

TEST(memory, mlockall, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(mlockall(MCL_CURRENT));
    instance_check(&instance);
    write_marks(&instance, 1, 2, 90);
    instance_check(&instance);
    CHECK_OK(munlockall());
    instance_check(&instance);
}

TEST(memory, mincore, ANONYMOUS) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    unsigned char present[768];
    CHECK_OK(mincore(page_at(&instance, AREA_RW, 0), 64 * PAGE, present));
    for (uint64_t page = 0; page < 64; page++)
        CHECK((present[page] & 1) == (instance.area[AREA_RW].record[page].content == CONTENT_POOL),
              "page %d", (int)page);
    CHECK_OK(madvise(page_at(&instance, AREA_RW, 0), 10 * PAGE, MADV_DONTNEED));
    CHECK_OK(mincore(page_at(&instance, AREA_RW, 0), 64 * PAGE, present));
    CHECK_EQ(present[9] & 1, 0);
    CHECK_EQ(present[10] & 1, 1);
}

TEST(memory, page_map, ANONYMOUS) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    enum { PRESENT = 63 };
    for (uint64_t page = 0; page < 64; page++) {
        const bool filled = instance.area[AREA_RW].record[page].content == CONTENT_POOL;
        CHECK_EQ(page_map(page_at(&instance, AREA_RW, page)) >> PRESENT, filled);
    }
    /* A store gives the process a page of its own; so do not the reads before it. */
    const uint64_t frame_mask = (1ULL << 55) - 1;
    const uint64_t frame = page_map(page_at(&instance, AREA_RW, 3)) & frame_mask;
    (void)*(volatile char*)page_at(&instance, AREA_RW, 3);
    CHECK_EQ(page_map(page_at(&instance, AREA_RW, 3)) & frame_mask, frame);
    if (current_mode == MODE_PLAIN || frame == 0) return; /* frame 0: hidden from us */
    const uint64_t same_page = page_map(page_at(&instance, AREA_RO, 3)) & frame_mask;
    CHECK_EQ(same_page, frame); /* both areas have pool page 3 */
    write_mark(&instance, AREA_RW, 3, 1);
    CHECK(((page_map(page_at(&instance, AREA_RW, 3)) & frame_mask) != frame), "not copied");
    /* Copied extents are pages of their own from the start. */
    CHECK((page_map(page_at(&instance, AREA_RW, 16)) & frame_mask) != 0, "not present");
    write_mark(&instance, AREA_RW, 16, 1);
    instance_check(&instance);
}

/* No fault to read what was attached, none to write what was copied. */
TEST(memory, faults, ATTACHED, .slow = false) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    static uint64_t expected[64][PAGE / 8];
    for (uint64_t page = 0; page < 64; page++)
        expected_page(&instance, AREA_RW, page, expected[page]);
    char text[1024];
    CHECK(read_text("/proc/self/stat", text, sizeof text), "stat");
    long before = -1, after = -1;
    CHECK_EQ(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %ld", &before), 1);
    for (uint64_t page = 0; page < 48; page++) {
        if (page >= 24 && page < 32) continue;
        CHECK(memcmp(page_at(&instance, AREA_RW, page), expected[page], PAGE) == 0, "page %d",
              (int)page);
    }
    for (uint64_t page = 16; page < 24; page++)
        *(volatile char*)page_at(&instance, AREA_RW, page) = 1;
    CHECK(read_text("/proc/self/stat", text, sizeof text), "stat");
    CHECK_EQ(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %ld", &after), 1);
    CHECK(after - before <= 6, "%ld page faults", after - before);
}

TEST(memory, soft_dirty, ANONYMOUS) {
    enum { SOFT_DIRTY = 55 };
    instance_setup(&instance);
    write_marks(&instance, 0, 5, 10);
    if (!write_text("/proc/self/clear_refs", "4")) skip("no soft-dirty bits");
    /* A kernel without them says nothing; ask with other memory. */
    volatile char* const probe =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(probe != MAP_FAILED, "%s", strerror(errno));
    *probe = 1;
    CHECK(write_text("/proc/self/clear_refs", "4"), "%s", strerror(errno));
    if (page_map((const void*)probe) >> SOFT_DIRTY & 1) skip("no soft-dirty bits");
    *probe = 2;
    if (!(page_map((const void*)probe) >> SOFT_DIRTY & 1)) skip("no soft-dirty bits");
    instance_check(&instance);
    for (uint64_t page = 0; page < 64; page++) {
        if (page % 3 == 1) {
            if (page % 2)
                write_mark(&instance, AREA_RW, page, page);
            else
                write_byte(&instance, AREA_RW, page, 7, 7);
        }
        CHECK_EQ(page_map(page_at(&instance, AREA_RW, page)) >> SOFT_DIRTY & 1, page % 3 == 1);
    }
    instance_check(&instance);
}

/* What the process is said to use is what it uses: nothing goes negative, nothing stays. */
TEST(memory, resident_set, ATTACHED) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    static char text[1 << 18];
    CHECK(read_text("/proc/self/smaps", text, sizeof text), "smaps");
    char key[64];
    snprintf(key, sizeof key, "%llx-", (unsigned long long)instance.area[AREA_RW].address);
    const char* const area = strstr(text, key);
    CHECK(area, "no such line");
    CHECK_EQ(number_after(area, "Size:"), 256);
    CHECK_EQ(number_after(area, "Rss:"), 48 * 4);
    CHECK(number_after(area, "Pss:") <= 48 * 4, "Pss");
    CHECK(number_after(area, "Anonymous:") >= 16 * 4 && number_after(area, "Anonymous:") <= 17 * 4,
          "Anonymous: %lld", number_after(area, "Anonymous:"));
    CHECK_OK(munmap(page_at(&instance, AREA_RW, 0), 64 * PAGE));
    CHECK_OK(munmap(page_at(&instance, AREA_BIG, 0), 768 * PAGE));
    CHECK(read_text("/proc/self/status", text, sizeof text), "status");
    CHECK(number_after(text, "RssAnon:") >= 0 && number_after(text, "RssFile:") >= 0 &&
              number_after(text, "RssFile:") < 1 << 20 && number_after(text, "RssShmem:") >= 0,
          "counters");
}
