// SPDX-License-Identifier: Apache-2.0
//
// CPU caches between this host and memory that outlives its power or that other hosts see.
#pragma once

#include <cstddef>
#include <span>

namespace memplate::pool {

/// False on processors for which nothing here is implemented.
[[nodiscard]] bool can_write_back_cache_lines();

/// Starts writing the cache lines of `memory` back to it (clwb, or what the processor has instead);
/// done after fence().
void write_back(std::span<const std::byte> memory);

/// Drops the cache lines of `memory`, so that the next load sees what other hosts have written.
/// Lines this host has changed are written back.
void invalidate(std::span<const std::byte> memory);

/// Everything written back before has reached the memory (or the power-fail safe domain).
void fence();

}  // namespace memplate::pool
