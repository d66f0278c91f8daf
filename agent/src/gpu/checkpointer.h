// SPDX-License-Identifier: Apache-2.0
//
// The driver's calls on the GPU state of another process, made by a worker.
#pragma once

#include <optional>

#include "gpu/worker.h"

namespace memplate::gpu {

/// running → locked (calls of the driver wait) → checkpointed (device memory is in host memory and
/// nothing is held on the device) and back; failed is final.
enum class ProcessState { running, locked, checkpointed, failed };
[[nodiscard]] std::string_view name_of(ProcessState state);

struct DeviceUse {
    std::string uuid;
    std::string name;
    bool known = false;  ///< NVML told the rest
    uint64_t total = 0;
    uint64_t free = 0;
    std::optional<uint64_t> own;  ///< bytes of the process; nothing: NVML does not know it
    bool mig = false;
    bool mps = false;  ///< the process is a client of an MPS server
};

struct ProcessUse {
    std::optional<ProcessState> state;  ///< nothing: the process does not use CUDA
    std::vector<DeviceUse> devices;     ///< all of the machine
};

class Checkpointer {
  public:
    /// The worker has initialised the driver when this returns. ErrorKind::unsupported without a
    /// driver, or with one that has no process checkpoints. `patience`: for one call;
    /// `patience_option`: the option of the verb that changes it, if there is one.
    static Result<Checkpointer> start(const Context& context, std::chrono::milliseconds patience,
                                      std::string patience_option = {});

    [[nodiscard]] Result<ProcessUse> inspect(pid_t pid);

    // Each returns the milliseconds that the driver took.
    /// Calls of the process wait from now on, and its work on the device is finished. After
    /// `timeout` it is not, and nothing has changed.
    [[nodiscard]] Result<double> lock(pid_t pid, std::chrono::milliseconds timeout);
    [[nodiscard]] Result<double> checkpoint(pid_t pid);
    [[nodiscard]] Result<double> restore(pid_t pid);
    [[nodiscard]] Result<double> unlock(pid_t pid);

    /// The file of the driver that was loaded.
    [[nodiscard]] const std::string& library() const { return library_; }
    [[nodiscard]] const std::string& driver_version() const { return driver_version_; }
    [[nodiscard]] int cuda_version() const { return cuda_version_; }

  private:
    explicit Checkpointer(Worker worker) : worker_(std::move(worker)) {}
    [[nodiscard]] Result<Json> ask(const Json& request);
    [[nodiscard]] Result<double> timed(const char* what, pid_t pid, unsigned timeout_ms = 0);

    Worker worker_;
    std::string library_;
    std::string driver_version_;
    int cuda_version_ = 0;
};

}  // namespace memplate::gpu
