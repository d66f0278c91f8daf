// SPDX-License-Identifier: Apache-2.0
//
// Which containers a trace tells of: shell patterns; those of one kind are alternatives, all kinds
// that are given must match.
#pragma once

#include <string>
#include <vector>

#include "trace/registry.h"

namespace memplate::trace {

struct Filter {
    std::vector<std::string> names{};     ///< name, id or the beginning of an id
    std::vector<std::string> cgroups{};   ///< it or one above it
    std::vector<std::string> images{};    ///< with or without registry and tag
    std::vector<std::string> commands{};  ///< of the entrypoint: path or file name

    enum class Answer { no, yes, unknown };
    /// `command`: what the container executes; empty while not known.
    [[nodiscard]] Answer matches(const Member& member, const std::string& command) const;
    [[nodiscard]] std::string text() const;  ///< for people; empty if all match
};

}  // namespace memplate::trace
