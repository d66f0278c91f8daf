/* SPDX-License-Identifier: Apache-2.0
 *
 * A process and its child on one MAP_SHARED mapping. GET / : both look at all of it. GET /add: the
 * child adds 1 to a counter in it, which the parent then reads; GET /counter reads it. Each
 * instance must have a counter of its own. */
#include "http_answer.h"
#include "pattern.h"

enum { BYTES = 8 << 20 };

struct area {
    uint64_t counter;
    uint64_t wrong; /* the child's finding */
    char filled[BYTES];
};
static struct area* area;
static int order_child[2], hear_child[2];

/* Does what its parent asks until that is gone. */
static void be_child(int listener) {
    close(listener);
    close(order_child[1]);
    close(hear_child[0]);
    char order;
    while (read(order_child[0], &order, 1) == 1) {
        if (order == '+') ++area->counter;
        if (order == '?') area->wrong = pattern_wrong(area->filled, BYTES, 1);
        if (write(hear_child[1], &order, 1) != 1) break;
    }
    _exit(0);
}

static int ask_child(char order) {
    char back = 0;
    return write(order_child[1], &order, 1) == 1 && read(hear_child[0], &back, 1) == 1 &&
           back == order;
}

static void handle(const char* path, struct answer* answer) {
    if (strcmp(path, "/") == 0) {
        area->wrong = (uint64_t)-1;
        const int heard = ask_child('?');
        answer_add(answer, "parent wrong %zu, child wrong %lld%s\n",
                   pattern_wrong(area->filled, BYTES, 1), (long long)area->wrong,
                   heard ? "" : ", child gone");
    } else if (strcmp(path, "/add") == 0) {
        const uint64_t before = area->counter;
        const int added = ask_child('+') && area->counter == before + 1;
        answer_add(answer, "%s\n", added ? "added" : "lost");
    } else if (strcmp(path, "/counter") == 0) {
        answer_add(answer, "counter %llu\n", (unsigned long long)area->counter);
    }
}

int main(int argc, char** argv) {
    const int listener = http_listen(argc, argv);
    area = map_anonymous(sizeof *area, MAP_SHARED);
    pattern_fill(area->filled, BYTES, 1);
    if (pipe(order_child) || pipe(hear_child)) die("pipe");
    signal(SIGPIPE, SIG_IGN);
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) be_child(listener);
    close(order_child[0]);
    close(hear_child[1]);
    http_serve(listener, handle);
}
