// SPDX-License-Identifier: Apache-2.0
// ATTACH against everything that can happen to its target meanwhile. Whatever wins, the errors are
// the documented ones, contents are the template's or zeros, and nothing is left behind.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "pages.h"

static char* const memory = (char*)0x30000000000;
enum { PAGES = 2048, PERIOD = 32 };

static double seconds(void) {
    return options.quick ? 0.4 : 2;
}

/* Runs of 32 pages, every fourth copied. */
static int make_template(void) {
    static struct pseudo_mm_extent list[PAGES / PERIOD];
    for (uint64_t i = 0; i < PAGES / PERIOD; i++)
        list[i] = (struct pseudo_mm_extent){
            .addr = (uintptr_t)memory + i * PERIOD * PAGE,
            .page = i * PERIOD % COMMON_POOL_PAGES,
            .nr_pages = PERIOD,
            .kind = i % 4 == 3 ? PSEUDO_MM_COPIED : PSEUDO_MM_SHARED,
        };
    return template_of(common_pool.fd, list, PAGES / PERIOD);
}

static void map_target(void) {
    CHECK(mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory,
          "%s", strerror(errno));
}

/* Each page is the template's or zero: nothing in between, nothing else. */
static void expect_whole_pages(void) {
    for (uint64_t page = 0; page < PAGES; page += 7)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page % COMMON_POOL_PAGES) ||
                  page_is_zero(memory + page * PAGE),
              "page %d", (int)page);
}

static uint64_t next_random(uint64_t* state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Attaches to `pid` until it is gone or the time is over; returns how often it went well. */
static unsigned attach_repeatedly(int fd, pid_t pid, double deadline) {
    unsigned done = 0;
    while (now() < deadline) {
        struct pseudo_mm_attach result;
        if (call_attach(fd, pid, &result) == 0) {
            done++;
            continue;
        }
        CHECK(errno == ESRCH || errno == EFAULT || errno == EOPNOTSUPP, "%s",
              strerrorname_np(errno));
        if (errno == ESRCH) break;
    }
    return done;
}

static pid_t running_target(void (*run)(void)) {
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t pid = child_start();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        map_target();
        barrier_signal(&barrier, 1);
        run();
        child_end();
    }
    barrier_wait(&barrier, 0);
    for (int i = 0; i < 4; i++) close(barrier.pipe[i / 2][i % 2]);
    return pid;
}

static void end_soon(void) {
    sleep_ms((unsigned)getpid() % 7);
}

TEST(race, target_exits, MODE_API) {
    const int fd = make_template();
    for (const double deadline = now() + seconds(); now() < deadline;) {
        const pid_t pid = running_target(end_soon);
        attach_repeatedly(fd, pid, now() + 5);
        child_join(pid);
    }
}

static void exec_soon(void) {
    sleep_ms((unsigned)getpid() % 5);
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, 1);
    execl("/proc/self/exe", "pseudo_mm_test", "--help", NULL);
}

TEST(race, target_execs, MODE_API) {
    const int fd = make_template();
    for (const double deadline = now() + seconds(); now() < deadline;) {
        const pid_t pid = running_target(exec_soon);
        attach_repeatedly(fd, pid, now() + 5);
        CHECK_EQ(child_status(pid), 0);
    }
}

static void sleep_on(void) {
    for (;;) pause();
}

TEST(race, target_killed, MODE_API) {
    const int fd = make_template();
    uint64_t random = options.seed;
    for (const double deadline = now() + seconds(); now() < deadline;) {
        const pid_t pid = running_target(sleep_on);
        const pid_t killer = child_start();
        if (killer == 0) {
            usleep((useconds_t)(next_random(&random) % 8000));
            kill(pid, SIGKILL);
            child_end();
        }
        next_random(&random);
        attach_repeatedly(fd, pid, now() + 5);
        child_join(killer);
        child_killed(pid, SIGKILL);
    }
}

