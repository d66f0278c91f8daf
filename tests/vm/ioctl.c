// SPDX-License-Identifier: Apache-2.0
// The module's calls.
#include <sys/ioctl.h>

#include "pages.h"

int call_info(int fd, struct pseudo_mm_info* info) {
    memset(info, 0, sizeof *info);
    info->size = sizeof *info;
    return ioctl(fd, PSEUDO_MM_IOC_INFO, info);
}

int call_pool(int fd, const struct pseudo_mm_range* ranges, uint32_t count, uint32_t flags) {
    struct pseudo_mm_pool pool = {
        .size = sizeof pool, .flags = flags, .ranges = (uintptr_t)ranges, .nr_ranges = count};
    return ioctl(fd, PSEUDO_MM_IOC_POOL, &pool);
}

int call_template(int pool_fd) {
    struct pseudo_mm_template template = {.size = sizeof template};
    return ioctl(pool_fd, PSEUDO_MM_IOC_TEMPLATE, &template);
}

int call_add(int template_fd, const struct pseudo_mm_extent* extents, uint32_t count) {
    struct pseudo_mm_add add = {
        .size = sizeof add, .extents = (uintptr_t)extents, .nr_extents = count};
    return ioctl(template_fd, PSEUDO_MM_IOC_ADD, &add);
}

int call_seal(int template_fd) {
    struct pseudo_mm_seal seal = {.size = sizeof seal};
    return ioctl(template_fd, PSEUDO_MM_IOC_SEAL, &seal);
}

int call_attach(int template_fd, pid_t pid, struct pseudo_mm_attach* result) {
    struct pseudo_mm_attach unused;
    if (!result) result = &unused;
    memset(result, 0, sizeof *result);
    result->size = sizeof *result;
    result->pid = pid;
    return ioctl(template_fd, PSEUDO_MM_IOC_ATTACH, result);
}

int call_stat(int fd, struct pseudo_mm_stat* stat) {
    stat->size = sizeof *stat;
    return ioctl(fd, PSEUDO_MM_IOC_STAT, stat);
}

int template_of(int pool_fd, const struct pseudo_mm_extent* extents, uint32_t count) {
    const int fd = (int)CHECK_OK(call_template(pool_fd));
    CHECK_OK(call_add(fd, extents, count));
    CHECK_OK(call_seal(fd));
    return fd;
}

struct pseudo_mm_info info(void) {
    struct pseudo_mm_info result;
    CHECK_OK(call_info(device_fd, &result));
    return result;
}
