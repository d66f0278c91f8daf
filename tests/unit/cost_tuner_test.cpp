// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "cost/tune.h"
#include "cost/tuner.h"

namespace memplate::cost {
namespace {

constexpr int64_t ms = 1'000'000;
constexpr uint64_t mb = 1 << 20;

Hull hull_of(const std::vector<uint64_t>& levels_mb) {
    Hull hull;
    for (const uint64_t level : levels_mb) hull.limit.push_back(level * mb);
    hull.maximum = hull.limit;
    hull.after_end = hull.flat();
    return hull;
}

TEST(CostTuner, FollowsTheHullBothWays) {
    const Hull hull = hull_of({50, 100, 30});
    Tuner tuner(hull, {});
    EXPECT_EQ(tuner.limit(), 50 * mb);
    EXPECT_FALSE(tuner.decide(50 * ms, 10 * mb, false));
    auto change = tuner.decide(100 * ms, 10 * mb, false);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->to, 100 * mb);
    EXPECT_EQ(change->reason, Tuner::Reason::hull);
    tuner.apply(*change);
    change = tuner.decide(200 * ms, 10 * mb, false);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->to, 30 * mb);
    tuner.apply(*change);
    // 0.1 s each of 50, 100 and 30 MB, then 30 for good.
    EXPECT_NEAR(tuner.gigabyte_seconds(300 * ms), (50 + 100 + 30) / 1024.0 * 0.1, 1e-9);
}

TEST(CostTuner, NeverGoesBelowTheUse) {
    const Hull hull = hull_of({100, 10});
    Tuner tuner(hull, {});
    const auto change = tuner.decide(100 * ms, 60 * mb, false);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->to, 64 * mb);
    EXPECT_EQ(change->reason, Tuner::Reason::kept_above_use);
    tuner.apply(*change);
    EXPECT_FALSE(tuner.decide(101 * ms, 61 * mb, false));  // no flutter
    const auto down = tuner.decide(150 * ms, 5 * mb, false);
    ASSERT_TRUE(down);
    EXPECT_EQ(down->to, 10 * mb);
    EXPECT_EQ(down->reason, Tuner::Reason::hull);
}

TEST(CostTuner, RaisesAtOnceNearTheLimitAndHolds) {
    const Hull hull = hull_of({50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50});
    Tuner tuner(hull, {});
    EXPECT_FALSE(tuner.decide(1 * ms, 47 * mb, false));
    const auto raise = tuner.decide(2 * ms, 49 * mb, false);
    ASSERT_TRUE(raise);
    EXPECT_EQ(raise->reason, Tuner::Reason::near_limit);
    EXPECT_GE(raise->to, 65 * mb);
    tuner.apply(*raise);
    EXPECT_FALSE(tuner.decide(500 * ms, 20 * mb, false));  // held
    const auto back = tuner.decide(1003 * ms, 20 * mb, false);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->to, 50 * mb);
}

TEST(CostTuner, ARaiseStaysWithinTheFlatLimitWhileThatWillDo) {
    const Hull hull = hull_of({50, 60});
    Tuner tuner(hull, {});
    const auto raise = tuner.decide(1 * ms, 49 * mb, false);
    ASSERT_TRUE(raise);
    EXPECT_EQ(raise->to, 60 * mb);
    tuner.apply(*raise);
    const auto beyond = tuner.decide(2 * ms, 59 * mb, false);
    ASSERT_TRUE(beyond);
    EXPECT_EQ(beyond->to, 75 * mb);
}

TEST(CostTuner, PressureRaisesFarFromTheLimitToo) {
    const Hull hull = hull_of({50});
    Tuner tuner(hull, {});
    const auto raise = tuner.decide(1 * ms, 40 * mb, true);
    ASSERT_TRUE(raise);
    EXPECT_EQ(raise->reason, Tuner::Reason::pressure);
    EXPECT_EQ(raise->to, 56 * mb);
}

TEST(CostTuner, TheCeilingHoldsWhateverHappens) {
    const Hull hull = hull_of({50, 200});
    TunerOptions options;
    options.ceiling = 80 * mb;
    Tuner tuner(hull, options);
    auto change = tuner.decide(100 * ms, 20 * mb, false);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->to, 80 * mb);
    tuner.apply(*change);
    EXPECT_FALSE(tuner.decide(101 * ms, 80 * mb, true));
    // The kernel lets some charges pass a limit.
    EXPECT_FALSE(tuner.decide(102 * ms, 80 * mb + 8192, true));
}

TEST(CostTunerProperty, LimitsAreNeverBelowUseOrUnasked) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 200; round++) {
        std::vector<uint64_t> levels(1 + random() % 20);
        for (uint64_t& level : levels) level = 1 + random() % 500;
        const Hull hull = hull_of(levels);
        TunerOptions options;
        options.headroom_bytes = (1 + random() % 8) * mb;
        Tuner tuner(hull, options);
        uint64_t use = 0;
        for (int64_t time = 0; time < 3000 * ms; time += ms) {
            // What a kernel lets happen: use never passes the limit in force.
            use = std::min(random() % 50 == 0 ? random() % (500 * mb) : use + random() % mb,
                           tuner.limit());
            const auto change = tuner.decide(time, use, random() % 400 == 0);
            if (!change) {
                // Enough room is left, and no less than the hull promises.
                ASSERT_GE(tuner.limit(), use + options.headroom_bytes / 2);
                ASSERT_GE(tuner.limit(), hull.at(time));
                continue;
            }
            ASSERT_NE(change->to, change->from);
            ASSERT_GE(change->to, use + options.headroom_bytes / 2);
            ASSERT_GE(change->to, hull.at(time));
            tuner.apply(*change);
        }
    }
}

TEST(CostTune, DryRunOnItsOwnTraceNeedsNoRaise) {
    Trace trace;
    trace.name = "t";
    trace.events = {{0, "exec", ""}, {400 * ms, "exit", ""}};
    for (int64_t time = 0; time < 400; time++)
        trace.samples.push_back({time * ms, (time < 200 ? 100 : 20) * mb});
    const auto hull = build_hull({trace}, {.margin_bytes = 4 * mb});
    ASSERT_TRUE(hull);
    const TuneReport report =
        tune_trace(trace, {.hull = *hull, .options = {}, .flat_bytes = hull->flat()});
    EXPECT_EQ(report.above_limit, 0u);
    EXPECT_EQ(report.to_json()["interventions"], 0);
    ASSERT_EQ(report.changes.size(), 1u);
    EXPECT_EQ(report.changes[0].time_ns, 200 * ms);
    EXPECT_NEAR(report.flat_gb_seconds, 104 / 1024.0 * 0.4, 1e-9);
    EXPECT_NEAR(report.tuned_gb_seconds, (104 + 24) / 1024.0 * 0.2, 1e-9);
}

TEST(CostTune, DryRunTellsWhatWouldNotHaveFitted) {
    Trace trace;
    trace.name = "t";
    trace.events = {{0, "exec", ""}, {100 * ms, "exit", ""}};
    trace.samples = {{0, 10 * mb}, {50 * ms, 90 * mb}};
    const TuneReport report =
        tune_trace(trace, {.hull = hull_of({50}), .options = {}, .flat_bytes = 90 * mb});
    EXPECT_EQ(report.above_limit, 1u);
    ASSERT_EQ(report.changes.size(), 1u);
    EXPECT_EQ(report.changes[0].reason, Tuner::Reason::pressure);
    EXPECT_THAT(report.text(false), testing::HasSubstr("memory pressure"));
}

}  // namespace
}  // namespace memplate::cost
