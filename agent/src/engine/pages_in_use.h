// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "pool/pool.h"

namespace memplate::engine {

/// Finds pages of a pool that processes use without holding a pin: memory that the module filled in
/// place (pools on devices) outlives the agent and every descriptor. Empty for other pools. Without
/// the module nothing can be in use: it stays loaded as long as something is.
[[nodiscard]] pool::PagesInUse pages_in_use(const pool::Pool& pool);
/// The same for a medium that holds no pool that can be opened; extents count pages from `base`.
[[nodiscard]] pool::PagesInUse pages_in_use(const std::shared_ptr<const pool::Medium>& medium,
                                            uint64_t base);

/// Whether the module is loaded, also where its device is not to be seen (a container).
[[nodiscard]] Result<bool> module_is_loaded(const std::string& root = "");

}  // namespace memplate::engine
