// SPDX-License-Identifier: Apache-2.0
// How long things live: pages outlast every descriptor, and who made them.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "instance.h"

static struct instance instance;
static struct pool pool;
enum { SEED = 77 };

static void wait_lingering(uint64_t count) {
    for (const double deadline = now() + 10; info().lingering_pools != count; sleep_ms(20))
        CHECK(now() < deadline, "%llu lingering pools, expected %llu",
              (unsigned long long)info().lingering_pools, (unsigned long long)count);
}

/* Attaches what it needs, then forks, writes and exits while nobody holds a descriptor. */
static void use_for_a_while(void) {
    instance_check(&instance);
    write_marks(&instance, 0, 3, 100);
    for (uint64_t i = 0; i < 8; i++) {
        const pid_t pid = child_start();
        if (pid == 0) {
            instance_check(&instance);
            write_marks(&instance, i, 5, 1000 * i);
            CHECK_OK(madvise(page_at(&instance, AREA_RO, 0), 4 * PAGE, MADV_DONTNEED));
            record_pages(&instance, AREA_RO, 0, 4, CONTENT_ZERO, 0);
            instance_check(&instance);
            child_end();
        }
        child_join(pid);
    }
    instance_check(&instance);
}

TEST(life, descriptors_closed, ATTACHED | MODE_LAZY) {
    const uint64_t lingering = info().lingering_pools;
    attacher_start();
    pool_open(&pool, COMMON_POOL_PAGES, SEED);
    instance_setup_as(&instance, &pool, false);
    const struct pseudo_mm_info before = info();
    close(instance.template_fd);
    pool_close(&pool);
    if (current_mode == MODE_LAZY) {
        CHECK_EQ(info().templates, before.templates); /* its mappings keep it */
    } else {
        CHECK_EQ(info().templates, before.templates - 1);
        wait_lingering(lingering + 1);
        CHECK_EQ(info().pools, before.pools - 1);
        CHECK(info().pool_pages > 0, "no pages are counted");
    }
    use_for_a_while();
    /* One page is enough. */
    for (int a = 0; a < AREAS; a++) {
        if (a == AREA_RO) continue;
        CHECK_OK(munmap(page_at(&instance, (enum area_name)a, 0), instance.area[a].pages * PAGE));
        record_pages(&instance, (enum area_name)a, 0, instance.area[a].pages, CONTENT_GONE, 0);
    }
    sleep_ms(300);
    instance_check(&instance);
    if (current_mode != MODE_LAZY) CHECK_EQ(info().lingering_pools, lingering + 1);
    CHECK_OK(munmap(page_at(&instance, AREA_RO, 0), 16 * PAGE));
    wait_lingering(lingering);
}

/* The source itself is gone as well: memfd closed and unmapped, device unmapped. */
TEST(life, source_closed_first, ATTACHED) {
    attacher_start();
    pool_open(&pool, COMMON_POOL_PAGES, SEED);
    pool_close_source(&pool);
    instance_setup_as(&instance, &pool, true);
    close(pool.fd);
    close(instance.template_fd);
    use_for_a_while();
    for (int round = 0; round < 20; round++) {
        /* Memory pressure and page faults walk over what was freed wrongly. */
        char* const other = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        CHECK(other != MAP_FAILED, "%s", strerror(errno));
        CHECK_OK(munmap(other, 4 << 20));
    }
    write_text("/proc/sys/vm/drop_caches", "3");
    write_text("/proc/sys/vm/compact_memory", "1");
    instance_check(&instance);
}

/* The agent that made everything is killed with all of it open. Its memfd must not be truncated
 * under the pages of its instances: that once ended in a panic. */
