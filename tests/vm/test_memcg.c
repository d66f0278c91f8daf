// SPDX-License-Identifier: Apache-2.0
// Memory cgroups: what an instance copies is charged to it, and its limit ends nobody else.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pages.h"

static const uintptr_t address = 0x30000000000;
enum { PAGES = 512 };

/* Cgroups of the test's own: instances live in the first, who attaches or is not concerned in the
 * second. */
enum group { INSTANCES, OTHERS, GROUPS };
static const char* const group_paths[GROUPS] = {"/sys/fs/cgroup/pseudo_mm_instances",
                                                "/sys/fs/cgroup/pseudo_mm_others"};

static void group_write(enum group group, const char* file, const char* text) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s", group_paths[group], file);
    CHECK(write_text(path, text), "%s: %s", path, strerror(errno));
}

static long long group_read(enum group group, const char* file, const char* key) {
    char path[192], text[8192];
    snprintf(path, sizeof path, "%s/%s", group_paths[group], file);
    CHECK(read_text(path, text, sizeof text), "%s: %s", path, strerror(errno));
    return number_after(text, key);
}

/* Left-overs of a failed test are removed here, too. */
static void make_groups(void) {
    char text[512];
    if (!read_text("/sys/fs/cgroup/cgroup.controllers", text, sizeof text) ||
        !strstr(text, "memory"))
        skip("no cgroup v2 with the memory controller in /sys/fs/cgroup");
    if (!write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory"))
        skip("the memory controller cannot be enabled");
    for (int g = 0; g < GROUPS; g++) {
        rmdir(group_paths[g]);
        CHECK_OK(mkdir(group_paths[g], 0755));
    }
}

static void remove_groups(void) {
    for (int g = 0; g < GROUPS; g++)
        for (const double deadline = now() + 5; rmdir(group_paths[g]); sleep_ms(20))
            CHECK(now() < deadline, "%s cannot be removed: %s", group_paths[g], strerror(errno));
}

static void limit_instances(const char* bytes) {
    group_write(INSTANCES, "memory.max", bytes);
    group_write(INSTANCES, "memory.swap.max", "0");
}

static void enter_group(enum group group) {
    group_write(group, "cgroup.procs", "0");
}

static void touch(char* memory, uint64_t pages) {
    for (uint64_t page = 0; page < pages; page++) memory[page * PAGE] ^= 1;
}

static char* map_at(uintptr_t place, uint64_t pages) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    char* const memory = mmap((void*)place, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(memory == (void*)place, "%s", strerror(errno));
    CHECK_OK(madvise(memory, pages * PAGE, MADV_NOHUGEPAGE));
    return memory;
}

/* A process of the group that does nothing but hold `pages` pages. */
static pid_t start_bystander(enum group group, uint64_t pages) {
    const pid_t pid = child_start();
    if (pid) {
        wait_stopped(pid);
        return pid;
    }
    enter_group(group);
    char* const memory = map_at(address, pages);
    touch(memory, pages);
    raise(SIGSTOP);
    touch(memory, pages);
    for (uint64_t page = 0; page < pages; page++) CHECK_EQ(memory[page * PAGE], 0);
    child_end();
}

static void end_bystander(pid_t pid) {
    CHECK_OK(kill(pid, SIGCONT));
    child_join(pid);
}

static int make_template(uint32_t kind) {
    const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = PAGES, .kind = kind};
    return template_of(common_pool.fd, &extent, 1);
}

/* A stopped child in the group with memory that has been written to once. */
static pid_t start_target(uint64_t pages, void (*then)(char* memory)) {
    const pid_t pid = child_start();
    if (pid) {
        wait_stopped(pid);
        return pid;
    }
    enter_group(INSTANCES);
    char* const memory = map_at(address, pages);
    memory[0] = 1;
    raise(SIGSTOP);
    then(memory);
    child_end();
}

static void stop_again(char* memory) {
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page), "page %d", (int)page);
    raise(SIGSTOP);
    touch(memory, PAGES);
    raise(SIGSTOP);
}

static void resume(pid_t pid) {
    CHECK_OK(kill(pid, SIGCONT));
    int status;
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status), "%#x", (unsigned)status);
}

/* Charges are batched: 64 pages and some for each processor. */
enum { SLACK = 300 * PAGE };

static void expect_anonymous(long long bytes, const char* when) {
    long long actual = 0;
    for (const double deadline = now() + 5; now() < deadline; sleep_ms(50)) {
        actual = group_read(INSTANCES, "memory.stat", "anon ");
        if (llabs(actual - bytes) <= SLACK) return;
    }
    CHECK(false, "%s: %lld bytes of anonymous memory, expected about %lld", when, actual, bytes);
}

