// SPDX-License-Identifier: Apache-2.0
//
// What the exporter serves. Every series has a bounded number of label values: images beyond the
// limit are one, "other"; containers beyond it are left out and counted.
#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "trace/histogram.h"
#include "trace/session.h"

namespace memplate::trace {

class Metrics {
  public:
    struct Limits {
        size_t containers = 500;
        size_t images = 50;
    };
    Metrics(std::string version, Limits limits) : version_(std::move(version)), limits_(limits) {}

    void begin(const std::vector<ProbeMethod>& methods) { methods_ = methods; }
    void phase(const Life& life, const Phase& phase);
    [[nodiscard]] std::vector<prometheus::MetricFamily> collect(const Snapshot& snapshot) const;

  private:
    using StartKey = std::tuple<std::string, std::string, std::string>;  ///< engine, image, phase
    std::string version_;
    Limits limits_;
    std::vector<ProbeMethod> methods_;
    std::set<std::string> images_;
    std::map<StartKey, Histogram> starts_;  ///< milliseconds
};

}  // namespace memplate::trace
