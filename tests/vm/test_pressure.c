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
    char text[64];
    CHECK(read_text("/sys/kernel/mm/ksm/full_scans", text, sizeof text), "full_scans");
    const long scans = strtol(text, NULL, 10);
    write_text("/sys/kernel/mm/ksm/run", "2"); /* takes apart what was merged */
    restore(&run);
    restore(&pages);
    restore(&pause);
    CHECK(scans > 0, "KSM did not run");
}

static void churn_huge_pages(uint64_t number) {
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
    struct setting enabled = {.path = "/sys/kernel/mm/transparent_hugepage/enabled"},
                   pause = {
                       .path =
                           "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"};
    if (current_mode == MODE_PLAIN) skip("would change this machine's settings");
    if (!change(&enabled, "always") || !change(&pause, "10")) skip("no transparent huge pages");
    run_instances(churn_huge_pages);
    restore(&enabled);
    restore(&pause);
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
