// SPDX-License-Identifier: Apache-2.0
//
// System calls without a C library: the injected library lives in a linker namespace of its own and
// brings nothing else into the program.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

namespace memplate::gpu::inject {

template <class... Arguments>
long system_call(long number, Arguments... arguments) {
    const long values[6] = {(long)arguments...};
    long result = number;
    register long fourth asm("r10") = values[3];
    register long fifth asm("r8") = values[4];
    register long sixth asm("r9") = values[5];
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"(values[0]), "S"(values[1]), "d"(values[2]), "r"(fourth), "r"(fifth),
                   "r"(sixth)
                 : "rcx", "r11", "memory");
    return result;
}

inline bool failed(long result) {
    return result < 0 && result > -4096;
}

/// Nullptr if it cannot be mapped.
inline void* map(unsigned long bytes, int protection, int flags, int fd) {
    const long address = system_call(SYS_mmap, 0L, bytes, protection, flags, fd, 0L);
    return failed(address) ? nullptr : reinterpret_cast<void*>(address);
}

/// CLOCK_MONOTONIC, without entering the kernel where that is possible.
unsigned long long now_ns();
/// Finds the kernel's own library with the clock in it.
void find_clock();

}  // namespace memplate::gpu::inject
