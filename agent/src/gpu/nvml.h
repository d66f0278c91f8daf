// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/library.h"
#include "gpu/nvml_api.h"

namespace memplate::gpu {

/// NVML, initialised; shut down when it goes out of scope. For workers, as Driver is.
class Nvml {
  public:
    /// ErrorKind::unsupported if there is no NVML here or it cannot talk to the driver.
    static Result<Nvml> load();
    Nvml(Nvml&& other) noexcept
        : calls(std::exchange(other.calls, {})), library_(std::move(other.library_)) {}
    Nvml& operator=(Nvml&&) = delete;
    ~Nvml();

    [[nodiscard]] Result<> check(NvmlResult result, const char* call) const;
    [[nodiscard]] Result<std::string> driver_version() const;
    /// The device with this "GPU-…" name.
    [[nodiscard]] Result<NvmlDevice> device(const std::string& uuid) const;
    /// Used and free memory of the whole device, bytes.
    [[nodiscard]] Result<NvmlMemory> memory(NvmlDevice device) const;
    /// Who has memory on the device; `mps` selects the clients of an MPS server. Memory is
    /// nvml_no_value where the driver does not tell. Pids are the host's.
    [[nodiscard]] Result<std::vector<NvmlProcess>> processes(NvmlDevice device, bool mps) const;

    NvmlCalls calls;

  private:
    explicit Nvml(Library library) : library_(std::move(library)) {}
    Library library_;
};

#define TRY_NVML(nvml, call, arguments) TRY((nvml).check((nvml).calls.call arguments, #call))

}  // namespace memplate::gpu
