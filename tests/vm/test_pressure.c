// SPDX-License-Identifier: Apache-2.0
// Memory management at work on many instances: swap, KSM, huge pages, and a large template.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "instance.h"

static struct instance instance;

static bool have_swap(void) {
    char text[1024];
    return read_text("/proc/swaps", text, sizeof text) && strchr(text, '\n') &&
           strchr(strchr(text, '\n') + 1, '\n');
}

static long long vmstat(const char* key) {
    static char text[1 << 16];
    CHECK(read_text("/proc/vmstat", text, sizeof text), "vmstat");
    return number_after(text, key);
}

static void page_out(void) {
    for (int a = 0; a < AREAS; a++)
        if (instance.area[a].protection != PROT_NONE)
            madvise(page_at(&instance, (enum area_name)a, 0), instance.area[a].pages * PAGE,
                    MADV_PAGEOUT);
}

/* The instance's copies go to swap and come back; the template's pages do not. */
TEST(pressure, swap, EVERY_MODE) {
    if (!have_swap()) skip("no swap");
    instance_setup(&instance);
    write_marks(&instance, 0, 2, 3000);
    const long long before = vmstat("pswpout ");
    for (int round = 0; round < 3; round++) {
        page_out();
        instance_check(&instance);
        write_marks(&instance, (uint64_t)round, 5, 5000);
    }
    page_out();
    CHECK(vmstat("pswpout ") > before, "nothing was swapped out");
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        write_marks(&instance, 1, 4, 8000);
        page_out();
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
    /* Into swap cache and away. */
    page_out();
    CHECK_OK(madvise(page_at(&instance, AREA_BIG, 0), 300 * PAGE, MADV_DONTNEED));
    record_pages(&instance, AREA_BIG, 0, 300, CONTENT_ZERO, 0);
    page_out();
    instance_check(&instance);
}

enum { INSTANCES = 12 };

/* Each in a process of its own: attach, then churn. */
static void run_instances(void (*churn)(uint64_t number)) {
    attacher_start();
    pid_t children[INSTANCES];
    for (uint64_t i = 0; i < INSTANCES; i++) {
        children[i] = child_start();
        if (children[i]) continue;
        instance_setup(&instance);
        churn(i);
        instance_check(&instance);
        child_end();
    }
    for (int i = 0; i < INSTANCES; i++) child_join(children[i]);
}

static void churn_everything(uint64_t number) {
    for (uint64_t round = 0; round < 4; round++) {
        write_marks(&instance, (number + round) % 7, 7, number * 10000 + round * 1000);
        page_out();
        CHECK_OK(mprotect(page_at(&instance, AREA_BIG, 64), 128 * PAGE, PROT_READ));
        const pid_t pid = child_start();
        if (pid == 0) {
            instance_check(&instance);
            page_out();
            child_end();
        }
        CHECK_OK(mprotect(page_at(&instance, AREA_BIG, 64), 128 * PAGE, PROT_READ | PROT_WRITE));
        CHECK_OK(madvise(page_at(&instance, AREA_BIG, 500), 100 * PAGE, MADV_DONTNEED));
        record_pages(&instance, AREA_BIG, 500, 100, CONTENT_ZERO, 0);
        instance_check(&instance);
        child_join(pid);
    }
}

TEST(pressure, many_instances, EVERY_MODE, .slow = true) {
    run_instances(churn_everything);
}

struct setting {
    const char* path;
    char old[64];
    bool changed;
};

static bool change(struct setting* setting, const char* value) {
    char text[128];
    if (!read_text(setting->path, text, sizeof text)) return false;
    /* "always [madvise] never" */
    const char* const chosen = strchr(text, '[');
    snprintf(setting->old, sizeof setting->old, "%.*s",
             (int)strcspn(chosen ? chosen + 1 : text, "]\n"), chosen ? chosen + 1 : text);
    return setting->changed = write_text(setting->path, value);
}

