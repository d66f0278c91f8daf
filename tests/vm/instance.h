/* SPDX-License-Identifier: Apache-2.0
 *
 * The address space most tests work in: several areas, a template for them, and a record of what
 * every page must contain, so that each test can check everything after every change. */
#ifndef PSEUDO_MM_INSTANCE_H
#define PSEUDO_MM_INSTANCE_H

#include "pages.h"

enum area_name {
    AREA_RW,    /* shared, copied, holes */
    AREA_RO,    /* read-only; its pages are in AREA_RW, too */
    AREA_RX,    /* code */
    AREA_NONE,  /* no access */
    AREA_BIG,   /* aligned for huge pages */
    AREA_HEAP,  /* brk */
    AREA_STACK, /* MAP_GROWSDOWN */
    AREA_SPAN1, /* one extent begins here, rw ... */
    AREA_SPAN2, /* ... and ends here, read-only */
    AREAS
};

enum { AREA_MAX_PAGES = 768, MAX_EXTENTS = 32 };

enum content {
    CONTENT_ZERO,
    CONTENT_POOL, /* page `number` of the pool */
    CONTENT_MARK, /* fill_mark(number) */
    CONTENT_GONE, /* not mapped */
};

struct page_record {
    uint8_t content;
    bool poked; /* one byte differs */
    uint16_t poke_index;
    uint8_t poke_value;
    uint64_t number;
};

struct area {
    uint64_t address;
    uint64_t pages;
    int protection;
    bool lazy; /* mapped from the template in lazy mode */
    struct page_record record[AREA_MAX_PAGES];
};

struct instance {
    struct area area[AREAS];
    struct pseudo_mm_extent extent[MAX_EXTENTS];
    uint32_t extents;
    const struct pool* pool;
    int template_fd;
    struct pseudo_mm_attach attach; /* the last result */
};

/* Steps of instance_setup, for tests that need them apart. */
void instance_layout(struct instance* instance, const struct pool* pool);
void instance_template(struct instance* instance);
void instance_map(struct instance* instance);
/* With DEBUG_VM what was attached to says no to huge pages: keep_khugepaged_out() in attach.c. */
bool says_no_to_huge_pages(void);
void instance_dirty(struct instance* instance); /* contents that ATTACH replaces, or leaves */
int instance_attach(struct instance* instance); /* as the mode says; -1 and errno */
/* All of them. Remote mode attaches to dirty memory, self mode to pristine memory. */
void instance_setup(struct instance* instance);
void instance_setup_as(struct instance* instance, const struct pool* pool, bool dirty);

/* Fails the test if any page is not what the record says. */
#define instance_check(instance) instance_check_at(instance, __FILE__, __LINE__)
void instance_check_at(const struct instance* instance, const char* file, int line);
/* Reads through this /proc/PID/mem (-1: directly where the protection allows). */
void instance_check_through(const struct instance* instance, int fd, const char* file, int line);

void* page_at(const struct instance* instance, enum area_name area, uint64_t page);
/* Write and record. */
void write_mark(struct instance* instance, enum area_name area, uint64_t page, uint64_t tag);
void write_byte(struct instance* instance, enum area_name area, uint64_t page, uint16_t index,
                uint8_t value);
/* Record only. */
void record_pages(struct instance* instance, enum area_name area, uint64_t first, uint64_t count,
                  enum content content, uint64_t number);
void record_byte(struct instance* instance, enum area_name area, uint64_t page, uint16_t index,
                 uint8_t value);
/* What the record says of one page, 4096 bytes. */
void expected_page(const struct instance* instance, enum area_name area, uint64_t page, void* out);
/* Marks every third page (or so) of everything writable, starting at `first`. */
void write_marks(struct instance* instance, uint64_t first, uint64_t step, uint64_t tag);

/* remote.c: the process that attaches for a stopped one; in remote mode;
 * started before the memory is mapped. */
void attacher_start(void);
int attach_by_helper(int template_fd, struct pseudo_mm_attach* result);
/* Attaches to the caller as the mode says (self, or by the attacher); -1 and errno. */
int attach_here(int template_fd, struct pseudo_mm_attach* result);

#endif
