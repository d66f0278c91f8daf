// SPDX-License-Identifier: Apache-2.0
//
// What the probes tell: one thing that happened to one cgroup, in time order.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace memplate::trace {

enum class EventKind : uint8_t {
    cgroup_made,    ///< text: its path below the hierarchy's root
    cgroup_gone,    ///< peak: the watermark at its end
    joined,         ///< a process was moved into it
    forked,         ///< a process was born in it
    executed,       ///< text: the file; peak: the watermark at that moment
    listening,      ///< value: TCP port; the first of its port
    accepted,       ///< value: TCP port; the first connection after `listening`
    answered,       ///< value: TCP port; the first bytes sent to a client
    exited,         ///< a process ended; value: its wait status; peak: the watermark
    level,          ///< memory: bytes, peak, inactive_file
    restore_phase,  ///< of a memplate instance; text: the phase that begins
};

struct Event {
    EventKind kind{};
    int64_t time_ns = 0;    ///< CLOCK_MONOTONIC
    uint64_t cgroup = 0;    ///< kernfs id: st_ino of its directory
    pid_t pid = 0;          ///< of the process, as the tracing program sees it
    pid_t inner_pid = 0;    ///< in its innermost pid namespace: 1 for a container's first
    std::string command{};  ///< the process's short name
    std::string text{};
    uint64_t value = 0;
    uint64_t bytes = 0;          ///< charged to the cgroup: page cache and kernel too
    uint64_t peak = 0;           ///< the kernel's watermark
    uint64_t inactive_file = 0;  ///< page cache that would be dropped first
};

}  // namespace memplate::trace
