// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "util/fd.h"

namespace memplate::sandbox {

struct Keeper {
    pid_t pid = 0;
    UniqueFd process;  ///< pidfd
    UniqueFd socket;   ///< our end
};

/// Starts memplate-keeper as pid 1 of new pid, mount, network, IPC and UTS namespaces. It is no
/// child of this process: nobody has to reap it. It inherits `lock`, and its standard error is
/// `directory`/keeper.log.
Result<Keeper> launch_keeper(const std::string& id, const std::string& directory,
                             const UniqueFd& lock);

/// Waits for the end of a process; false after `timeout`. When pid 1 of a pid namespace has ended,
/// so has everything in it.
Result<bool> wait_process_end(const UniqueFd& process, std::chrono::milliseconds timeout);

}  // namespace memplate::sandbox
