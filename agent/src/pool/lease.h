// SPDX-License-Identifier: Apache-2.0
//
// Who may write, and whose pages may not be reclaimed. Both are locks on bytes far beyond any
// file's end, so a crash leaves nothing to clean up; the lease block only says who the writer is.
// Locks do not reach other hosts: on a medium that those can write to, the block binds as well.
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
/// Across hosts: into the copy that is not in use, so that one is always whole.
[[nodiscard]] Result<> write_lease(Medium& medium, LeaseBlock lease);
/// Nothing if it is damaged.
[[nodiscard]] Result<std::optional<LeaseBlock>> read_lease(const Medium& medium);

/// Fails, naming it, if the block says that another host (or this one before its restart) writes.
[[nodiscard]] Result<> check_other_hosts(const Medium& medium);
/// The same for a new writer: a damaged block is a reason to fail, too, and `break_lease_of` names
/// the host that may be overruled ("unknown": a damaged block).
[[nodiscard]] Result<> check_other_hosts(const Medium& medium, const std::string& break_lease_of);
/// After write_lease() across hosts: waits until a host that wrote at the same moment must have
/// finished, and fails if the block is not `own` any more.
[[nodiscard]] Result<> settle_lease(const Medium& medium, const LeaseBlock& own);

/// "pid 17 on host (memplate template build), since 2026-…"; empty if nobody holds the lease.
[[nodiscard]] Result<std::string> lease_holder(const Medium& medium);

}  // namespace memplate::pool
