// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace memplate {

/// Measures elapsed CLOCK_MONOTONIC time.
class Stopwatch {
  public:
    using clock = std::chrono::steady_clock;
    [[nodiscard]] double milliseconds() const {
        return std::chrono::duration<double, std::milli>(clock::now() - start_).count();
    }
    void restart() { start_ = clock::now(); }
    [[nodiscard]] clock::time_point start() const { return start_; }

  private:
    clock::time_point start_ = clock::now();
};

/// CLOCK_MONOTONIC.
[[nodiscard]] int64_t monotonic_ns();
/// Seconds since the epoch.
[[nodiscard]] int64_t unix_time();
/// "2026-11-21T08:47:00Z"
[[nodiscard]] std::string iso_time(int64_t unix_seconds);

}  // namespace memplate
