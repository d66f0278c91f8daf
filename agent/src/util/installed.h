// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "util/result.h"

namespace memplate {

/// A file that is installed with memplate: the one that the environment's `variable` names, else
/// beside memplate's own program, else in `folder` below the prefix ("libexec/memplate"). `access`
/// is access(2)'s.
[[nodiscard]] Result<std::string> find_installed(const std::string& name, const std::string& folder,
                                                 const char* variable, int access);

}  // namespace memplate
