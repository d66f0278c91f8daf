// SPDX-License-Identifier: Apache-2.0
#include "gpu/inject/symbols.h"

namespace memplate::gpu::inject {
namespace {

/// The index after the last symbol of a DT_GNU_HASH table.
unsigned long count_of(const Elf32_Word* table) {
    const Elf32_Word buckets = table[0];
    const Elf32_Word first = table[1];
    const Elf32_Word filters = table[2];
    const auto* bucket = reinterpret_cast<const Elf32_Word*>(
        reinterpret_cast<const ElfW(Addr)*>(table + 4) + filters);
    const Elf32_Word* chain = bucket + buckets;
    Elf32_Word last = 0;
    for (Elf32_Word i = 0; i < buckets; ++i)
        if (bucket[i] > last) last = bucket[i];
    if (last < first) return 0;
    while ((chain[last - first] & 1) == 0) ++last;
    return last + 1;
}

}  // namespace

Symbols symbols_of(const ElfW(Dyn) * dynamic, ElfW(Addr) base) {
    Symbols symbols;
    // Some linkers leave addresses in the table as they are in the file, others add the base.
    const auto address = [base](const ElfW(Dyn) & entry) {
        return entry.d_un.d_ptr < base ? base + entry.d_un.d_ptr : entry.d_un.d_ptr;
    };
    for (; dynamic->d_tag != DT_NULL; ++dynamic) {
        if (dynamic->d_tag == DT_SYMTAB)
            symbols.first = reinterpret_cast<ElfW(Sym)*>(address(*dynamic));
        else if (dynamic->d_tag == DT_STRTAB)
            symbols.names = reinterpret_cast<const char*>(address(*dynamic));
        else if (dynamic->d_tag == DT_HASH)
            symbols.count = reinterpret_cast<const Elf32_Word*>(address(*dynamic))[1];
        else if (dynamic->d_tag == DT_GNU_HASH && symbols.count == 0)
            symbols.count = count_of(reinterpret_cast<const Elf32_Word*>(address(*dynamic)));
    }
    if (symbols.first == nullptr || symbols.names == nullptr) return {};
    return symbols;
}

bool starts_with(const char* text, const char* beginning) {
    while (*beginning != 0)
        if (*text++ != *beginning++) return false;
    return true;
}

bool equal(const char* one, const char* other) {
    while (*one != 0 && *one == *other) {
        ++one;
        ++other;
    }
    return *one == *other;
}

const char* file_name(const char* path) {
    const char* name = path;
    for (; *path != 0; ++path)
        if (*path == '/') name = path + 1;
    return name;
}

}  // namespace memplate::gpu::inject
