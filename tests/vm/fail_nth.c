// SPDX-License-Identifier: Apache-2.0
// Failures of every allocation in every ioctl and lazy fault: /proc/self/fail-nth makes the n-th
// one of a call fail; n grows until a call meets none. Each failure must be a documented error that
// leaves nothing behind, and the same call must go well afterwards.
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "instance.h"
#include "runner.h"

static int nth_fd = -1;
static struct instance instance;
static const uintptr_t lazy_address = 0x30000000000;
enum { LAZY_PAGES = 256, MOST = 5000 };

static void arm(unsigned n) {
    char text[16];
    const int length = snprintf(text, sizeof text, "%u", n);
    CHECK_EQ(pwrite(nth_fd, text, (size_t)length, 0), length);
}

/* Whether the failure has happened. */
static bool disarm(void) {
    char text[16] = "";
    CHECK(pread(nth_fd, text, sizeof text - 1, 0) > 0, "%s", strerror(errno));
    const bool happened = strtoul(text, NULL, 10) == 0;
    arm(0);
    return happened;
}

struct sweep {
    const char* name;
    void (*prepare)(void); /* without failures; may be NULL */
    int (*call)(void);     /* -1 and errno, or a value that `undo` is given */
    void (*undo)(int value);
    int other_error; /* also allowed beside ENOMEM; 0: none */
};

static struct pool source;
static int fd = -1;
static char* memory;

static void close_value(int value) {
    close(value);
}
static void close_template(int value) {
    (void)value;
    close(fd);
}

static void prepare_source(void) {
    if (!source.map) pool_open_source(&source, 700, 3);
}
static int make_pool(void) {
    struct pseudo_mm_range ranges[40];
    for (uint64_t i = 0; i < 40; i++)
        ranges[i] = (struct pseudo_mm_range){(uintptr_t)source.map + i * 17 * PAGE, 17 * PAGE};
    return call_pool(device_fd, ranges, 40,
                     options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0);
}

static int make_template(void) {
    return call_template(common_pool.fd);
}

enum { LISTED = 3000 };
static struct pseudo_mm_extent list[LISTED];
static void prepare_add(void) {
    for (uint64_t i = 0; i < LISTED; i++)
        list[i] = (struct pseudo_mm_extent){.addr = lazy_address + i * 2 * PAGE, .nr_pages = 1};
    fd = (int)CHECK_OK(call_template(common_pool.fd));
}
static int add(void) {
    if (call_add(fd, list, 100)) return -1;
    return call_add(fd, list + 100, LISTED - 100);
}
static void prepare_seal(void) {
    prepare_add();
    CHECK_OK(call_add(fd, list, LISTED));
}
static int seal(void) {
    return call_seal(fd);
}

static int get_info(void) {
    struct pseudo_mm_info info;
    return call_info(device_fd, &info);
}
static int get_pool_stat(void) {
    struct pseudo_mm_stat stat = {0};
    return call_stat(common_pool.fd, &stat);
}

static void prepare_instance(void) {
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    instance_map(&instance);
    instance_dirty(&instance);
}
static void expect_nothing_of_template(pid_t pid) {
    const int own = memory_fd(pid);
    char actual[PAGE];
    for (uint32_t e = 0; e < instance.extents; e++)
        for (uint64_t i = 0; i < instance.extent[e].nr_pages; i++) {
            const uint64_t address = instance.extent[e].addr + i * PAGE;
            CHECK_EQ(pread(own, actual, PAGE, (off_t)address), PAGE);
            CHECK(!page_is(actual, common_pool.seed, instance.extent[e].page + i),
                  "page %#llx was left", (unsigned long long)address);
        }
    close(own);
}
static int attach(void) {
    const int result = call_attach(instance.template_fd, 0, &instance.attach);
    return result;
}
static void drop_instance(int value) {
    if (value == -1) expect_nothing_of_template(getpid());
    close(instance.template_fd);
    for (int a = 0; a < AREAS; a++)
        if (a != AREA_HEAP)
            munmap(page_at(&instance, (enum area_name)a, 0), instance.area[a].pages * PAGE);
    CHECK_OK(brk(page_at(&instance, AREA_HEAP, 0)));
}