/* The attacher is killed in the middle; its target goes on with whole pages. */
TEST(race, attacher_killed, MODE_API) {
    const int fd = make_template();
    uint64_t random = options.seed;
    for (const double deadline = now() + seconds(); now() < deadline;) {
        struct barrier barrier;
        barrier_open(&barrier);
        const pid_t target = child_start();
        if (target == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            map_target();
            barrier_signal(&barrier, 1);
            barrier_wait(&barrier, 1);
            expect_whole_pages();
            for (uint64_t page = 0; page < PAGES; page += 3) memory[page * PAGE] = 1;
            child_end();
        }
        barrier_wait(&barrier, 0);
        const pid_t attacher = child_start();
        if (attacher == 0) {
            for (;;) call_attach(fd, target, NULL);
        }
        usleep((useconds_t)(next_random(&random) % 20000));
        CHECK_OK(kill(attacher, SIGKILL));
        child_killed(attacher, SIGKILL);
        barrier_signal(&barrier, 0);
        child_join(target);
        for (int i = 0; i < 4; i++) close(barrier.pipe[i / 2][i % 2]);
    }
}

enum { BIG_PAGES = 1 << 18, BIG_EXTENTS = BIG_PAGES / COMMON_POOL_PAGES };

/* What one call fills in about a second: one gibibyte, a sixteenth of it copied. */
static int make_big_template(void) {
    static struct pseudo_mm_extent list[BIG_EXTENTS];
    for (uint64_t i = 0; i < BIG_EXTENTS; i++)
        list[i] = (struct pseudo_mm_extent){
            .addr = (uintptr_t)memory + i * COMMON_POOL_PAGES * PAGE,
            .nr_pages = COMMON_POOL_PAGES,
            .kind = i % 16 == 7 ? PSEUDO_MM_COPIED : PSEUDO_MM_SHARED,
        };
    return template_of(common_pool.fd, list, BIG_EXTENTS);
}

/* Whether the template is there; all of it or nothing. */
static bool big_template_is_there(void) {
    const bool there = page_is(memory, common_pool.seed, 0);
    for (uint64_t page = 0; page < BIG_PAGES; page += 509)
        CHECK(there ? page_is(memory + page * PAGE, common_pool.seed, page % COMMON_POOL_PAGES)
                    : page_is_zero(memory + page * PAGE),
              "page %d, %s", (int)page, there ? "attached" : "not attached");
    return there;
}

