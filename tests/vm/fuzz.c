// SPDX-License-Identifier: Apache-2.0
// Random calls, mostly almost right, of several threads and processes that share descriptors and
// memory. Nothing is expected of any single call; afterwards the module must be as it was, the
// kernel log empty, and the common pool unchanged.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "pages.h"
#include "runner.h"

static char* const arena = (char*)0x50000000000;
enum {
    ARENA_PAGES = 1024,
    PROCESSES = 3,
    THREADS = 2,
    SLOTS = 12,
    EXTENTS = 24,
    SOURCE_PAGES = 64,
};

/* Descriptors that all threads of a process use, and close under one another. */
static struct {
    int pools[SLOTS], templates[SLOTS];
} shared_fds;
static char* source_memory;
static uint64_t* operations; /* of all processes */
static pid_t* processes;

struct random {
    uint64_t state;
};

static uint64_t draw(struct random* random, uint64_t below) {
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return random->state % below;
}

static bool one_in(struct random* random, uint64_t n) {
    return draw(random, n) == 0;
}

/* Values at which things tend to go wrong. */
static uint64_t odd_number(struct random* random) {
    static const uint64_t numbers[] = {
        0,          1,          PAGE,       PAGE - 1,  UINT32_MAX,         UINT64_MAX,
        1ULL << 52, 1ULL << 63, 1ULL << 47, INT64_MAX, (1ULL << 47) - PAGE};
    const uint64_t number = numbers[draw(random, sizeof numbers / sizeof *numbers)];
    return one_in(random, 2) ? number : number + draw(random, 5) - 2;
}

static uint64_t any_page(struct random* random) {
    return draw(random, ARENA_PAGES);
}
static char* any_place(struct random* random) {
    return arena + any_page(random) * PAGE;
}
static size_t any_length(struct random* random) {
    return (1 + draw(random, one_in(random, 4) ? ARENA_PAGES / 2 : 16)) * PAGE;
}

/* Changes one of 32-bit words of an argument, sometimes. */
static void mutate(struct random* random, void* argument, size_t size) {
    if (!one_in(random, 6)) return;
    const uint32_t word = (uint32_t)odd_number(random);
    memcpy((char*)argument + draw(random, size / 4) * 4, &word, sizeof word);
}

static void store_fd(struct random* random, int* slots, int fd) {
    if (fd < 0) return;
    const int old = __atomic_exchange_n(&slots[draw(random, SLOTS)], fd, __ATOMIC_RELAXED);
    if (old >= 0) close(old);
}

static int load_fd(struct random* random, const int* slots) {
    return __atomic_load_n(&slots[draw(random, SLOTS)], __ATOMIC_RELAXED);
}

static int any_fd(struct random* random) {
    switch (draw(random, 4)) {
        case 0:
            return device_fd;
        case 1:
            return common_pool.fd;
        case 2:
            return load_fd(random, shared_fds.pools);
        default:
            return load_fd(random, shared_fds.templates);
    }
}

static void do_pool(struct random* random) {
    struct pseudo_mm_range ranges[6];
    for (int i = 0; i < 6; i++) {
        const uint64_t first = draw(random, SOURCE_PAGES);
        ranges[i] = (struct pseudo_mm_range){(uintptr_t)source_memory + first * PAGE,
                                             (1 + draw(random, SOURCE_PAGES - first)) * PAGE};
        if (one_in(random, 20)) ranges[i].addr = (uintptr_t)any_place(random);
        if (one_in(random, 40)) ranges[i].len = odd_number(random);
    }
    struct pseudo_mm_pool pool = {.size = sizeof pool,
                                  .flags = one_in(random, 3) || options.source == SOURCE_COPY,
                                  .ranges = (uintptr_t)ranges,
                                  .nr_ranges = 1 + (uint32_t)draw(random, 6)};
    mutate(random, &pool, sizeof pool);
    if (pool.nr_ranges > 6) pool.nr_ranges |= 1U << 24; /* refused; never read as a long list */
    store_fd(random, shared_fds.pools, ioctl(device_fd, PSEUDO_MM_IOC_POOL, &pool));
}

