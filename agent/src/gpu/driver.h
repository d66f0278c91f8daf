// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "gpu/call_note.h"
#include "gpu/cuda_api.h"
#include "gpu/library.h"

namespace memplate::gpu {

/// The CUDA driver of this machine, `libcuda.so.1`. Only workers (worker.h) load it: a call that
/// hangs or crashes takes a worker with it, never memplate.
class Driver {
  public:
    /// Loads the library; calls nothing in it. ErrorKind::unsupported if there is none, or one that
    /// is older than 11.2.
    static Result<Driver> load();

    /// cuInit. ErrorKind::unsupported where there is no device or the kernel's part of the driver
    /// is missing or does not fit the library.
    [[nodiscard]] Result<> initialize() const;
    /// "call: explanation (CUDA_ERROR_NAME, number)" unless `result` is success.
    /// ErrorKind::unsupported for what is not supported here.
    [[nodiscard]] Result<> check(CudaResult result, const char* call) const;
    /// CUDA version of the driver, 1000 * major + 10 * minor.
    [[nodiscard]] Result<int> version() const;
    /// The device with this ordinal. ErrorKind::usage if there are not so many.
    [[nodiscard]] Result<CudaDevice> device(int ordinal) const;
    /// "GPU-8a8b…", or "MIG-…" of a part of a GPU, as NVML and CUDA_VISIBLE_DEVICES write it.
    [[nodiscard]] Result<std::string> uuid(CudaDevice device) const;
    [[nodiscard]] Result<int> attribute(CudaDevice device, int attribute) const;
    [[nodiscard]] std::string path() const { return library_.path(); }

    /// Every call from now on is noted there (64 bytes) while it runs: TRY_CUDA does.
    void note_calls_in(char* note) { note_ = CallNote(note); }
    void enter(const char* call) const { note_.enter(call); }
    void leave() const { note_.leave(); }

    CudaCalls calls;

  private:
    explicit Driver(Library library) : library_(std::move(library)) {}
    Library library_;
    CallNote note_;
};

/// TRY of a call of the driver: `TRY_CUDA(driver, cuMemFree_v2, (pointer))`.
#define TRY_CUDA(driver, call, arguments) \
    TRY(((driver).enter(#call), (driver).check((driver).calls.call arguments, #call)))

/// "12.8"
[[nodiscard]] std::string cuda_version_text(int version);

/// The primary context of a device, current in this thread while the object lives.
class PrimaryContext {
  public:
    static Result<PrimaryContext> retain(const Driver& driver, CudaDevice device);
    PrimaryContext(PrimaryContext&& other) noexcept
        : driver_(std::exchange(other.driver_, nullptr)), device_(other.device_) {}
    PrimaryContext& operator=(PrimaryContext&&) = delete;
    ~PrimaryContext();

  private:
    PrimaryContext(const Driver& driver, CudaDevice device) : driver_(&driver), device_(device) {}
    const Driver* driver_;
    CudaDevice device_;
};

}  // namespace memplate::gpu
