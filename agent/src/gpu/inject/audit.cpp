// SPDX-License-Identifier: Apache-2.0
//
// What the dynamic linker calls (rtld-audit(7)): LD_AUDIT names this library.
#include "gpu/inject/hooks.h"
#include "gpu/inject/machine.h"
#include "gpu/inject/symbols.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

using namespace memplate::gpu::inject;

/// 0: this library does not want to be told anything.
EXPORTED unsigned la_version(unsigned) {
    find_clock();
    return begin_trace() ? LAV_CURRENT : 0;
}

/// A library was mapped; nobody has looked up anything in it yet.
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): the C library's are reserved
EXPORTED unsigned la_objopen(link_map* library, Lmid_t name_space, uintptr_t*) {
    if (name_space != LM_ID_BASE) return 0;
    tell(MEMPLATE_GPU_OPENED, library->l_name);
    const char* name = file_name(library->l_name);
    if (starts_with(name, "libcuda.so."))
        hook_driver(*library);
    else if (starts_with(name, "libc.so."))
        hook_c_library(*library);
    return 0;
}

/// All libraries are there; constructors and main() follow.
EXPORTED void la_preinit(uintptr_t*) {
    tell(MEMPLATE_GPU_LINKED, nullptr);
}