static void do_template(struct random* random) {
    struct pseudo_mm_template template = {.size = sizeof template};
    mutate(random, &template, sizeof template);
    const int pool = one_in(random, 2) ? common_pool.fd : load_fd(random, shared_fds.pools);
    store_fd(random, shared_fds.templates, ioctl(pool, PSEUDO_MM_IOC_TEMPLATE, &template));
}

static void do_add(struct random* random) {
    struct pseudo_mm_extent extents[EXTENTS];
    uint64_t page = draw(random, ARENA_PAGES / 2);
    for (int i = 0; i < EXTENTS; i++) {
        page += draw(random, 20);
        extents[i] = (struct pseudo_mm_extent){
            .addr = (uintptr_t)arena + page * PAGE,
            .page = draw(random, one_in(random, 20) ? COMMON_POOL_PAGES : 20),
            .nr_pages = 1 + draw(random, 24),
            .kind = (uint32_t)draw(random, 3),
        };
        page += extents[i].nr_pages;
        mutate(random, &extents[i], sizeof *extents);
    }
    struct pseudo_mm_add add = {.size = sizeof add,
                                .extents = (uintptr_t)extents,
                                .nr_extents = 1 + (uint32_t)draw(random, EXTENTS)};
    mutate(random, &add, sizeof add);
    if (add.nr_extents > EXTENTS) add.nr_extents |= 1U << 20;
    ioctl(load_fd(random, shared_fds.templates), PSEUDO_MM_IOC_ADD, &add);
}

/* A template that works, so that attaching is not always refused. */
static void do_good_template(struct random* random) {
    struct pseudo_mm_extent extents[8];
    uint64_t page = draw(random, 64);
    uint32_t count = 0;
    const bool lazy = one_in(random, 4);
    for (; count < 8 && page < ARENA_PAGES - 80; count++) {
        extents[count] = (struct pseudo_mm_extent){.addr = (uintptr_t)arena + page * PAGE,
                                                   .page = draw(random, COMMON_POOL_PAGES - 64),
                                                   .nr_pages = 1 + draw(random, 64),
                                                   .kind = (uint32_t)draw(random, lazy ? 3 : 2)};
        page += extents[count].nr_pages + draw(random, 64);
    }
    const int fd = call_template(common_pool.fd);
    if (fd < 0) return;
    call_add(fd, extents, count);
    call_seal(fd);
    if (lazy)
        mmap(arena, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, fd,
             (off_t)(uintptr_t)arena);
    store_fd(random, shared_fds.templates, fd);
}

static void do_seal(struct random* random) {
    struct pseudo_mm_seal seal = {.size = sizeof seal};
    mutate(random, &seal, sizeof seal);
    ioctl(load_fd(random, shared_fds.templates), PSEUDO_MM_IOC_SEAL, &seal);
}

static void do_attach(struct random* random) {
    struct pseudo_mm_attach attach = {.size = sizeof attach};
    if (one_in(random, 2)) attach.pid = processes[draw(random, PROCESSES)];
    if (one_in(random, 30)) attach.pid = (int)odd_number(random);
    if (attach.pid == 1 || attach.pid == getppid()) attach.pid = 0;
    mutate(random, &attach, 8);
    ioctl(load_fd(random, shared_fds.templates), PSEUDO_MM_IOC_ATTACH, &attach);
}

static void do_stat(struct random* random) {
    struct pseudo_mm_stat stat = {
        .size = sizeof stat, .first_page = draw(random, 40), .nr_pages = draw(random, 40)};
    if (one_in(random, 2)) stat.first_page = stat.nr_pages = 0;
    mutate(random, &stat, 24);
    ioctl(any_fd(random), PSEUDO_MM_IOC_STAT, &stat);
}

static void do_any_call(struct random* random) {
    uint64_t argument[32];
    for (int i = 0; i < 32; i++) argument[i] = one_in(random, 3) ? odd_number(random) : 0;
    const uint32_t size = (uint32_t)draw(random, 200);
    memcpy(argument, &size, sizeof size);
    ((uint32_t*)argument)[4] = 0; /* the number of ranges or extents */
    ((int32_t*)argument)[2] = 0;  /* a process number: itself */
    ioctl(any_fd(random), _IO(PSEUDO_MM_IOC_TYPE, draw(random, 9)),
          one_in(random, 10) ? (void*)odd_number(random) : (void*)argument);
}

