// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>

#include "util/result.h"

namespace memplate::check {

/// Runs `probe` in a forked child, so that what it changes (namespaces, mounts, links) is gone with
/// the child. Its error comes back; so does a child that is killed by a signal or does not end
/// within `timeout` (it is killed then). The child does not run destructors of the parent.
[[nodiscard]] Result<> in_child(const std::function<Result<>()>& probe,
                                std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace memplate::check