TEST(memcg, charges, MODE_REMOTE) {
    make_groups();
    for (uint32_t kind = PSEUDO_MM_SHARED; kind <= PSEUDO_MM_COPIED; kind++) {
        const int fd = make_template(kind);
        const pid_t pid = start_target(PAGES, stop_again);
        CHECK_OK(call_attach(fd, pid, NULL));
        const long long all = PAGES * (long long)PAGE;
        expect_anonymous(kind == PSEUDO_MM_COPIED ? all : 0, "attached");
        resume(pid);
        expect_anonymous(kind == PSEUDO_MM_COPIED ? all : 0, "read");
        resume(pid);
        expect_anonymous(all, "written");
        CHECK_OK(kill(pid, SIGCONT));
        child_join(pid);
        expect_anonymous(0, "ended");
        close(fd);
    }
    remove_groups();
}

static void do_nothing(char* memory) {
    (void)memory;
}

/* `tables` page tables full of pool pages. */
static int make_large_template(uint64_t tables) {
    static struct pseudo_mm_extent list[512];
    const uint64_t count = tables * 512 / COMMON_POOL_PAGES;
    for (uint64_t i = 0; i < count; i++)
        list[i] = (struct pseudo_mm_extent){.addr = address + i * COMMON_POOL_PAGES * PAGE,
                                            .nr_pages = COMMON_POOL_PAGES};
    return template_of(common_pool.fd, list, (uint32_t)count);
}

/* Page tables belong to the instance, too: the attacher, in a group of its own, pays nothing. */
TEST(memcg, page_tables, MODE_REMOTE) {
    enum { TABLES = 128 };
    make_groups();
    const int fd = make_large_template(TABLES);
    const pid_t pid = start_target(TABLES * 512, do_nothing);
    const pid_t attacher = child_start();
    if (attacher == 0) {
        enter_group(OTHERS);
        CHECK_OK(call_attach(fd, pid, NULL));
        raise(SIGSTOP);
        child_end();
    }
    wait_stopped(attacher);
    const long long expected = TABLES / 2 * PAGE;
    long long instance = 0, other = 0;
    for (const double deadline = now() + 5; now() < deadline; sleep_ms(50)) {
        instance = group_read(INSTANCES, "memory.stat", "pagetables ");
        other = group_read(OTHERS, "memory.stat", "pagetables ");
        if (instance >= expected) break;
    }
    CHECK(instance >= expected, "%lld bytes of page tables", instance);
    CHECK(other < expected, "the attacher was charged %lld bytes", other);
    CHECK_OK(kill(attacher, SIGCONT));
    child_join(attacher);
    CHECK_OK(kill(pid, SIGCONT));
    child_join(pid);
    remove_groups();
}

static void write_all(char* memory) {
    touch(memory, PAGES);
}

/* Copies that do not fit kill the instance, not who attached, and not its neighbours. */
TEST(memcg, limit_at_stores, MODE_REMOTE) {
    make_groups();
    limit_instances("1572864");
    const pid_t sibling = start_bystander(INSTANCES, 4), outsider = start_bystander(OTHERS, 1024);
    const int fd = make_template(PSEUDO_MM_SHARED);
    const pid_t pid = start_target(PAGES, write_all);
    CHECK_OK(call_attach(fd, pid, NULL));
    CHECK_OK(kill(pid, SIGCONT));
    child_killed(pid, SIGKILL);
    CHECK(group_read(INSTANCES, "memory.events", "oom_kill ") >= 1, "no OOM kill was counted");
    end_bystander(sibling);
    end_bystander(outsider);
    remove_groups();
}

/* Killed for memory and held by a tracer before it gives that back: the reaper takes it. */
static void wait_reaped(pid_t pid) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    for (const double deadline = now() + 20;; sleep_ms(50)) {
        CHECK(read_text(path, text, sizeof text), "%s: %s", path, strerror(errno));
        if (number_after(text, "RssAnon:") <= 16) return;
        CHECK(now() < deadline, "%lld KiB were not reaped", number_after(text, "RssAnon:"));
    }
}

TEST(memcg, reaped_target, MODE_REMOTE) {
    make_groups();
    limit_instances("1572864");
    const int fd = make_template(PSEUDO_MM_SHARED);
    const pid_t pid = start_target(PAGES, write_all);
    CHECK_OK(ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT));
    CHECK_OK(kill(pid, SIGCONT));
    int status;
    do {
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSTOPPED(status), "not held: %#x", (unsigned)status);
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) break;
        CHECK_OK(ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status) == SIGCONT ? SIGCONT : 0));
    } while (true);
    CHECK(group_read(INSTANCES, "memory.events", "oom_kill ") >= 1, "no OOM kill was counted");
    wait_reaped(pid);
    struct pseudo_mm_attach result;
    CHECK_ERRNO(call_attach(fd, pid, &result), ESRCH);
    CHECK_EQ(result.pages_shared, 0);
    CHECK_OK(ptrace(PTRACE_CONT, pid, NULL, 0));
    child_killed(pid, SIGKILL);
    remove_groups();
}

