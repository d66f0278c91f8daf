// SPDX-License-Identifier: Apache-2.0
//
// The parts of Probes, one for each file of bpf/. Each finds out how much of it the kernel takes.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "trace/bpf_loader.h"
#include "trace/probes.h"
#include "util/fd.h"

namespace memplate::trace {

/// Keeps programs attached while it lives.
using Attachment = std::shared_ptr<void>;

struct Attached {
    Attachment programs;  ///< empty: the kernel takes none
    ProbeMethod method;
};

/// The programs everything else needs; their maps become those of `common`.
[[nodiscard]] Result<Attached> attach_start(Common& common);
/// First answers of servers.
[[nodiscard]] Attached attach_answers(const Common& common);
/// Levels as they change. Without programs the sweep alone tells them.
[[nodiscard]] Attached attach_memory(const Common& common, bool at_any_cost);
/// Marks that memplate itself sets while it restores.
[[nodiscard]] Attached attach_phases(const Common& common);

/// Walks over the cgroups at and below one.
class Sweeper {
  public:
    static Result<std::unique_ptr<Sweeper>> attach(const Common& common, int directory_fd);
    virtual ~Sweeper() = default;
    /// In the order of the walk: parents first.
    virtual Result<> sweep(const std::function<void(const memplate_swept&)>& sink) = 0;
};

class FaultCounter {
  public:
    static Result<std::unique_ptr<FaultCounter>> attach(const Common& common);
    virtual ~FaultCounter() = default;
    [[nodiscard]] virtual ProbeMethod method() const = 0;
    virtual Result<std::vector<FaultCount>> read() = 0;
};

}  // namespace memplate::trace
