// SPDX-License-Identifier: Apache-2.0
//
// Marks at the steps of a restore, for whoever traces this binary: the USDT probe memplate:phase
// with the number of the instance's cgroup and the phase that begins. Untraced it is one nop.
#pragma once

#include <cstdint>

namespace memplate::instance {

/// sandbox (it waits), restore, attach (engine attached), resume, gpu (of GPU functions), ready.
void mark_phase(uint64_t cgroup, const char* phase);

}  // namespace memplate::instance
