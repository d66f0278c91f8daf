// SPDX-License-Identifier: Apache-2.0
#include "util/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace memplate {

double quantile(std::vector<double> samples, double p) {
    if (samples.empty() || std::isnan(p)) return std::numeric_limits<double>::quiet_NaN();
    const double position = static_cast<double>(samples.size() - 1) * std::clamp(p, 0.0, 1.0);
    const auto lower = static_cast<size_t>(position);
    const double fraction = position - static_cast<double>(lower);
    const auto nth = samples.begin() + static_cast<std::ptrdiff_t>(lower);
    std::ranges::nth_element(samples, nth);
    if (fraction == 0) return *nth;
    const double next = *std::min_element(nth + 1, samples.end());
    return *nth + fraction * (next - *nth);
}

Json summarize(const std::vector<double>& samples) {
    Json summary;
    if (samples.empty()) {
        for (const char* key : {"p50", "p99", "min", "mean", "max"}) summary[key] = nullptr;
    } else {
        const double sum = std::accumulate(samples.begin(), samples.end(), 0.0);
        summary["p50"] = quantile(samples, 0.50);
        summary["p99"] = quantile(samples, 0.99);
        summary["min"] = *std::ranges::min_element(samples);
        summary["mean"] = sum / static_cast<double>(samples.size());
        summary["max"] = *std::ranges::max_element(samples);
    }
    summary["n"] = samples.size();
    summary["samples"] = samples;
    return summary;
}

}  // namespace memplate
