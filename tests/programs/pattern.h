/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory filled with numbers that tell where they belong: a page that is missing, shifted or
 * somebody else's shows. No byte of the pattern is zero. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static inline uint64_t pattern_word(uint64_t seed, size_t index) {
    uint64_t word = (seed + 1) * 0x9e3779b97f4a7c15u + index * 0xd1b54a32d192ed03u;
    word ^= word >> 29;
    return word | 0x0101010101010101u;
}

static inline void pattern_fill(void* memory, size_t bytes, uint64_t seed) {
    uint64_t* words = memory;
    for (size_t i = 0; i < bytes / sizeof *words; ++i) words[i] = pattern_word(seed, i);
}

/* Words that are not as pattern_fill() wrote them. */
static inline size_t pattern_wrong(const void* memory, size_t bytes, uint64_t seed) {
    const uint64_t* words = memory;
    size_t wrong = 0;
    for (size_t i = 0; i < bytes / sizeof *words; ++i) wrong += words[i] != pattern_word(seed, i);
    return wrong;
}

/* FNV-1a over words. */
static inline uint64_t checksum(const void* memory, size_t bytes) {
    const uint64_t* words = memory;
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes / sizeof *words; ++i) sum = (sum ^ words[i]) * 0x100000001b3u;
    return sum;
}

static inline size_t count_nonzero(const void* memory, size_t bytes) {
    const unsigned char* data = memory;
    size_t found = 0;
    for (size_t i = 0; i < bytes; ++i) found += data[i] != 0;
    return found;
}

/* mmap(2) of anonymous memory; `sharing` is MAP_PRIVATE or MAP_SHARED. */
static inline void* map_anonymous(size_t bytes, int sharing) {
    void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}
