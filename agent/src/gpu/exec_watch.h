// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace memplate::gpu {

/// Tells when the kernel replaced a child's program: the end of exec(2), which no clock in the old
/// or the new program can see. What follows until main() is linking: the mapping of program and
/// libraries, relocations, constructors.
class ExecWatch {
  public:
    ExecWatch() = default;
    ExecWatch(const ExecWatch&) = delete;
    ExecWatch& operator=(const ExecWatch&) = delete;
    ~ExecWatch();

    /// To be called by a child of vfork(2) on itself; calls nothing but the kernel. The buffer that
    /// it maps is in the memory it shares with its parent, and outlives its exec there.
    void begin();
    /// CLOCK_MONOTONIC, for the parent; nothing if perf events are not permitted, or not yet.
    [[nodiscard]] std::optional<int64_t> end_ns() const;

  private:
    void* ring_ = nullptr;
};

}  // namespace memplate::gpu
