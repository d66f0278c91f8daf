// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "util/stats.h"

namespace memplate {
namespace {

TEST(Quantile, AgreesWithKnownValues) {
    // Python: statistics.quantiles([15, 20, 35, 40, 50], n=100, method='inclusive').
    const std::vector<double> samples = {35, 50, 15, 40, 20};
    EXPECT_DOUBLE_EQ(quantile(samples, 0.0), 15);
    EXPECT_DOUBLE_EQ(quantile(samples, 0.05), 16);
    EXPECT_DOUBLE_EQ(quantile(samples, 0.3), 23);
    EXPECT_DOUBLE_EQ(quantile(samples, 0.4), 29);
    EXPECT_DOUBLE_EQ(quantile(samples, 0.5), 35);
    EXPECT_DOUBLE_EQ(quantile(samples, 0.99), 49.6);
    EXPECT_DOUBLE_EQ(quantile(samples, 1.0), 50);
}

TEST(Quantile, MedianOfAnEvenCountIsTheMiddle) {
    EXPECT_DOUBLE_EQ(quantile({4, 1, 3, 2}, 0.5), 2.5);
    EXPECT_DOUBLE_EQ(quantile({1, 2}, 0.25), 1.25);
}

TEST(Quantile, EdgeCases) {
    EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
    EXPECT_DOUBLE_EQ(quantile({7}, 0.99), 7);
    EXPECT_DOUBLE_EQ(quantile({1, 2, 3}, 2), 3);
    EXPECT_DOUBLE_EQ(quantile({1, 2, 3}, -1), 1);
    EXPECT_DOUBLE_EQ(quantile({5, 5, 5, 5}, 0.3), 5);
}

TEST(Summarize, HasEveryKeyAndKeepsTheOrder) {
    const Json summary = summarize({3, 1, 2});
    EXPECT_EQ(summary.dump(), R"({"p50":2.0,"p99":2.98,"min":1.0,"mean":2.0,"max":3.0,"n":3,)"
                              R"("samples":[3.0,1.0,2.0]})");
}

TEST(Summarize, NothingMeasuredIsNull) {
    const Json summary = summarize({});
    EXPECT_EQ(summary.dump(),
              R"({"p50":null,"p99":null,"min":null,"mean":null,"max":null,"n":0,"samples":[]})");
}

}  // namespace
}  // namespace memplate