/* SIGKILL in the middle of one long call: of who makes it, or of its target. */
TEST(race, killed_in_big_attach, MODE_API, .slow = true) {
    const int fd = make_big_template();
    uint64_t random = options.seed;
    unsigned interrupted = 0;
    for (int round = 0; round < 10; round++) {
        const bool kill_target = round % 3 == 2;
        struct barrier barrier;
        barrier_open(&barrier);
        const pid_t target = child_start();
        if (target == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            CHECK(mmap(memory, (size_t)BIG_PAGES * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == memory,
                  "%s", strerror(errno));
            barrier_signal(&barrier, 1);
            barrier_wait(&barrier, 1);
            _exit(big_template_is_there());
        }
        barrier_wait(&barrier, 0);
        const pid_t attacher = child_start();
        if (attacher == 0) {
            barrier_signal(&barrier, 1);
            const int value = call_attach(fd, target, NULL), error = errno;
            CHECK(value == 0 || (kill_target && error == ESRCH), "%s", strerrorname_np(error));
            child_end();
        }
        barrier_wait(&barrier, 0);
        usleep((useconds_t)(next_random(&random) % 400000));
        CHECK_OK(kill(kill_target ? target : attacher, SIGKILL));
        if (kill_target) {
            child_killed(target, SIGKILL);
            child_join(attacher);
        } else {
            child_status(attacher);
            barrier_signal(&barrier, 0);
            const int status = child_status(target);
            if (test_failed()) _exit(1);
            CHECK(WIFEXITED(status), "%#x", (unsigned)status);
            interrupted += WEXITSTATUS(status) == 0;
        }
        for (int i = 0; i < 4; i++) close(barrier.pipe[i / 2][i % 2]);
    }
    CHECK(interrupted > 0, "no call was interrupted");
}

/* Threads of the target that use the range, change it, or take it away. */
static void* read_and_write(void* argument) {
    uint64_t random = (uintptr_t)argument;
    for (;;) {
        const uint64_t page = next_random(&random) % PAGES;
        if (page % 5 == 0)
            memory[page * PAGE] = memory[page * PAGE];
        else
            (void)*(volatile char*)(memory + page * PAGE);
    }
    return NULL;
}

static void* unmap_and_map(void* argument) {
    uint64_t random = (uintptr_t)argument;
    for (;;) {
        const uint64_t page = next_random(&random) % (PAGES - 64);
        munmap(memory + page * PAGE, (1 + page % 64) * PAGE);
        mmap(memory + page * PAGE, (1 + page % 64) * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (page % 7 == 0 ? MAP_POPULATE : 0), -1, 0);
    }
    return NULL;
}

static void* protect_and_advise(void* argument) {
    uint64_t random = (uintptr_t)argument;
    for (;;) {
        const uint64_t page = next_random(&random) % (PAGES - 64);
        char* const place = memory + page * PAGE;
        switch (next_random(&random) % 6) {
            case 0:
                mprotect(place, 20 * PAGE, PROT_READ);
                break;
            case 1:
                mprotect(place, 40 * PAGE, PROT_READ | PROT_WRITE);
                break;
            case 2:
                madvise(place, 30 * PAGE, MADV_DONTNEED);
                break;
            case 3:
                madvise(memory, PAGES * PAGE, MADV_HUGEPAGE);
                break;
            case 4:
                madvise(place, 10 * PAGE, MADV_PAGEOUT);
                break;
            case 5:
                madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
                break;
        }
    }
    return NULL;
}

static void* fork_and_wait(void* argument) {
    (void)argument;
    for (;;) {
        const pid_t pid = fork();
        if (pid == 0) {
            for (uint64_t page = 0; page < PAGES; page += 50)
                (void)*(volatile char*)(memory + page * PAGE);
            _exit(0);
        }
        if (pid > 0) waitpid(pid, NULL, 0);
    }
    return NULL;
}

static void run_threads(void* (*first)(void*), void* (*second)(void*)) {
    pthread_t threads[2];
    CHECK_EQ(pthread_create(&threads[0], NULL, first, (void*)1), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, second, (void*)2), 0);
    sleep_on();
}

static void two_users(void) {
    run_threads(read_and_write, read_and_write);
}
static void two_mappers(void) {
    run_threads(unmap_and_map, unmap_and_map);
}
static void two_advisers(void) {
    run_threads(protect_and_advise, protect_and_advise);
}
static void user_and_adviser(void) {
    run_threads(read_and_write, protect_and_advise);
}
static void forker_and_adviser(void) {
    run_threads(fork_and_wait, protect_and_advise);
}

static unsigned attach_against(void (*run)(void)) {
    const int fd = make_template();
    const pid_t pid = running_target(run);
    const unsigned done = attach_repeatedly(fd, pid, now() + seconds());
    kill(pid, SIGKILL);
    /* A store that hit an unmapped page may have ended it before. */
    const int status = child_status(pid);
    CHECK(WIFSIGNALED(status), "%#x", (unsigned)status);
    CHECK(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGSEGV, "%#x", (unsigned)status);
    return done;
}

