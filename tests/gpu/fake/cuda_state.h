// SPDX-License-Identifier: Apache-2.0
//
// What one process knows of the fake driver.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "gpu/cuda_api.h"

namespace fake_gpu {

struct Allocation {
    std::string block;  ///< of memory.h; empty for one that another process shared with us
    void* address = nullptr;
    uint64_t bytes = 0;
    int device = 0;
};

/// Guarded by `mutex`, which every call that touches it takes.
struct CudaState {
    std::mutex mutex;
    bool initialized = false;
    std::map<int, int> contexts;                 ///< device → how often it was retained
    std::map<int, std::string> context_blocks;   ///< device → its block
    std::map<uint64_t, Allocation> allocations;  ///< by device pointer
    std::map<uint64_t, std::string> modules;     ///< by handle: its block
    std::map<uint64_t, std::string> physical;    ///< by handle of cuMemCreate: its block
    uint64_t next_handle = 1;
};
CudaState& state();

/// Device of the thread's current context; -1: none.
int current_device();

/// What cuMemAlloc, cuMemCreate and the like do.
memplate::gpu::CudaResult allocate(int device, uint64_t bytes, const char* kind, Allocation& out);

/// From now on other processes can have this one checkpointed.
void serve_checkpoints();

}  // namespace fake_gpu
