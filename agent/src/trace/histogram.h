// SPDX-License-Identifier: Apache-2.0
//
// Counts by powers of two, drawn as bpftrace draws them.
#pragma once

#include <map>
#include <string>

#include "util/json.h"

namespace memplate::trace {

class Histogram {
  public:
    void add(double value);
    [[nodiscard]] uint64_t count() const { return count_; }
    [[nodiscard]] double sum() const { return sum_; }
    /// A line a bucket from the first that is not empty to the last, none left out:
    /// "[16, 32)              3 |@@@@@@@@@@@@@@@                                     |"
    [[nodiscard]] std::string text(size_t max_width = 100) const;
    /// [{"min":16,"max":32,"count":3},…]: from min, below max; empty ones are left out.
    [[nodiscard]] Json to_json() const;
    /// How many values lie below 2^exponent.
    [[nodiscard]] uint64_t below(int exponent) const;

  private:
    std::map<int, uint64_t> buckets_;  ///< exponent → values in [2^exponent, 2^(exponent + 1))
    uint64_t zeros_ = 0;               ///< and what is less
    uint64_t count_ = 0;
    double sum_ = 0;
};

}  // namespace memplate::trace
