// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/call_note.h"
#include "gpu/library.h"
#include "gpu/nvml_api.h"

namespace memplate::gpu {

/// NVML, initialised; shut down when it goes out of scope. For workers, as Driver is.
class Nvml {
  public:
    /// ErrorKind::unsupported if there is no NVML here or it cannot talk to the driver. Every call
    /// is noted in `note` while it runs.
    static Result<Nvml> load(CallNote note = {});
    Nvml(Nvml&& other) noexcept
        : calls(std::exchange(other.calls, {})),
          library_(std::move(other.library_)),
          note_(other.note_) {}
    Nvml& operator=(Nvml&&) = delete;
    ~Nvml();

    [[nodiscard]] Result<> check(NvmlResult result, const char* call) const;
    void enter(const char* call) const { note_.enter(call); }
    [[nodiscard]] Result<std::string> driver_version() const;
    /// The device with this "GPU-…" or "MIG-…" name.
    [[nodiscard]] Result<NvmlDevice> device(const std::string& uuid) const;
    /// Used and free memory of the whole device, bytes.
    [[nodiscard]] Result<NvmlMemory> memory(NvmlDevice device) const;
    [[nodiscard]] Result<bool> persistence(NvmlDevice device) const;
    /// Whether this GPU is divided.
    [[nodiscard]] Result<bool> mig(NvmlDevice device) const;
    /// Who has memory on the device; `mps` selects the clients of an MPS server. Memory is
    /// nvml_no_value where the driver does not tell. Pids are the host's.
    [[nodiscard]] Result<std::vector<NvmlProcess>> processes(NvmlDevice device, bool mps) const;

    NvmlCalls calls;

  private:
    Nvml(Library library, CallNote note) : library_(std::move(library)), note_(note) {}
    Library library_;
    CallNote note_;
};

#define TRY_NVML(nvml, call, arguments) \
    TRY(((nvml).enter(#call), (nvml).check((nvml).calls.call arguments, #call)))

}  // namespace memplate::gpu
