// SPDX-License-Identifier: Apache-2.0
//
// One run of a command, or a running cgroup followed to its end, with its memory recorded.
#pragma once

#include "cost/record.h"
#include "util/command.h"
#include "util/context.h"

namespace memplate::cost {

struct RunRecord {
    uint64_t peak_bytes = 0;
    Method method;
    std::string cgroup;
    int64_t start_ns = 0;  ///< exec of the command, or when the following began
    int64_t end_ns = 0;
    int64_t longest_gap_ns = 0;  ///< between two readings
    int64_t clock_set_ns = 0;
    bool followed = false;  ///< it ran before, or still runs
    RecordEnd end = RecordEnd::over;
    std::string failure;  ///< how the command ended, if not well

    /// As providers count: every begun millisecond.
    [[nodiscard]] uint64_t duration_ms() const;
    [[nodiscard]] Json to_json() const;
    /// "poll: memory.current every 1 ms (longest gap 1.3 ms), maximum from memory.peak"
    [[nodiscard]] std::string method_text() const;
};

void take_over(RunRecord& run, const MemorySource& source, const Recording& recording);

/// What to do with a recording while it is made.
struct Recorder {
    std::chrono::microseconds interval{1000};
    std::chrono::milliseconds at_most{0};
    /// Default: polling.
    std::function<Result<std::unique_ptr<MemorySource>>(const MemoryCgroup& cgroup)> source{};
    /// Called once the method is known and before anything runs: where samples and events go.
    std::function<Result<>(const Method& method, TraceTee& tee)> connect;
    std::stop_token stop;
};

/// What the recorder measures a cgroup with.
[[nodiscard]] Result<std::unique_ptr<MemorySource>> source_of(const Recorder& recorder,
                                                              const MemoryCgroup& cgroup);

/// In a cgroup of its own; what the command prints goes to our standard error.
[[nodiscard]] Result<RunRecord> run_command(const Recorder& recorder,
                                            const CgroupHierarchy& hierarchy,
                                            const std::vector<std::string>& words);
/// Until it is empty or gone.
[[nodiscard]] Result<RunRecord> follow_cgroup(const Recorder& recorder, const MemoryCgroup& cgroup);
/// Creates a container with podman, runs it and removes it.
[[nodiscard]] Result<RunRecord> run_image(const Recorder& recorder,
                                          const CgroupHierarchy& hierarchy,
                                          const std::string& image,
                                          const std::vector<std::string>& words);

}  // namespace memplate::cost
