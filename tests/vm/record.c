// SPDX-License-Identifier: Apache-2.0
// What every page of an instance must contain, and the comparison.
#include <sys/mman.h>

#include "instance.h"

void* page_at(const struct instance* instance, enum area_name area, uint64_t page) {
    return (char*)instance->area[area].address + page * PAGE;
}

void record_pages(struct instance* instance, enum area_name area, uint64_t first, uint64_t count,
                  enum content content, uint64_t number) {
    for (uint64_t i = 0; i < count; i++)
        instance->area[area].record[first + i] = (struct page_record){
            .content = (uint8_t)content,
            .number = content == CONTENT_POOL ? number + i : number,
        };
}

void record_byte(struct instance* instance, enum area_name area, uint64_t page, uint16_t index,
                 uint8_t value) {
    struct page_record* const record = &instance->area[area].record[page];
    record->poked = true;
    record->poke_index = index;
    record->poke_value = value;
}

void write_mark(struct instance* instance, enum area_name area, uint64_t page, uint64_t tag) {
    fill_mark(page_at(instance, area, page), tag);
    record_pages(instance, area, page, 1, CONTENT_MARK, tag);
}

void write_byte(struct instance* instance, enum area_name area, uint64_t page, uint16_t index,
                uint8_t value) {
    ((volatile uint8_t*)page_at(instance, area, page))[index] = value;
    record_byte(instance, area, page, index, value);
}

void write_marks(struct instance* instance, uint64_t first, uint64_t step, uint64_t tag) {
    for (int a = 0; a < AREAS; a++) {
        const struct area* const area = &instance->area[a];
        if (!(area->protection & PROT_WRITE)) continue;
        for (uint64_t page = first; page < area->pages; page += step)
            if (area->record[page].content != CONTENT_GONE)
                write_mark(instance, (enum area_name)a, page, tag + page);
    }
}

void expected_page(const struct instance* instance, enum area_name area, uint64_t page, void* out) {
    const struct page_record* const record = &instance->area[area].record[page];
    switch ((enum content)record->content) {
        case CONTENT_POOL:
            fill_page(out, instance->pool->seed, record->number);
            break;
        case CONTENT_MARK:
            fill_mark(out, record->number);
            break;
        default:
            memset(out, 0, PAGE);
            break;
    }
    if (record->poked) ((uint8_t*)out)[record->poke_index] = record->poke_value;
}

static void describe(char* text, size_t size, const uint64_t* actual,
                     const struct instance* instance) {
    if (page_is_zero(actual)) {
        snprintf(text, size, "zeros");
        return;
    }
    for (uint64_t page = 0; page < instance->pool->pages; page++) {
        if (!page_is(actual, instance->pool->seed, page)) continue;
        snprintf(text, size, "pool page %llu", (unsigned long long)page);
        return;
    }
    snprintf(text, size, "%016llx %016llx ...", (unsigned long long)actual[0],
             (unsigned long long)actual[1]);
}

void instance_check_through(const struct instance* instance, int fd, const char* file, int line) {
    for (int a = 0; a < AREAS; a++) {
        const struct area* const area = &instance->area[a];
        for (uint64_t page = 0; page < area->pages; page++) {
            const struct page_record* const record = &area->record[page];
            if (record->content == CONTENT_GONE) continue;
            uint64_t expected[PAGE / 8], copy[PAGE / 8];
            const void* actual = (const char*)area->address + page * PAGE;
            expected_page(instance, (enum area_name)a, page, expected);
            if (fd != -1) {
                if (pread(fd, copy, PAGE, (off_t)(area->address + page * PAGE)) != PAGE)
                    fail_at(file, line, "area %d page %llu cannot be read: %s", a,
                            (unsigned long long)page, strerror(errno));
                actual = copy;
            }
            if (memcmp(actual, expected, PAGE) == 0) continue;
            memcpy(copy, actual, PAGE);
            char text[96];
            describe(text, sizeof text, copy, instance);
            fail_at(file, line,
                    "area %d page %llu contains %s; expected content %d number %llu poked %d", a,
                    (unsigned long long)page, text, record->content,
                    (unsigned long long)record->number, record->poked);
        }
        if (a == AREA_RX && fd == -1 && area->record[0].content == CONTENT_POOL &&
            area->protection & PROT_EXEC && !area->record[0].poked) {
            int result = 0, code = 0;
            if (probe_call((void*)area->address, &result, &code) ||
                result != code_result(instance->pool->seed, area->record[0].number))
                fail_at(file, line, "code of the template returned %d (signal code %d)", result,
                        code);
        }
    }
}

void instance_check_at(const struct instance* instance, const char* file, int line) {
    /* Areas without read permission are read the way a debugger does. */
    struct instance* const open_areas = malloc(sizeof *instance);
    struct instance* const closed_areas = malloc(sizeof *instance);
    if (!open_areas || !closed_areas) fail_at(file, line, "no memory");
    memcpy(open_areas, instance, sizeof *instance);
    memcpy(closed_areas, instance, sizeof *instance);
    bool any_closed = false;
    for (int a = 0; a < AREAS; a++) {
        const bool closed = !(instance->area[a].protection & (PROT_READ | PROT_WRITE | PROT_EXEC));
        (closed ? open_areas : closed_areas)->area[a].pages = 0;
        any_closed |= closed && instance->area[a].pages;
    }
    instance_check_through(open_areas, -1, file, line);
    if (any_closed) {
        const int fd = memory_fd(getpid());
        instance_check_through(closed_areas, fd, file, line);
        close(fd);
    }
    free(open_areas);
    free(closed_areas);
}
