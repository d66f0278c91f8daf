// SPDX-License-Identifier: Apache-2.0
// userfaultfd on memory that has been attached, and ATTACH on memory it watches.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "instance.h"

static struct instance instance;

static int open_userfaultfd(uint64_t features) {
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd == -1) skip("userfaultfd: %s", strerror(errno));
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (ioctl(fd, UFFDIO_API, &api)) skip("userfaultfd lacks a feature: %s", strerror(errno));
    return fd;
}

static void watch(int fd, enum area_name area, uint64_t mode) {
    struct uffdio_register range = {
        .range = {(uintptr_t)page_at(&instance, area, 0), instance.area[area].pages * PAGE},
        .mode = mode};
    CHECK_OK(ioctl(fd, UFFDIO_REGISTER, &range));
}

struct handler {
    int fd;
    unsigned faults;
    uintptr_t last;
};

/* Answers missing pages with marks, write protection by lifting it. */
static void* handle(void* argument) {
    struct handler* const handler = argument;
    static char mark[PAGE] __attribute__((aligned(PAGE)));
    for (;;) {
        struct pollfd poll_fd = {.fd = handler->fd, .events = POLLIN};
        struct uffd_msg message;
        if (poll(&poll_fd, 1, -1) < 1) continue;
        if (read(handler->fd, &message, sizeof message) != sizeof message) continue;
        if (message.event != UFFD_EVENT_PAGEFAULT) continue;
        const uintptr_t address = message.arg.pagefault.address & -(uintptr_t)PAGE;
        handler->faults++;
        handler->last = address;
        if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
            struct uffdio_writeprotect lift = {.range = {address, PAGE}};
            CHECK_OK(ioctl(handler->fd, UFFDIO_WRITEPROTECT, &lift));
        } else {
            fill_mark(mark, address / PAGE);
            struct uffdio_copy copy = {.dst = address, .src = (uintptr_t)mark, .len = PAGE};
            CHECK_OK(ioctl(handler->fd, UFFDIO_COPY, &copy));
        }
    }
    return NULL;
}

static void handle_in_thread(struct handler* handler) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, handle, handler), 0);
}

TEST(userfaultfd, missing, ANONYMOUS) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    static struct handler handler;
    handler.fd = open_userfaultfd(0);
    watch(handler.fd, AREA_RW, UFFDIO_REGISTER_MODE_MISSING);
    handle_in_thread(&handler);
    /* The template's pages are present; holes and dropped pages are missing. */
    for (uint64_t page = 0; page < 24; page++) {
        uint64_t expected[PAGE / 8];
        expected_page(&instance, AREA_RW, page, expected);
        CHECK(memcmp(page_at(&instance, AREA_RW, page), expected, PAGE) == 0, "page %d", (int)page);
    }
    CHECK_EQ(handler.faults, 0);
    write_mark(&instance, AREA_RW, 2, 5);
    CHECK_EQ(handler.faults, 0);
    CHECK_OK(madvise(page_at(&instance, AREA_RW, 10), 10 * PAGE, MADV_DONTNEED));
    for (uint64_t page = 0; page < 64; page++)
        if ((page >= 10 && page < 20) || (page >= 24 && page < 32) || page >= 56)
            record_pages(&instance, AREA_RW, page, 1, CONTENT_MARK,
                         (uintptr_t)page_at(&instance, AREA_RW, page) / PAGE);
    instance_check(&instance);
    CHECK_EQ(handler.faults, 10 + 8 + 8);
    write_marks(&instance, 1, 3, 70);
    instance_check(&instance);
}

TEST(userfaultfd, write_protect, ANONYMOUS) {
    attacher_start();
    instance_setup_as(&instance, &common_pool, false);
    static struct handler handler;
    handler.fd = open_userfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    watch(handler.fd, AREA_RW, UFFDIO_REGISTER_MODE_WP);
    struct uffdio_writeprotect protect = {
        .range = {(uintptr_t)page_at(&instance, AREA_RW, 0), 24 * PAGE},
        .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    CHECK_OK(ioctl(handler.fd, UFFDIO_WRITEPROTECT, &protect));
    handle_in_thread(&handler);
    instance_check(&instance);
    CHECK_EQ(handler.faults, 0);
    for (uint64_t page = 0; page < 24; page += 2) {
        write_mark(&instance, AREA_RW, page, page);
        CHECK_EQ(handler.faults, page / 2 + 1);
        CHECK_EQ(handler.last, (uintptr_t)page_at(&instance, AREA_RW, page));
        write_byte(&instance, AREA_RW, page, 1, 1); /* no second time */
        CHECK_EQ(handler.faults, page / 2 + 1);
    }
    write_mark(&instance, AREA_RW, 33, 1); /* not protected */
    CHECK_EQ(handler.faults, 12);
    instance_check(&instance);
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_check(&instance);
        write_marks(&instance, 1, 2, 500);
        instance_check(&instance);
        child_end();
    }
    child_join(pid);
    instance_check(&instance);
    struct uffdio_writeprotect lift = {.range = protect.range};
    CHECK_OK(ioctl(handler.fd, UFFDIO_WRITEPROTECT, &lift));
    write_marks(&instance, 0, 1, 800);
    CHECK_EQ(handler.faults, 12);
    instance_check(&instance);
}

/* Protected first, then lifted without a store, then closed: nothing is lost. */
TEST(userfaultfd, closed, ANONYMOUS) {
    instance_setup(&instance);
    const int fd = open_userfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    watch(fd, AREA_RW, UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING);
    struct uffdio_writeprotect protect = {
        .range = {(uintptr_t)page_at(&instance, AREA_RW, 0), 64 * PAGE},
        .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    CHECK_OK(ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
    close(fd);
    instance_check(&instance);
    write_marks(&instance, 0, 3, 800);
    instance_check(&instance);
}

TEST(userfaultfd, watched_before, ATTACHED) {
    attacher_start();
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    instance_map(&instance);
    const int fd = open_userfaultfd(0);
    watch(fd, AREA_RO, UFFDIO_REGISTER_MODE_MISSING);
    CHECK_ERRNO(instance_attach(&instance), EOPNOTSUPP);
    CHECK_EQ(instance.attach.error_addr, (uintptr_t)page_at(&instance, AREA_RO, 0));
    close(fd);
    CHECK_OK(instance_attach(&instance));
    instance_check(&instance);
}
