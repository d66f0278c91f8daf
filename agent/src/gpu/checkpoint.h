// SPDX-License-Identifier: Apache-2.0
//
// GPU state of a process to its host memory and back: lock, checkpoint, restore, unlock, each
// timed; what cannot work is refused before anything is touched, and what fails half-way is undone.
#pragma once

#include "gpu/checkpoint_obstacles.h"

namespace memplate::gpu {

struct CheckpointOptions {
    std::chrono::milliseconds patience = std::chrono::seconds(60);  ///< for one call of the driver
    std::chrono::milliseconds lock_timeout = std::chrono::seconds(10);
    bool force = false;  ///< obstacles become warnings
    /// A process that is nobody's: what fails is undone, and what coming back takes is kept for a
    /// later restore (kept_needs). Otherwise the caller keeps that, and ends it after a failure.
    bool standalone = true;
};

struct CheckpointStep {
    std::string name;
    double ms = 0;
    uint64_t device_bytes = 0;  ///< given back to the device, or taken from it
    uint64_t host_bytes = 0;    ///< by which the process grew on the host, or shrank
    [[nodiscard]] double gb_per_s()
        const;  ///< device bytes, 10^9 B/s; 0 for a step that moves none
};

struct CheckpointReport {
    ProcessState before{};
    ProcessState after{};
    std::vector<CheckpointStep> steps;
    std::vector<DeviceNeed> devices;  ///< what coming back takes
    std::vector<std::string> warnings;
};

/// running or locked → checkpointed. After a failure the process runs on where that is possible,
/// and the error tells what became of it. ErrorKind::unsupported for what the driver cannot do.
[[nodiscard]] Result<CheckpointReport> checkpoint_process(const Context& context,
                                                          Checkpointer& checkpointer, pid_t pid,
                                                          const CheckpointOptions& options);

/// checkpointed or locked → running. `needs`: nothing if they are not known, which is refused: a
/// restore that runs out of device memory breaks the process for good.
[[nodiscard]] Result<CheckpointReport> restore_process(
    const Context& context, Checkpointer& checkpointer, pid_t pid,
    const std::optional<std::vector<DeviceNeed>>& needs, const CheckpointOptions& options);

/// {"before", "after", "ms", "steps": [{"name", "ms", "device_bytes", "host_bytes", "gb_per_s"}],
/// "devices": [{"uuid", "bytes"}], "warnings"}
[[nodiscard]] Json to_json(const CheckpointReport& report);
[[nodiscard]] std::string report_text(const CheckpointReport& report, bool colour);

/// What a process that is checkpointed needs: in STATE/gpu/PID.json until it is restored.
[[nodiscard]] Result<> keep_needs(const Context& context, pid_t pid,
                                  const std::vector<DeviceNeed>& needs);
[[nodiscard]] std::optional<std::vector<DeviceNeed>> kept_needs(const Context& context, pid_t pid);
void forget_needs(const Context& context, pid_t pid);

}  // namespace memplate::gpu
