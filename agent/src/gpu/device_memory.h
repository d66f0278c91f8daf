// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/driver.h"

namespace memplate::gpu {

/// Memory of cuMemAlloc in the current context; freed when it goes out of scope.
class DeviceMemory {
  public:
    DeviceMemory() = default;
    static Result<DeviceMemory> allocate(const Driver& driver, uint64_t bytes) {
        DeviceMemory memory;
        TRY_CUDA(driver, cuMemAlloc_v2, (&memory.pointer_, bytes));
        memory.driver_ = &driver;
        return memory;
    }
    DeviceMemory(DeviceMemory&& other) noexcept
        : driver_(std::exchange(other.driver_, nullptr)), pointer_(other.pointer_) {}
    DeviceMemory& operator=(DeviceMemory&& other) noexcept {
        std::swap(driver_, other.driver_);
        std::swap(pointer_, other.pointer_);
        return *this;
    }
    ~DeviceMemory() {
        if (driver_ == nullptr) return;
        driver_->enter("cuMemFree_v2");
        (void)driver_->calls.cuMemFree_v2(pointer_);
        driver_->leave();
    }
    [[nodiscard]] DevicePointer get() const { return pointer_; }
    [[nodiscard]] explicit operator bool() const { return driver_ != nullptr; }

  private:
    const Driver* driver_ = nullptr;
    DevicePointer pointer_ = 0;
};

}  // namespace memplate::gpu
