// SPDX-License-Identifier: Apache-2.0
//
// A run whose memory limit follows a hull, and the same decisions on a recorded trace.
#pragma once

#include "cost/measure.h"
#include "cost/tuner.h"

namespace memplate::cost {

struct TuneReport {
    std::string subject;
    bool dry_run = false;
    int64_t duration_ns = 0;
    uint64_t peak_bytes = 0;
    uint64_t flat_bytes = 0;  ///< the constant limit that is compared with
    double flat_gb_seconds = 0;
    double tuned_gb_seconds = 0;
    std::vector<Tuner::Change> changes;
    uint64_t first_limit = 0;
    uint64_t limit_hits = 0;  ///< times that the kernel stopped at the limit
    uint64_t oom_kills = 0;
    uint64_t above_limit = 0;          ///< dry run: samples above the limit of their moment
    std::vector<std::string> refused;  ///< changes that the kernel refused
    std::string mechanism;             ///< which files are written
    std::optional<RunRecord> run{};

    [[nodiscard]] Json to_json() const;
    [[nodiscard]] std::string text(bool colour) const;
};

struct TuneRequest {
    Hull hull;
    TunerOptions options;
    uint64_t flat_bytes = 0;
};

[[nodiscard]] Result<TuneReport> tune_command(const Recorder& recorder,
                                              const CgroupHierarchy& hierarchy,
                                              const std::vector<std::string>& words,
                                              const TuneRequest& request);
[[nodiscard]] TuneReport tune_trace(const Trace& trace, const TuneRequest& request);

}  // namespace memplate::cost