static void restore(struct setting* setting) {
    if (setting->changed) write_text(setting->path, setting->old);
}

/* For what the kernel does in its own time: the test's limit follows from how slow the machine is.
 */
static double patience(void) {
    return options.timeout * 2 / 3.0;
}

/* KSM has made pages of this process the same as others: not only run, and not before. */
static void wait_for_merged_pages(void) {
    char text[64];
    for (const double deadline = now() + patience(); now() < deadline; sleep_ms(50)) {
        CHECK(read_text("/proc/self/ksm_merging_pages", text, sizeof text), "%s", strerror(errno));
        if (strtol(text, NULL, 10) > 0) return;
    }
    CHECK(false, "KSM merged nothing of this process");
}

static void let_ksm_work(uint64_t number) {
    CHECK_OK(madvise(page_at(&instance, AREA_RW, 0), 64 * PAGE, MADV_MERGEABLE));
    CHECK_OK(madvise(page_at(&instance, AREA_BIG, 0), 768 * PAGE, MADV_MERGEABLE));
    /* Equal in all instances, so that there is something to merge. */
    write_marks(&instance, 0, 3, 4000);
    for (int i = 0; i < 10; i++) {
        sleep_ms(100);
        write_marks(&instance, (uint64_t)i, 50, 6000);
        (void)number;
    }
    /* Two of its own, so that no process depends on another's having pages like these still. */
    write_mark(&instance, AREA_BIG, 720, 4000);
    write_mark(&instance, AREA_BIG, 721, 4000);
    wait_for_merged_pages();
    instance_check(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        write_marks(&instance, 1, 9, 100);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
}

TEST(pressure, ksm, ANONYMOUS, .slow = true) {
    struct setting run = {.path = "/sys/kernel/mm/ksm/run"},
                   pages = {.path = "/sys/kernel/mm/ksm/pages_to_scan"},
                   pause = {.path = "/sys/kernel/mm/ksm/sleep_millisecs"};
    if (current_mode == MODE_PLAIN) skip("would change this machine's settings");
    if (!change(&run, "1") || !change(&pages, "10000") || !change(&pause, "10")) skip("no KSM");
    run_instances(let_ksm_work);
    write_text("/sys/kernel/mm/ksm/run", "2"); /* takes apart what was merged */
    restore(&run);
    restore(&pages);
    restore(&pause);
}

/* KiB in huge pages of the mapping that begins at `address`. */
static long long in_huge_pages(const void* address) {
    static char text[1 << 18];
    char key[32];
    CHECK(read_text("/proc/self/smaps", text, sizeof text), "smaps");
    snprintf(key, sizeof key, "\n%lx-", (unsigned long)address);
    const char* const line = strstr(text, key);
    CHECK(line, "%p is not in smaps", address);
    return number_after(line, "AnonHugePages:");
}

static void wait_for_collapse(const void* address, const char* what) {
    for (const double deadline = now() + patience(); in_huge_pages(address) < HUGE_PAGE / 1024;
         sleep_ms(50))
        CHECK(now() < deadline, "khugepaged made no huge page of %s", what);
}

/* Memory nothing is attached to, small pages first. */
static char* map_neighbour(void) {
    char* const memory = mmap((void*)0x50000000000, HUGE_PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory == (void*)0x50000000000, "%s", strerror(errno));
    CHECK_OK(madvise(memory, HUGE_PAGE, MADV_NOHUGEPAGE));
    for (uint64_t page = 0; page < 512; page++) fill_mark(memory + page * PAGE, page);
    CHECK_EQ(in_huge_pages(memory), 0);
    CHECK_OK(madvise(memory, HUGE_PAGE, MADV_HUGEPAGE));
    return memory;
}

/* Where khugepaged may take what was attached, once every page has been written to: lazy mappings
 * have a file. */
static bool takes_huge_pages(void) {
    return current_mode != MODE_LAZY && !says_no_to_huge_pages();
}

static void expect_collapse(void) {
    char* const neighbour = map_neighbour();
    wait_for_collapse(neighbour, "the memory beside");
    char mark[PAGE];
    for (uint64_t page = 0; page < 512; page++) {
        fill_mark(mark, page);
        CHECK(memcmp(neighbour + page * PAGE, mark, PAGE) == 0, "page %d", (int)page);
    }
    CHECK_OK(munmap(neighbour, HUGE_PAGE));
    if (!takes_huge_pages()) return;
    char* const big = page_at(&instance, AREA_BIG, 0);
    CHECK_OK(madvise(big, 768 * PAGE, MADV_HUGEPAGE));
    write_marks(&instance, 0, 1, 60);
    wait_for_collapse(big, "pages written to");
    instance_check(&instance);
}

static void churn_huge_pages(uint64_t number) {
    expect_collapse();
    for (uint64_t round = 0; round < 4; round++) {
        if (round % 2) {
            CHECK_OK(madvise(page_at(&instance, AREA_BIG, 0), 768 * PAGE, MADV_DONTNEED));
            record_pages(&instance, AREA_BIG, 0, 768, CONTENT_ZERO, 0);
        }
        write_marks(&instance, 0, round + 1, number * 100);
        instance_check(&instance);
        sleep_ms(50);
        if (round == 2 && current_mode != MODE_LAZY) CHECK_OK(instance_attach(&instance));
        const pid_t pid = child_start();
        if (pid == 0) {
            write_marks(&instance, 3, 11, 7);
            instance_check(&instance);
            child_end();
        }
        child_join(pid);
    }
}

TEST(pressure, huge_pages, EVERY_MODE, .slow = true) {
#define HUGE "/sys/kernel/mm/transparent_hugepage/"
    struct setting enabled = {.path = HUGE "enabled"},
                   pause = {.path = HUGE "khugepaged/scan_sleep_millisecs"},
                   pause_after_failure = {.path = HUGE "khugepaged/alloc_sleep_millisecs"};
    if (current_mode == MODE_PLAIN) skip("would change this machine's settings");
    if (!change(&enabled, "always") || !change(&pause, "10") || !change(&pause_after_failure, "10"))
        skip("no transparent huge pages");
    const long long before = vmstat("thp_fault_alloc ");
    run_instances(churn_huge_pages);
    restore(&enabled);
    restore(&pause);
    restore(&pause_after_failure);
    /* Dropped and written to, it has been given huge pages at faults. */
    if (takes_huge_pages()) CHECK(vmstat("thp_fault_alloc ") > before, "no huge page at a fault");
}

/* One gibibyte through a pool of a few pages: long enough to be noticed if it blocked. */
TEST(pressure, one_gibibyte, ATTACHED, .slow = true) {
    enum { EXTENTS = 256 };
    const uint64_t pages = 1 << 18;
    static struct pseudo_mm_extent list[EXTENTS];
    const uintptr_t address = 0x40000000000;
    for (uint64_t i = 0; i < EXTENTS; i++)
        list[i] = (struct pseudo_mm_extent){
            .addr = address + i * 1024 * PAGE, .page = 0, .nr_pages = 1024};
    attacher_start();
    const int fd = template_of(common_pool.fd, list, EXTENTS);
    char* const memory =
        mmap((void*)address, pages * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) skip("no memory");
    struct pseudo_mm_attach result;
    CHECK_OK(attach_here(fd, &result));
    CHECK_EQ(result.pages_shared + result.pages_copied, pages);
    for (uint64_t page = 0; page < pages; page += 4099)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page % 1024), "page %d", (int)page);
    for (uint64_t page = 0; page < pages; page += 4099) memory[page * PAGE]++;
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK(page_is(memory + 5 * PAGE, common_pool.seed, 5), "page 5");
        child_end();
    }
    child_join(pid);
}
