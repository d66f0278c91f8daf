/* SPDX-License-Identifier: Apache-2.0
 *
 * calloc(3) of jemalloc after free(3): jemalloc gives purged pages back with MADV_DONTNEED, takes
 * for granted that they are zero after that, and does not clear them again. GET /churn frees filled
 * blocks, purges, and counts what is not zero in fresh ones. */
#include <jemalloc/jemalloc.h>

#include "http_answer.h"
#include "pattern.h"

enum { BLOCKS = 512, BLOCK_BYTES = 128 << 10 };

/* One arena, and no purge at a time of its own choice. */
const char* malloc_conf = "narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:0,background_thread:false";

static char* blocks[BLOCKS];

static void allocate(void) {
    for (size_t i = 0; i < BLOCKS; ++i) {
        blocks[i] = calloc(1, BLOCK_BYTES);
        if (!blocks[i]) die("calloc");
    }
}

static void fill(void) {
    for (size_t i = 0; i < BLOCKS; ++i) pattern_fill(blocks[i], BLOCK_BYTES, i);
}

/* What this thread and all arenas keep for later goes back to the kernel. */
static void purge(void) {
    char name[64];
    errno = mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    if (errno) die("thread.tcache.flush");
    snprintf(name, sizeof name, "arena.%d.purge", MALLCTL_ARENAS_ALL);
    errno = mallctl(name, NULL, NULL, NULL, 0);
    if (errno) die(name);
}

static void handle(const char* path, struct answer* answer) {
    size_t found = 0;
    if (strcmp(path, "/") == 0) {
        for (size_t i = 0; i < BLOCKS; ++i) found += pattern_wrong(blocks[i], BLOCK_BYTES, i);
        answer_add(answer, "blocks %d, wrong %zu\n", BLOCKS, found);
    } else if (strcmp(path, "/churn") == 0) {
        for (size_t i = 0; i < BLOCKS; ++i) free(blocks[i]);
        purge();
        allocate();
        for (size_t i = 0; i < BLOCKS; ++i) found += count_nonzero(blocks[i], BLOCK_BYTES);
        answer_add(answer, "nonzero %zu\n", found);
        fill();
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    allocate();
    fill();
    http_serve(listener, handle);
}
