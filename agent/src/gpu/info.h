// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/worker.h"

namespace memplate::gpu {

struct InfoOptions {
    std::chrono::milliseconds patience = std::chrono::seconds(60);
    std::vector<std::string> environment;
};

/// Everything about this machine that changes a cold start; kept with every result.
/// {"driver": {"library", "version", "kernel_module"}, "cuda", "cuda_text", "module_loading"
/// ("eager" | "lazy"), "checkpoint": {"supported", "reason"}, "nvml": {"available", "reason"},
/// "mps": {"running", "pipe_directory"}, "environment": {NAME: value}, "jit_cache": {"path",
/// "bytes"}, "kernels", "devices": [{"ordinal", "name", "uuid", "memory_bytes", "capability",
/// "multiprocessors", "compute_mode", "virtual_memory", "posix_handles", "ipc_events",
/// "persistence", "mig", "used_bytes"}]}. What the driver does not tell is left out.
[[nodiscard]] Result<Json> query_info(const Context& context, const InfoOptions& options = {});

/// The entry of a device in it; ErrorKind::usage if there are not so many.
[[nodiscard]] Result<Json> device_of(const Json& info, int ordinal);

/// The same for people.
[[nodiscard]] std::string info_text(const Json& info);

}  // namespace memplate::gpu
