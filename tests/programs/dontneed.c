/* SPDX-License-Identifier: Apache-2.0
 *
 * Gives memory back with MADV_DONTNEED by itself, without an allocator: private anonymous memory
 * must then read as zero. GET /drop does so to every second page of a filled mapping. */
#include "http_answer.h"
#include "pattern.h"

enum { BYTES = 16 << 20, PAGE = 4096 };
static char* memory;

static void handle(const char* path, struct answer* answer) {
    if (strcmp(path, "/") == 0) {
        answer_add(answer, "wrong %zu\n", pattern_wrong(memory, BYTES, 1));
    } else if (strcmp(path, "/drop") == 0) {
        size_t nonzero = 0;
        for (size_t offset = 0; offset < BYTES; offset += 2 * PAGE)
            if (madvise(memory + offset, PAGE, MADV_DONTNEED)) die("MADV_DONTNEED");
        for (size_t offset = 0; offset < BYTES; offset += 2 * PAGE)
            nonzero += count_nonzero(memory + offset, PAGE);
        answer_add(answer, "nonzero %zu\n", nonzero);
        pattern_fill(memory, BYTES, 1);
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    memory = map_anonymous(BYTES, MAP_PRIVATE);
    pattern_fill(memory, BYTES, 1);
    http_serve(listener, handle);
}
