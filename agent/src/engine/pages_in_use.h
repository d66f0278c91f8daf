// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pool/pool.h"

namespace memplate::engine {

/// Finds pages of a pool that processes use without holding a pin: memory that the module filled in
/// place (pools on devices) outlives the agent and every descriptor. Empty for other pools. Without
/// the module nothing can be in use: it stays loaded as long as something is.
[[nodiscard]] pool::PagesInUse pages_in_use(const pool::Pool& pool);

}  // namespace memplate::engine