TEST(life, agent_killed, MODE_REMOTE) {
    instance_layout(&instance, &pool);
    pid_t targets[3];
    for (int i = 0; i < 3; i++) {
        targets[i] = child_start();
        if (targets[i]) {
            wait_stopped(targets[i]);
            continue;
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        instance_map(&instance);
        if (i) instance_dirty(&instance);
        raise(SIGSTOP);
        pool = (struct pool){.seed = SEED, .pages = COMMON_POOL_PAGES, .fd = -1, .file = -1};
        for (uint32_t e = 0; e < instance.extents; e++) {
            const struct pseudo_mm_extent* const extent = &instance.extent[e];
            for (int a = 0; a < AREAS; a++)
                for (uint64_t page = 0; page < extent->nr_pages; page++) {
                    const uint64_t offset = extent->addr + page * PAGE - instance.area[a].address;
                    if (offset / PAGE < instance.area[a].pages)
                        record_pages(&instance, (enum area_name)a, offset / PAGE, 1, CONTENT_POOL,
                                     extent->page + page);
                }
        }
        use_for_a_while();
        child_end();
    }
    const pid_t agent = child_start();
    if (agent == 0) {
        pool_open(&pool, COMMON_POOL_PAGES, SEED);
        instance_template(&instance);
        for (int i = 0; i < 3; i++) CHECK_OK(call_attach(instance.template_fd, targets[i], NULL));
        raise(SIGKILL);
    }
    child_killed(agent, SIGKILL);
    sleep_ms(200);
    for (int i = 0; i < 3; i++) CHECK_OK(kill(targets[i], SIGCONT));
    for (int i = 0; i < 3; i++) child_join(targets[i]);
    wait_lingering(0);
}

/* Killed at any moment of its work: nothing stays. */
TEST(life, agent_killed_at_work, MODE_API) {
    uint64_t delay = options.seed;
    const double deadline = now() + (options.quick ? 1 : 3);
    do {
        const pid_t agent = child_start();
        if (agent == 0) {
            for (;;) {
                pool_open(&pool, 256, SEED);
                const struct pseudo_mm_extent extent = {.addr = 0x30000000000, .nr_pages = 256};
                const int fd = template_of(pool.fd, &extent, 1);
                void* const place = mmap((void*)extent.addr, 256 * PAGE, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
                if (place == MAP_FAILED || call_attach(fd, 0, NULL)) _exit(1);
                if (options.source == SOURCE_DAX) pause(); /* has only so much of the device */
                close(fd);
                pool_close(&pool);
            }
        }
        delay = delay * 6364136223846793005u + 1;
        usleep((useconds_t)(delay >> 40) % 60000);
        CHECK_OK(kill(agent, SIGKILL));
        child_killed(agent, SIGKILL);
    } while (now() < deadline);
}

/* Pages of a lingering pool are never given to anybody else. */
TEST(life, lingering_pages_are_kept, ATTACHED) {
    attacher_start();
    pool_open(&pool, COMMON_POOL_PAGES, SEED);
    instance_setup_as(&instance, &pool, false);
    close(instance.template_fd);
    pool_close(&pool);
    for (uint64_t round = 0; round < 5; round++) {
        struct pool other;
        pool_open(&other, 512, 100 + round);
        instance_check(&instance);
        pool_close(&other);
        instance_check(&instance);
    }
}

/* An instance holds a page by a pipe only; then not even that. */
TEST(life, held_by_a_pipe, ATTACHED, .sources = SOURCE_COPY | SOURCE_DAX) {
    attacher_start();
    pool_open(&pool, COMMON_POOL_PAGES, SEED);
    instance_setup_as(&instance, &pool, false);
    int ends[2];
    CHECK_OK(pipe2(ends, O_CLOEXEC));
    const struct iovec vector = {page_at(&instance, AREA_RW, 1), 4 * PAGE};
    CHECK_EQ(vmsplice(ends[1], &vector, 1, 0), 4 * PAGE);
    close(instance.template_fd);
    pool_close(&pool);
    for (int a = 0; a < AREAS; a++)
        CHECK_OK(munmap(page_at(&instance, (enum area_name)a, 0), instance.area[a].pages * PAGE));
    sleep_ms(500);
    CHECK_EQ(info().lingering_pools, 1);
    char copy[4 * PAGE];
    CHECK_EQ(read(ends[0], copy, sizeof copy), sizeof copy);
    for (uint64_t page = 0; page < 4; page++)
        CHECK(page_is(copy + page * PAGE, SEED, page + 1), "page %d", (int)page);
    wait_lingering(0);
}
