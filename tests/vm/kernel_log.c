// SPDX-License-Identifier: Apache-2.0
// Reports of kernel bugs in /dev/kmsg.
#include <fcntl.h>

#include "runner.h"

static int log_fd = -1;

static const char* const complaints[] = {
    "WARNING:",
    "BUG:",
    "Oops",
    "general protection fault",
    "Bad page",
    "Bad rss-counter",
    "bad pmd",
    "KASAN",
    "UBSAN",
    "kernel BUG",
    "page_table_check",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "suspicious RCU usage",
    "held lock freed",
    "lock held when returning",
    "non-zero pgtables_bytes",
    "blocked for more than",
    "stall on CPU",
    "detected stalls",
    "kmemleak: ",
    "refcount_t:",
    "scheduling while atomic",
    "list_del corruption",
    "list_add corruption",
    "DEBUG_LOCKS_WARN_ON",
};

void kernel_log_open(void) {
    log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (log_fd == -1) {
        fprintf(stderr, "# /dev/kmsg: %s; the kernel log is not checked\n", strerror(errno));
        return;
    }
    lseek(log_fd, 0, SEEK_END);
}

static bool is_complaint(const char* text) {
    /* kmemleak also announces itself when it starts. */
    if (strstr(text, "kmemleak: Kernel memory leak detector")) return false;
    for (size_t i = 0; i < sizeof complaints / sizeof *complaints; i++)
        if (strstr(text, complaints[i])) return true;
    return false;
}

const char* kernel_log_complaint(void) {
    static char found[256];
    if (log_fd == -1) return NULL;
    /* The plain mode runs beside whatever else the machine does. */
    const bool ignore = current_mode == MODE_PLAIN;
    bool any = false;
    for (;;) {
        char record[8192];
        const ssize_t size = read(log_fd, record, sizeof record - 1);
        if (size == -1 && errno == EPIPE) continue; /* overwritten before it was read */
        if (size <= 0) break;
        record[size] = 0;
        char* const text = strchr(record, ';');
        if (!text || any || ignore || !is_complaint(text)) continue;
        text[strcspn(text, "\n")] = 0;
        snprintf(found, sizeof found, "%.250s", text + 1);
        any = true;
    }
    return any ? found : NULL;
}
