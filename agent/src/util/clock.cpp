// SPDX-License-Identifier: Apache-2.0
#include "util/clock.h"

#include <array>
#include <ctime>

namespace memplate {

int64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t unix_time() {
    return static_cast<int64_t>(::time(nullptr));
}

std::string iso_time(int64_t unix_seconds) {
    const time_t t = unix_seconds;
    tm parts{};
    ::gmtime_r(&t, &parts);
    std::array<char, 32> text;
    const size_t n = ::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return {text.data(), n};
}

}  // namespace memplate
