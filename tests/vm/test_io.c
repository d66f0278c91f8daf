// SPDX-License-Identifier: Apache-2.0
// Template pages as buffers of system calls.
#include <fcntl.h>
#include <liburing.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "instance.h"

static struct instance instance;

/* `count` pages from `first` of AREA_RW, as they should be. */
static const char* expected_pages(uint64_t first, uint64_t count) {
    static char pages[64 * PAGE];
    for (uint64_t i = 0; i < count; i++)
        expected_page(&instance, AREA_RW, first + i, pages + i * PAGE);
    return pages;
}

static void read_back(int fd, off_t offset, const char* expected, size_t size) {
    char* const actual =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(actual != MAP_FAILED, "%s", strerror(errno));
    CHECK_EQ(pread(fd, actual, size, offset), size);
    CHECK(memcmp(actual, expected, size) == 0, "the file contains something else");
    munmap(actual, size);
}

TEST(io, write, EVERY_MODE) {
    instance_setup(&instance);
    const int fd = (int)CHECK_OK(memfd_create("file", MFD_CLOEXEC));
    CHECK_EQ(write(fd, page_at(&instance, AREA_RW, 0), 64 * PAGE), 64 * PAGE);
    read_back(fd, 0, expected_pages(0, 64), 64 * PAGE);
    CHECK_ERRNO(write(fd, page_at(&instance, AREA_NONE, 0), PAGE), EFAULT);
    instance_check(&instance);
}

TEST(io, read, EVERY_MODE) {
    instance_setup(&instance);
    const int fd = (int)CHECK_OK(memfd_create("file", MFD_CLOEXEC));
    char mark[PAGE];
    for (uint64_t page = 0; page < 64; page++) {
        fill_mark(mark, 300 + page);
        CHECK_EQ(write(fd, mark, PAGE), PAGE);
    }
    CHECK_EQ(pread(fd, page_at(&instance, AREA_RW, 10), 30 * PAGE, 10 * PAGE), 30 * PAGE);
    for (uint64_t page = 10; page < 40; page++)
        record_pages(&instance, AREA_RW, page, 1, CONTENT_MARK, 300 + page);
    instance_check(&instance);
    CHECK_ERRNO(pread(fd, page_at(&instance, AREA_RO, 0), PAGE, 0), EFAULT);
    instance_check(&instance);
}

