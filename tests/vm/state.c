// SPDX-License-Identifier: Apache-2.0
// What every test must leave as it was: the module's counters and limits, the common pool, and a
// kernel log without reports.
#include <fcntl.h>

#include "pages.h"
#include "runner.h"

int device_fd = -1;

static struct pseudo_mm_info before;
static bool info_known;
static uint64_t references; /* of the common pool while nobody uses it */

static const char* const limits[] = {"max_pools", "max_templates", "max_extents", "max_pool_pages",
                                     "fault_around_pages"};
enum { LIMITS = sizeof limits / sizeof *limits };
static char limit_values[LIMITS][64];

static void limit_path(char* path, size_t size, int limit) {
    snprintf(path, size, "/sys/module/pseudo_mm/parameters/%s", limits[limit]);
}

static bool read_info(struct pseudo_mm_info* info) {
    if (device_fd != -1) return call_info(device_fd, info) == 0;
    const int fd = open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd == -1) return false;
    const bool ok = call_info(fd, info) == 0;
    close(fd);
    return ok;
}

static uint64_t pool_references(void) {
    struct pseudo_mm_stat stat = {0};
    return call_stat(common_pool.fd, &stat) ? UINT64_MAX : stat.live_references;
}

void state_open(unsigned mode) {
    if (mode == MODE_PLAIN) pool_open(&common_pool, COMMON_POOL_PAGES, options.seed & 0xffff);
    if (mode == MODE_PLAIN || mode == MODE_FINAL) return;
    device_fd = open(PSEUDO_MM_DEVICE, O_RDWR | O_CLOEXEC);
    if (device_fd == -1) {
        fprintf(stderr, "pseudo_mm_test: %s: %s; load the module\n", PSEUDO_MM_DEVICE,
                strerror(errno));
        exit(1);
    }
    pool_open(&common_pool, COMMON_POOL_PAGES, options.seed & 0xffff);
    const char* const problem = pool_verify(&common_pool);
    if (problem) {
        fprintf(stderr, "pseudo_mm_test: a fresh pool: %s\n", problem);
        exit(1);
    }
    references = pool_references();
}

void state_close(void) {
    if (device_fd == -1) return;
    pool_close(&common_pool);
    close(device_fd);
    device_fd = -1;
}

void state_begin(void) {
    kernel_log_complaint();
    info_known = current_mode != MODE_PLAIN && read_info(&before);
    for (int i = 0; i < LIMITS && info_known; i++) {
        char path[128];
        limit_path(path, sizeof path, i);
        if (!read_text(path, limit_values[i], sizeof limit_values[i])) limit_values[i][0] = 0;
    }
}

static bool same_counters(const struct pseudo_mm_info* now_held, char* message, size_t size) {
    static const struct {
        const char* name;
        size_t offset;
    } counters[] = {
        {"pools", offsetof(struct pseudo_mm_info, pools)},
        {"lingering_pools", offsetof(struct pseudo_mm_info, lingering_pools)},
        {"templates", offsetof(struct pseudo_mm_info, templates)},
        {"pool_pages", offsetof(struct pseudo_mm_info, pool_pages)},
        {"lazy_regions", offsetof(struct pseudo_mm_info, lazy_regions)},
    };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
        uint64_t old, new;
        memcpy(&old, (const char*)&before + counters[i].offset, sizeof old);
        memcpy(&new, (const char*)now_held + counters[i].offset, sizeof new);
        if (old == new) continue;
        snprintf(message, size, "left behind: %s is %llu, was %llu", counters[i].name,
                 (unsigned long long)new, (unsigned long long)old);
        return false;
    }
    return true;
}

static bool counters_return(char* message, size_t size) {
    struct pseudo_mm_info info;
    for (const double deadline = now() + 10;; sleep_ms(20)) {
        if (!read_info(&info)) {
            /* Only the removal test may take the module away. */
            snprintf(message, size, "INFO failed: %s", strerror(errno));
            return current_mode == MODE_FINAL && errno == ENOENT;
        }
        if (same_counters(&info, message, size)) return true;
        if (now() > deadline) return false;
    }
}

static bool common_pool_is_whole(char* message, size_t size) {
    const char* const problem = pool_verify(&common_pool);
    if (problem) {
        snprintf(message, size, "%s", problem);
        return false;
    }
    uint64_t live = 0;
    for (const double deadline = now() + 5; now() < deadline; sleep_ms(20)) {
        live = pool_references();
        if (live <= references) {
            references = live;
            return true;
        }
    }
    snprintf(message, size, "left behind: %llu references to pool pages, were %llu",
             (unsigned long long)live, (unsigned long long)references);
    return false;
}

bool state_end(char* message, size_t size) {
    bool ok = true;
    for (int i = 0; i < LIMITS && info_known; i++) {
        char path[128], value[64];
        limit_path(path, sizeof path, i);
        if (limit_values[i][0] && read_text(path, value, sizeof value) &&
            strcmp(value, limit_values[i]))
            write_text(path, limit_values[i]);
    }
    if (info_known) ok = counters_return(message, size);
    if (ok && common_pool.fd != -1) ok = common_pool_is_whole(message, size);
    const char* const complaint = kernel_log_complaint();
    if (complaint) {
        snprintf(message, size, "kernel log: %s", complaint);
        return false;
    }
    return ok;
}
