/* SPDX-License-Identifier: Apache-2.0
 *
 * Pool pages and their contents: every word of a page tells which page it is. */
#ifndef PSEUDO_MM_PAGES_H
#define PSEUDO_MM_PAGES_H

#include "suite.h"

/* A page whose number is 63 modulo 64 begins with a function that returns code_result(page). */
#define IS_CODE_PAGE(page) ((page) % 64 == 63)
int code_result(uint64_t seed, uint64_t page);
void fill_page(void* destination, uint64_t seed, uint64_t page);
/* Another content, which no pool page has. */
void fill_mark(void* destination, uint64_t tag);
bool page_is(const void* actual, uint64_t seed, uint64_t page);
bool page_is_zero(const void* actual);

struct pool {
    enum source source;
    uint64_t seed;
    uint64_t pages;
    int fd;      /* of the module; -1 in plain mode */
    int file;    /* memfd or device; -1 for copies */
    void* map;   /* what the pool was made of; NULL after pool_close_source */
    size_t size; /* of the mapping */
};

enum { COMMON_POOL_PAGES = 1024 };
/* Made by the runner; tests that do not need one of their own use it. */
extern struct pool common_pool;

/* Makes the memory, fills it, and has the module make a pool of it. Fails the test on an error. */
void pool_open(struct pool* pool, uint64_t pages, uint64_t seed);
/* The memory alone, filled; pool->fd stays -1. */
void pool_open_source(struct pool* pool, uint64_t pages, uint64_t seed);
/* The ioctl on what pool_open_source made; -1 and errno on failure. */
int pool_make(struct pool* pool);
void pool_close_source(struct pool* pool);
void pool_close(struct pool* pool);
/* Attaches every page of the pool to scratch memory and compares: NULL, or what is wrong. */
const char* pool_verify(const struct pool* pool);

/* ioctl.c: thin calls; -1 and errno on failure. */
int call_info(int fd, struct pseudo_mm_info* info);
int call_pool(int fd, const struct pseudo_mm_range* ranges, uint32_t count, uint32_t flags);
int call_template(int pool_fd);
int call_add(int template_fd, const struct pseudo_mm_extent* extents, uint32_t count);
int call_seal(int template_fd);
int call_attach(int template_fd, pid_t pid, struct pseudo_mm_attach* result);
int call_stat(int fd, struct pseudo_mm_stat* stat);
/* A sealed template of these extents; fails the test on an error. */
int template_of(int pool_fd, const struct pseudo_mm_extent* extents, uint32_t count);
/* What the runner's descriptor tells; fails the test on an error. */
struct pseudo_mm_info info(void);

#endif
