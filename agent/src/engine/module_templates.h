// SPDX-License-Identifier: Apache-2.0
//
// The module's side of a template: its pages as a pool of the module, and one module template for
// each process. Made once, attached to any number of instances.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "attach_plan.pb.h"
#include "engine/pseudo_mm.h"
#include "pool/pool.h"

namespace memplate::engine {

class ModuleTemplates {
  public:
    struct Process {
        uint32_t pid = 0;
        bool mapped = false;  ///< the images map it: CRIU inherits its descriptor
        ModuleTemplate memory;
    };

    /// Copies the pages of a file pool into the module, or pins those of device memory in place.
    static Result<ModuleTemplates> build(const Module& module, const pool::Pool& pool,
                                         const pool::TemplateRecord& record,
                                         const proto::AttachPlan& plan);
    /// Of descriptors that somebody else holds too.
    explicit ModuleTemplates(std::vector<Process> processes) : processes_(std::move(processes)) {}

    [[nodiscard]] const std::vector<Process>& processes() const { return processes_; }
    /// Set if pages of the memplate pool itself are in use, not copies of them.
    [[nodiscard]] const std::optional<pool::TemplatePin>& pin() const { return pin_; }

    /// Fills all processes of an instance, none of which runs yet. `host_pids`: by pid in the
    /// images. After an error none of them may run.
    [[nodiscard]] Result<> attach(const std::map<pid_t, pid_t>& host_pids) const;

  private:
    std::vector<Process> processes_;
    std::optional<pool::TemplatePin> pin_;
};

/// Runs of pool pages, ascending and joined where they touch: the pages of the module's pool.
class PageRuns {
  public:
    explicit PageRuns(std::vector<pool::PageExtent> extents);
    [[nodiscard]] const std::vector<pool::PageExtent>& runs() const { return runs_; }
    /// Number of a pool page among all pages of the runs; the page must be one of them.
    [[nodiscard]] uint64_t index_of(uint64_t page) const;

  private:
    std::vector<pool::PageExtent> runs_;
    std::vector<uint64_t> before_;  ///< pages in front of each run
};

}  // namespace memplate::engine
