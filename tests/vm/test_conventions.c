// SPDX-License-Identifier: Apache-2.0
// What every ioctl has in common: sizes, unknown flags, padding, descriptors of another kind.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "pages.h"

enum descriptor { DEVICE, POOL, TEMPLATE, DESCRIPTORS };

union argument {
    uint32_t size;
    struct pseudo_mm_info info;
    struct pseudo_mm_pool pool;
    struct pseudo_mm_template template;
    struct pseudo_mm_add add;
    struct pseudo_mm_seal seal;
    struct pseudo_mm_attach attach;
    struct pseudo_mm_stat stat;
    char bytes[512];
};

#define MEMBER(type, name) offsetof(struct type, name)
static const struct {
    const char* name;
    enum descriptor descriptor;
    unsigned long command;
    uint32_t size;
    size_t padding;  /* 0: none */
    bool has_result; /* writes to its argument */
} calls[] = {
    {"INFO", DEVICE, PSEUDO_MM_IOC_INFO, sizeof(struct pseudo_mm_info), 0, true},
    {"POOL", DEVICE, PSEUDO_MM_IOC_POOL, sizeof(struct pseudo_mm_pool), MEMBER(pseudo_mm_pool, pad),
     false},
    {"TEMPLATE", POOL, PSEUDO_MM_IOC_TEMPLATE, sizeof(struct pseudo_mm_template), 0, false},
    {"STAT of a pool", POOL, PSEUDO_MM_IOC_STAT, sizeof(struct pseudo_mm_stat), 0, true},
    {"ADD", TEMPLATE, PSEUDO_MM_IOC_ADD, sizeof(struct pseudo_mm_add), MEMBER(pseudo_mm_add, pad),
     false},
    {"SEAL", TEMPLATE, PSEUDO_MM_IOC_SEAL, sizeof(struct pseudo_mm_seal), 0, false},
    {"ATTACH", TEMPLATE, PSEUDO_MM_IOC_ATTACH, sizeof(struct pseudo_mm_attach),
     MEMBER(pseudo_mm_attach, pad), true},
    {"STAT of a template", TEMPLATE, PSEUDO_MM_IOC_STAT, sizeof(struct pseudo_mm_stat), 0, true},
};
enum { CALLS = sizeof calls / sizeof *calls };

static const uintptr_t address = 0x30000000000;
static struct pool pool;
static struct pseudo_mm_range range;
static const struct pseudo_mm_extent extent = {.addr = address, .nr_pages = 2};

/* A descriptor on which call `c` succeeds with the argument that it fills in. */
static int prepare(int c, union argument* argument) {
    memset(argument, 0, sizeof *argument);
    argument->size = calls[c].size;
    int fd = calls[c].descriptor == DEVICE ? device_fd : pool.fd;
    if (calls[c].descriptor == TEMPLATE) fd = (int)CHECK_OK(call_template(pool.fd));
    switch (calls[c].command) {
        case PSEUDO_MM_IOC_POOL:
            argument->pool.ranges = (uintptr_t)&range;
            argument->pool.nr_ranges = 1;
            argument->pool.flags = options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0;
            break;
        case PSEUDO_MM_IOC_ADD:
            argument->add.extents = (uintptr_t)&extent;
            argument->add.nr_extents = 1;
            break;
        case PSEUDO_MM_IOC_SEAL:
            CHECK_OK(call_add(fd, &extent, 1));
            break;
        case PSEUDO_MM_IOC_ATTACH:
            CHECK_OK(call_add(fd, &extent, 1));
            CHECK_OK(call_seal(fd));
            break;
        default:
            break;
    }
    return fd;
}

static void finish(int c, int fd) {
    if (calls[c].descriptor == TEMPLATE) close(fd);
}

static void setup(void) {
    pool_open(&pool, 8, 3);
    range = (struct pseudo_mm_range){(uintptr_t)pool.map, 4 * PAGE};
    CHECK(mmap((void*)address, 2 * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void*)address,
          "%s", strerror(errno));
}

static void expect(int c, const union argument* argument, int error, const char* what) {
    union argument copy, *use = &copy;
    const int fd = prepare(c, &copy);
    memcpy(&copy, argument, sizeof copy);
    errno = 0;
    const int result = ioctl(fd, calls[c].command, use);
    const int got = result == -1 ? errno : 0;
    CHECK(got == error, "%s with %s: %s, expected %s", calls[c].name, what, strerrorname_np(got),
          strerrorname_np(error));
    if (result > 0) close(result);
    finish(c, fd);
}

