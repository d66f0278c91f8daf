// SPDX-License-Identifier: Apache-2.0
// Advice on template pages.
#include <signal.h>
#include <sys/mman.h>

#include "instance.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static struct instance instance;

static int advise(enum area_name area, uint64_t first, uint64_t count, int advice) {
    return madvise(page_at(&instance, area, first), count * PAGE, advice);
}

/* On every readable area, whole; errors other than EINVAL fail the test. */
static void advise_everything(int advice) {
    for (int a = 0; a < AREAS; a++) {
        if (instance.area[a].protection == PROT_NONE) continue;
        if (advise((enum area_name)a, 0, instance.area[a].pages, advice) && errno != EINVAL)
            CHECK(false, "advice %d on area %d: %s", advice, a, strerror(errno));
    }
}

static void drop(enum area_name area, uint64_t first, uint64_t count) {
    CHECK_OK(advise(area, first, count, MADV_DONTNEED));
    record_pages(&instance, area, first, count, CONTENT_ZERO, 0);
}

TEST(madvise, dontneed, EVERY_MODE) {
    instance_setup(&instance);
    instance_check(&instance); /* touches every page, which matters in lazy mode */
    drop(AREA_RW, 3, 10);
    drop(AREA_RW, 15, 4);
    drop(AREA_RW, 45, 5);
    drop(AREA_RO, 2, 8);
    drop(AREA_RX, 1, 1);
    drop(AREA_BIG, 100, 350);
    drop(AREA_HEAP, 0, 9);
    drop(AREA_STACK, 5, 9);
    instance_check(&instance);
    write_marks(&instance, 0, 5, 30);
    instance_check(&instance);
}

TEST(madvise, dontneed_everything, EVERY_MODE) {
    instance_setup(&instance);
    instance_check(&instance);
    write_marks(&instance, 0, 3, 10);
    for (int a = 0; a < AREAS; a++) {
        if (current_mode == MODE_LAZY && a == AREA_NONE) continue; /* nobody touched it */
        drop((enum area_name)a, 0, instance.area[a].pages);
    }
    instance_check(&instance);
    drop(AREA_RW, 0, 64);
    instance_check(&instance);
}

TEST(madvise, dontneed_untouched, ANONYMOUS) {
    instance_setup(&instance);
    drop(AREA_RW, 0, 64);
    drop(AREA_NONE, 0, 8);
    drop(AREA_BIG, 0, 768);
    instance_check(&instance);
}

