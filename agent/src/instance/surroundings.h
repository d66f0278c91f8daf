// SPDX-License-Identifier: Apache-2.0
//
// What a function finds in its sandbox besides the root: variables, and paths of the host.
#pragma once

#include <string>
#include <vector>

#include "sandbox/sandbox.h"
#include "template/function.h"

namespace memplate::instance {

/// A usual PATH, HOME and LANG, then the function file's.
[[nodiscard]] std::vector<std::string> environment_of(const Function& function);

/// The function file's, and those without which its command would not be found.
[[nodiscard]] std::vector<sandbox::Bind> binds_of(const Function& function);

}  // namespace memplate::instance