/* The argument alone; its templates are made by expect() again. */
static union argument argument_of(int c) {
    union argument argument;
    finish(c, prepare(c, &argument));
    return argument;
}

TEST(conventions, size, MODE_API) {
    setup();
    for (int c = 0; c < CALLS; c++) {
        union argument argument = argument_of(c);
        expect(c, &argument, 0, "the size of version 1");
        static const uint32_t small[] = {0, 1, 4, 7};
        for (int i = 0; i < 4; i++) {
            argument.size = small[i];
            expect(c, &argument, EINVAL, "a tiny size");
        }
        argument.size = calls[c].size - 1;
        expect(c, &argument, EINVAL, "a size one byte too small");
        argument.size = calls[c].size + 8;
        expect(c, &argument, 0, "a larger size and zeros");
        argument.size = calls[c].size + 100;
        expect(c, &argument, 0, "an odd larger size and zeros");
        argument.bytes[calls[c].size + 99] = 1;
        expect(c, &argument, E2BIG, "a larger size and its last byte set");
        argument.bytes[calls[c].size] = 1;
        argument.size = calls[c].size + 1;
        expect(c, &argument, E2BIG, "one byte more that is set");
        argument.size = UINT32_MAX;
        expect(c, &argument, E2BIG, "the largest size");
    }
}

TEST(conventions, result_size, MODE_API) {
    setup();
    /* Nothing is written behind what the module knows. */
    for (int c = 0; c < CALLS; c++) {
        if (!calls[c].has_result) continue;
        union argument argument;
        const int fd = prepare(c, &argument);
        argument.size += 64;
        CHECK_OK(ioctl(fd, calls[c].command, &argument));
        CHECK_EQ(argument.size, calls[c].size + 64);
        for (size_t i = calls[c].size; i < sizeof argument; i++) CHECK_EQ(argument.bytes[i], 0);
        finish(c, fd);
        memset(argument.bytes, 0x5a, sizeof argument);
        union argument valid;
        const int again = prepare(c, &valid);
        memcpy(argument.bytes, valid.bytes, calls[c].size);
        CHECK_OK(ioctl(again, calls[c].command, &argument));
        for (size_t i = calls[c].size; i < sizeof argument; i++) CHECK_EQ(argument.bytes[i], 0x5a);
        finish(c, again);
    }
}

TEST(conventions, flags, MODE_API) {
    setup();
    for (int c = 0; c < CALLS; c++) {
        for (int bit = 0; bit < 32; bit++) {
            union argument argument = argument_of(c);
            if (calls[c].command == PSEUDO_MM_IOC_POOL && bit == 0) continue;
            argument.info.flags |= 1U << bit; /* the second member of all */
            expect(c, &argument, EINVAL, "an unknown flag");
        }
    }
}

TEST(conventions, padding, MODE_API) {
    setup();
    for (int c = 0; c < CALLS; c++) {
        if (!calls[c].padding) continue;
        for (size_t i = 0; i < 4; i++) {
            union argument argument = argument_of(c);
            argument.bytes[calls[c].padding + i] = 1;
            expect(c, &argument, EINVAL, "padding that is not zero");
        }
    }
}

TEST(conventions, bad_address, MODE_API) {
    setup();
    char* const two =
        mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(two != MAP_FAILED, "%s", strerror(errno));
    CHECK_OK(munmap(two + PAGE, PAGE));
    for (int c = 0; c < CALLS; c++) {
        union argument argument;
        const int fd = prepare(c, &argument);
        CHECK_ERRNO(ioctl(fd, calls[c].command, NULL), EFAULT);
        CHECK_ERRNO(ioctl(fd, calls[c].command, 1), EFAULT);
        CHECK_ERRNO(ioctl(fd, calls[c].command, two + PAGE), EFAULT);
        CHECK_ERRNO(ioctl(fd, calls[c].command, 0xffff888000000000), EFAULT);
        char* const cut = two + PAGE - calls[c].size + 4; /* its last bytes are not there */
        memcpy(cut, &argument, calls[c].size - 4);
        CHECK_ERRNO(ioctl(fd, calls[c].command, cut), EFAULT);
        finish(c, fd);
    }
}

