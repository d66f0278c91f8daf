// SPDX-License-Identifier: Apache-2.0
//
// Cold starts of a GPU function, one process each, from before clone to the first result.
#pragma once

#include <string>
#include <vector>

#include "gpu/info.h"

namespace memplate::gpu {

/// One way to start: a value of each factor.
struct StartVariant {
    std::string module = "sass";      ///< sass, ptx (JIT cache filled before), ptx-uncached
    std::string loading = "lazy";     ///< lazy, eager: CUDA_MODULE_LOADING
    std::string copy = "pageable";    ///< pageable, pinned: the weights in host memory
    std::string page_cache = "warm";  ///< warm, cold: the files that a start maps

    /// Every value, "sass-lazy-pageable-warm".
    [[nodiscard]] std::string name() const;
};

/// The values of each factor that are to be compared; the first ones are the base.
struct StartFactors {
    std::vector<std::string> module = {"sass", "ptx", "ptx-uncached"};
    std::vector<std::string> loading = {"lazy", "eager"};
    std::vector<std::string> copy = {"pageable", "pinned"};
    std::vector<std::string> page_cache = {"warm", "cold"};
    /// Every combination, instead of the base and every other value with the base's other ones.
    bool combine = false;
};
/// The base first. ErrorKind::usage for a value that there is not, one given twice, or none.
[[nodiscard]] Result<std::vector<StartVariant>> make_variants(const StartFactors& factors);

struct ColdStartOptions {
    int device = 0;
    unsigned runs = 20;  ///< of each variant
    /// StreamBox's ResNet50 has 97.8 MB.
    uint64_t weights_bytes = 97'800'000;
    std::vector<StartVariant> variants;
    bool cublas = true;  ///< where it is installed
    bool cudnn = true;
    std::chrono::milliseconds patience = std::chrono::seconds(60);
};

/// Starts processes of all variants in turn, in a random order within each round, after one of each
/// that does not count. Each begins where the one before it has ended, and every result is
/// verified.
///
/// {"schema", "verb", "device", "runs", "weights_bytes", "gpu": info.h, "libraries": {"cublas" |
/// "cudnn": {"library", "version"} | {"missing"}}, "module_loading": {"lazy" | "eager": what the
/// driver says of it}, "variants": [{"name", "label" (how it differs from the first), "module",
/// "loading", "copy", "page_cache", "phases": [{"name", "title", "ms"}], "total_ms",
/// "exit_ms", "copy_gb_per_s" (10^9 B/s), "page_cache_bytes": {"cached", "kept"},
/// "jit_cache_bytes": {"before", "after"}}], "notes": [text]}. All of _ms and _per_s are
/// statistics.h's; bytes are those of the last run.
///
/// The total is measured outside: from before clone(2) until memplate has the answer. Phases are
/// stamps of one clock, each begins where the one before it ends: their sum is the total.
[[nodiscard]] Result<Json> measure_cold_starts(const Context& context,
                                               const ColdStartOptions& options);

/// What a phase is called in reports, by its "name".
[[nodiscard]] std::string phase_title(std::string_view name);

enum class StatisticsRule { percentiles, streambox };
[[nodiscard]] std::string cold_start_text(const Json& report, StatisticsRule rule, bool colour);
/// A page with a chart of the phases.
[[nodiscard]] std::string cold_start_html(const Json& report);

}  // namespace memplate::gpu
