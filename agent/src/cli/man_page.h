// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "cli/command_tree.h"

namespace memplate::cli {

/// memplate(1): the root with its commands.
[[nodiscard]] std::string man_page(const CommandNode& root);
/// memplate-NOUN(1): one command of the root with everything below it.
[[nodiscard]] std::string man_page(const CommandNode& root, const CommandNode& command);

}  // namespace memplate::cli
