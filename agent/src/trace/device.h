// SPDX-License-Identifier: Apache-2.0
//
// Page faults in words.
#pragma once

#include <string>
#include <string_view>

#include "trace/probes.h"

namespace memplate::trace {

[[nodiscard]] std::string_view name_of(FaultCount::Kind kind);        ///< "minor", "major", "cow"
[[nodiscard]] std::string_view name_of(FaultCount::Backing backing);  ///< "anonymous", "file", …
/// "vda1", "overlay", "tmpfs", else "MAJOR:MINOR"; "-" for anonymous memory.
[[nodiscard]] std::string device_name(const FaultCount& count);

}  // namespace memplate::trace
