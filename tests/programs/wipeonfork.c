/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory marked MADV_WIPEONFORK: this process keeps it, also through a restore, and a child finds
 * zeros. GET / looks at both. */
#include <sys/wait.h>

#include "http_answer.h"
#include "pattern.h"

enum { BYTES = 1 << 20 };
static char* memory;

/* What a child sees in the memory. */
static size_t nonzero_in_child(void) {
    int ends[2];
    if (pipe(ends)) die("pipe");
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        const size_t nonzero = count_nonzero(memory, BYTES);
        _exit(write(ends[1], &nonzero, sizeof nonzero) == sizeof nonzero ? 0 : 1);
    }
    close(ends[1]);
    size_t nonzero = (size_t)-1;
    if (read(ends[0], &nonzero, sizeof nonzero) != sizeof nonzero) nonzero = (size_t)-1;
    close(ends[0]);
    waitpid(child, NULL, 0);
    return nonzero;
}

static void handle(const char* path, struct answer* answer) {
    if (strcmp(path, "/") != 0) return;
    answer_add(answer, "wrong %zu, child nonzero %zu\n", pattern_wrong(memory, BYTES, 1),
               nonzero_in_child());
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    memory = map_anonymous(BYTES, MAP_PRIVATE);
    if (madvise(memory, BYTES, MADV_WIPEONFORK)) die("MADV_WIPEONFORK");
    pattern_fill(memory, BYTES, 1);
    http_serve(listener, handle);
}
