/* SPDX-License-Identifier: Apache-2.0
 *
 * Four processes: a root, two children, and a child of the first child. All have a private area at
 * the same address, each with a pattern of its own, and a second one that all inherited from the
 * root and nobody wrote since. At GET / every process sums up both; the answers come back through
 * one pipe that all share. GET /change writes to one page of the private area of each. */
#include <poll.h>

#include "http_answer.h"
#include "pattern.h"

enum { PATIENCE_MS = 20000 };
enum { PROCESSES = 4, ROOT = 0, FIRST = 1, SECOND = 2, GRANDCHILD = 3 };
enum { OWN_BYTES = 8 << 20, INHERITED_BYTES = 2 << 20, INHERITED_SEED = 99 };

struct report {
    int process;
    int parent_ok;
    uint64_t sum;
    size_t wrong;
};

static char *own, *inherited;
static int orders[PROCESSES][2]; /* root to one process */
static int reports[2];           /* all to root */

static struct report look(int process, pid_t parent) {
    return (struct report){.process = process,
                           .parent_ok = process == ROOT || getppid() == parent,
                           .sum = checksum(own, OWN_BYTES),
                           .wrong = pattern_wrong(inherited, INHERITED_BYTES, INHERITED_SEED)};
}

static void change(void) {
    ++*(uint64_t*)(own + OWN_BYTES / 2);
}

/* The life of all but the root; ends when the root is gone. */
static void obey(int process, pid_t parent) {
    for (int i = 0; i < PROCESSES; ++i) {
        if (i == ROOT) continue;
        close(orders[i][1]);
        if (i != process) close(orders[i][0]);
    }
    close(reports[0]);
    pattern_fill(own, OWN_BYTES, (uint64_t)process);
    char order;
    do {
        const struct report report = look(process, parent);
        if (write(reports[1], &report, sizeof report) != sizeof report) break;
        if (read(orders[process][0], &order, 1) != 1) break;
        if (order == 'c') change();
    } while (1);
    _exit(0);
}

static void descend(int process, int listener) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) return;
    if (listener >= 0) close(listener);
    if (process == FIRST) descend(GRANDCHILD, -1);
    obey(process, parent);
}

/* Collects one report of each process; true if they all came. */
static int collect(struct report found[PROCESSES]) {
    int seen = 1 << ROOT;
    found[ROOT] = look(ROOT, 0);
    for (int i = 1; i < PROCESSES; ++i) {
        struct report report;
        struct pollfd wait = {.fd = reports[0], .events = POLLIN};
        if (poll(&wait, 1, PATIENCE_MS) != 1) return 0;
        if (read(reports[0], &report, sizeof report) != sizeof report) return 0;
        if (report.process <= ROOT || report.process >= PROCESSES) return 0;
        found[report.process] = report;
        seen |= 1 << report.process;
    }
    return seen == (1 << PROCESSES) - 1;
}

static void handle(const char* path, struct answer* answer) {
    const int changes = strcmp(path, "/change") == 0;
    if (!changes && strcmp(path, "/") != 0) return;
    if (changes) change();
    for (int i = 1; i < PROCESSES; ++i)
        if (write(orders[i][1], changes ? "c" : "l", 1) != 1) die("write to a descendant");
    struct report found[PROCESSES];
    if (!collect(found)) {
        answer_add(answer, "a process is missing\n");
        return;
    }
    for (int i = 0; i < PROCESSES; ++i) {
        answer_add(answer, "process %d: sum %016llx, inherited wrong %zu, parent %s\n", i,
                   (unsigned long long)found[i].sum, found[i].wrong,
                   found[i].parent_ok ? "ok" : "wrong");
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    own = map_anonymous(OWN_BYTES, MAP_PRIVATE);
    inherited = map_anonymous(INHERITED_BYTES, MAP_PRIVATE);
    pattern_fill(inherited, INHERITED_BYTES, INHERITED_SEED);
    pattern_fill(own, OWN_BYTES, ROOT);
    signal(SIGPIPE, SIG_IGN);
    if (pipe(reports)) die("pipe");
    for (int i = 1; i < PROCESSES; ++i)
        if (pipe(orders[i])) die("pipe");
    descend(FIRST, listener);
    descend(SECOND, listener);
    close(reports[1]);
    for (int i = 1; i < PROCESSES; ++i) close(orders[i][0]);
    struct report started[PROCESSES];
    if (!collect(started)) die("start of the tree");
    http_serve(listener, handle);
}
