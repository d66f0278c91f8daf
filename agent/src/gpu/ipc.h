// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/info.h"
#include "gpu/transport.h"

namespace memplate::gpu {

struct IpcOptions {
    int device = 0;
    std::vector<uint64_t> sizes;          ///< bytes, each a multiple of 4 and at least 1 KiB
    std::vector<std::string> transports;  ///< empty: all that this machine can do
    unsigned runs = 20;
    unsigned warm_up = 3;
    std::chrono::milliseconds patience = std::chrono::seconds(60);
};

/// From `low` to `high`, each `factor` times the one before; `high` is the last one.
[[nodiscard]] std::vector<uint64_t> size_sweep(uint64_t low, uint64_t high, unsigned factor);

/// Hands messages from one process on the GPU to another, by every transport and in every size;
/// transports take turns. What arrives is compared with what was sent, or the run fails.
///
/// {"schema", "verb", "device", "runs", "warm_up", "gpu": info.h, "left_out": [{"transport" |
/// "bytes" | "phase", "reason"}], "wall_ns" (from before the first process to the end of the last),
/// "results": [{"bytes", "transport", "hands_over", "latency_ns", "owned_ns", "gb_per_s" (10^9 B/s
/// at the median of owned_ns), "verified_bytes", "phases": [{"name", "of_latency", "ns"}]}],
/// "set_up": [{"bytes", "end", "name", "ns"}]}. Times are summaries (util/stats.h) over the runs.
///
/// The latency begins with the data in the sender's device memory, and ends when the receiver's
/// work on it can be launched; its phases add up to it. Where the sender's memory itself was handed
/// over, owned_ns has on top what the receiver needs to copy it into memory of its own. Beside
/// that are timed three kernels that read the data, one after the other, and closing.
[[nodiscard]] Result<Json> run_ipc(const Context& context, const IpcOptions& options);

/// Tables of latency and bandwidth by size and transport, and the phases at the largest size.
[[nodiscard]] std::string ipc_text(const Json& report, bool colour);
/// A page with log-log charts of both.
[[nodiscard]] std::string ipc_html(const Json& report);

/// StreamBox's two experiments as it runs them, and the lines that it prints: a tensor of 1000 by
/// 1000 elements through TCP, the start of both processes included, and two buffers of 64 Mi floats
/// through CUDA IPC handles.
[[nodiscard]] Result<std::string> run_streambox_ipc(const Context& context,
                                                    const IpcOptions& options);

}  // namespace memplate::gpu
