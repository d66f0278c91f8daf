// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "gpu/statistics.h"
#include "util/stats.h"

namespace memplate::gpu {
namespace {

/// 10, 20, … up to `last`, and one far away, in an order that is not sorted.
std::vector<double> tens_and_an_outlier(double last) {
    std::vector<double> samples = {9999};
    for (double value = last; value >= 10; value -= 10) samples.push_back(value);
    return samples;
}

struct Golden {
    double last;
    double median;
    double average;
    double max;
};

class Streambox : public testing::TestWithParam<Golden> {};

TEST_P(Streambox, GivesTheGoldenValues) {
    const StreamboxStatistics result = streambox_statistics(tens_and_an_outlier(GetParam().last));
    EXPECT_EQ(result.median, GetParam().median);
    EXPECT_EQ(result.average, GetParam().average);
    EXPECT_EQ(result.min, 10);
    EXPECT_EQ(result.max, GetParam().max);
    EXPECT_EQ(result.dropped, 1U);
}

INSTANTIATE_TEST_SUITE_P(Samples, Streambox,
                         testing::Values(Golden{100, 60, 55, 100}, Golden{110, 65, 60, 110},
                                         Golden{500, 260, 255, 500}));

TEST(StreamboxStatistics, KeepsWhatIsOnTheFence) {
    // Quartiles 2 and 4: the fences are -1 and 7.
    EXPECT_EQ(streambox_statistics({2, 2, 3, 4, 7}).dropped, 0U);
    EXPECT_EQ(streambox_statistics({2, 2, 3, 4, 7.001}).dropped, 1U);
    EXPECT_EQ(streambox_statistics({-1.001, 2, 3, 4, 4}).dropped, 1U);
}

TEST(StreamboxStatistics, TakesFewSamples) {
    for (size_t n = 1; n <= 4; ++n) {
        const auto result = streambox_statistics(std::vector<double>(n, 5.0));
        EXPECT_EQ(result.median, 5);
        EXPECT_EQ(result.average, 5);
        EXPECT_EQ(result.dropped, 0U);
    }
    EXPECT_TRUE(std::isnan(streambox_statistics({}).median));
}

TEST(MedianInterval, AgreesWithTheTablesOfTheSignTest) {
    // Ranks of the 95 % interval: 6 → 1 and 6, 10 → 2 and 9, 20 → 6 and 15, 50 → 18 and 33.
    const auto ranks = [](size_t n) {
        std::vector<double> samples(n);
        for (size_t i = 0; i < n; ++i) samples[i] = static_cast<double>(n - i);
        const Interval interval = median_interval(samples);
        return std::pair(interval.low, interval.high);
    };
    EXPECT_EQ(ranks(6), std::pair(1.0, 6.0));
    EXPECT_EQ(ranks(10), std::pair(2.0, 9.0));
    EXPECT_EQ(ranks(20), std::pair(6.0, 15.0));
    EXPECT_EQ(ranks(50), std::pair(18.0, 33.0));
    EXPECT_EQ(ranks(1000), std::pair(469.0, 532.0));
    EXPECT_LT(ranks(100'000).first, 50'000);
    EXPECT_GT(ranks(100'000).first, 49'600);
}

TEST(MedianInterval, IsNotToBeHadFromFive) {
    EXPECT_TRUE(std::isnan(median_interval({1, 2, 3, 4, 5}).low));
    EXPECT_TRUE(std::isnan(median_interval({}).high));
}

TEST(MedianInterval, ContainsTheMedianAsOftenAsItSays) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> distribution(0, 1);  // its median is 1
    int inside = 0;
    for (int trial = 0; trial < 2000; ++trial) {
        std::vector<double> samples(21);
        for (double& sample : samples) sample = distribution(random);
        const Interval interval = median_interval(samples);
        inside += interval.low <= 1 && 1 <= interval.high;
    }
    EXPECT_GE(inside, 1900);
}

TEST(Statistics, HasEveryNumber) {
    const Json result = statistics(tens_and_an_outlier(100));
    EXPECT_EQ(result["p50"], 60);
    EXPECT_EQ(result["min"], 10);
    EXPECT_EQ(result["max"], 9999);
    EXPECT_EQ(result["outliers"], 1);
    EXPECT_EQ(result["median_low"], 20);
    EXPECT_EQ(result["median_high"], 100);
    EXPECT_EQ(result["streambox"]["average"], 55);
    EXPECT_EQ(result["streambox"]["dropped"], 1);
    EXPECT_EQ(result["samples"].size(), 11U);
    EXPECT_EQ(result["samples"][0], 9999);
}

TEST(Statistics, SaysNullWhereThereIsNoNumber) {
    const Json one = statistics({3});
    EXPECT_EQ(one["p99"], 3);
    EXPECT_TRUE(one["deviation"].is_null());
    EXPECT_TRUE(one["median_low"].is_null());
}

}  // namespace
}  // namespace memplate::gpu
