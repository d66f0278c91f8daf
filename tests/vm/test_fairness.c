// SPDX-License-Identifier: Apache-2.0
// A long ATTACH gives way to others.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "instance.h"

enum { EXTENTS = 256, EXTENT = 1024, GIVEN_WAY = 4, ATTEMPTS = 8 };

static long times_preempted(void) {
    struct rusage usage;
    CHECK_OK(getrusage(RUSAGE_THREAD, &usage));
    return usage.ru_nivcsw;
}

/*
 * Kernels that can choose are told to preempt system calls only where these offer it. Otherwise
 * whatever ATTACH calls in the kernel gives way for it. Left as it was found.
 */
static int preempt_setting(void) {
    return open("/sys/kernel/debug/sched/preempt", O_RDWR | O_CLOEXEC);
}

static void read_preemption(char* word, size_t size) {
    char all[128] = "";
    const int fd = preempt_setting();
    if (fd < 0) CHECK(errno == ENOENT, "%s", strerror(errno));
    if (fd >= 0) {
        CHECK(read(fd, all, sizeof all - 1) > 0, "%s", strerror(errno));
        close(fd);
    }
    const char* const chosen = strchr(all, '(');  // "none (voluntary) full"
    snprintf(word, size, "%.*s", chosen ? (int)strcspn(chosen + 1, ")") : 0,
             chosen ? chosen + 1 : "");
}

static void write_preemption(const char* word) {
    if (!*word) return;
    const int fd = preempt_setting();
    CHECK(fd >= 0 && write(fd, word, strlen(word)) > 0, "%s: %s", word, strerror(errno));
    close(fd);
}

/* Anew, because clearing what is there would give way. */
static void make_empty(uintptr_t address, size_t size) {
    const void* const memory = mmap((void*)address, size, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
}

/*
 * One gibibyte shared, or a quarter copied, on a processor that somebody else wants as well. Both
 * take turns while the pages are shared, and while they are copied; a call that never looks up
 * would be through before its next turn. While the machine itself waits for its host, turns are as
 * long as its pauses: one of several calls has to give way often enough.
 */
static void attach_beside_another(uint32_t kind, uint64_t extents) {
    static struct pseudo_mm_extent list[EXTENTS];
    const uintptr_t address = 0x40000000000;
    for (uint64_t i = 0; i < extents; i++)
        list[i] = (struct pseudo_mm_extent){
            .addr = address + i * EXTENT * PAGE, .page = 0, .nr_pages = EXTENT, .kind = kind};
    const int fd = template_of(common_pool.fd, list, extents);
    volatile uint64_t* const turns =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(turns != MAP_FAILED, "%s", strerror(errno));

    char preemption[32];
    read_preemption(preemption, sizeof preemption);
    if (*preemption) write_preemption("none");
    stay_on_first_processor();
    const pid_t pid = child_start();
    if (pid == 0)
        for (;;) (*turns)++;
    while (*turns == 0) sched_yield();
    const uint64_t turns_before = *turns;
    long given_way = 0;
    for (int i = 0; i < ATTEMPTS && given_way < GIVEN_WAY; i++) {
        make_empty(address, extents * EXTENT * PAGE);
        const long before = times_preempted();
        CHECK_OK(call_attach(fd, 0, NULL));
        given_way = times_preempted() - before;
    }
    write_preemption(preemption);
    CHECK(given_way >= GIVEN_WAY, "gave way %ld times", given_way);
    CHECK(*turns > turns_before, "the other did not run");
    CHECK_OK(kill(pid, SIGKILL));
    child_killed(pid, SIGKILL);
    const char* const last = (const char*)address + (extents * EXTENT - 1) * PAGE;
    CHECK(page_is(last, common_pool.seed, EXTENT - 1), "last");
}

TEST(fairness, shared, MODE_SELF, .slow = true) {
    attach_beside_another(PSEUDO_MM_SHARED, EXTENTS);
}

TEST(fairness, copied, MODE_SELF, .slow = true) {
    attach_beside_another(PSEUDO_MM_COPIED, EXTENTS / 4);
}
