// SPDX-License-Identifier: Apache-2.0
//
// Who may write, and whose pages may not be reclaimed. Both are locks on bytes far beyond any
// file's end, so a crash leaves nothing to clean up; the lease block only says who the writer is.
#pragma once

#include "pool/format.h"
#include "pool/medium.h"

namespace memplate::pool {

inline constexpr uint64_t lease_lock_offset = uint64_t{1} << 62;
inline constexpr uint64_t pin_locks_offset = lease_lock_offset + 4096;
/// Covers the pin of every template id.
inline constexpr uint64_t pin_locks_length = max_template_id;

constexpr uint64_t pin_lock_offset(uint64_t template_id) {
    return pin_locks_offset + template_id;
}

/// Takes the writer's lock through a descriptor of its own, or fails naming the holder.
[[nodiscard]] Result<UniqueFd> lock_lease(const Medium& medium);

/// A lease block that names this process.
[[nodiscard]] LeaseBlock own_lease(uint64_t epoch, const std::string& purpose);
[[nodiscard]] Result<> write_lease(Medium& medium, const LeaseBlock& lease);
/// Nothing if it is damaged.
[[nodiscard]] Result<std::optional<LeaseBlock>> read_lease(const Medium& medium);

/// "pid 17 on host (memplate template build), since 2026-…"; empty if nobody holds the lease.
[[nodiscard]] Result<std::string> lease_holder(const Medium& medium);

}  // namespace memplate::pool