/* A stopped process; what ATTACH needs for it is not the caller's. */
static pid_t target;
static void prepare_target(void) {
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    target = child_start();
    if (target) {
        wait_stopped(target);
        return;
    }
    instance_map(&instance);
    instance_dirty(&instance);
    raise(SIGSTOP);
    for (uint32_t e = 0; e < instance.extents; e++)
        for (uint64_t i = 0; i < instance.extent[e].nr_pages; i++) {
            const char* const place = (const char*)instance.extent[e].addr + i * PAGE;
            int code;
            CHECK(probe_read(place, &code) ||
                      page_is(place, common_pool.seed, instance.extent[e].page + i),
                  "page %p was not attached", place);
        }
    child_end();
}
static int attach_target(void) {
    return call_attach(instance.template_fd, target, &instance.attach);
}
static void end_target(int value) {
    if (value == -1) {
        expect_nothing_of_template(target);
        CHECK_OK(kill(target, SIGKILL));
        child_killed(target, SIGKILL);
    } else {
        CHECK_OK(kill(target, SIGCONT));
        child_join(target);
    }
    close(instance.template_fd);
}

static void prepare_mapping(void) {
    const struct pseudo_mm_extent extent = {
        .addr = lazy_address, .nr_pages = LAZY_PAGES, .kind = PSEUDO_MM_LAZY};
    fd = template_of(common_pool.fd, &extent, 1);
}
static int map_lazy(void) {
    memory =
        mmap(NULL, LAZY_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)lazy_address);
    return memory == MAP_FAILED ? -1 : 0;
}
static void unmap_lazy(int value) {
    if (value != -1) munmap(memory, LAZY_PAGES * PAGE);
    close(fd);
}
static int ends[2] = {-1, -1};
static void prepare_touch(void) {
    if (ends[0] == -1) CHECK_OK(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    prepare_mapping();
    CHECK_OK(map_lazy());
}
/* Through a system call: a fault of its own without memory would call the OOM killer. */
static int touch(void) {
    static char copy[PAGE];
    for (uint64_t page = 0; page < LAZY_PAGES; page += 40) {
        if (write(ends[1], memory + page * PAGE, PAGE) != PAGE) {
            const int error = errno;
            while (read(ends[0], copy, PAGE) > 0) continue;
            errno = error;
            return -1;
        }
        CHECK_EQ(read(ends[0], copy, PAGE), PAGE);
        CHECK(page_is(copy, common_pool.seed, page), "page %d", (int)page);
    }
    return 0;
}
/* Afterwards every page comes all the same. */
static void check_touched(int value) {
    (void)value;
    for (uint64_t page = 0; page < LAZY_PAGES; page++)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page), "page %d", (int)page);
    munmap(memory, LAZY_PAGES * PAGE);
    close(fd);
}
/* ATTACH into a lazy mapping. Of the pages in its first page table every third has been read and
 * every third written; the second table is to be made. */
