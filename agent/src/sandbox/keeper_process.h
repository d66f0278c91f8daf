// SPDX-License-Identifier: Apache-2.0
//
// Starting, reaping and following processes inside.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/keeper_fault.h"

namespace memplate::keeper {

struct ChildSpec {
    std::vector<std::string> argv;
    std::vector<std::string> environment;
    std::string working_directory = "/";
    bool restrict_capabilities = false;
    bool raise_descriptor_limit = false;
    bool log_output = false;  ///< stdout and stderr go where the keeper's go
    std::string output;       ///< else to this file; empty: /dev/null
    std::map<int, int> descriptors;
};

/// Forks and executes; returns once the program runs (or why it does not).
Outcome<pid_t> start_child(const ChildSpec& spec);

/// Makes the next pid of this namespace at least `minimum`. `last_pid` is the open ns_last_pid.
Outcome<> advance_pid(int last_pid, pid_t minimum);

/// One child that has ended, if any: pid and wait status.
std::optional<std::pair<pid_t, int>> reap();

}  // namespace memplate::keeper
