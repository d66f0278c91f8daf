// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "check/report.h"
#include "util/context.h"

namespace memplate::check {

/// Finds out what this machine can do. What can be tried is tried, in child processes with
/// namespaces of their own; the rest is read below `root` (see system_files.h). Never fails as a
/// whole: what cannot be found out is reported as missing, with the reason.
[[nodiscard]] Report examine(const Context& context, const std::string& root = "/");

}  // namespace memplate::check
