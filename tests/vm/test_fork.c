// SPDX-License-Identifier: Apache-2.0
// Children of a process with template pages.
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>

#include "instance.h"

extern char** environ;
static struct instance instance;

static void setup(bool dirty) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, dirty);
}

/* A mapping nobody has written to: the kernel may skip its page tables at fork. */
TEST(fork, child_of_pristine, EVERY_MODE) {
    setup(false);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

TEST(fork, child_of_dirty, ANONYMOUS) {
    setup(true);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

TEST(fork, isolation, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 2, 5, 100);
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t pid = child_start();
    const int side = pid == 0;
    write_marks(&instance, (uint64_t)side, 3, side ? 5000 : 6000);
    barrier_signal(&barrier, side);
    barrier_wait(&barrier, side);
    instance_check(&instance);
    if (pid == 0) child_end();
    child_join(pid);
    instance_check(&instance);
}

TEST(fork, grandchild, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 7, 100);
    const pid_t pid = child_start();
    if (pid == 0) {
        write_marks(&instance, 1, 7, 200);
        const pid_t grandchild = child_start();
        if (grandchild == 0) {
            instance_check(&instance);
            write_marks(&instance, 2, 7, 300);
            const pid_t last = child_start();
            if (last == 0) {
                write_marks(&instance, 3, 7, 400);
                instance_check(&instance);
                child_end();
            }
            child_join(last);
            instance_check(&instance);
            child_end();
        }
        write_marks(&instance, 4, 7, 500);
        child_join(grandchild);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
}

/* The child outlives its parent. */
TEST(fork, orphan, EVERY_MODE) {
    struct barrier barrier;
    barrier_open(&barrier);
    const pid_t parent = child_start();
    if (parent == 0) {
        instance_setup(&instance);
        write_marks(&instance, 1, 4, 10);
        if (child_start() == 0) {
            barrier_wait(&barrier, 1);
            instance_check(&instance);
            write_marks(&instance, 2, 4, 20);
            instance_check(&instance);
            barrier_signal(&barrier, 1);
            child_end();
        }
        child_end();
    }
    child_join(parent);
    barrier_signal(&barrier, 0);
    barrier_wait(&barrier, 0);
}

TEST(fork, many_children, EVERY_MODE) {
    enum { CHILDREN = 12 };
    instance_setup(&instance);
    pid_t children[CHILDREN];
    for (uint64_t i = 0; i < CHILDREN; i++) {
        children[i] = child_start();
        if (children[i]) continue;
        write_marks(&instance, i, CHILDREN, i * 1000);
        instance_check(&instance);
        child_end();
    }
    write_marks(&instance, 3, 10, 77);
    for (int i = 0; i < CHILDREN; i++) child_join(children[i]);
    instance_check(&instance);
}

TEST(fork, vfork_and_exec, EVERY_MODE) {
    instance_setup(&instance);
    write_marks(&instance, 0, 5, 100);
    for (int i = 0; i < 3; i++) {
        char* arguments[] = {"/proc/self/exe", "--help", NULL};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1 /* O_WRONLY */, 0);
        pid_t pid;
        CHECK_EQ(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, arguments, environ), 0);
        posix_spawn_file_actions_destroy(&actions);
        CHECK_EQ(child_status(pid), 0);
    }
    instance_check(&instance);
}

/* A child that execs while its parent goes on: its use of the pages ends there. */
TEST(fork, exec_drops_pages, ATTACHED) {
    instance_setup(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        write_marks(&instance, 0, 2, 1);
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        execl("/proc/self/exe", "pseudo_mm_test", "--help", NULL);
        _exit(1);
    }
    CHECK_EQ(child_status(pid), 0);
    instance_check(&instance);
}

static void* write_from_thread(void* argument) {
    const uint64_t first = (uint64_t)(uintptr_t)argument;
    for (uint64_t page = first; page < 56; page += 4)
        fill_mark(page_at(&instance, AREA_RW, page), 300 + page);
    return NULL;
}

/* Threads store to the same pages' neighbours while a child is forked. */
TEST(fork, while_threads_write, EVERY_MODE) {
    instance_setup(&instance);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_from_thread, (void*)i), 0);
    const pid_t pid = child_start();
    if (pid == 0) {
        /* Each page is whole: a store is a mark's word or the template's. */
        uint64_t before[PAGE / 8], after[PAGE / 8];
        for (uint64_t page = 0; page < 56; page++) {
            const uint64_t* const words = page_at(&instance, AREA_RW, page);
            expected_page(&instance, AREA_RW, page, before);
            fill_mark(after, 300 + page);
            for (int w = 0; w < PAGE / 8; w++)
                CHECK(words[w] == before[w] || words[w] == after[w], "page %d word %d", (int)page,
                      w);
        }
        child_end();
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (uint64_t page = 0; page < 56; page++)
        record_pages(&instance, AREA_RW, page, 1, CONTENT_MARK, 300 + page);
    child_join(pid);
    instance_check(&instance);
}
