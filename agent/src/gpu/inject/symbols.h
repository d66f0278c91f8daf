// SPDX-License-Identifier: Apache-2.0
//
// The exported symbols of a library that is mapped in this process.
#pragma once

#include <elf.h>
#include <link.h>

namespace memplate::gpu::inject {

struct Symbols {
    ElfW(Sym) * first = nullptr;
    const char* names = nullptr;
    unsigned long count = 0;
};
/// `base` is what its addresses have to be added to. Empty if its tables are not understood.
Symbols symbols_of(const ElfW(Dyn) * dynamic, ElfW(Addr) base);

bool equal(const char* one, const char* other);
bool starts_with(const char* text, const char* beginning);
/// What follows the last slash.
const char* file_name(const char* path);

}  // namespace memplate::gpu::inject