TEST(io, socket, EVERY_MODE) {
    instance_setup(&instance);
    int sockets[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
    CHECK_EQ(write(sockets[0], page_at(&instance, AREA_RW, 2), 8 * PAGE), 8 * PAGE);
    CHECK_EQ(recv(sockets[1], page_at(&instance, AREA_RW, 40), 8 * PAGE, MSG_WAITALL), 8 * PAGE);
    for (uint64_t page = 0; page < 8; page++)
        instance.area[AREA_RW].record[40 + page] = instance.area[AREA_RW].record[2 + page];
    instance_check(&instance);
}

/* A file or device that takes O_DIRECT, 64 pages of it free to use. */
static int open_direct(void) {
    int fd;
    if (options.block_device) {
        fd = open(options.block_device, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fd == -1) skip("%s: %s", options.block_device, strerror(errno));
        return fd;
    }
    make_scratch_folder();
    fd = open("direct", O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd == -1) skip("no O_DIRECT in /tmp, and no --block-device");
    CHECK_OK(ftruncate(fd, 64 * PAGE));
    return fd;
}

TEST(io, direct_write, EVERY_MODE) {
    instance_setup(&instance);
    const int fd = open_direct();
    CHECK_EQ(pwrite(fd, page_at(&instance, AREA_RW, 0), 64 * PAGE, 0), 64 * PAGE);
    read_back(fd, 0, expected_pages(0, 64), 64 * PAGE);
    instance_check(&instance);
    /* Pages that are not writable are fine to write from. */
    CHECK_EQ(pwrite(fd, page_at(&instance, AREA_RX, 0), 2 * PAGE, 0), 2 * PAGE);
    char expected[2 * PAGE];
    expected_page(&instance, AREA_RX, 0, expected);
    expected_page(&instance, AREA_RX, 1, expected + PAGE);
    read_back(fd, 0, expected, sizeof expected);
    write_marks(&instance, 0, 2, 70);
    instance_check(&instance);
}

TEST(io, direct_read, EVERY_MODE) {
    instance_setup(&instance);
    const int fd = open_direct();
    char* const marks =
        mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(marks != MAP_FAILED, "%s", strerror(errno));
    for (uint64_t page = 0; page < 64; page++) fill_mark(marks + page * PAGE, 600 + page);
    CHECK_EQ(pwrite(fd, marks, 64 * PAGE, 0), 64 * PAGE);
    CHECK_EQ(pread(fd, page_at(&instance, AREA_RW, 4), 50 * PAGE, 4 * PAGE), 50 * PAGE);
    for (uint64_t page = 4; page < 54; page++)
        record_pages(&instance, AREA_RW, page, 1, CONTENT_MARK, 600 + page);
    instance_check(&instance);
    CHECK_ERRNO(pread(fd, page_at(&instance, AREA_RO, 0), PAGE, 0), EFAULT);
    instance_check(&instance);
}

TEST(io, vmsplice, EVERY_MODE) {
    instance_setup(&instance);
    int ends[2];
    CHECK_OK(pipe2(ends, O_CLOEXEC));
    CHECK_OK(fcntl(ends[1], F_SETPIPE_SZ, 64 * PAGE));
    struct iovec vector = {page_at(&instance, AREA_RW, 0), 20 * PAGE};
    CHECK_EQ(vmsplice(ends[1], &vector, 1, 0), 20 * PAGE);
    static char actual[20 * PAGE];
    CHECK_EQ(read(ends[0], actual, 8 * PAGE), 8 * PAGE);
    /* What is still in the pipe outlives the mapping. */
    CHECK(memcmp(actual, expected_pages(0, 8), 8 * PAGE) == 0, "wrong pages");
    CHECK_OK(munmap(page_at(&instance, AREA_RW, 0), 20 * PAGE));
    const char* const rest = expected_pages(8, 12);
    CHECK_EQ(read(ends[0], actual, 12 * PAGE), 12 * PAGE);
    CHECK(memcmp(actual, rest, 12 * PAGE) == 0, "wrong pages after munmap");
    record_pages(&instance, AREA_RW, 0, 20, CONTENT_GONE, 0);
    instance_check(&instance);
    /* The other way copies. */
    char mark[PAGE];
    fill_mark(mark, 5);
    CHECK_EQ(write(ends[1], mark, PAGE), PAGE);
    vector = (struct iovec){page_at(&instance, AREA_RW, 33), PAGE};
    CHECK_EQ(vmsplice(ends[0], &vector, 1, 0), PAGE);
    record_pages(&instance, AREA_RW, 33, 1, CONTENT_MARK, 5);
    instance_check(&instance);
}

/* Pages in a pipe while the process ends: the template's pages wait for the pipe. */
TEST(io, vmsplice_and_exit, ATTACHED) {
    attacher_start();
    instance_layout(&instance, &common_pool);
    instance_template(&instance);
    int ends[2];
    CHECK_OK(pipe2(ends, O_CLOEXEC));
    const pid_t pid = child_start();
    if (pid == 0) {
        instance_map(&instance);
        CHECK_OK(instance_attach(&instance));
        const struct iovec vector = {page_at(&instance, AREA_RW, 0), 12 * PAGE};
        CHECK_EQ(vmsplice(ends[1], &vector, 1, 0), 12 * PAGE);
        child_end();
    }
    child_join(pid);
    struct pseudo_mm_stat stat = {.nr_pages = 12};
    CHECK_OK(call_stat(common_pool.fd, &stat));
    CHECK(stat.live_references >= 11, "%llu", (unsigned long long)stat.live_references);
    static char actual[12 * PAGE];
    CHECK_EQ(read(ends[0], actual, sizeof actual), sizeof actual);
    for (uint64_t page = 0; page < 12; page++)
        CHECK(page_is(actual + page * PAGE, common_pool.seed, page), "page %d", (int)page);
}

static int complete(struct io_uring* ring) {
    CHECK_EQ(io_uring_submit(ring), 1);
    struct io_uring_cqe* completion;
    CHECK_EQ(io_uring_wait_cqe(ring, &completion), 0);
    const int result = completion->res;
    io_uring_cqe_seen(ring, completion);
    return result;
}

static void open_ring(struct io_uring* ring) {
    const int result = io_uring_queue_init(4, ring, 0);
    if (result) skip("io_uring: %s", strerror(-result));
}

TEST(io, uring_fixed_buffers, EVERY_MODE) {
    instance_setup(&instance);
    struct io_uring ring;
    open_ring(&ring);
    /* Registering pins for writing: each page becomes the process's own, contents unchanged. */
    const struct iovec buffers[] = {{page_at(&instance, AREA_RW, 0), 64 * PAGE},
                                    {page_at(&instance, AREA_BIG, 190), 20 * PAGE}};
    const int registered = io_uring_register_buffers(&ring, buffers, 2);
    if (current_mode == MODE_LAZY && registered == -EOPNOTSUPP)
        skip_before(6, 12, "registered buffers in mappings of files");
    CHECK_EQ(registered, 0);
    instance_check(&instance);

    const int fd = (int)CHECK_OK(memfd_create("file", MFD_CLOEXEC));
    io_uring_prep_write_fixed(io_uring_get_sqe(&ring), fd, page_at(&instance, AREA_RW, 8),
                              20 * PAGE, 0, 0);
    CHECK_EQ(complete(&ring), 20 * PAGE);
    read_back(fd, 0, expected_pages(8, 20), 20 * PAGE);
    io_uring_prep_read_fixed(io_uring_get_sqe(&ring), fd, page_at(&instance, AREA_RW, 40),
                             10 * PAGE, 0, 0);
    CHECK_EQ(complete(&ring), 10 * PAGE);
    for (uint64_t page = 0; page < 10; page++)
        instance.area[AREA_RW].record[40 + page] = instance.area[AREA_RW].record[8 + page];
    instance_check(&instance);
    /* Stores of the process are seen by the ring: it has the same pages. */
    write_mark(&instance, AREA_RW, 3, 77);
    io_uring_prep_write_fixed(io_uring_get_sqe(&ring), fd, page_at(&instance, AREA_RW, 3), PAGE, 0,
                              0);
    CHECK_EQ(complete(&ring), PAGE);
    read_back(fd, 0, expected_pages(3, 1), PAGE);
    CHECK_EQ(io_uring_unregister_buffers(&ring), 0);
    instance_check(&instance);
    io_uring_queue_exit(&ring);
}

TEST(io, uring_plain_buffers, EVERY_MODE) {
    instance_setup(&instance);
    struct io_uring ring;
    open_ring(&ring);
    const int fd = (int)CHECK_OK(memfd_create("file", MFD_CLOEXEC));
    io_uring_prep_write(io_uring_get_sqe(&ring), fd, page_at(&instance, AREA_RW, 0), 30 * PAGE, 0);
    CHECK_EQ(complete(&ring), 30 * PAGE);
    read_back(fd, 0, expected_pages(0, 30), 30 * PAGE);
    io_uring_prep_read(io_uring_get_sqe(&ring), fd, page_at(&instance, AREA_RW, 34), PAGE, 0);
    CHECK_EQ(complete(&ring), PAGE);
    instance.area[AREA_RW].record[34] = instance.area[AREA_RW].record[0];
    instance_check(&instance);
    io_uring_queue_exit(&ring);
}
