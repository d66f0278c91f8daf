// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "instance/launch.h"
#include "util/json.h"

namespace memplate::bench {

/// Restores `count` instances, leaves them running together and sums smaps_rollup over all their
/// processes: idle, after one request each, after a request that touches everything (if the
/// function has one). MB are 10^6 bytes. Every answer is checked and counted in `answers`.
[[nodiscard]] Result<Json> measure_memory(const Context& context, const pool::Pool& pool,
                                          const criu::Installation& criu, const Function& function,
                                          const Template& tmpl, const engine::Prepared& images,
                                          unsigned count, uint64_t& answers);

}  // namespace memplate::bench
