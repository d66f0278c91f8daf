// SPDX-License-Identifier: Apache-2.0
//
// Takes and gives back memory in known steps: tests compare what was measured.
//   steps FILE    FILE is the cgroup's memory.current or memory.usage_in_bytes
// Prints "WHAT TIME-BEFORE TIME-AFTER BYTES" after each step: ten times 10 MiB up ("up"), five
// bursts of 20 MiB that are given back at once ("burst", BYTES at the top), ten times down
// ("down").
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { mebibyte = 1 << 20, steps = 10, step = 10 * mebibyte, bursts = 5, burst = 20 * mebibyte };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t level(int file) {
    char text[32] = {0};
    if (pread(file, text, sizeof text - 1, 0) <= 0) exit(1);
    return strtoull(text, NULL, 10);
}

static void tell(const char* what, int file) {
    const uint64_t before = now();
    const uint64_t bytes = level(file);
    printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", what, before, now(), bytes);
}

static char* take(size_t size) {
    char* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(1);
    // Pages one by one, as most programs have them.
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
    return memory;
}

static void rest(void) {
    const struct timespec time = {.tv_nsec = 40 * 1000 * 1000};
    nanosleep(&time, NULL);
}

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const int file = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        perror(argv[1]);
        return 1;
    }
    char* held[steps];
    static char buffer[8192];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (int i = 0; i < steps; i++) {
        held[i] = take(step);
        tell("up", file);
        rest();
    }
    for (int i = 0; i < bursts; i++) {
        char* memory = take(burst);
        tell("burst", file);
        munmap(memory, burst);
        rest();
    }
    for (int i = 0; i < steps; i++) {
        munmap(held[i], step);
        tell("down", file);
        rest();
    }
    return 0;
}
