// SPDX-License-Identifier: Apache-2.0
// The module's limits, which can be changed while it runs. The runner restores them.
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "pages.h"

static bool set_limit(const char* name, uint64_t value) {
    char path[128], text[32];
    snprintf(path, sizeof path, "/sys/module/pseudo_mm/parameters/%s", name);
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return write_text(path, text);
}

TEST(limits, pools, MODE_API) {
    struct pool pool;
    pool_open_source(&pool, 8, 1);
    CHECK(set_limit("max_pools", info().pools), "%s", strerror(errno));
    CHECK_EQ(info().max_pools, info().pools);
    CHECK_ERRNO(pool_make(&pool), ENOSPC);
    CHECK(set_limit("max_pools", info().pools + 1), "%s", strerror(errno));
    CHECK_OK(pool_make(&pool));
    CHECK(set_limit("max_pools", 0), "%s", strerror(errno));
    struct pool another;
    pool_open_source(&another, 8, 1);
    CHECK_ERRNO(pool_make(&another), ENOSPC);
}

TEST(limits, templates, MODE_API) {
    CHECK(set_limit("max_templates", info().templates + 2), "%s", strerror(errno));
    const int first = (int)CHECK_OK(call_template(common_pool.fd));
    CHECK_OK(call_template(common_pool.fd));
    CHECK_ERRNO(call_template(common_pool.fd), ENOSPC);
    close(first);
    CHECK_OK(call_template(common_pool.fd));
    CHECK_ERRNO(call_template(common_pool.fd), ENOSPC);
}

TEST(limits, extents, MODE_API) {
    CHECK(set_limit("max_extents", 3), "%s", strerror(errno));
    CHECK_EQ(info().max_extents, 3);
    const int fd = (int)CHECK_OK(call_template(common_pool.fd));
    struct pseudo_mm_extent list[4];
    for (uint64_t i = 0; i < 4; i++)
        list[i] = (struct pseudo_mm_extent){.addr = 0x30000000000 + i * PAGE, .nr_pages = 1};
    CHECK_ERRNO(call_add(fd, list, 4), ENOSPC);
    CHECK_OK(call_add(fd, list, 2));
    CHECK_ERRNO(call_add(fd, list + 2, 2), ENOSPC);
    CHECK_OK(call_add(fd, list + 2, 1));
    CHECK_ERRNO(call_add(fd, list + 3, 1), ENOSPC);
    CHECK_OK(call_seal(fd));
}

TEST(limits, pool_pages, MODE_API) {
    struct pool pool;
    pool_open_source(&pool, 8, 1);
    CHECK(set_limit("max_pool_pages", info().pool_pages + 7), "%s", strerror(errno));
    CHECK_ERRNO(pool_make(&pool), ENOSPC);
    CHECK(set_limit("max_pool_pages", info().pool_pages + 8), "%s", strerror(errno));
    CHECK_OK(pool_make(&pool));
    CHECK_ERRNO(call_pool(device_fd, &(struct pseudo_mm_range){(uintptr_t)pool.map, PAGE}, 1,
                          options.source == SOURCE_COPY ? PSEUDO_MM_POOL_COPY : 0),
                ENOSPC);
}

TEST(limits, fault_around, MODE_API) {
    static const struct {
        uint64_t set, told;
    } cases[] = {{0, 1}, {1, 1}, {100, 64}, {512, 512}, {100000, 512}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(set_limit("fault_around_pages", cases[i].set), "%s", strerror(errno));
        CHECK_EQ(info().fault_around_pages, cases[i].told);
    }
}

/* No room in the caller's table: nothing is left of what could not be given a number. */
TEST(limits, descriptors, MODE_API) {
    struct pool pool;
    pool_open_source(&pool, 8, 1);
    const int next = (int)CHECK_OK(dup(device_fd));
    close(next);
    struct rlimit limit;
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
    const struct pseudo_mm_info before = info();
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next, limit.rlim_max}));
    CHECK_ERRNO(pool_make(&pool), EMFILE);
    CHECK_ERRNO(call_template(common_pool.fd), EMFILE);
    CHECK_EQ(info().templates, before.templates);
    CHECK_EQ(info().pools, before.pools);
    CHECK_EQ(info().pool_pages, before.pool_pages);
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
    CHECK_OK(pool_make(&pool));
}

/* Open files of the whole system, which only CAP_SYS_ADMIN may exceed. */
TEST(limits, open_files, MODE_API) {
    static const char path[] = "/proc/sys/fs/file-max";
    struct pool pool;
    char old[32];
    pool_open_source(&pool, 8, 1);
    CHECK(read_text(path, old, sizeof old), "%s", strerror(errno));
    const pid_t pid = child_start();
    if (pid == 0) {
        CHECK(drop_capability(CAP_SYS_ADMIN), "%s", strerror(errno));
        raise(SIGSTOP);
        CHECK_ERRNO(pool_make(&pool), ENFILE);
        CHECK_ERRNO(call_template(common_pool.fd), ENFILE);
        child_end();
    }
    wait_stopped(pid);
    CHECK(write_text(path, "0"), "%s", strerror(errno));
    kill(pid, SIGCONT);
    /* Back to what it was before anything can fail. */
    while (waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT) && errno == EINTR) continue;
    CHECK(write_text(path, old), "%s", strerror(errno));
    child_join(pid);
    CHECK_OK(pool_make(&pool));
}
