// SPDX-License-Identifier: Apache-2.0
//
// Which functions are replaced, and how: in the symbol table of their library, as soon as it is
// mapped. Whoever looks them up then, be it the dynamic linker for a program that is linked with
// the driver or dlsym(), finds a thunk.
#pragma once

#include <link.h>

#include "gpu/inject/trace_file.h"

namespace memplate::gpu::inject {

/// Opens the shared file; false: this process is not traced.
bool begin_trace();
/// A record without a duration; the text may be null.
void tell(unsigned kind, const char* text);

/// All functions of the driver.
void hook_driver(const link_map& library);
/// Those that open and read files.
void hook_c_library(const link_map& library);

}  // namespace memplate::gpu::inject
