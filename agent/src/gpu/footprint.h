// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/info.h"

namespace memplate::gpu {

struct FootprintOptions {
    int device = 0;
    unsigned processes = 4;
    uint64_t weights_bytes = 97'800'000;
    std::vector<std::string> loading = {"lazy", "eager"};
    std::vector<std::string> libraries;  ///< of "cublas", "cudnn"; used where they are installed
    bool mps = false;           ///< once more as clients of an MPS daemon that is started for it
    int thread_percentage = 0;  ///< of the MPS clients; 0: the daemon's default
    std::chrono::milliseconds patience = std::chrono::seconds(60);
};

/// Device memory of processes that do the same: before they use the device ("begin"), with a
/// context, with code on the device, with a model.
///
/// {"schema", "verb", "device", "processes", "weights_bytes", "libraries", "gpu": info.h,
/// "left_out": [{"variant", "reason"}], "variants": [{"name", "loading", "mps",
/// "thread_percentage", "code": {"kernels" | "cublas" | "cudnn": "loaded" or why not}, "stages":
/// [{"name", "used_bytes", "free_bytes", "total_bytes" (of the device, by NVML), "added_bytes"
/// (since begin), "processes": [bytes by NVML, null where it does not tell], "others": [{"pid",
/// "bytes", "mps"}]}], "context_bytes", "code_bytes", "model_bytes" (a process, from the device's
/// use), "runtime_share" (of context and code in all three)}]}
[[nodiscard]] Result<Json> run_footprint(const Context& context, const FootprintOptions& options);

[[nodiscard]] std::string footprint_text(const Json& report, bool colour);
/// A page with a stacked chart.
[[nodiscard]] std::string footprint_html(const Json& report);
/// The labels and values of StreamBox's experiment.
[[nodiscard]] std::string footprint_streambox(const Json& report);

}  // namespace memplate::gpu
