// SPDX-License-Identifier: Apache-2.0
//
// A recording of one run: how much memory its cgroup held when, and what happened to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "util/json.h"
#include "util/result.h"

namespace memplate::cost {

/// The level from `time_ns` on, until the next sample.
struct Sample {
    int64_t time_ns = 0;                      ///< CLOCK_MONOTONIC
    uint64_t bytes = 0;                       ///< all that is charged: page cache and kernel too
    std::optional<uint64_t> peak{};           ///< the kernel's watermark at that moment
    std::optional<uint64_t> limit{};          ///< none: no limit
    std::optional<uint64_t> inactive_file{};  ///< page cache that can be dropped, if read
};

/// "start", "exec", "exit", "clock" (the wall clock was set), "limit" …; the names of start phases
/// come from whoever records them.
struct Event {
    int64_t time_ns = 0;
    std::string name;
    std::string detail{};
};

struct Trace {
    std::string name;  ///< of the file it was read from
    Json header = Json::object();
    std::vector<Sample> samples;
    std::vector<Event> events;
    bool complete = false;  ///< the end of the run is in it

    [[nodiscard]] const Event* event(std::string_view wanted) const;
    /// The exec of the command, else the first thing in the trace.
    [[nodiscard]] int64_t zero_ns() const;
    /// Its exit, but never before the last sample.
    [[nodiscard]] int64_t end_ns() const;
    [[nodiscard]] uint64_t peak_bytes() const;
};

/// Takes what a recording yields, in time order.
class TraceSink {
  public:
    virtual ~TraceSink() = default;
    virtual void add(const Sample& sample) = 0;
    virtual void add(const Event& event) = 0;
};

/// Keeps everything in memory.
class TraceCollector : public TraceSink {
  public:
    void add(const Sample& sample) override { trace.samples.push_back(sample); }
    void add(const Event& event) override { trace.events.push_back(event); }
    Trace trace;
};

/// Reads a recording in either format, told apart by the first line. A line cut off at the end of
/// the file is left out. Errors name file and line.
[[nodiscard]] Result<Trace> read_trace(const std::string& path);
[[nodiscard]] Result<Trace> parse_trace(std::string_view text, const std::string& origin);

}  // namespace memplate::cost
