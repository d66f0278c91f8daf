// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/driver.h"
#include "util/fd.h"

namespace memplate::gpu {

/// Physical device memory of cuMemCreate, which another process can get as a file descriptor, and
/// the addresses at which it is mapped here.
class VirtualMemory {
  public:
    VirtualMemory() = default;
    /// At least `bytes`, and mapped.
    static Result<VirtualMemory> create(const Driver& driver, CudaDevice device, uint64_t bytes);
    /// What export_descriptor() gave in another process; map() gives it addresses.
    static Result<VirtualMemory> import(const Driver& driver, CudaDevice device, int fd,
                                        uint64_t bytes);
    VirtualMemory(VirtualMemory&& other) noexcept { *this = std::move(other); }
    VirtualMemory& operator=(VirtualMemory&& other) noexcept;
    ~VirtualMemory() { (void)release(); }

    [[nodiscard]] Result<> map();
    [[nodiscard]] Result<UniqueFd> export_descriptor() const;
    /// Unmaps and gives back; nothing is left even if a step fails.
    [[nodiscard]] Result<> release();
    [[nodiscard]] DevicePointer get() const { return address_; }

  private:
    VirtualMemory(const Driver& driver, CudaDevice device) : driver_(&driver), device_(device) {}
    const Driver* driver_ = nullptr;
    CudaDevice device_ = 0;
    uint64_t bytes_ = 0;
    AllocationHandle handle_ = 0;
    bool held_ = false;  ///< handle_ is there
    bool mapped_ = false;
    DevicePointer address_ = 0;  ///< 0: none reserved
};

}  // namespace memplate::gpu
