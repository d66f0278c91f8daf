// SPDX-License-Identifier: Apache-2.0
// The areas of an instance, their template, and how they are filled in each mode.
#include "instance.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

static const uintptr_t base_address = 0x10000000000;
static const uintptr_t area_distance = 0x800000;

static const struct {
    uint64_t pages;
    int protection;
    bool lazy;
} shapes[AREAS] = {
    [AREA_RW] = {64, PROT_READ | PROT_WRITE, true},
    [AREA_RO] = {16, PROT_READ, true},
    [AREA_RX] = {4, PROT_READ | PROT_EXEC, true},
    [AREA_NONE] = {8, PROT_NONE, true},
    [AREA_BIG] = {768, PROT_READ | PROT_WRITE, true},
    [AREA_HEAP] = {16, PROT_READ | PROT_WRITE, false},
    [AREA_STACK] = {16, PROT_READ | PROT_WRITE, false},
    [AREA_SPAN1] = {8, PROT_READ | PROT_WRITE, false},
    [AREA_SPAN2] = {8, PROT_READ, false},
};

static const struct {
    enum area_name area;
    uint64_t first;
    uint64_t pages;
    uint64_t pool_page;
    uint32_t kind;
    bool eager; /* shared at ATTACH in lazy mode, too */
} extents[] = {
    {AREA_RW, 0, 16, 0, PSEUDO_MM_SHARED, false},
    {AREA_RW, 16, 8, 16, PSEUDO_MM_COPIED, false},
    {AREA_RW, 32, 12, 32, PSEUDO_MM_SHARED, false},
    {AREA_RW, 44, 4, 50, PSEUDO_MM_SHARED, true},
    {AREA_RW, 48, 8, 112, PSEUDO_MM_COPIED, false},
    {AREA_RO, 0, 8, 0, PSEUDO_MM_SHARED, false},
    {AREA_RO, 8, 4, 8, PSEUDO_MM_COPIED, false},
    {AREA_RX, 0, 1, 63, PSEUDO_MM_SHARED, false},
    {AREA_RX, 1, 1, 127, PSEUDO_MM_COPIED, false},
    {AREA_RX, 2, 1, 191, PSEUDO_MM_SHARED, false},
    {AREA_NONE, 0, 4, 96, PSEUDO_MM_SHARED, false},
    {AREA_NONE, 4, 2, 100, PSEUDO_MM_COPIED, false},
    {AREA_BIG, 0, 200, 200, PSEUDO_MM_SHARED, false},
    {AREA_BIG, 256, 144, 456, PSEUDO_MM_SHARED, false},
    {AREA_BIG, 400, 32, 600, PSEUDO_MM_COPIED, false},
    {AREA_BIG, 500, 24, 640, PSEUDO_MM_SHARED, false}, /* over the border of a huge page */
    {AREA_HEAP, 0, 8, 700, PSEUDO_MM_SHARED, false},
    {AREA_HEAP, 8, 2, 720, PSEUDO_MM_COPIED, false},
    {AREA_STACK, 4, 8, 740, PSEUDO_MM_SHARED, false},
    {AREA_STACK, 12, 4, 760, PSEUDO_MM_COPIED, false},
    {AREA_SPAN1, 2, 12, 800, PSEUDO_MM_SHARED, false}, /* into AREA_SPAN2 */
};
enum { EXTENTS = sizeof extents / sizeof *extents };

static uintptr_t area_address(enum area_name area) {
    switch (area) {
        case AREA_HEAP: {
            /* The heap the C library has begun goes on to this. */
            void* volatile block = malloc(1);
            free(block);
            return ((uintptr_t)sbrk(0) + PAGE - 1) & -(uintptr_t)PAGE;
        }
        case AREA_SPAN2:
            return base_address + AREA_SPAN1 * area_distance + 8 * PAGE;
        default:
            return base_address + area * area_distance;
    }
}

static void record_extent(struct instance* instance, const struct pseudo_mm_extent* extent) {
    for (uint64_t i = 0; i < extent->nr_pages; i++) {
        const uint64_t address = extent->addr + i * PAGE;
        for (int a = 0; a < AREAS; a++) {
            struct area* const area = &instance->area[a];
            if (address < area->address || address >= area->address + area->pages * PAGE) continue;
            area->record[(address - area->address) / PAGE] =
                (struct page_record){.content = CONTENT_POOL, .number = extent->page + i};
        }
    }
}

static int by_address(const void* left, const void* right) {
    const struct pseudo_mm_extent *a = left, *b = right;
    return a->addr < b->addr ? -1 : a->addr > b->addr;
}

