// SPDX-License-Identifier: Apache-2.0
//
// The driver's compiler of PTX and its cache.
#pragma once

namespace fake_gpu {

/// Nothing to do for machine code. PTX is "compiled" by the rules of the call `jit`, unless the
/// cache (CUDA_CACHE_PATH, CUDA_CACHE_DISABLE) has it. Returns 0 or what the rule says.
int compile(const void* image);

}  // namespace fake_gpu
