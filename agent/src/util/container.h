// SPDX-License-Identifier: Apache-2.0
//
// Containers by the names people give them: their cgroups are found by the path patterns of the
// engines, their names in the state files of docker and podman. No engine has to run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "util/memory_cgroup.h"

namespace memplate {

struct Container {
    std::string engine;  ///< "docker", "podman", "kubernetes", "cri-o", "containerd", "memplate", …
    std::string id;
    std::string name;     ///< empty where no state file tells it
    std::string cgroup;   ///< below the hierarchy's root, "/docker/ID"
    std::string image{};  ///< as it was asked for; of an instance its template
};

/// What the innermost container of a cgroup path is, if any. The monitor processes of podman and
/// cri-o are none.
[[nodiscard]] std::optional<Container> identify_container(std::string_view cgroup_path);

/// The running container of that name, id or unambiguous beginning of an id (4 characters at
/// least). `root`: "" (another directory in tests).
[[nodiscard]] Result<Container> find_container(const CgroupHierarchy& hierarchy,
                                               const std::string& name,
                                               const std::string& root = "");

}  // namespace memplate