TEST(race, target_uses_range, MODE_API) {
    CHECK(attach_against(two_users) > 0, "no attach went well");
}
TEST(race, target_maps_range, MODE_API) {
    attach_against(two_mappers);
}
TEST(race, target_advises_range, MODE_API) {
    CHECK(attach_against(two_advisers) > 0, "no attach went well");
}
TEST(race, target_uses_and_advises, MODE_API) {
    attach_against(user_and_adviser);
}
TEST(race, target_forks, MODE_API) {
    CHECK(attach_against(forker_and_adviser) > 0, "no attach went well");
}

/* Several attach the same range at once: afterwards it is whole. */
TEST(race, several_attachers, MODE_API) {
    const int fds[2] = {make_template(), make_template()};
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t target = child_start();
    if (target == 0) {
        map_target();
        barrier_signal(&barrier, 1);
        barrier_wait(&barrier, 1);
        for (uint64_t page = 0; page < PAGES; page++)
            CHECK(page_is(memory + page * PAGE, common_pool.seed, page % COMMON_POOL_PAGES),
                  "page %d", (int)page);
        for (uint64_t page = 0; page < PAGES; page += 2) memory[page * PAGE] = 1;
        child_end();
    }
    barrier_wait(&barrier, 0);
    pid_t attachers[3];
    for (int i = 0; i < 3; i++) {
        attachers[i] = child_start();
        if (attachers[i]) continue;
        for (const double deadline = now() + seconds() / 2; now() < deadline;)
            CHECK_OK(call_attach(fds[i % 2], target, NULL));
        child_end();
    }
    for (int i = 0; i < 3; i++) child_join(attachers[i]);
    barrier_signal(&barrier, 0);
    child_join(target);
}

static void* attach_self(void* argument) {
    const int fd = *(int*)argument;
    for (const double deadline = now() + seconds() / 2; now() < deadline;)
        CHECK_OK(call_attach(fd, 0, NULL));
    return NULL;
}

/* Threads of one process attach and read; a reader sees the template or zeros, never half. */
TEST(race, attach_under_readers, MODE_API) {
    int fd = make_template();
    map_target();
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) CHECK_EQ(pthread_create(&threads[i], NULL, attach_self, &fd), 0);
    for (const double deadline = now() + seconds() / 2; now() < deadline;)
        for (uint64_t page = 0; page < PAGES; page += 61) {
            const uint64_t word = *(volatile uint64_t*)(memory + page * PAGE + 8);
            uint64_t expected[PAGE / 8];
            fill_page(expected, common_pool.seed, page % COMMON_POOL_PAGES);
            CHECK(word == 0 || word == expected[1], "page %d", (int)page);
        }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    /* What a reader found missing in between it made a page of zeros; one more attach settles it.
     */
    CHECK_OK(call_attach(fd, 0, NULL));
    for (uint64_t page = 0; page < PAGES; page++)
        CHECK(page_is(memory + page * PAGE, common_pool.seed, page % COMMON_POOL_PAGES), "page %d",
              (int)page);
}

/* Pools and templates are closed while others use them. */
TEST(race, closing_while_attaching, MODE_API) {
    const double deadline = now() + seconds();
    while (now() < deadline) {
        struct pool pool;
        pool_open(&pool, 64, 9);
        const struct pseudo_mm_extent extent = {.addr = (uintptr_t)memory, .nr_pages = 64};
        const int fd = template_of(pool.fd, &extent, 1);
        pid_t children[2];
        for (int i = 0; i < 2; i++) {
            children[i] = child_start();
            if (children[i]) continue;
            pool_close(&pool);
            map_target();
            CHECK_OK(call_attach(fd, 0, NULL));
            if (i) close(fd);
            for (uint64_t page = 0; page < 64; page++)
                CHECK(page_is(memory + page * PAGE, 9, page), "page %d", (int)page);
            memory[0] = 1;
            child_end();
        }
        close(fd);
        pool_close(&pool);
        child_join(children[0]);
        child_join(children[1]);
        if (options.source == SOURCE_DAX) break; /* the test has only so much of the device */
    }
}
