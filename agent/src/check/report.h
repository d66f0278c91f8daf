// SPDX-License-Identifier: Apache-2.0
//
// What was found out about this machine, and how it is told.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "util/json.h"

namespace memplate::check {

/// Start methods in the order in which they are told.
inline constexpr std::string_view start_methods[] = {"cold", "copy", "lazy", "mapped", "attached"};

/// One thing this machine may have or not.
struct Capability {
    std::string name;
    std::string group;
    bool ok = false;
    std::string reason;      ///< what was found, or why it does not work
    std::string fix;         ///< one command or sentence; empty if ok
    std::string needed_for;  ///< for people: "all starts", "template build", …
    /// Start methods that cannot work without it.
    std::vector<std::string_view> required_by;
};

struct Report {
    std::vector<Capability> capabilities;
    /// Every start method, and whether all it requires is there.
    std::vector<std::pair<std::string_view, bool>> methods;

    [[nodiscard]] bool works(std::string_view method) const;
    /// Names of the capabilities that keep a method from working.
    [[nodiscard]] std::vector<std::string> missing_for(std::string_view method) const;
};

[[nodiscard]] Report make_report(std::vector<Capability> capabilities);

/// {"schema":1,"capabilities":[{"name","group","ok","reason","fix","needed_for"}],
///  "engines":{"copy":true,…}}
[[nodiscard]] Json to_json(const Report& report);

struct Style {
    bool unicode = false;  ///< ✓ and ✗ instead of yes and no
    bool colour = false;
};
/// Table, what to do about what is missing, and one line with the start methods; at most 100
/// columns wide.
[[nodiscard]] std::string render(const Report& report, Style style);

}  // namespace memplate::check
