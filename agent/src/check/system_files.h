// SPDX-License-Identifier: Apache-2.0
//
// What /proc, /sys and /dev say. `root` is the directory that holds them: "/" or a fake in tests.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate::check {

class SystemFiles {
  public:
    static Result<SystemFiles> open(const std::string& root = "/");

    /// "v2", "v1" or, without any hierarchy below /sys/fs/cgroup, a failure.
    [[nodiscard]] Result<std::string> cgroup_version() const;
    /// Where a controller can be used; a failure says why it cannot.
    [[nodiscard]] Result<std::string> cgroup_controller(const std::string& name) const;
    /// True if `path` (below the root) exists and is a character device.
    [[nodiscard]] bool is_character_device(const std::string& path) const;
    [[nodiscard]] bool exists(const std::string& path) const;
    /// Names in a directory below the root; none if there is no such directory.
    [[nodiscard]] std::vector<std::string> names_in(const std::string& path) const;

  private:
    explicit SystemFiles(UniqueFd root) : root_(std::move(root)) {}
    /// Options of the mount at `path` in /proc/self/mounts, the last one if several.
    [[nodiscard]] std::optional<std::string> mount_options(const std::string& path) const;
    [[nodiscard]] Result<> writable_mount(const std::string& path) const;

    UniqueFd root_;
};

}  // namespace memplate::check