/* A result that cannot be stored is an error, and ATTACH then leaves nothing. */
TEST(conventions, result_not_writable, MODE_API) {
    setup();
    char* const place =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED, "%s", strerror(errno));
    for (int c = 0; c < CALLS; c++) {
        if (!calls[c].has_result) continue;
        union argument argument;
        const int fd = prepare(c, &argument);
        CHECK_OK(mprotect(place, PAGE, PROT_READ | PROT_WRITE));
        memcpy(place, &argument, sizeof argument);
        CHECK_OK(mprotect(place, PAGE, PROT_READ));
        CHECK_ERRNO(ioctl(fd, calls[c].command, place), EFAULT);
        CHECK(page_is_zero((void*)address), "%s left pages behind", calls[c].name);
        finish(c, fd);
    }
}

TEST(conventions, other_descriptors, MODE_API) {
    setup();
    const int descriptors[DESCRIPTORS] = {
        [DEVICE] = device_fd, [POOL] = pool.fd, [TEMPLATE] = template_of(pool.fd, &extent, 1)};
    for (int c = 0; c < CALLS; c++) {
        union argument argument = argument_of(c);
        for (int d = 0; d < DESCRIPTORS; d++) {
            bool known = false;
            for (int other = 0; other < CALLS; other++)
                known |=
                    calls[other].command == calls[c].command && (int)calls[other].descriptor == d;
            if (!known) CHECK_ERRNO(ioctl(descriptors[d], calls[c].command, &argument), ENOTTY);
        }
    }
    for (int d = 0; d < DESCRIPTORS; d++) {
        union argument argument = {.size = sizeof argument};
        for (unsigned nr = 7; nr < 256; nr += 31)
            CHECK_ERRNO(ioctl(descriptors[d], _IO(PSEUDO_MM_IOC_TYPE, nr), &argument), ENOTTY);
        CHECK_ERRNO(ioctl(descriptors[d], _IO(PSEUDO_MM_IOC_TYPE + 1, 0), &argument), ENOTTY);
        CHECK_ERRNO(
            ioctl(descriptors[d], _IOWR(PSEUDO_MM_IOC_TYPE, 0, struct pseudo_mm_info), &argument),
            ENOTTY);
        CHECK(read(descriptors[d], &argument, 8) == -1, "read() works");
        CHECK(write(descriptors[d], &argument, 8) == -1, "write() works");
        if (d != TEMPLATE)
            CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, descriptors[d], 0) == MAP_FAILED,
                  "mmap() works");
    }
}

TEST(conventions, close_on_exec, MODE_API) {
    setup();
    const int template_fd = template_of(pool.fd, &extent, 1);
    CHECK_EQ(fcntl(pool.fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(template_fd, F_GETFD), FD_CLOEXEC);
}

TEST(conventions, info, MODE_API) {
    struct pseudo_mm_info before, after;
    CHECK_OK(call_info(device_fd, &before));
    CHECK_EQ(before.size, sizeof before);
    CHECK_EQ(before.abi, PSEUDO_MM_ABI);
    CHECK(before.fault_around_pages >= 1 && before.fault_around_pages <= 512, "%u",
          before.fault_around_pages);
    CHECK(before.features & PSEUDO_MM_FEATURE_REMOTE, "no REMOTE");
    CHECK(before.max_pools && before.max_templates && before.max_extents && before.max_pool_pages,
          "a limit is 0");
    setup();
    const int fd = template_of(pool.fd, &extent, 1);
    CHECK_OK(call_attach(fd, 0, NULL));
    CHECK_OK(call_info(device_fd, &after));
    CHECK_EQ(after.pools, before.pools + 1);
    CHECK_EQ(after.templates, before.templates + 1);
    CHECK_EQ(after.pool_pages, before.pool_pages + 8);
    CHECK_EQ(after.attaches, before.attaches + 1);
    CHECK_EQ(after.failed_attaches, before.failed_attaches);
    CHECK_EQ(after.lingering_pools, before.lingering_pools);
    /* The template keeps its pool. */
    close(pool.fd);
    CHECK_OK(call_info(device_fd, &after));
    CHECK_EQ(after.pools, before.pools + 1);
    close(fd);
    CHECK_OK(munmap((void*)address, 2 * PAGE));
    pool_close_source(&pool);
    for (const double deadline = now() + 5; now() < deadline; sleep_ms(20)) {
        CHECK_OK(call_info(device_fd, &after));
        if (after.pools == before.pools && after.lingering_pools == before.lingering_pools) return;
    }
    CHECK(false, "the pool is still there");
}
