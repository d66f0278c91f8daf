// SPDX-License-Identifier: Apache-2.0
//
// Which pages of a checkpointed process go where: zero pages are left out, the others are cut into
// runs, each with the reason if it cannot be shared by mapping (DESIGN.md D2, D4).
#pragma once

#include <map>
#include <vector>

#include "criu/images.h"
#include "template.pb.h"

namespace memplate {

/// Areas of a process that must not be mapped, found while it was watched (hazards).
struct UnsharedArea {
    uint64_t start = 0;
    uint64_t end = 0;
    proto::Placement reason = proto::PLACEMENT_DISCARDED;
};

struct LayoutOptions {
    /// Runs closer than this many pages are joined; the hole between them stays a hole.
    uint64_t merge_gap = 16;
    /// Runs of at most this many pages are copied: a mapping costs more than that.
    uint64_t small_run = 1;
    std::map<uint32_t, std::vector<UnsharedArea>> unshared;  ///< by pid
};

/// The pages of one process, laid out but not stored: Run.page is 0 in all.
/// `pages_fd`: its pages image. Reads every page once (zero detection).
[[nodiscard]] Result<proto::ProcessPages> lay_out(const criu::ProcessImage& process, int pages_fd,
                                                  const LayoutOptions& options);

}  // namespace memplate
