// SPDX-License-Identifier: Apache-2.0
//
// The file that an injected program and memplate share: a header, then slots of 64 bytes. A record
// of bpf/gpu_events.h takes one, with its text five. A writer takes slots by adding to `next`, sets
// `kind` at once and `end_ns` last: a call that did not return has none.
#pragma once

#include "gpu_events.h"

namespace memplate::gpu::inject {

/// Names the file to the program.
inline constexpr char variable[] = "MEMPLATE_GPU_TRACE";
/// A record of its own kind: `call` is named by the text.
inline constexpr unsigned kind_of_name = 100;

struct TraceFile {
    static constexpr unsigned long long slots = 4'000'000;
    unsigned long long next;
    unsigned long long unused[7];
    memplate_gpu_event events[slots];
};
static_assert(sizeof(memplate_gpu_event) == 64);
inline constexpr unsigned slots_with_text = 1 + MEMPLATE_GPU_TEXT / sizeof(memplate_gpu_event);

}  // namespace memplate::gpu::inject
