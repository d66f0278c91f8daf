// SPDX-License-Identifier: Apache-2.0
#include "instance/marks.h"

#include <sys/sdt.h>

namespace memplate::instance {

void mark_phase(uint64_t cgroup, const char* phase) {
    DTRACE_PROBE2(memplate, phase, cgroup, phase);
}

}  // namespace memplate::instance
