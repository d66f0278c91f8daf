// SPDX-License-Identifier: Apache-2.0
//
// What a sandbox directory remembers, so that others than its maker can find everything it refers
// to: sandbox.json with id and keeper, and address.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "util/result.h"

namespace memplate::sandbox {

Result<> record_sandbox(const std::string& directory, const std::string& id, pid_t keeper);
/// After everything is gone.
void forget_sandbox(const std::string& directory);

/// Host pids of the processes in the pid namespace of `keeper`: for hosts without cgroups.
Result<std::vector<pid_t>> namespace_processes(pid_t keeper);

}  // namespace memplate::sandbox
