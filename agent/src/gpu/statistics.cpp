// SPDX-License-Identifier: Apache-2.0
#include "gpu/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "util/stats.h"

namespace memplate::gpu {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double fence = 1.5;

double mean(const std::vector<double>& samples) {
    return std::accumulate(samples.begin(), samples.end(), 0.0) /
           static_cast<double>(samples.size());
}

/// Of the sample, not of the population; NaN for fewer than two.
double deviation(const std::vector<double>& samples) {
    if (samples.size() < 2) return none;
    const double middle = mean(samples);
    double squares = 0;
    for (const double sample : samples) squares += (sample - middle) * (sample - middle);
    return std::sqrt(squares / static_cast<double>(samples.size() - 1));
}

}  // namespace

StreamboxStatistics streambox_statistics(std::vector<double> samples) {
    if (samples.empty()) return {none, none, none, none, 0};
    std::ranges::sort(samples);
    const size_t n = samples.size();
    const double median = n % 2 == 1 ? samples[n / 2] : (samples[n / 2 - 1] + samples[n / 2]) / 2;
    // Counted from 0: floor(n/4 + 1) - 1 and floor(3n/4) + 1 - 1.
    const double first = samples[n / 4];
    const double third = samples[3 * n / 4];
    const double range = third - first;
    std::vector<double> kept;
    for (const double sample : samples)
        if (sample >= first - fence * range && sample <= third + fence * range)
            kept.push_back(sample);
    return {median, mean(kept), kept.front(), kept.back(), n - kept.size()};
}

Interval median_interval(std::vector<double> samples) {
    const size_t n = samples.size();
    // The median lies below the k-th smallest sample with P(B < k), B binomial with p = 1/2; the
    // largest k for which that is at most 2.5 % on either side.
    double log_term = -static_cast<double>(n) * std::log(2.0);  // P(B = 0)
    double below = 0;
    size_t k = 0;
    while (k < n / 2) {
        below += std::exp(log_term);
        if (below > 0.025) break;
        ++k;
        log_term += std::log(static_cast<double>(n - k + 1)) - std::log(static_cast<double>(k));
    }
    if (k == 0) return {none, none};
    std::ranges::sort(samples);
    return {samples[k - 1], samples[n - k]};
}

size_t count_outliers(const std::vector<double>& samples) {
    const double first = quantile(samples, 0.25);
    const double third = quantile(samples, 0.75);
    const double range = third - first;
    return static_cast<size_t>(std::ranges::count_if(samples, [&](double sample) {
        return sample < first - fence * range || sample > third + fence * range;
    }));
}

Json statistics(const std::vector<double>& samples) {
    Json result = summarize(samples);
    result.erase("samples");
    const auto add = [&](const char* key, double value) {
        result[key] = std::isnan(value) ? Json() : Json(value);
    };
    add("p95", quantile(samples, 0.95));
    add("deviation", deviation(samples));
    const Interval interval = median_interval(samples);
    add("median_low", interval.low);
    add("median_high", interval.high);
    result["outliers"] = count_outliers(samples);
    const StreamboxStatistics streambox = streambox_statistics(samples);
    result["streambox"] = {{"median", streambox.median},
                           {"average", streambox.average},
                           {"min", streambox.min},
                           {"max", streambox.max},
                           {"dropped", streambox.dropped}};
    result["samples"] = samples;
    return result;
}

}  // namespace memplate::gpu
