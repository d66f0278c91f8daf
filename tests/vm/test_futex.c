// SPDX-License-Identifier: Apache-2.0
// Locks and atomic operations in template pages.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "instance.h"

static struct instance instance;

static long futex(uint32_t* word, int operation, uint32_t value, const struct timespec* timeout) {
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

struct waiter {
    uint32_t* word;
    int flags;
    uint32_t value;
    int result;
};

static void* wait_on(void* argument) {
    struct waiter* const waiter = argument;
    const struct timespec limit = {20, 0};
    do
        waiter->result =
            futex(waiter->word, FUTEX_WAIT | waiter->flags, waiter->value, &limit) ? errno : 0;
    while (waiter->result == EINTR);
    return NULL;
}

/* One thread waits on a word nobody has written to yet; the other changes it and wakes. */
static void wait_and_wake(uint64_t page, int flags) {
    uint32_t* const word = (uint32_t*)page_at(&instance, AREA_RW, page) + 2;
    struct waiter waiter = {word, flags, *word, -1};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wait_on, &waiter), 0);
    /* Without a change: it must be found waiting on the untouched page. */
    long woken = 0;
    for (const double deadline = now() + 20; !woken && now() < deadline; sleep_ms(1))
        woken = CHECK_OK(futex(word, FUTEX_WAKE | flags, 1, NULL));
    CHECK_EQ(woken, 1);
    pthread_join(thread, NULL);
    CHECK_EQ(waiter.result, 0);
    /* With a change in between: the store copies the page, the waiter must be found all the same.
     */
    waiter.result = -1;
    waiter.value = *word;
    CHECK_EQ(pthread_create(&thread, NULL, wait_on, &waiter), 0);
    sleep_ms(20);
    uint8_t* const byte = (uint8_t*)word;
    write_byte(&instance, AREA_RW, page, 8, (uint8_t)(*byte + 1));
    futex(word, FUTEX_WAKE | flags, 1, NULL);
    pthread_join(thread, NULL);
    CHECK(waiter.result == 0 || waiter.result == EAGAIN, "%s", strerror(waiter.result));
    instance_check(&instance);
}

TEST(futex, private, EVERY_MODE) {
    instance_setup(&instance);
    wait_and_wake(1, FUTEX_PRIVATE_FLAG);
    wait_and_wake(17, FUTEX_PRIVATE_FLAG);
    wait_and_wake(26, FUTEX_PRIVATE_FLAG);
    wait_and_wake(45, FUTEX_PRIVATE_FLAG);
}

TEST(futex, shared, EVERY_MODE) {
    instance_setup(&instance);
    wait_and_wake(1, 0);
    wait_and_wake(17, 0);
    wait_and_wake(26, 0);
    wait_and_wake(45, 0);
}

/* Parent and child have the same pages, and must not wake each other. */
TEST(futex, not_across_fork, ANONYMOUS) {
    instance_setup(&instance);
    uint32_t* const word = page_at(&instance, AREA_RW, 1);
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t pid = child_start();
    if (pid == 0) {
        barrier_signal(&barrier, 1);
        const struct timespec limit = {0, 300 * 1000 * 1000};
        CHECK_ERRNO(futex(word, FUTEX_WAIT, *word, &limit), ETIMEDOUT);
        child_end();
    }
    barrier_wait(&barrier, 0);
    sleep_ms(100);
    CHECK_EQ(futex(word, FUTEX_WAKE, 10, NULL), 0);
    child_join(pid);
}

enum { THREADS = 4, ROUNDS = 500 };

static void* count(void* argument) {
    uint64_t* const words = argument;
    for (int i = 0; i < ROUNDS; i++)
        for (int page = 0; page < 4; page++)
            __atomic_fetch_add(&words[page * (PAGE / 8)], 1, __ATOMIC_RELAXED);
    return NULL;
}

/* The first store of several threads at once: one copy wins, no addition is lost. */
TEST(futex, atomics, EVERY_MODE) {
    instance_setup(&instance);
    for (uint64_t first = 4; first < 44; first += 8) {
        uint64_t expected[4];
        for (uint64_t i = 0; i < 4; i++) {
            uint64_t words[PAGE / 8];
            expected_page(&instance, AREA_RW, first + i, words);
            expected[i] = words[0];
        }
        uint64_t* const words = page_at(&instance, AREA_RW, first);
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL, count, words), 0);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(words[i * (PAGE / 8)], expected[i] + THREADS * ROUNDS);
            words[i * (PAGE / 8)] = expected[i];
        }
    }
    instance_check(&instance);
}

struct locked {
    pthread_mutex_t mutex;
    uint64_t value;
};

static void* add_locked(void* argument) {
    struct locked* const locked = argument;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&locked->mutex);
        locked->value++;
        pthread_mutex_unlock(&locked->mutex);
    }
    return NULL;
}

TEST(futex, mutex, EVERY_MODE) {
    instance_setup(&instance);
    struct locked* const locked = page_at(&instance, AREA_RW, 10);
    const struct locked fresh = {.mutex = PTHREAD_MUTEX_INITIALIZER, .value = 0};
    memcpy(locked, &fresh, sizeof fresh);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, add_locked, locked), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(locked->value, THREADS * ROUNDS);
    write_mark(&instance, AREA_RW, 10, 1);
    instance_check(&instance);
}