static void do_map(struct random* random) {
    static const int protections[] = {PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
                                      PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE};
    char* const place = any_place(random);
    size_t length = any_length(random);
    if (place + length > arena + ARENA_PAGES * PAGE)
        length = (size_t)(arena + ARENA_PAGES * PAGE - place);
    const int protection = protections[draw(random, 5)];
    if (one_in(random, 3)) {
        const off_t offset =
            one_in(random, 10) ? (off_t)odd_number(random) : (off_t)(uintptr_t)place;
        mmap(place, length, protection, MAP_FIXED | (one_in(random, 30) ? MAP_SHARED : MAP_PRIVATE),
             load_fd(random, shared_fds.templates), offset);
    } else {
        mmap(place, length, protection,
             MAP_FIXED | MAP_ANONYMOUS | (one_in(random, 20) ? MAP_SHARED : MAP_PRIVATE), -1, 0);
    }
}

static void do_whole_map(struct random* random) {
    mmap(arena, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_ANONYMOUS | MAP_PRIVATE,
         -1, 0);
    if (one_in(random, 2)) madvise(arena, ARENA_PAGES * PAGE, MADV_HUGEPAGE);
}

static void do_advice(struct random* random) {
    static const int advice[] = {MADV_DONTNEED,      MADV_FREE,           MADV_PAGEOUT,
                                 MADV_COLD,          MADV_HUGEPAGE,       MADV_NOHUGEPAGE,
                                 MADV_POPULATE_READ, MADV_MERGEABLE,      MADV_WIPEONFORK,
                                 MADV_KEEPONFORK,    MADV_POPULATE_WRITE, 25};
    madvise(any_place(random), any_length(random), advice[draw(random, 12)]);
}

