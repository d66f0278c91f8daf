// SPDX-License-Identifier: Apache-2.0
// Other processes reach into template pages: process_vm_*, ptrace, /proc/PID/mem.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "instance.h"

static struct instance instance;

/* A child that has the memory, too, waits, and checks it when it is told to. */
static pid_t start_target(struct barrier* barrier) {
    barrier_open(barrier);
    const pid_t pid = child_start();
    if (pid == 0) {
        barrier_wait(barrier, 1);
        child_end();
    }
    return pid;
}

static void read_remote(pid_t pid, enum area_name area, uint64_t page, void* out) {
    const struct iovec local = {out, PAGE}, remote = {page_at(&instance, area, page), PAGE};
    CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), PAGE);
}

/* Compares every readable page of the target with the record. */
static void check_remote(pid_t pid) {
    char actual[PAGE], expected[PAGE];
    for (int a = 0; a < AREAS; a++) {
        if (!(instance.area[a].protection & PROT_READ)) continue;
        for (uint64_t page = 0; page < instance.area[a].pages; page++) {
            read_remote(pid, (enum area_name)a, page, actual);
            expected_page(&instance, (enum area_name)a, page, expected);
            CHECK(memcmp(actual, expected, PAGE) == 0, "area %d page %d", a, (int)page);
        }
    }
}

TEST(access, process_vm_readv, EVERY_MODE) {
    instance_setup(&instance);
    struct barrier barrier;
    const pid_t pid = start_target(&barrier);
    check_remote(pid);
    /* Many pages in one call. */
    static char all[64 * PAGE];
    const struct iovec local = {all, sizeof all};
    const struct iovec remote = {page_at(&instance, AREA_RW, 0), sizeof all};
    CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), sizeof all);
    for (uint64_t page = 0; page < 64; page++) {
        char expected[PAGE];
        expected_page(&instance, AREA_RW, page, expected);
        CHECK(memcmp(all + page * PAGE, expected, PAGE) == 0, "page %d", (int)page);
    }
    const struct iovec closed = {page_at(&instance, AREA_NONE, 0), PAGE};
    CHECK_ERRNO(process_vm_readv(pid, &local, 1, &closed, 1, 0), EFAULT);
    barrier_signal(&barrier, 0);
    child_join(pid);
    instance_check(&instance);
}

TEST(access, process_vm_writev, EVERY_MODE) {
    instance_setup(&instance);
    struct barrier barrier;
    const pid_t pid = start_target(&barrier);
    static const uint64_t pages[] = {0, 7, 17, 28, 40, 50, 60};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        char mark[PAGE];
        fill_mark(mark, 100 + i);
        const struct iovec local = {mark, PAGE},
                           remote = {page_at(&instance, AREA_RW, pages[i]), PAGE};
        CHECK_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), PAGE);
    }
    instance_check(&instance); /* not ours, that of the target */
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        record_pages(&instance, AREA_RW, pages[i], 1, CONTENT_MARK, 100 + i);
    check_remote(pid);
    char byte = 0;
    const struct iovec local = {&byte, 1}, remote = {page_at(&instance, AREA_RO, 0), 1};
    CHECK_ERRNO(process_vm_writev(pid, &local, 1, &remote, 1, 0), EFAULT);
    check_remote(pid);
    barrier_signal(&barrier, 0);
    child_join(pid);
}