static const uintptr_t touched_address = 0x30000000000 - 128 * PAGE;
enum { TOUCHED = 128, SHARED_FROM = 100, COPIED_FROM = 140, COPIED_TO = 180 };
static void prepare_touched(void) {
    const struct pseudo_mm_extent parts[] = {
        {touched_address, 0, SHARED_FROM, PSEUDO_MM_LAZY, 0},
        {touched_address + SHARED_FROM * PAGE, SHARED_FROM, COPIED_FROM - SHARED_FROM,
         PSEUDO_MM_SHARED, 0},
        {touched_address + COPIED_FROM * PAGE, COPIED_FROM, COPIED_TO - COPIED_FROM,
         PSEUDO_MM_COPIED, 0},
        {touched_address + COPIED_TO * PAGE, COPIED_TO, LAZY_PAGES - COPIED_TO, PSEUDO_MM_LAZY, 0}};
    fd = template_of(common_pool.fd, parts, 4);
    memory = mmap((void*)touched_address, LAZY_PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, (off_t)touched_address);
    CHECK(memory == (void*)touched_address, "%s", strerror(errno));
    for (uint64_t page = 0; page < TOUCHED; page++)
        if (page % 3 == 1)
            (void)*(volatile char*)(memory + page * PAGE);
        else if (page % 3 == 2)
            fill_mark(memory + page * PAGE, page);
}
static int attach_touched(void) {
    return call_attach(fd, 0, NULL);
}
static bool is_before(uint64_t page) {
    char mark[PAGE];
    fill_mark(mark, page);
    return page < TOUCHED && page % 3 == 2 ? memcmp(memory + page * PAGE, mark, PAGE) == 0
                                           : page_is(memory + page * PAGE, common_pool.seed, page);
}
/* What ATTACH fills holds the template's pages; or zeros, which are not delivered a second time; or
 * nothing was begun. LAZY extents keep what they had. */
static void check_touched_attach(int value) {
    const bool begun = value != -1 || !is_before(SHARED_FROM + 1);
    for (uint64_t page = 0; page < LAZY_PAGES; page++) {
        const char* const place = memory + page * PAGE;
        if (!begun || page < SHARED_FROM || page >= COPIED_TO)
            CHECK(is_before(page), "page %d", (int)page);
        else if (value == -1)
            CHECK(page_is_zero(place), "page %d", (int)page);
        else
            CHECK(page_is(place, common_pool.seed, page), "page %d", (int)page);
    }
    if (value == -1) {
        CHECK_OK(attach_touched());
        check_touched_attach(0);
        return;
    }
    munmap(memory, LAZY_PAGES * PAGE);
    close(fd);
}
/* A child has the record of delivered pages, or SIGBUS. */
static int fork_lazy(void) {
    return fork();
}
static void check_fork(int value) {
    if (value == 0) {
        int code = 0;
        disarm();
        const int signal = probe_read(memory, &code);
        _exit(signal == 0        ? page_is(memory, common_pool.seed, 0) ? 0 : 1
              : signal == SIGBUS ? 0
                                 : 2);
    }
    if (value > 0) CHECK_EQ(child_status(value), 0);
    check_touched(0);
}

static const struct sweep sweeps[] = {
    {"INFO", NULL, get_info, NULL, 0},
    {"POOL", prepare_source, make_pool, close_value, EFAULT},
    {"TEMPLATE", NULL, make_template, close_value, 0},
    {"ADD", prepare_add, add, close_template, 0},
    {"SEAL", prepare_seal, seal, close_template, 0},
    {"STAT", NULL, get_pool_stat, NULL, 0},
    {"ATTACH", prepare_instance, attach, drop_instance, 0},
    {"ATTACH by number", prepare_target, attach_target, end_target, 0},
    {"ATTACH, touched", prepare_touched, attach_touched, check_touched_attach, 0},
    {"mmap", prepare_mapping, map_lazy, unmap_lazy, 0},
    {"lazy fault", prepare_touch, touch, check_touched, EFAULT},
    {"fork", prepare_touch, fork_lazy, check_fork, EAGAIN},
};
static const struct sweep* current;

/* The kernel writes to this area of the C library when it resumes a process: if a failure hits the
 * copy of that page after a fork, the process gets SIGSEGV. */
