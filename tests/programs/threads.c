/* SPDX-License-Identifier: Apache-2.0
 *
 * Eight threads that wait on a condition variable. At GET / each looks at its own stack, its own
 * thread-local variables and its own heap block, and reports; the answer is complete only when all
 * eight are alive. GET /spawn starts eight more, which do the same once and end. */
#include <pthread.h>

#include "http_answer.h"
#include "pattern.h"

enum { THREADS = 8, STACK_BYTES = 256 << 10, HEAP_BYTES = 2 << 20, PATIENCE_SECONDS = 20 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static pthread_cond_t reported = PTHREAD_COND_INITIALIZER;
static unsigned round_number; /* all four under the mutex */
static unsigned reports;
static size_t wrong;
static unsigned ready;

static __thread uint64_t identity;
static __thread char local[4096] __attribute__((aligned(8)));

/* Waits for rounds after `seen` and reports in each, `rounds` times. */
static void* work(uint64_t number, unsigned seen, unsigned rounds) {
    char on_stack[STACK_BYTES] __attribute__((aligned(8)));
    char* on_heap = malloc(HEAP_BYTES);
    if (!on_heap) die("malloc");
    identity = number;
    pattern_fill(on_stack, sizeof on_stack, number);
    pattern_fill(local, sizeof local, number + 100);
    pattern_fill(on_heap, HEAP_BYTES, number + 200);

    pthread_mutex_lock(&mutex);
    ++ready;
    pthread_cond_signal(&reported);
    while (rounds-- > 0) {
        while (round_number == seen) pthread_cond_wait(&asked, &mutex);
        seen = round_number;
        pthread_mutex_unlock(&mutex);
        const size_t found = (identity != number) +
                             pattern_wrong(on_stack, sizeof on_stack, number) +
                             pattern_wrong(local, sizeof local, number + 100) +
                             pattern_wrong(on_heap, HEAP_BYTES, number + 200);
        pthread_mutex_lock(&mutex);
        wrong += found;
        ++reports;
        pthread_cond_signal(&reported);
    }
    pthread_mutex_unlock(&mutex);
    free(on_heap);
    return NULL;
}

static void* work_for_ever(void* number) {
    return work((uint64_t)(uintptr_t)number, 0, ~0u);
}

static void* work_once(void* number) {
    pthread_mutex_lock(&mutex);
    const unsigned seen = round_number;
    pthread_mutex_unlock(&mutex);
    return work((uint64_t)(uintptr_t)number, seen, 1);
}

/* Starts THREADS threads, numbered from `first`, and waits until all of them wait. */
static void start(void* (*body)(void*), uint64_t first, pthread_t* threads) {
    ready = 0;
    for (unsigned i = 0; i < THREADS; ++i) {
        errno = pthread_create(&threads[i], NULL, body, (void*)(uintptr_t)(first + i));
        if (errno) die("pthread_create");
    }
    pthread_mutex_lock(&mutex);
    while (ready < THREADS) pthread_cond_wait(&reported, &mutex);
    pthread_mutex_unlock(&mutex);
}

/* One round of `expected` threads. */
static void ask(unsigned expected, struct answer* answer) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_SECONDS;
    pthread_mutex_lock(&mutex);
    reports = 0;
    wrong = 0;
    ++round_number;
    pthread_cond_broadcast(&asked);
    int late = 0;
    while (reports < expected && !late) late = pthread_cond_timedwait(&reported, &mutex, &deadline);
    answer_add(answer, "threads %u, wrong %zu\n", reports, wrong);
    pthread_mutex_unlock(&mutex);
}

static void handle(const char* path, struct answer* answer) {
    if (strcmp(path, "/") == 0) {
        ask(THREADS, answer);
    } else if (strcmp(path, "/spawn") == 0) {
        pthread_t more[THREADS];
        start(work_once, THREADS, more);
        ask(2 * THREADS, answer);
        for (unsigned i = 0; i < THREADS; ++i) pthread_join(more[i], NULL);
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    pthread_t threads[THREADS];
    start(work_for_ever, 0, threads);
    http_serve(listener, handle);
}
