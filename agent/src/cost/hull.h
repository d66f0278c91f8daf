// SPDX-License-Identifier: Apache-2.0
//
// How much memory a function needs at which time of its run, learnt from traces: the maximum hull
// (the largest level of all traces in each step of time) and the limit to set along it.
#pragma once

#include "cost/trace.h"

namespace memplate::cost {

struct HullOptions {
    int64_t step_ns = 100'000'000;
    /// The limit covers what comes so much later: a run may be ahead of the traces.
    int64_t lookahead_ns = 200'000'000;
    double quantile = 1;  ///< of the traces, in each step; below 1 some need more than the limit
    uint64_t margin_bytes = 0;
    double margin_percent = 0;
};

struct Hull {
    HullOptions options;
    std::vector<uint64_t> maximum;  ///< bytes in each step from the exec on
    std::vector<uint64_t> limit;    ///< never below any trace when the quantile is 1
    uint64_t after_end = 0;         ///< for a run that takes longer than every trace
    Json traces = Json::array();    ///< what it was learnt from

    [[nodiscard]] uint64_t at(int64_t ns_since_exec) const;
    /// The least flat limit that is never below the hull.
    [[nodiscard]] uint64_t flat() const;
    [[nodiscard]] int64_t duration_ns() const {
        return static_cast<int64_t>(limit.size()) * options.step_ns;
    }
    [[nodiscard]] Json to_json() const;
    /// Our own format, or functracer's uhull.json.
    [[nodiscard]] static Result<Hull> parse(std::string_view text, const std::string& origin);
};

[[nodiscard]] Result<Hull> build_hull(const std::vector<Trace>& traces, const HullOptions& options);

/// functracer's upscaling hull as it writes uhull.json: bins of 0.1 s by rounding, empty ones left
/// out, the limit of each the larger of its own and the second next one's, a last bin of 0, floats
/// as Python prints them.
[[nodiscard]] std::string functracer_hull(const std::vector<Trace>& traces);

/// Bytes times seconds, in GB-s (2^30 bytes), of the level `limit` gives over a time.
[[nodiscard]] double gigabyte_seconds(const Hull& hull, int64_t duration_ns);
[[nodiscard]] double gigabyte_seconds(uint64_t bytes, int64_t duration_ns);
/// How much less `along` is, in % of `flat`.
[[nodiscard]] double saved_percent(double flat, double along);

}  // namespace memplate::cost
