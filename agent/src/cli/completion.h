// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/command_tree.h"

namespace memplate::cli {

/// A bash script that completes commands, options and their values.
[[nodiscard]] std::string bash_completion(const CommandNode& root);

}  // namespace memplate::cli
