// SPDX-License-Identifier: Apache-2.0
//
// Engine attached: private anonymous memory leaves the images, CRIU rebuilds the areas empty, and
// the module fills them before the process runs (DESIGN.md D3, D4). Which page goes which way is a
// plan, made once per image directory and kept in it.
#pragma once

#include <string>
#include <vector>

#include "attach_plan.pb.h"
#include "engine/engine.h"
#include "template/intervals.h"

namespace memplate::engine {

inline constexpr uint32_t attach_plan_version = 1;
/// Name of the plan in an image directory.
inline constexpr const char* attach_plan_file = "attach.plan";
inline constexpr size_t max_attach_plan_bytes = size_t{1} << 30;

/// What becomes of the memory of one process.
struct ProcessPlan {
    proto::AttachProcess attach;  ///< filled by the module
    Intervals copied;             ///< left in the images
    Intervals mapped;             ///< areas that the images make mappings of the module's template
};

/// Fails if runs of the template do not fit the memory areas in its images.
[[nodiscard]] Result<ProcessPlan> plan_process(const Template& tmpl,
                                               const proto::ProcessPages& process, Lazy lazy);

/// The name under which images mention the module template of a process.
[[nodiscard]] std::string module_template_key(uint32_t pid);

/// The plan of an image directory, checked.
[[nodiscard]] Result<proto::AttachPlan> read_plan(const std::string& directory);

}  // namespace memplate::engine
