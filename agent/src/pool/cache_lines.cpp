// SPDX-License-Identifier: Apache-2.0
#include "pool/cache_lines.h"

#include <cstdint>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

namespace memplate::pool {
namespace {

constexpr uintptr_t line_bytes = 64;

enum class Instruction { clwb, clflushopt, clflush };

struct Choice {
    Instruction write_back = Instruction::clflush;
    Instruction invalidate = Instruction::clflush;
};

Choice choose() {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    Choice choice;  // every x86-64 processor has clflush
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return choice;
    constexpr unsigned clflushopt_bit = 1U << 23;
    constexpr unsigned clwb_bit = 1U << 24;
    if ((ebx & clflushopt_bit) != 0)
        choice.write_back = choice.invalidate = Instruction::clflushopt;
    if ((ebx & clwb_bit) != 0) choice.write_back = Instruction::clwb;
    return choice;
}

const Choice& instructions() {
    static const Choice choice = choose();
    return choice;
}

__attribute__((target("clwb"))) void clwb(uintptr_t line, uintptr_t end) {
    for (; line < end; line += line_bytes) _mm_clwb(reinterpret_cast<void*>(line));
}

__attribute__((target("clflushopt"))) void clflushopt(uintptr_t line, uintptr_t end) {
    for (; line < end; line += line_bytes) _mm_clflushopt(reinterpret_cast<void*>(line));
}

void clflush(uintptr_t line, uintptr_t end) {
    for (; line < end; line += line_bytes) _mm_clflush(reinterpret_cast<const void*>(line));
}

void apply(Instruction instruction, std::span<const std::byte> memory) {
    const auto start = reinterpret_cast<uintptr_t>(memory.data());
    const uintptr_t line = start / line_bytes * line_bytes;
    const uintptr_t end = start + memory.size();
    switch (instruction) {
        case Instruction::clwb:
            clwb(line, end);
            break;
        case Instruction::clflushopt:
            clflushopt(line, end);
            break;
        case Instruction::clflush:
            clflush(line, end);
            break;
    }
}

}  // namespace

bool can_write_back_cache_lines() {
    return true;
}

void write_back(std::span<const std::byte> memory) {
    apply(instructions().write_back, memory);
}

void invalidate(std::span<const std::byte> memory) {
    // Loads and stores before must not be overtaken, nor may those after overtake it.
    _mm_mfence();
    apply(instructions().invalidate, memory);
    _mm_mfence();
}

void fence() {
    _mm_sfence();
}

}  // namespace memplate::pool

#else

namespace memplate::pool {

bool can_write_back_cache_lines() {
    return false;
}
void write_back(std::span<const std::byte> /*memory*/) {}
void invalidate(std::span<const std::byte> /*memory*/) {}
void fence() {}

}  // namespace memplate::pool
#endif
