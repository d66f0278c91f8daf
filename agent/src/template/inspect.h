// SPDX-License-Identifier: Apache-2.0
//
// A template as data for people and scripts: processes, memory areas, pages by class and owner,
// and what differs between two templates.
#pragma once

#include "template/template.h"
#include "util/json.h"

namespace memplate {

/// Everything but the memory areas: counts, hazards, profile, images.
[[nodiscard]] Result<Json> describe_template(const Template& tmpl);

/// Processes with threads, memory areas (range, permissions, name, pages by class) and sums by
/// owner. Reads mm-*.img and files.img of the template.
[[nodiscard]] Result<Json> inspect_template(const Template& tmpl);

/// Pages of `a` and `b` compared at equal addresses of processes with equal pids:
/// {"same","changed","only_a","only_b"} in all and per owner, and the largest changed ranges.
[[nodiscard]] Result<Json> diff_templates(const Template& a, const Template& b);

/// What the profile knows and saved.
[[nodiscard]] Json describe_profile(const Template& tmpl);

}  // namespace memplate
