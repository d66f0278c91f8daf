// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>

namespace memplate::cost {

constexpr int64_t ns_per_second = 1'000'000'000;
constexpr int64_t ns_per_ms = 1'000'000;

inline int64_t read_clock_ns(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return int64_t{now.tv_sec} * ns_per_second + now.tv_nsec;
}
/// The clock of all times in a recording; bpf_ktime_get_ns() is the same.
inline int64_t monotonic_ns() {
    return read_clock_ns(CLOCK_MONOTONIC);
}
inline int64_t wall_ns() {
    return read_clock_ns(CLOCK_REALTIME);
}

}  // namespace memplate::cost
