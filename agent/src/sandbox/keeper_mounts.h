// SPDX-License-Identifier: Apache-2.0
//
// Builds the root file system of a sandbox around the keeper.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sandbox/keeper_fault.h"

namespace memplate::keeper {

struct BindMount {
    std::string source;
    std::string target;
    bool writable = false;
    bool device = false;
};

struct MountPlan {
    std::string directory;  ///< the sandbox's directory on the host; mounted over, in here only
    std::string root;       ///< lower layer
    std::string criu_root;  ///< empty: none
    uint64_t scratch_bytes = 0;
    std::vector<BindMount> binds;
};

/// Makes the mount namespace of the caller, which must be pid 1 of a new pid namespace, private and
/// exchanges its root. Returns /proc/sys/kernel/ns_last_pid, opened for writing before /proc/sys
/// became read-only.
Outcome<Descriptor> build_root(const MountPlan& plan);

}  // namespace memplate::keeper
