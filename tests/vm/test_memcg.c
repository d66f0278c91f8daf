// SPDX-License-Identifier: Apache-2.0
// Memory cgroups: what an instance copies is charged to it, and its limit ends nobody else.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "pages.h"

static const uintptr_t address = 0x30000000000;
enum { PAGES = 512 };
static char group[128];

static void group_path(char* path, size_t size, const char* file) {
    snprintf(path, size, "%s/%s", group, file);
}

static void group_write(const char* file, const char* text) {
    char path[192];
    group_path(path, sizeof path, file);
    CHECK(write_text(path, text), "%s: %s", path, strerror(errno));
}

static long long group_read(const char* file, const char* key) {
    char path[192], text[8192];
    group_path(path, sizeof path, file);
    CHECK(read_text(path, text, sizeof text), "%s: %s", path, strerror(errno));
    return key ? number_after(text, key) : strtoll(text, NULL, 10);
}

/* A cgroup of the test's own; children enter it with enter_group(). Left-overs of a failed test are
 * removed here, too. */
static void make_group(void) {
    static const char root[] = "/sys/fs/cgroup";
    char path[192], text[512];
    snprintf(path, sizeof path, "%s/cgroup.controllers", root);
    if (!read_text(path, text, sizeof text) || !strstr(text, "memory"))
        skip("no cgroup v2 with the memory controller in %s", root);
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", root);
    if (!write_text(path, "+memory")) skip("the memory controller cannot be enabled");
    snprintf(group, sizeof group, "%s/pseudo_mm_test", root);
    rmdir(group);
    CHECK_OK(mkdir(group, 0755));
}

static void remove_group(void) {
    for (const double deadline = now() + 5; rmdir(group); sleep_ms(20))
        CHECK(now() < deadline, "%s cannot be removed: %s", group, strerror(errno));
}

static void enter_group(void) {
    group_write("cgroup.procs", "0");
}

static int make_template(uint32_t kind) {
    const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = PAGES, .kind = kind};
    return template_of(common_pool.fd, &extent, 1);
}

/* A stopped child in the group with memory that has been written to once. */
static pid_t start_target(void (*then)(char* memory)) {
    const pid_t pid = child_start();
    if (pid) {
        int status;
        CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status), "%#x", (unsigned)status);
        return pid;
    }
    enter_group();
    char* const memory = mmap((void*)address, PAGES * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(memory == (void*)address, "%s", strerror(errno));
    CHECK_OK(madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE));
    memory[0] = 1;
    raise(SIGSTOP);
    then(memory);
    child_end();
}

static void stop_again(char* memory) {
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page), "page %d", (int)page);
    raise(SIGSTOP);
    for (uint64_t page = 0; page < PAGES; page++) memory[page * PAGE] ^= 1;
    raise(SIGSTOP);
}

static void resume(pid_t pid) {
    CHECK_OK(kill(pid, SIGCONT));
    int status;
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status), "%#x", (unsigned)status);
}

static long long anonymous_bytes(void) {
    return group_read("memory.stat", "anon ");
}

/* Charges are batched: 64 pages and some for each processor. */
enum { SLACK = 300 * PAGE };

static void expect_anonymous(long long bytes, const char* when) {
    long long actual = 0;
    for (const double deadline = now() + 5; now() < deadline; sleep_ms(50)) {
        actual = anonymous_bytes();
        if (llabs(actual - bytes) <= SLACK) return;
    }
    CHECK(false, "%s: %lld bytes of anonymous memory, expected about %lld", when, actual, bytes);
}

TEST(memcg, charges, MODE_REMOTE) {
    make_group();
    for (uint32_t kind = PSEUDO_MM_SHARED; kind <= PSEUDO_MM_COPIED; kind++) {
        const long long before = anonymous_bytes();
        const int fd = make_template(kind);
        const pid_t pid = start_target(stop_again);
        CHECK_OK(call_attach(fd, pid, NULL));
        const long long all = PAGES * (long long)PAGE;
        expect_anonymous(before + (kind == PSEUDO_MM_COPIED ? all : 0), "attached");
        resume(pid);
        expect_anonymous(before + (kind == PSEUDO_MM_COPIED ? all : 0), "read");
        resume(pid);
        expect_anonymous(before + all, "written");
        CHECK_OK(kill(pid, SIGCONT));
        child_join(pid);
        expect_anonymous(before, "ended");
        close(fd);
    }
    remove_group();
}

static void write_all(char* memory) {
    for (uint64_t page = 0; page < PAGES; page++) memory[page * PAGE] ^= 1;
}

/* Copies that do not fit kill the instance, not who attached, and not its neighbour. */
TEST(memcg, limit_at_stores, MODE_REMOTE) {
    make_group();
    group_write("memory.max", "1572864");
    group_write("memory.swap.max", "0");
    const int fd = make_template(PSEUDO_MM_SHARED);
    const pid_t pid = start_target(write_all);
    CHECK_OK(call_attach(fd, pid, NULL));
    CHECK_OK(kill(pid, SIGCONT));
    child_killed(pid, SIGKILL);
    CHECK(group_read("memory.events", "oom_kill ") >= 1, "no OOM kill was counted");
    remove_group();
}

/* Copied extents beyond the limit: an error for the caller; only the target may be killed. */
TEST(memcg, limit_at_attach, MODE_REMOTE) {
    make_group();
    group_write("memory.max", "1048576");
    group_write("memory.swap.max", "0");
    const int fd = make_template(PSEUDO_MM_COPIED);
    const pid_t pid = start_target(write_all);
    struct pseudo_mm_attach result;
    const int value = call_attach(fd, pid, &result), error = errno;
    CHECK(value == -1 && (error == ENOMEM || error == ESRCH), "%d, %s", value, strerror(error));
    CHECK(result.error_addr >= address && result.error_addr < address + PAGES * PAGE, "%#llx",
          (unsigned long long)result.error_addr);
    /* It holds zeros now, if it still lives; nothing of the template either way. */
    char copy[PAGE];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    const int target = open(path, O_RDONLY | O_CLOEXEC);
    for (uint64_t page = 1; target != -1 && page < PAGES; page += 9)
        if (pread(target, copy, PAGE, (off_t)(address + page * PAGE)) == PAGE)
            CHECK(page_is_zero(copy), "page %d is not zero", (int)page);
    if (target != -1) close(target);
    kill(pid, SIGKILL);
    child_killed(pid, SIGKILL);
    remove_group();
    /* The attacher is alive and can go on. */
    const pid_t other = child_start();
    if (other == 0) {
        char* const place = mmap((void*)address, PAGES * PAGE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(place == (void*)address, "%s", strerror(errno));
        CHECK_OK(call_attach(fd, 0, NULL));
        write_all(place);
        child_end();
    }
    child_join(other);
}

/* The instance attaches to itself beyond its limit: an error or its end, and nothing stays. */
TEST(memcg, limit_at_self_attach, MODE_SELF) {
    make_group();
    group_write("memory.max", "1048576");
    group_write("memory.swap.max", "0");
    const int fd = make_template(PSEUDO_MM_COPIED);
    const pid_t pid = child_start();
    if (pid == 0) {
        enter_group();
        CHECK(mmap((void*)address, PAGES * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void*)address,
              "%s", strerror(errno));
        const int value = call_attach(fd, 0, NULL);
        CHECK(value == -1 && (errno == ENOMEM || errno == EINTR), "%d, %s", value, strerror(errno));
        child_end();
    }
    const int status = child_status(pid);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
              (WIFEXITED(status) && WEXITSTATUS(status) == 55),
          "%#x", (unsigned)status);
    remove_group();
}
