// SPDX-License-Identifier: Apache-2.0
//
// One memory cgroup, of the unified hierarchy or of cgroup v1's memory controller: its files read
// and written under the names of either.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate {

/// Where memory cgroups are on this host.
struct CgroupHierarchy {
    std::string root;  ///< "/sys/fs/cgroup", or "/sys/fs/cgroup/memory" for v1
    bool unified = false;
    /// Below a mount point (a fake one in tests).
    [[nodiscard]] static Result<CgroupHierarchy> find(const std::string& mount = "/sys/fs/cgroup");
};

class MemoryCgroup {
  public:
    /// Below the root: "/docker/ID", as in /proc/PID/cgroup, or the full path of the directory.
    static Result<MemoryCgroup> open(const CgroupHierarchy& hierarchy, const std::string& path);
    /// A new one, memplate/cost-PID, that is killed empty and removed with this object. Removes
    /// what killed processes of ours have left.
    static Result<MemoryCgroup> create(const CgroupHierarchy& hierarchy);
    MemoryCgroup(MemoryCgroup&& other) noexcept;
    MemoryCgroup& operator=(MemoryCgroup&&) = delete;
    ~MemoryCgroup();

    [[nodiscard]] const std::string& path() const { return path_; }  ///< of the directory
    [[nodiscard]] bool unified() const { return hierarchy_.unified; }

    // ENOENT or ENODEV: the cgroup is gone.
    [[nodiscard]] Result<uint64_t> current() const;
    /// The kernel's watermark; nothing where it keeps none (v2 before Linux 5.19).
    [[nodiscard]] Result<std::optional<uint64_t>> peak() const;
    [[nodiscard]] Result<std::optional<uint64_t>> limit() const;  ///< none: no limit
    /// Page cache that the kernel would drop first, of it and its descendants.
    [[nodiscard]] Result<uint64_t> inactive_file() const;
    /// Whether it or a descendant has a process.
    [[nodiscard]] Result<bool> populated() const;

    [[nodiscard]] Result<> place(pid_t pid) const;
    /// none: no limit. On v1, a limit below what cannot be reclaimed is refused with EBUSY.
    [[nodiscard]] Result<> set_limit(std::optional<uint64_t> bytes) const;
    /// memory.high, v2 only.
    [[nodiscard]] Result<> set_high(std::optional<uint64_t> bytes) const;
    /// v1 only: processes that hit the limit wait for more instead of being killed.
    [[nodiscard]] Result<> set_oom_kill(bool on) const;
    /// v1: they wait now.
    [[nodiscard]] Result<bool> waits_for_memory() const;
    /// Times that the limit (v2: memory.high too) was hit; v2 also processes killed by it.
    struct Hits {
        uint64_t limit = 0;
        uint64_t killed = 0;
    };
    [[nodiscard]] Result<Hits> hits() const;
    /// v2 with PSI: a descriptor that polls POLLPRI when tasks waited `stall` within `window`.
    [[nodiscard]] Result<UniqueFd> pressure_trigger(std::chrono::microseconds stall,
                                                    std::chrono::microseconds window) const;

    /// Kills until nothing is left in it.
    [[nodiscard]] Result<> kill_all(std::chrono::milliseconds timeout) const;

  private:
    MemoryCgroup(CgroupHierarchy hierarchy, std::string path)
        : hierarchy_(std::move(hierarchy)), path_(std::move(path)) {}
    static void remove_leftovers(const CgroupHierarchy& hierarchy, const std::string& parent);
    Result<> open_files();
    /// Held by a living owner; false if somebody else has it.
    [[nodiscard]] bool lock() const;
    [[nodiscard]] Result<uint64_t> read_counter(const UniqueFd& fd, const char* name) const;
    [[nodiscard]] Result<> write(const char* name, const std::string& value) const;
    [[nodiscard]] Result<std::vector<pid_t>> processes() const;
    Result<> remove(std::chrono::milliseconds timeout) const;

    CgroupHierarchy hierarchy_;
    std::string path_;
    bool own_ = false;
    UniqueFd directory_;
    UniqueFd current_;
    UniqueFd peak_;
    UniqueFd limit_;
    UniqueFd stat_;
};

}  // namespace memplate
