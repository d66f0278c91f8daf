// SPDX-License-Identifier: Apache-2.0
//
// One instance: a prepared sandbox, then a restore or a cold start in it, then its life.
// Preparing is slow (tens of ms) and can be done ahead; launching is the part that is timed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "criu/installation.h"
#include "engine/engine.h"
#include "engine/module_templates.h"
#include "gpu/checkpointer.h"
#include "instance/state.h"
#include "sandbox/sandbox.h"
#include "template/function.h"

namespace memplate::instance {

/// Milliseconds by name of phase, in order.
using Phases = std::vector<std::pair<std::string, double>>;

struct Launched {
    pid_t pid = 0;        ///< root process inside the sandbox
    double ready_ms = 0;  ///< from the request to the passed readiness check
    Phases phases;
};

/// What an instance is going to be restored from.
struct Source {
    std::string template_name;
    engine::Prepared images;
    int pool_fd = -1;  ///< of a TemplatePin; inherited by the waiting CRIU
    proto::GpuState gpu;
};

class Instance {
  public:
    /// A sandbox with everything a launch of `function` needs; for restores (`source` not null)
    /// that includes a CRIU process waiting inside and the clone's identity.
    static Result<std::unique_ptr<Instance>> prepare(const Context& context,
                                                     const Function& function,
                                                     const criu::Installation& criu,
                                                     const Source* source);

    /// Starts the function's command.
    Result<Launched> start();
    /// Restores the template named at prepare(); waits until it is ready.
    Result<Launched> restore();

    /// Checkpoints the process tree of start() into `images_directory`; the tree is gone after it.
    /// On failure the message holds CRIU's reason and the path of the kept log.
    /// What its processes have on GPUs is in their memory then, and told.
    Result<proto::GpuState> checkpoint(const std::string& images_directory);

    /// Sends a request and checks the answer.
    Result<HttpResponse> request(const WarmupRequest& request) const;
    /// The whole warm-up once; `after_each` is called after every answer.
    Result<> warm_up(const std::function<Result<>()>& after_each = {}) const;

    /// Sets limits, records the instance and leaves it running without the agent.
    Result<Record> release(const Launched& launched, const Record& base);

    [[nodiscard]] sandbox::Sandbox& sandbox() { return *sandbox_; }
    [[nodiscard]] const Directory& directory() const { return directory_; }
    [[nodiscard]] const Function& function() const { return function_; }
    /// Host pid of the root process.
    [[nodiscard]] Result<pid_t> host_pid(pid_t inside) const;
    /// Host pids of the function's processes by their pid inside.
    [[nodiscard]] Result<std::map<pid_t, pid_t>> host_pids() const;

  private:
    /// In builds; keeper, CRIU and helpers are below.
    static constexpr pid_t first_template_pid = 5000;

    Instance(const Context& context, Function function, criu::Installation criu,
             Directory directory)
        : context_(context),
          function_(std::move(function)),
          criu_(std::move(criu)),
          directory_(std::move(directory)) {}

    Result<> wait_ready(std::chrono::steady_clock::time_point deadline);
    Result<> check_alive(const std::string& when);
    [[nodiscard]] std::string keep_output() const;
    Result<> start_lazy_pages();
    /// At post-restore: fills what CRIU has left empty, then sends the clone's signal.
    Result<> complete(pid_t root);
    /// Module templates that the images map, by their number in CRIU.
    [[nodiscard]] std::vector<std::pair<int, const engine::ModuleTemplates::Process*>>
    mapped_templates() const;
    Failure explain(Error error, const std::string& log, const std::string& what) const;

    const Context& context_;
    Function function_;
    criu::Installation criu_;
    Directory directory_;  // destroyed after the sandbox that lives in it
    std::optional<sandbox::Sandbox> sandbox_;
    UniqueFd criu_socket_;
    int work_number_ = -1;    ///< the instance directory, lent to the keeper
    int images_number_ = -1;  ///< the images to restore, lent to the keeper
    engine::Kind engine_ = engine::Kind::copy;
    std::shared_ptr<const engine::ModuleTemplates> memory_;  ///< engine attached
    double attach_ms_ = 0;
    /// Root process inside the sandbox: only helpers have lower numbers. In builds a lower bound;
    /// imported images bring the number of the process they were made of.
    pid_t root_pid_ = first_template_pid;
    bool restored_ = false;
    std::optional<gpu::Checkpointer> gpu_;  ///< of a GPU function; waits as CRIU does
    proto::GpuState gpu_state_;             ///< to restore
    uint64_t cgroup_ = 0;                   ///< its number, for marks
};

/// Inside every sandbox: where the function's output goes.
inline constexpr const char* output_path = "/run/memplate/output";

}  // namespace memplate::instance
