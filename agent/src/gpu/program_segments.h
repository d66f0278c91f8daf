// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/program_timeline.h"

namespace memplate::gpu {

/// A time in which something was going on; several may overlap.
struct Span {
    int64_t begin_ns = 0;
    int64_t end_ns = 0;
    Activity activity = Activity::user;
    uint32_t call = 0;
};

/// When a call ended. One that had not returned: when its process had, else when the trace had.
[[nodiscard]] int64_t end_of(const ProgramEvent& call, const ProgramTrace& trace);

/// The spans of a trace: calls, files, waits, processes.
[[nodiscard]] std::vector<Span> spans_of(const ProgramTrace& trace);

/// Of several spans at one time the first Activity counts, and of several calls the one that began
/// last. What no span covers is the program's own code.
[[nodiscard]] std::vector<Segment> partition(std::vector<Span> spans, int64_t begin_ns,
                                             int64_t end_ns);

}  // namespace memplate::gpu
