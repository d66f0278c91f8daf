// SPDX-License-Identifier: Apache-2.0
//
// Where samples come from. Polling the cgroup's files works everywhere; a source fed by the
// kernel's own events yields all of them at the next drain, each with its own time.
#pragma once

#include <functional>
#include <memory>

#include "cost/trace.h"
#include "util/memory_cgroup.h"

namespace memplate::cost {

/// Which way the memory was measured and what may be expected of it; part of every output.
struct Method {
    std::string backend;   ///< "poll"
    std::string level;     ///< what the level was read from, and how often
    std::string peak;      ///< the same for the maximum
    std::string accuracy;  ///< one sentence
    [[nodiscard]] Json to_json() const;
};

class MemorySource {
  public:
    virtual ~MemorySource() = default;
    [[nodiscard]] virtual Method method() const = 0;
    /// Passes on what has happened since the last call, in time order. Called every few
    /// milliseconds and once more at the end. ENOENT or ENODEV: the cgroup is gone.
    virtual Result<> drain(TraceSink& sink) = 0;
    /// The largest level of the cgroup, as far as is known by now.
    [[nodiscard]] virtual uint64_t peak_bytes() const = 0;
};

/// Reads usage and watermark at each drain. A sample is passed on when it differs from the last
/// one, and ten times a second.
[[nodiscard]] std::unique_ptr<MemorySource> poll_source(const MemoryCgroup& cgroup,
                                                        std::chrono::microseconds interval);

}  // namespace memplate::cost
