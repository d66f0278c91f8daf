// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "util/json.h"

namespace memplate {

/// The p-quantile (0..1) of `samples` by linear interpolation between order statistics (type 7, as
/// R and NumPy do by default). `samples` need not be sorted; NaN if empty.
[[nodiscard]] double quantile(std::vector<double> samples, double p);

/// {"p50":…, "p99":…, "min":…, "mean":…, "max":…, "n":…, "samples":[…]} in the samples' order.
[[nodiscard]] Json summarize(const std::vector<double>& samples);

}  // namespace memplate