void instance_layout(struct instance* instance, const struct pool* pool) {
    memset(instance, 0, sizeof *instance);
    instance->pool = pool;
    instance->template_fd = -1;
    for (int a = 0; a < AREAS; a++) {
        struct area* const area = &instance->area[a];
        area->address = area_address((enum area_name)a);
        area->pages = shapes[a].pages;
        area->protection = shapes[a].protection;
        area->lazy = shapes[a].lazy && current_mode == MODE_LAZY;
    }
    for (int e = 0; e < EXTENTS; e++) {
        const struct area* const area = &instance->area[extents[e].area];
        const bool lazy = area->lazy && !extents[e].eager && extents[e].kind == PSEUDO_MM_SHARED;
        instance->extent[instance->extents++] =
            (struct pseudo_mm_extent){.addr = area->address + extents[e].first * PAGE,
                                      .page = extents[e].pool_page,
                                      .nr_pages = extents[e].pages,
                                      .kind = lazy ? PSEUDO_MM_LAZY : extents[e].kind};
    }
    qsort(instance->extent, instance->extents, sizeof *instance->extent, by_address);
}

void instance_template(struct instance* instance) {
    if (current_mode != MODE_PLAIN)
        instance->template_fd =
            template_of(instance->pool->fd, instance->extent, instance->extents);
}

static void map_heap(const struct area* area) {
    const uintptr_t end = area->address + area->pages * PAGE;
    const uintptr_t old = (uintptr_t)sbrk(0);
    CHECK(old <= area->address && area->address - old < PAGE, "the heap was moved");
    CHECK(sbrk((intptr_t)(end - old)) != (void*)-1, "%s", strerror(errno));
}

void instance_map(struct instance* instance) {
    for (int a = 0; a < AREAS; a++) {
        const struct area* const area = &instance->area[a];
        if (a == AREA_HEAP) {
            map_heap(area);
            continue;
        }
        const int flags = area->lazy ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS;
        const int grows = a == AREA_STACK ? MAP_GROWSDOWN : 0;
        const void* const memory =
            mmap((void*)area->address, area->pages * PAGE, area->protection,
                 flags | grows | MAP_FIXED_NOREPLACE, area->lazy ? instance->template_fd : -1,
                 area->lazy ? (off_t)area->address : 0);
        CHECK(memory == (void*)area->address, "area %d: %s", a, strerror(errno));
    }
}

bool says_no_to_huge_pages(void) {
    struct utsname name;
    CHECK_OK(uname(&name));
    return current_mode != MODE_PLAIN && strstr(name.release, "-debug");
}

/* Stores, zero pages and huge pages, inside and outside of what ATTACH will replace. */
void instance_dirty(struct instance* instance) {
    const struct area* const big = &instance->area[AREA_BIG];
    if (!big->lazy) {
        madvise((void*)big->address, big->pages * PAGE, MADV_HUGEPAGE);
        *(volatile char*)big->address = 0; /* a store: a read would give the huge page of zeros */
    }
    for (int a = 0; a < AREAS; a++) {
        struct area* const area = &instance->area[a];
        if (area->protection == PROT_NONE || area->lazy) continue;
        for (uint64_t page = 0; page < area->pages; page++) {
            char* const address = (char*)area->address + page * PAGE;
            if (page % 5 == 1 && area->protection & PROT_WRITE) {
                fill_mark(address, page + 77);
                area->record[page] =
                    (struct page_record){.content = CONTENT_MARK, .number = page + 77};
            } else if (page % 3 == 0) {
                (void)*(volatile char*)address;
            }
        }
    }
}

static void protect_areas(const struct instance* instance, bool writable) {
    for (int a = 0; a < AREAS; a++) {
        const struct area* const area = &instance->area[a];
        CHECK_OK(mprotect((void*)area->address, area->pages * PAGE,
                          writable ? PROT_READ | PROT_WRITE : area->protection));
    }
}

static void attach_plain(const struct instance* instance) {
    protect_areas(instance, true);
    for (uint32_t e = 0; e < instance->extents; e++) {
        const struct pseudo_mm_extent* const extent = &instance->extent[e];
        for (uint64_t i = 0; i < extent->nr_pages; i++)
            fill_page((char*)extent->addr + i * PAGE, instance->pool->seed, extent->page + i);
    }
    protect_areas(instance, false);
}

int instance_attach(struct instance* instance) {
    if (current_mode == MODE_PLAIN) {
        attach_plain(instance);
    } else {
        const int result = attach_here(instance->template_fd, &instance->attach);
        if (result) return result;
    }
    for (uint32_t e = 0; e < instance->extents; e++) record_extent(instance, &instance->extent[e]);
    return 0;
}

void instance_setup_as(struct instance* instance, const struct pool* pool, bool dirty) {
    attacher_start();
    instance_layout(instance, pool);
    instance_template(instance);
    instance_map(instance);
    if (dirty) instance_dirty(instance);
    CHECK_OK(instance_attach(instance));
}

void instance_setup(struct instance* instance) {
    instance_setup_as(instance, &common_pool, current_mode == MODE_REMOTE);
}
