// SPDX-License-Identifier: Apache-2.0
// A long ATTACH gives way to others.
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
    char* const memory =
        mmap((void*)address, extents * EXTENT * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, "%s", strerror(errno));
    volatile uint64_t* const turns =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(turns != MAP_FAILED, "%s", strerror(errno));

    stay_on_first_processor();
    const pid_t pid = child_start();
    if (pid == 0)
        for (;;) (*turns)++;
    while (*turns == 0) sched_yield();
    const uint64_t turns_before = *turns;
    long given_way = 0;
    for (int i = 0; i < ATTEMPTS && given_way < GIVEN_WAY; i++) {
        const long before = times_preempted();
        CHECK_OK(call_attach(fd, 0, NULL));
        given_way = times_preempted() - before;
    }
    CHECK(given_way >= GIVEN_WAY, "gave way %ld times", given_way);
    CHECK(*turns > turns_before, "the other did not run");
    CHECK_OK(kill(pid, SIGKILL));
    child_killed(pid, SIGKILL);
    CHECK(page_is(memory + (extents * EXTENT - 1) * PAGE, common_pool.seed, EXTENT - 1), "last");
}

TEST(fairness, shared, MODE_SELF, .slow = true) {
    attach_beside_another(PSEUDO_MM_SHARED, EXTENTS);
}

TEST(fairness, copied, MODE_SELF, .slow = true) {
    attach_beside_another(PSEUDO_MM_COPIED, EXTENTS / 4);
}