static void unregister_restartable_sequences(void) {
    enum { SIZE = 32 }; /* what the C library registers, whatever the size of the structure */
    if (__rseq_size)
        CHECK_OK(syscall(SYS_rseq, (char*)__builtin_thread_pointer() + __rseq_offset, SIZE,
                         RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
}

static void run_sweep(void) {
    unregister_restartable_sequences();
    nth_fd = (int)CHECK_OK(open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC));
    unsigned failures = 0, n = 1;
    for (;; n++) {
        CHECK(n < MOST, "%s still meets allocations after %d", current->name, MOST);
        if (current->prepare) current->prepare();
        struct pseudo_mm_info before, after;
        CHECK_OK(call_info(device_fd, &before));
        arm(n);
        errno = 0;
        const int value = current->call();
        const int error = errno;
        if (value == 0 && current->call == fork_lazy) current->undo(0);
        const bool happened = disarm();
        if (value == -1) {
            failures++;
            CHECK(happened, "%s failed by itself: %s", current->name, strerrorname_np(error));
            CHECK(error == ENOMEM || (current->other_error && error == current->other_error),
                  "%s gave %s at n = %u", current->name, strerrorname_np(error), n);
        }
        if (current->undo)
            current->undo(value);
        else if (value > 0)
            close(value);
        CHECK_OK(call_info(device_fd, &after));
        CHECK(after.templates <= before.templates && after.pools <= before.pools,
              "%s left something at n = %u", current->name, n);
        if (!happened) break;
    }
    /* Nothing may fail now. */
    if (current->prepare) current->prepare();
    const int value = current->call();
    if (value == 0 && current->call == fork_lazy) current->undo(0);
    CHECK(value != -1, "%s does not work any more: %s", current->name, strerror(errno));
    if (current->undo)
        current->undo(value);
    else if (value > 0)
        close(value);
    printf("# %s: %u places to fail, %u of them made the call fail\n", current->name, n - 1,
           failures);
    fflush(stdout);
}

static bool enable(void) {
    static const char* const settings[][2] = {
        {"/sys/kernel/debug/failslab/ignore-gfp-wait", "N"},
        {"/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N"},
        {"/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N"},
        {"/sys/kernel/debug/fail_page_alloc/min-order", "0"},
        {"/sys/kernel/debug/failslab/verbose", "0"},
        {"/sys/kernel/debug/fail_page_alloc/verbose", "0"},
        {"/sys/kernel/debug/fail_usercopy/verbose", "0"},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        write_text(settings[i][0], settings[i][1]);
    return access("/proc/self/fail-nth", W_OK) == 0;
}

int run_fail_nth(void) {
    if (!enable()) {
        const bool allowed = options.allow_skips;
        printf(allowed ? "ok 1 - fail_nth # SKIP %s\n# 0 passed, 0 failed, 1 skipped\n"
                       : "not ok 1 - fail_nth\n# %s\n# 0 passed, 1 failed, 0 skipped\n",
               "no /proc/self/fail-nth: the kernel lacks FAULT_INJECTION");
        return allowed ? 0 : 1;
    }
    current_mode = MODE_SELF;
    state_open(current_mode);
    unsigned passed = 0, failed = 0;
    for (size_t i = 0; i < sizeof sweeps / sizeof *sweeps; i++) {
        current = &sweeps[i];
        char name[64];
        snprintf(name, sizeof name, "fail_nth.%s", current->name);
        if (options.filter && fnmatch(options.filter, name, 0)) continue;
        char message[1024] = "", after[512] = "";
        state_begin();
        const enum outcome outcome =
            run_process(run_sweep, options.timeout * 10, message, sizeof message);
        const bool clean = state_end(after, sizeof after);
        const bool ok = outcome == PASSED && clean;
        *(ok ? &passed : &failed) += 1;
        printf("%s %zu - %s%s%s%s%s\n", ok ? "ok" : "not ok", i + 1, name, *message ? "\n# " : "",
               message, clean ? "" : "\n# ", clean ? "" : after);
    }
    state_close();
    printf("# %u passed, %u failed, 0 skipped\n", passed, failed);
    return failed || !passed ? 1 : 0;
}
