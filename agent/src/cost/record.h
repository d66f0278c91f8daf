// SPDX-License-Identifier: Apache-2.0
//
// The loop of a recording: drains a source until the run ends.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>

#include "cost/clock.h"
#include "cost/memory_source.h"

namespace memplate::cost {

struct RecordOptions {
    std::chrono::microseconds interval{1000};
    std::stop_token stop{};
    int end_fd = -1;                       ///< readable once the run is over
    std::function<bool()> ended{};         ///< asked every 10 ms
    std::chrono::milliseconds at_most{0};  ///< 0: no matter how long
    /// After each drain.
    std::function<Result<>(int64_t now_ns)> tick{};
    int64_t (*wall_clock)() = wall_ns;  ///< another one in tests
    int wake_fd = -1;                   ///< POLLPRI on it ends the wait for the next drain
    std::function<void()> woken{};      ///< and is told here: a PSI trigger tells it only once
};

enum class RecordEnd { over, cgroup_gone, stopped, time_is_up };

struct Recording {
    RecordEnd end = RecordEnd::over;
    int64_t start_ns = 0;
    int64_t end_ns = 0;
    int64_t longest_gap_ns = 0;  ///< between two drains: what happened in one may have been missed
    int64_t clock_set_ns = 0;    ///< by how much the wall clock was set meanwhile, in sum
};

/// Adds a "clock" event when the wall clock is set; nothing else depends on that clock.
[[nodiscard]] Result<Recording> record(MemorySource& source, TraceSink& sink,
                                       const RecordOptions& options);

/// Passes everything on to several sinks.
class TraceTee : public TraceSink {
  public:
    void connect(TraceSink& sink) { sinks_.push_back(&sink); }
    void add(const Sample& sample) override {
        for (TraceSink* sink : sinks_) sink->add(sample);
    }
    void add(const Event& event) override {
        for (TraceSink* sink : sinks_) sink->add(event);
    }

  private:
    std::vector<TraceSink*> sinks_;
};

}  // namespace memplate::cost
