// SPDX-License-Identifier: Apache-2.0
//
// What is said of repeated measurements: percentiles, or the figures of the StreamBox experiments.
#pragma once

#include <cstddef>
#include <vector>

#include "util/json.h"

namespace memplate::gpu {

/// StreamBox's rule. Of the sorted samples a[1..n]: median over all of them; the quartiles are
/// a[floor(n/4 + 1)] and a[floor(3n/4) + 1]; what is further than 1.5 times their distance below
/// the one or above the other is dropped, and average, least and largest are over the rest.
struct StreamboxStatistics {
    double median = 0;
    double average = 0;
    double min = 0;
    double max = 0;
    size_t dropped = 0;
};
/// All NaN without samples.
[[nodiscard]] StreamboxStatistics streambox_statistics(std::vector<double> samples);

/// An interval that contains the median with at least 95 % probability, whatever the distribution:
/// two of the sorted samples, chosen by the binomial distribution. NaN for fewer than 6 samples,
/// of which not even the least and the largest are that sure.
struct Interval {
    double low = 0;
    double high = 0;
};
[[nodiscard]] Interval median_interval(std::vector<double> samples);

/// Samples further than 1.5 times the distance of the quartiles (type 7) outside of them.
[[nodiscard]] size_t count_outliers(const std::vector<double>& samples);

/// {"p50", "p95", "p99", "mean", "deviation", "min", "max", "median_low", "median_high",
/// "outliers", "streambox": {"median", "average", "min", "max", "dropped"}, "n", "samples"};
/// null where there is no number.
[[nodiscard]] Json statistics(const std::vector<double>& samples);

}  // namespace memplate::gpu
