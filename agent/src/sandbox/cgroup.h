// SPDX-License-Identifier: Apache-2.0
//
// The cgroup of one sandbox: memplate/ID below the root of the unified hierarchy, or of each of the
// memory, cpu, pids and freezer hierarchies where cgroup v1 is mounted.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "sandbox/sandbox.h"

namespace memplate::sandbox {

class Cgroup {
  public:
    /// /sys/fs/cgroup, opened.
    static Result<UniqueFd> open_host_root();
    /// Makes the groups below `root` (a directory; fake in tests). Hierarchies that cannot be
    /// written are left out: they are missed only when a limit needs them.
    static Result<Cgroup> create(const UniqueFd& root, const std::string& id);
    /// The groups left by a sandbox of that id, if any.
    static Result<Cgroup> open(const UniqueFd& root, const std::string& id);

    /// Moves a process in.
    Result<> place(pid_t pid) const;
    /// A limit that no mounted controller can apply is an error that names the controller.
    Result<> apply(const Limits& limits) const;
    [[nodiscard]] Result<std::vector<pid_t>> processes() const;
    /// The kernel's number of the one of the memory controller, or of the unified hierarchy; 0 if
    /// there is none.
    [[nodiscard]] uint64_t number() const;
    /// False if there is no hierarchy at all: processes() then knows nothing.
    [[nodiscard]] bool tracks_processes() const { return !groups_.empty(); }
    /// Kills until nothing is left.
    Result<> kill_all(std::chrono::milliseconds timeout) const;
    /// Removes the groups, waiting until they are empty, and the parent if this was the last.
    Result<> remove(std::chrono::milliseconds timeout) const;

  private:
    Cgroup(UniqueFd root, std::string id) : root_(std::move(root)), id_(std::move(id)) {}
    static Result<Cgroup> find(const UniqueFd& root, const std::string& id);
    Result<> make();
    Result<> write_limit(const std::string& controller, const std::string& file,
                         const std::string& value) const;

    UniqueFd root_;
    std::string id_;
    bool unified_ = false;
    std::vector<std::string> hierarchies_;  ///< "" for unified, else "memory", …
    std::vector<std::string> groups_;       ///< relative to root_
};

}  // namespace memplate::sandbox
