/* SPDX-License-Identifier: Apache-2.0
 *
 * A filled mapping that grows: what mremap(2) adds must read as zero. GET /grow adds as much again,
 * counts, and gives it back. A second mapping, filled otherwise, lies behind the first in whatever
 * the memory is kept in, so that growing into its neighbour shows. */
#include "http_answer.h"
#include "pattern.h"

enum { BYTES = 4 << 20 };
static char* memory;
static char* neighbour;

static void handle(const char* path, struct answer* answer) {
    if (strcmp(path, "/") == 0) {
        answer_add(answer, "wrong %zu\n",
                   pattern_wrong(memory, BYTES, 1) + pattern_wrong(neighbour, BYTES, 2));
    } else if (strcmp(path, "/grow") == 0) {
        char* grown = mremap(memory, BYTES, 2 * (size_t)BYTES, MREMAP_MAYMOVE);
        if (grown == MAP_FAILED) die("mremap: grow");
        memory = grown;
        answer_add(answer, "nonzero %zu\n", count_nonzero(memory + BYTES, BYTES));
        if (mremap(memory, 2 * (size_t)BYTES, BYTES, 0) == MAP_FAILED) die("mremap: shrink");
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    /* Two mappings cut out of one, a hole apart: they can not be merged into one. */
    memory = map_anonymous(3 * (size_t)BYTES, MAP_PRIVATE);
    neighbour = memory + 2 * (size_t)BYTES;
    if (munmap(memory + BYTES, BYTES)) die("munmap");
    pattern_fill(memory, BYTES, 1);
    pattern_fill(neighbour, BYTES, 2);
    http_serve(listener, handle);
}