TEST(access, ptrace, EVERY_MODE) {
    instance_setup(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK_OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
        raise(SIGSTOP);
        /* The debugger has stored to these, protections notwithstanding. */
        record_byte(&instance, AREA_RW, 2, 8, 0xaa);
        record_byte(&instance, AREA_RW, 18, 8, 0xaa);
        record_byte(&instance, AREA_RO, 2, 8, 0xaa);
        record_byte(&instance, AREA_RX, 2, 8, 0xaa);
        record_byte(&instance, AREA_NONE, 2, 8, 0xaa);
        instance_check(&instance);
        child_end();
    }
    int status = child_status(pid);
    CHECK(WIFSTOPPED(status), "status %#x", (unsigned)status);
    static const struct {
        enum area_name area;
        uint64_t page;
    } places[] = {{AREA_RW, 2}, {AREA_RW, 18}, {AREA_RO, 2}, {AREA_RX, 2}, {AREA_NONE, 2}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint64_t expected[PAGE / 8];
        expected_page(&instance, places[i].area, places[i].page, expected);
        char* const address = page_at(&instance, places[i].area, places[i].page);
        errno = 0;
        long word = ptrace(PTRACE_PEEKDATA, pid, address + 8, NULL);
        CHECK_EQ(errno, 0);
        CHECK_EQ(word, expected[1]);
        word = (word & ~0xffL) | 0xaa;
        CHECK_OK(ptrace(PTRACE_POKETEXT, pid, address + 8, (void*)word));
        errno = 0;
        CHECK_EQ(ptrace(PTRACE_PEEKTEXT, pid, address + 8, NULL), word);
        CHECK_EQ(errno, 0);
    }
    instance_check(&instance); /* the debugger's own memory */
    CHECK_OK(ptrace(PTRACE_DETACH, pid, NULL, NULL));
    child_join(pid);
}

TEST(access, breakpoint, EVERY_MODE) {
    instance_setup(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK_OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
        raise(SIGSTOP);
        int (*function)(void);
        const void* const code = page_at(&instance, AREA_RX, 0);
        memcpy(&function, &code, sizeof function);
        function();
        _exit(1); /* the breakpoint comes first */
    }
    CHECK(WIFSTOPPED(child_status(pid)), "not stopped");
    char* const address = page_at(&instance, AREA_RX, 0);
    const long word = ptrace(PTRACE_PEEKTEXT, pid, address, NULL);
    CHECK_OK(ptrace(PTRACE_POKETEXT, pid, address, (void*)((word & ~0xffL) | 0xcc)));
    CHECK_OK(ptrace(PTRACE_CONT, pid, NULL, NULL));
    const int status = child_status(pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "status %#x", (unsigned)status);
    CHECK_OK(kill(pid, SIGKILL));
    child_killed(pid, SIGKILL);
    instance_check(&instance);
}

TEST(access, proc_mem, EVERY_MODE) {
    instance_setup(&instance);
    struct barrier barrier;
    const pid_t pid = start_target(&barrier);
    const int fd = memory_fd(pid);
    instance_check_through(&instance, fd, __FILE__, __LINE__);
    /* Written through protections, too, as debuggers do. */
    static const struct {
        enum area_name area;
        uint64_t page;
    } places[] = {{AREA_RW, 1}, {AREA_RW, 20},  {AREA_RW, 25},  {AREA_RO, 1},   {AREA_RO, 9},
                  {AREA_RX, 1}, {AREA_NONE, 1}, {AREA_NONE, 5}, {AREA_NONE, 7}, {AREA_BIG, 300}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char mark[PAGE];
        fill_mark(mark, 40 + i);
        CHECK_EQ(pwrite(fd, mark, PAGE,
                        (off_t)(uintptr_t)page_at(&instance, places[i].area, places[i].page)),
                 PAGE);
    }
    instance_check(&instance);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        record_pages(&instance, places[i].area, places[i].page, 1, CONTENT_MARK, 40 + i);
    instance_check_through(&instance, fd, __FILE__, __LINE__);
    close(fd);
    barrier_signal(&barrier, 0);
    child_join(pid);
}

/* Its own memory through the file, as JITs do. */
TEST(access, own_proc_mem, EVERY_MODE) {
    instance_setup(&instance);
    const int fd = memory_fd(getpid());
    char mark[PAGE];
    fill_mark(mark, 9);
    CHECK_EQ(pwrite(fd, mark, PAGE, (off_t)(uintptr_t)page_at(&instance, AREA_RO, 3)), PAGE);
    record_pages(&instance, AREA_RO, 3, 1, CONTENT_MARK, 9);
    CHECK_EQ(pwrite(fd, mark, PAGE, (off_t)(uintptr_t)page_at(&instance, AREA_NONE, 3)), PAGE);
    record_pages(&instance, AREA_NONE, 3, 1, CONTENT_MARK, 9);
    instance_check(&instance);
    close(fd);
}
