// SPDX-License-Identifier: Apache-2.0
//
// Functions that use GPUs: what their sandboxes need, and their state on the devices around CRIU,
// which knows nothing of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gpu/checkpoint.h"
#include "instance/launch.h"

namespace memplate::instance {

/// Inside every sandbox of a GPU function: the driver's libraries of the host.
inline constexpr const char* driver_folder = "/run/memplate/driver";

/// Device nodes and libraries. `driver_library`: the one that the dynamic linker finds here.
[[nodiscard]] Result<std::vector<sandbox::Bind>> gpu_binds(const std::string& driver_library);

/// Moves what the processes have on GPUs to their host memory; those that do not use CUDA are left
/// alone. `pids`: host pids by pid inside.
[[nodiscard]] Result<proto::GpuState> park_gpu(const Context& context,
                                               gpu::Checkpointer& checkpointer,
                                               const std::map<pid_t, pid_t>& pids);

/// Whether `count` instances can come back here at all.
[[nodiscard]] Result<> check_gpu(const proto::GpuState& state, gpu::Checkpointer& checkpointer,
                                 unsigned count);

/// Brings the processes of `state` back and lets them go on; the driver's milliseconds by step.
[[nodiscard]] Result<Phases> resume_gpu(const Context& context, gpu::Checkpointer& checkpointer,
                                        const proto::GpuState& state,
                                        const std::map<pid_t, pid_t>& pids);

}  // namespace memplate::instance