static void do_move(struct random* random) {
    const size_t length = any_length(random);
    char* const to = any_place(random);
    if (to + length <= arena + ARENA_PAGES * PAGE)
        mremap(any_place(random), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

static void do_protect(struct random* random) {
    static const int protections[] = {PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
                                      PROT_READ | PROT_EXEC};
    mprotect(any_place(random), any_length(random), protections[draw(random, 4)]);
    if (one_in(random, 3)) munmap(any_place(random), any_length(random));
    if (one_in(random, 8)) mlock(any_place(random), 8 * PAGE);
    if (one_in(random, 4)) munlockall();
}

/* Touches without dying: the kernel reads and writes on our behalf. */
static void do_touch(struct random* random) {
    static __thread int ends[2] = {0, 0};
    char copy[PAGE];
    if (!ends[1] && pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return;
    for (int i = 0; i < 8; i++) {
        if (write(ends[1], any_place(random) + draw(random, PAGE), 1) == 1)
            if (read(ends[0], one_in(random, 2) ? any_place(random) : copy, 1) != 1)
                while (read(ends[0], copy, PAGE) > 0) continue;
    }
}

static void do_fork(struct random* random) {
    if (!one_in(random, 4)) return; /* costs as much as all the others together */
    const pid_t pid = fork();
    if (pid == 0) {
        struct random own = {(random->state ^ (uint64_t)getpid() << 20) | 1};
        for (uint64_t i = draw(&own, 6); i > 0; i--) {
            do_touch(&own);
            if (one_in(&own, 2)) do_advice(&own);
            if (one_in(&own, 2)) do_attach(&own);
        }
        _exit(0);
    }
    if (pid > 0) waitpid(pid, NULL, 0);
}

static void do_close(struct random* random) {
    int* const slots = one_in(random, 2) ? shared_fds.pools : shared_fds.templates;
    const int old = __atomic_exchange_n(&slots[draw(random, SLOTS)], -1, __ATOMIC_RELAXED);
    if (old >= 0) close(old);
}

static void (*const actions[])(struct random*) = {
    do_pool,   do_template,      do_template,      do_add,      do_add,      do_seal,
    do_stat,   do_good_template, do_good_template, do_any_call, do_any_call, do_any_call,
    do_attach, do_attach,        do_attach,        do_attach,   do_map,      do_map,
    do_touch,  do_whole_map,     do_advice,        do_advice,   do_move,     do_protect,
    do_touch,  do_touch,         do_touch,         do_fork,     do_close,
};
enum { ACTIONS = sizeof actions / sizeof *actions };

static void* fuzz_thread(void* argument) {
    struct random random = {(uintptr_t)argument * 0x9e3779b97f4a7c15u | 1};
    for (;;) {
        actions[draw(&random, ACTIONS)](&random);
        __atomic_fetch_add(operations, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void fuzz_process(uint64_t seed) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < SLOTS; i++) shared_fds.pools[i] = shared_fds.templates[i] = -1;
    pthread_t thread;
    for (uintptr_t i = 1; i < THREADS; i++)
        pthread_create(&thread, NULL, fuzz_thread, (void*)(uintptr_t)(seed * 100 + i));
    fuzz_thread((void*)(uintptr_t)(seed * 100));
}

static double round_seconds;
static uint64_t round_seed;

/* Processes that die of what they do to themselves are replaced. */
static void fuzz_round(void) {
    uint64_t next = round_seed * 1000;
    const uint64_t before = *operations;
    memset(processes, 0, PROCESSES * sizeof *processes); /* not those of the round before */
    for (const double deadline = now() + round_seconds; now() < deadline; sleep_ms(2)) {
        for (int i = 0; i < PROCESSES; i++) {
            if (processes[i] && waitpid(processes[i], NULL, WNOHANG) != processes[i]) continue;
            const uint64_t seed = ++next;
            const pid_t pid = fork();
            if (pid == 0) fuzz_process(seed);
            processes[i] = pid;
        }
        /* Sometimes in the middle of a call. */
        if (next % 3 == 0 && (uint64_t)(now() * 100) % 50 == 0)
            kill(processes[next % PROCESSES], SIGKILL);
    }
    for (int i = 0; i < PROCESSES; i++) kill(processes[i], SIGKILL);
    for (int i = 0; i < PROCESSES; i++) waitpid(processes[i], NULL, 0);
    /* The last may be cut short by the end of the time. */
    CHECK(round_seconds < 5 || *operations - before >= 500, "only %llu operations in a round",
          (unsigned long long)(*operations - before));
}

int run_fuzz(void) {
    current_mode = MODE_SELF;
    state_open(current_mode);
    struct pool source;
    pool_open_source(&source, SOURCE_PAGES, 1);
    source_memory = source.map;
    char* const shared =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    operations = (uint64_t*)shared;
    processes = (pid_t*)(shared + 64);
    const struct rlimit few = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &few);
    printf("# fuzzing for %u s, seed %llu\n", options.fuzz_seconds,
           (unsigned long long)options.seed);
    const double deadline = now() + options.fuzz_seconds;
    for (round_seed = options.seed; now() < deadline; round_seed++) {
        round_seconds = deadline - now() < 10 ? deadline - now() : 10;
        char message[1024] = "", after[512] = "";
        state_begin();
        const enum outcome outcome =
            run_process(fuzz_round, options.timeout + 10, message, sizeof message);
        const bool clean = state_end(after, sizeof after);
        if (outcome != PASSED || !clean) {
            printf("not ok - fuzz, round seed %llu\n# %s %s\n# 0 passed, 1 failed, 0 skipped\n",
                   (unsigned long long)round_seed, message, after);
            return 1;
        }
    }
    struct pseudo_mm_info info = {0};
    call_info(device_fd, &info);
    printf(
        "ok - fuzz\n# %llu operations, %llu attaches, %llu refused, %llu lazy faults\n"
        "# 1 passed, 0 failed, 0 skipped\n",
        (unsigned long long)*operations, (unsigned long long)info.attaches,
        (unsigned long long)info.failed_attaches, (unsigned long long)info.lazy_faults);
    state_close();
    return 0;
}
