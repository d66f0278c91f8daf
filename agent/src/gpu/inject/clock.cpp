// SPDX-License-Identifier: Apache-2.0
#include "gpu/inject/machine.h"
#include "gpu/inject/symbols.h"

namespace memplate::gpu::inject {
namespace {

using ClockGetTime = int (*)(clockid_t, timespec*);
ClockGetTime fast_clock = nullptr;

ClockGetTime clock_in(const ElfW(Ehdr) * library) {
    const auto base = reinterpret_cast<ElfW(Addr)>(library);
    const auto* segment = reinterpret_cast<const ElfW(Phdr)*>(base + library->e_phoff);
    for (int i = 0; i < library->e_phnum; ++i, ++segment) {
        if (segment->p_type != PT_DYNAMIC) continue;
        const Symbols symbols =
            symbols_of(reinterpret_cast<const ElfW(Dyn)*>(base + segment->p_offset), base);
        for (unsigned long s = 0; s < symbols.count; ++s)
            if (equal(symbols.names + symbols.first[s].st_name, "__vdso_clock_gettime"))
                return reinterpret_cast<ClockGetTime>(base + symbols.first[s].st_value);
    }
    return nullptr;
}

}  // namespace

void find_clock() {
    const long file = system_call(SYS_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    if (failed(file)) return;
    ElfW(auxv_t) entries[64];
    const long bytes = system_call(SYS_read, file, entries, sizeof entries);
    system_call(SYS_close, file);
    for (long i = 0; i < bytes / static_cast<long>(sizeof entries[0]); ++i)
        if (entries[i].a_type == AT_SYSINFO_EHDR)
            fast_clock = clock_in(reinterpret_cast<const ElfW(Ehdr)*>(entries[i].a_un.a_val));
}

unsigned long long now_ns() {
    timespec now{};
    if (fast_clock == nullptr || fast_clock(CLOCK_MONOTONIC, &now) != 0)
        system_call(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000ULL + now.tv_nsec;
}

}  // namespace memplate::gpu::inject
