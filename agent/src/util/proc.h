// SPDX-License-Identifier: Apache-2.0
//
// Readers of /proc. Each takes the directory descriptor of a procfs (or of a fake one in tests).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate::proc {

/// The host's /proc, opened.
[[nodiscard]] Result<UniqueFd> open_host();

/// Sums of /proc/PID/smaps_rollup, in bytes.
struct MemoryRollup {
    uint64_t rss = 0;
    uint64_t pss = 0;
    uint64_t private_clean = 0;
    uint64_t private_dirty = 0;
    uint64_t shared_clean = 0;
    uint64_t shared_dirty = 0;
    uint64_t anonymous = 0;
    MemoryRollup& operator+=(const MemoryRollup& other);
};
[[nodiscard]] Result<MemoryRollup> memory_rollup(int proc, pid_t pid);

/// One line of /proc/PID/maps.
struct Mapping {
    uint64_t start = 0;
    uint64_t end = 0;
    std::string permissions;  ///< "rw-p"
    uint64_t offset = 0;
    uint64_t inode = 0;
    std::string path;  ///< empty for anonymous memory; "[heap]", "[stack]", ...
};
[[nodiscard]] Result<std::vector<Mapping>> mappings(int proc, pid_t pid);

/// From /proc/PID/stat.
struct Stat {
    std::string comm;
    char state = '?';
    pid_t parent = 0;
    uint32_t threads = 0;
    uint64_t start_time = 0;  ///< clock ticks since boot: with the pid, names a process uniquely
};
[[nodiscard]] Result<Stat> stat(int proc, pid_t pid);

/// The pid of the process in its innermost pid namespace (last field of NSpid).
[[nodiscard]] Result<pid_t> namespace_pid(int proc, pid_t pid);

/// All living descendants of a process, from /proc/PID/task/TID/children.
[[nodiscard]] std::vector<pid_t> descendants(int proc, pid_t pid);

/// State of one page from /proc/PID/pagemap.
struct PageState {
    bool present = false;
    bool swapped = false;
    bool file_or_shared = false;  ///< bit 61: still the file's page; clear once copied on write
};
/// States of `count` pages from virtual address `start` (page aligned).
[[nodiscard]] Result<std::vector<PageState>> page_states(int proc, pid_t pid, uint64_t start,
                                                         uint64_t count);

}  // namespace memplate::proc
