// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "instance/launch.h"

namespace memplate::instance {

struct RunRequest {
    std::string template_name;
    std::string pool_path;
    unsigned count = 1;
    unsigned parallel = 0;                 ///< restores under way at once; 0: one per CPU
    std::optional<engine::Kind> engine;    ///< nullopt: auto
    std::optional<uint64_t> memory_bytes;  ///< instead of the function file's limits
    std::optional<double> cpus;
};

struct RunReport {
    engine::Choice choice;
    std::vector<Record> instances;
};

/// Restores `count` instances and leaves them running. All or none: if one fails, or the run is
/// interrupted, those already restored are stopped again.
[[nodiscard]] Result<RunReport> run(const Context& context, const RunRequest& request);

/// The function stored in a template.
[[nodiscard]] Result<Function> function_of(const Template& tmpl);

/// Calls task(0) … task(count-1) on `threads` threads; returns the first error. After an error the
/// tasks not yet begun are not begun.
[[nodiscard]] Result<> for_each_parallel(unsigned count, unsigned threads,
                                         const std::function<Result<>(unsigned)>& task);

}  // namespace memplate::instance
