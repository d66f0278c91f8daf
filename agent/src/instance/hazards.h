// SPDX-License-Identifier: Apache-2.0
//
// What makes mapping unsafe for a function (DESIGN.md D2): memory allocators that rely on zeros
// after MADV_DONTNEED, and areas that the function gave back or grew while it was watched. The
// rule is to never be wrong silently: what is suspected is copied, and the evidence is stored.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "template/layout.h"
#include "util/tracepoint.h"

namespace memplate::instance {

/// Looks for known allocators in the files that the processes map as code. `root`: prefix under
/// which those files are found.
[[nodiscard]] std::vector<proto::Hazard> find_allocators(const criu::ImageSet& images,
                                                         const std::string& root);

/// What was seen of madvise and mremap. `inside`: pid in the images by host pid; records of other
/// processes are ignored.
[[nodiscard]] std::vector<proto::Hazard> judge_calls(
    const std::vector<SyscallRecorder::Record>& records, const std::map<pid_t, pid_t>& inside);

/// Areas marked WIPEONFORK in the images.
[[nodiscard]] std::vector<proto::Hazard> find_wiped_areas(const criu::ImageSet& images);

/// The areas that must be copied, by pid.
[[nodiscard]] std::map<uint32_t, std::vector<UnsharedArea>> unshared_areas(
    const std::vector<proto::Hazard>& hazards);

}  // namespace memplate::instance
