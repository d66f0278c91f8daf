// SPDX-License-Identifier: Apache-2.0
//
// What a benchmark ran on: without it numbers cannot be compared.
#pragma once

#include <string>

#include "util/context.h"
#include "util/json.h"

namespace memplate {

/// The CRIU in use, as criu::Installation knows it; empty fields are left out.
struct CriuDescription {
    std::string version;
    std::string root;
};

/// {"kernel", "machine", "cpu", "emulated" (true, or left out), "cores", "virtual_machine",
/// "memory_mb" (10^6 bytes), "cgroup", "transparent_hugepages", "criu", "criu_root", "memplate",
/// "load"}. What cannot be read is left out, with a line in the debug log.
[[nodiscard]] Json describe_environment(const Context& context, const CriuDescription& criu = {});

/// The same from the procfs and sysfs behind two directory descriptors.
[[nodiscard]] Json describe_environment_at(int proc, int sys, const Context& context,
                                           const CriuDescription& criu = {});

}  // namespace memplate