static void expect_no_kill(const char* when) {
    for (int g = 0; g < GROUPS; g++) {
        const long long kills = group_read((enum group)g, "memory.events", "oom_kill ");
        CHECK(kills == 0, "%s: %lld in %s", when, kills, group_paths[g]);
    }
}

/* A module that cannot clear page tables leaves what it had attached when it failed. */
static bool rolls_back(void) {
    return info().features & PSEUDO_MM_FEATURE_ROLLBACK;
}

/* An attach that does not fit fails. Nobody is killed: not the target, which holds zeros then, not
 * its neighbour, and not the attacher, whose own group has a limit as small. */
static void attach_beyond_limit(int fd, uint64_t pages) {
    make_groups();
    limit_instances("1048576");
    group_write(OTHERS, "memory.max", "1048576");
    const pid_t sibling = start_bystander(INSTANCES, 4);
    const pid_t pid = start_target(pages, do_nothing);
    const pid_t attacher = child_start();
    if (attacher == 0) {
        enter_group(OTHERS);
        stay_on_first_processor(); /* a charge in stock is this processor's; see ATTACH's promise */
        struct pseudo_mm_attach result;
        CHECK_ERRNO(call_attach(fd, pid, &result), ENOMEM);
        CHECK_EQ(result.pages_shared, 0);
        CHECK_EQ(result.pages_copied, 0);
        CHECK(result.error_addr >= address && result.error_addr < address + pages * PAGE, "%#llx",
              (unsigned long long)result.error_addr);
        child_end();
    }
    child_join(attacher);
    expect_no_kill("attached");
    const int memory = memory_fd(pid);
    char copy[PAGE];
    for (uint64_t page = 0; page < pages; page += pages / 256) {
        CHECK_EQ(pread(memory, copy, PAGE, (off_t)(address + page * PAGE)), PAGE);
        CHECK(page_is_zero(copy) || !rolls_back(), "page %d is not zero", (int)page);
    }
    close(memory);
    /* It has page tables without pages, which it keeps; as the header says, it is to be killed. */
    CHECK_OK(kill(pid, SIGKILL));
    child_killed(pid, SIGKILL);
    end_bystander(sibling);
    expect_no_kill("ended");
    remove_groups();
}

TEST(memcg, limit_at_copies, MODE_REMOTE) {
    const int fd = make_template(PSEUDO_MM_COPIED);
    attach_beyond_limit(fd, PAGES);
    /* The template is as good as before. */
    const pid_t other = child_start();
    if (other == 0) {
        char* const memory = map_at(address, PAGES);
        CHECK_OK(call_attach(fd, 0, NULL));
        write_all(memory);
        child_end();
    }
    child_join(other);
}

TEST(memcg, limit_at_page_tables, MODE_REMOTE) {
    enum { TABLES = 512 };
    attach_beyond_limit(make_large_template(TABLES), TABLES * 512);
}

/* Pages a gigabyte apart, which have tables of two kinds for themselves. */
TEST(memcg, limit_at_sparse_tables, MODE_REMOTE) {
    enum { COUNT = 400, APART = 1 << 18 };
    static struct pseudo_mm_extent list[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        list[i] =
            (struct pseudo_mm_extent){.addr = address + i * APART * PAGE, .page = i, .nr_pages = 1};
    attach_beyond_limit(template_of(common_pool.fd, list, COUNT), (uint64_t)COUNT * APART);
}

/* The same for an instance that attaches to itself. */
TEST(memcg, limit_at_self_attach, MODE_SELF) {
    make_groups();
    limit_instances("1048576");
    const int fd = make_template(PSEUDO_MM_COPIED);
    const pid_t pid = child_start();
    if (pid == 0) {
        enter_group(INSTANCES);
        stay_on_first_processor();
        char* const memory = map_at(address, PAGES);
        CHECK_ERRNO(call_attach(fd, 0, NULL), ENOMEM);
        if (rolls_back())
            CHECK(page_is_zero(memory), "the first page is not zero");
        else
            CHECK_OK(munmap(memory, PAGES * PAGE)); /* the group is as full as it was */
        child_end();
    }
    child_join(pid);
    expect_no_kill("ended");
    remove_groups();
}
