// SPDX-License-Identifier: Apache-2.0
//
// What the engines' state files tell of their containers: names and images. No engine has to run.
#pragma once

#include <map>
#include <string>

#include "util/container.h"

namespace memplate {

/// Id → name of the containers of docker and podman, running or not. `root`: "" (another directory
/// in tests).
[[nodiscard]] std::map<std::string, std::string> known_container_names(const std::string& root);

/// Fills in name and image, as far as they are told. Containers of runc and crun are recognised
/// here by their cgroup, which may be any. `instances`: where memplate keeps its own.
void describe_container(Container& container, const std::string& instances,
                        const std::string& root = "");

}  // namespace memplate
