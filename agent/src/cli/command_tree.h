// SPDX-License-Identifier: Apache-2.0
//
// The command tree as data: what bash completion and man pages are written from.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace memplate::cli {

enum class ValueKind { none, text, file, directory, choice };

struct OptionNode {
    std::vector<std::string> names;  ///< "-q", "--quiet"; a positional has its own name only
    bool positional = false;
    bool required = false;
    bool repeatable = false;
    ValueKind kind = ValueKind::none;
    std::vector<std::string> choices;
    std::string value_name;  ///< "FILE"
    std::string description;
    std::string default_value;
};

struct CommandNode {
    std::vector<std::string> path;  ///< {"pool", "create"}; empty for the root
    std::string description;
    std::string footer;
    std::vector<OptionNode> options;
    std::vector<CommandNode> commands;
};

[[nodiscard]] CommandNode command_tree(const CLI::App& root);

}  // namespace memplate::cli
