// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "util/clock.h"

namespace memplate {
namespace {

TEST(Clock, IsoTimeIsUtc) {
    EXPECT_EQ(iso_time(0), "1970-01-01T00:00:00Z");
    EXPECT_EQ(iso_time(1'000'000'000), "2001-09-09T01:46:40Z");
    EXPECT_EQ(iso_time(1'709'164'800), "2024-02-29T00:00:00Z");
}

TEST(Clock, UnixTimeIsNow) {
    EXPECT_NEAR(unix_time(), std::time(nullptr), 2);
}

TEST(Stopwatch, MeasuresAndRestarts) {
    Stopwatch stopwatch;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const double elapsed = stopwatch.milliseconds();
    EXPECT_GE(elapsed, 20);
    stopwatch.restart();
    EXPECT_LT(stopwatch.milliseconds(), elapsed);
}

}  // namespace
}  // namespace memplate