TEST(madvise, dontneed_in_child, EVERY_MODE) {
    instance_setup(&instance);
    instance_check(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        drop(AREA_RW, 0, 20);
        drop(AREA_RO, 4, 4);
        instance_check(&instance);
        write_marks(&instance, 1, 3, 30);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
    drop(AREA_RW, 10, 30);
    const pid_t second = child_start();
    if (second == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(second);
    instance_check(&instance);
}

TEST(madvise, dontneed_locked, ANONYMOUS) {
    instance_setup(&instance);
    if (mlock(page_at(&instance, AREA_RW, 0), 20 * PAGE)) skip("mlock: %s", strerror(errno));
    CHECK_ERRNO(advise(AREA_RW, 0, 10, MADV_DONTNEED), EINVAL);
    instance_check(&instance);
    if (advise(AREA_RW, 0, 10, MADV_DONTNEED_LOCKED)) skip_before(5, 18, "MADV_DONTNEED_LOCKED");
    record_pages(&instance, AREA_RW, 0, 10, CONTENT_ZERO, 0);
    instance_check(&instance);
}

/* After MADV_FREE a page holds what it held, or zeros. */
static void settle_freed(enum area_name area, uint64_t first, uint64_t count) {
    for (uint64_t page = first; page < first + count; page++)
        if (page_is_zero(page_at(&instance, area, page)))
            record_pages(&instance, area, page, 1, CONTENT_ZERO, 0);
}

TEST(madvise, free, ANONYMOUS) {
    instance_setup(&instance);
    write_marks(&instance, 0, 4, 30);
    CHECK_OK(advise(AREA_RW, 0, 64, MADV_FREE));
    CHECK_OK(advise(AREA_BIG, 0, 768, MADV_FREE));
    write_mark(&instance, AREA_RW, 5, 90);
    write_mark(&instance, AREA_RW, 20, 91);
    advise(AREA_RW, 0, 64, MADV_PAGEOUT); /* lets the kernel take them now */
    settle_freed(AREA_RW, 0, 64);
    settle_freed(AREA_BIG, 0, 768);
    instance_check(&instance);
    write_marks(&instance, 1, 3, 200);
    instance_check(&instance);
}

TEST(madvise, wipe_on_fork, ANONYMOUS) {
    instance_setup(&instance);
    write_marks(&instance, 0, 4, 30);
    CHECK_OK(advise(AREA_RW, 0, 64, MADV_WIPEONFORK));
    pid_t pid = child_start();
    if (pid == 0) {
        record_pages(&instance, AREA_RW, 0, 64, CONTENT_ZERO, 0);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
    CHECK_OK(advise(AREA_RW, 0, 64, MADV_KEEPONFORK));
    pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

TEST(madvise, dont_fork, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(advise(AREA_RW, 16, 16, MADV_DONTFORK));
    const pid_t pid = child_start();
    if (pid == 0) {
        int code = 0;
        CHECK_EQ(probe_read(page_at(&instance, AREA_RW, 16), &code), SIGSEGV);
        CHECK_EQ(code, SEGV_MAPERR);
        record_pages(&instance, AREA_RW, 16, 16, CONTENT_GONE, 0);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
    CHECK_OK(advise(AREA_RW, 16, 16, MADV_DOFORK));
    const pid_t second = child_start();
    if (second == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(second);
}

TEST(madvise, pageout, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 3, 30);
    advise_everything(MADV_PAGEOUT);
    instance_check(&instance);
    write_marks(&instance, 1, 3, 60);
    advise_everything(MADV_COLD);
    advise_everything(MADV_PAGEOUT);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

TEST(madvise, cold_and_willneed, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 3, 30);
    advise_everything(MADV_COLD);
    advise_everything(MADV_WILLNEED);
    advise_everything(MADV_SEQUENTIAL);
    advise_everything(MADV_RANDOM);
    advise_everything(MADV_DONTDUMP);
    instance_check(&instance);
}

TEST(madvise, populate_read, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(advise(AREA_RW, 0, 64, MADV_POPULATE_READ));
    CHECK_OK(advise(AREA_RO, 0, 16, MADV_POPULATE_READ));
    CHECK_OK(advise(AREA_BIG, 0, 768, MADV_POPULATE_READ));
    instance_check(&instance);
    write_marks(&instance, 0, 3, 30);
    instance_check(&instance);
}

TEST(madvise, populate_write, EVERY_MODE) {
    instance_setup(&instance);
    CHECK_OK(advise(AREA_RW, 0, 64, MADV_POPULATE_WRITE));
    CHECK_OK(advise(AREA_BIG, 0, 768, MADV_POPULATE_WRITE));
    CHECK(advise(AREA_RO, 0, 16, MADV_POPULATE_WRITE) == -1, "populated a read-only area");
    instance_check(&instance);
    write_marks(&instance, 0, 3, 30);
    instance_check(&instance);
}

TEST(madvise, hugepage, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 3, 30);
    advise_everything(MADV_HUGEPAGE);
    instance_check(&instance);
    /* Dropping all of it leaves room for a huge page where template pages were. */
    drop(AREA_BIG, 0, 768);
    instance_check(&instance);
    write_marks(&instance, 1, 3, 60);
    instance_check(&instance);
    advise_everything(MADV_NOHUGEPAGE);
    instance_check(&instance);
}

TEST(madvise, collapse, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 2, 30);
    for (int round = 0; round < 2; round++) {
        if (advise(AREA_BIG, 0, 512, MADV_COLLAPSE))
            CHECK(errno == EINVAL || errno == EAGAIN || errno == EBUSY || errno == ENOMEM, "%s",
                  strerror(errno));
        instance_check(&instance);
        /* Then with no template page left in it. */
        if (round == 0) {
            for (uint64_t page = 0; page < 512; page++)
                write_mark(&instance, AREA_BIG, page, 100 + page);
        }
    }
}

TEST(madvise, mergeable, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 4, 30);
    advise_everything(MADV_MERGEABLE);
    instance_check(&instance);
    write_marks(&instance, 1, 4, 60);
    advise_everything(MADV_UNMERGEABLE);
    instance_check(&instance);
}

TEST(madvise, remove_is_refused, ANONYMOUS) {
    instance_setup(&instance);
    CHECK_ERRNO(advise(AREA_RW, 0, 8, MADV_REMOVE), EINVAL);
    instance_check(&instance);
}

TEST(madvise, guard, ANONYMOUS) {
    instance_setup(&instance);
    if (advise(AREA_RW, 4, 4, MADV_GUARD_INSTALL)) skip_before(6, 13, "MADV_GUARD_INSTALL");
    int code = 0;
    CHECK_EQ(probe_read(page_at(&instance, AREA_RW, 4), &code), SIGSEGV);
    CHECK_OK(advise(AREA_RW, 4, 4, MADV_GUARD_REMOVE));
    record_pages(&instance, AREA_RW, 4, 4, CONTENT_ZERO, 0);
    instance_check(&instance);
}
