// SPDX-License-Identifier: Apache-2.0
//
// Why a process cannot be checkpointed or restored. The driver finds out in the middle of it, and
// leaves the process broken: this is asked before.
#pragma once

#include "gpu/checkpointer.h"

namespace memplate::gpu {

/// What the process's memory tells.
struct ProcessMemory {
    uint64_t managed_bytes = 0;  ///< mappings of the UVM driver, of which a context needs a few MiB
    bool shares = false;         ///< files of CUDA's IPC are mapped
};
/// `proc`: of a procfs.
[[nodiscard]] Result<ProcessMemory> read_process_memory(int proc, pid_t pid);

/// Bytes that the process can still take on the host: free memory or its cgroup's limit.
[[nodiscard]] Result<uint64_t> host_memory_available(int proc, pid_t pid);

struct CheckpointFacts {
    ProcessUse use;
    ProcessMemory memory;
    std::string driver_version;  ///< "580.65.06"
    uint64_t host_available = 0;
};
/// One line each; empty: nothing is in the way. What NVML does not tell is not.
[[nodiscard]] std::vector<std::string> checkpoint_obstacles(const CheckpointFacts& facts);

/// What a checkpointed process needs to come back.
struct DeviceNeed {
    std::string uuid;
    uint64_t bytes = 0;
};
/// `count`: so many processes with that need.
[[nodiscard]] std::vector<std::string> restore_obstacles(const std::vector<DeviceUse>& devices,
                                                         const std::vector<DeviceNeed>& needs,
                                                         uint64_t count = 1);

}  // namespace memplate::gpu
