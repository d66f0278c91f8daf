// SPDX-License-Identifier: Apache-2.0
#include "cost/hull.h"

#include <algorithm>
#include <cmath>

namespace memplate::cost {
namespace {

constexpr uint64_t page = 4096;
/// An hour in the finest steps; more is a broken time stamp.
constexpr int64_t most_steps = 4'000'000;

/// The largest level of a trace in each step.
std::vector<uint64_t> steps_of(const Trace& trace, int64_t step) {
    const int64_t zero = trace.zero_ns();
    const auto index = [&](int64_t time) {
        return static_cast<size_t>(std::max<int64_t>(time - zero, 0) / step);
    };
    std::vector<uint64_t> steps(index(trace.end_ns()) + 1);
    const auto cover = [&](int64_t from, int64_t to, uint64_t bytes) {
        const size_t last = std::min(index(to), steps.size() - 1);
        for (size_t i = index(from); i <= last; i++) steps[i] = std::max(steps[i], bytes);
    };
    // The last watermark read and when; the cgroup of a run that was seen to begin has none before.
    std::optional<uint64_t> mark;
    if (trace.event("exec") != nullptr) mark = 0;
    int64_t marked_ns = zero;
    for (size_t i = 0; i < trace.samples.size(); i++) {
        const Sample& sample = trace.samples[i];
        const bool last = i + 1 == trace.samples.size();
        const int64_t next = last ? trace.end_ns() : trace.samples[i + 1].time_ns - 1;
        cover(sample.time_ns, std::max(sample.time_ns, next), sample.bytes);
        if (!sample.peak) continue;
        // It rose: some time between the two the level was that high.
        if (mark && *sample.peak > *mark) cover(marked_ns, sample.time_ns, *sample.peak);
        mark = sample.peak;
        marked_ns = sample.time_ns;
    }
    return steps;
}

uint64_t with_margin(uint64_t bytes, const HullOptions& options) {
    const double scaled = static_cast<double>(bytes) * (1 + options.margin_percent / 100);
    const uint64_t wanted =
        std::max(bytes, static_cast<uint64_t>(std::ceil(scaled))) + options.margin_bytes;
    return (wanted + page - 1) / page * page;
}

/// The smallest of `values` that a share `q` of them does not exceed.
uint64_t nearest_rank(std::vector<uint64_t> values, double q) {
    std::ranges::sort(values);
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
    return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

}  // namespace

uint64_t Hull::at(int64_t ns_since_exec) const {
    const int64_t step = std::max<int64_t>(ns_since_exec, 0) / options.step_ns;
    return step < static_cast<int64_t>(limit.size()) ? limit[static_cast<size_t>(step)] : after_end;
}

uint64_t Hull::flat() const {
    return limit.empty() ? after_end : std::ranges::max(limit);
}

Result<Hull> build_hull(const std::vector<Trace>& traces, const HullOptions& options) {
    Hull hull;
    hull.options = options;
    std::vector<std::vector<uint64_t>> all;
    size_t length = 0;
    for (const Trace& trace : traces) {
        if (trace.samples.empty())
            return fail(ErrorKind::usage, fmt::format("{}: no sample in this trace", trace.name));
        const int64_t duration = trace.end_ns() - trace.zero_ns();
        if (duration / options.step_ns > most_steps)
            return fail(
                ErrorKind::usage,
                fmt::format("{}: {:.0f} s is too long for steps of {:g} ms; use larger ones",
                            trace.name, static_cast<double>(duration) / 1e9,
                            static_cast<double>(options.step_ns) / 1e6));
        all.push_back(steps_of(trace, options.step_ns));
        length = std::max(length, all.back().size());
        hull.traces.push_back({{"file", trace.name},
                               {"samples", trace.samples.size()},
                               {"duration_ns", duration},
                               {"peak_bytes", trace.peak_bytes()},
                               {"complete", trace.complete}});
    }
    std::vector<uint64_t> need;
    for (size_t step = 0; step < length; step++) {
        // Runs that have ended need nothing: they must not hide the ones that still run.
        std::vector<uint64_t> running;
        for (const auto& steps : all)
            if (step < steps.size()) running.push_back(steps[step]);
        hull.maximum.push_back(std::ranges::max(running));
        need.push_back(nearest_rank(std::move(running), options.quantile));
    }
    const auto ahead =
        static_cast<size_t>((options.lookahead_ns + options.step_ns - 1) / options.step_ns);
    for (size_t step = 0; step < length; step++) {
        const size_t end = std::min(length, step + ahead + 1);
        const auto window = std::span(need).subspan(step, end - step);
        hull.limit.push_back(with_margin(std::ranges::max(window), options));
    }
    hull.after_end = hull.flat();
    return hull;
}

double gigabyte_seconds(uint64_t bytes, int64_t duration_ns) {
    return static_cast<double>(bytes) / (1 << 30) * static_cast<double>(duration_ns) / 1e9;
}

double saved_percent(double flat, double along) {
    const double saved = flat > 0 ? 100 * (1 - along / flat) : 0;
    return std::abs(saved) < 1e-9 ? 0 : saved;  // sums differ by their rounding
}

double gigabyte_seconds(const Hull& hull, int64_t duration_ns) {
    double sum = 0;
    for (int64_t time = 0; time < duration_ns; time += hull.options.step_ns)
        sum += gigabyte_seconds(hull.at(time), std::min(hull.options.step_ns, duration_ns - time));
    return sum;
}

}  // namespace memplate::cost
