// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu checkpoint, gpu restore.
#include <spdlog/logger.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cli/gpu_verbs.h"
#include "gpu/checkpoint.h"
#include "util/proc.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct Options {
    GpuOptions gpu;
    pid_t pid = 0;
    double lock_timeout_seconds = 10;
    bool force = false;
    bool state = false;
};

std::chrono::milliseconds milliseconds(double seconds) {
    return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

gpu::CheckpointOptions checkpoint_options(const Options& options) {
    return {.patience = milliseconds(options.gpu.timeout_seconds),
            .lock_timeout = milliseconds(options.lock_timeout_seconds),
            .force = options.force};
}

/// Its name; a process that is not there, or not ours to touch, is told before a worker is started.
Result<std::string> check_process(pid_t pid) {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    const auto stat = proc::stat(proc.get(), pid);
    if (!stat) return fail(fmt::format("process {}: there is none", pid));
    if (const auto memory = gpu::read_process_memory(proc.get(), pid);
        !memory && (memory.error().code == EACCES || memory.error().code == EPERM))
        return fail(
            ErrorKind::unsupported,
            fmt::format("process {} ({}): no permission to see its memory; run memplate as root",
                        pid, stat->comm));
    return stat->comm;
}

Json document_of(const gpu::Checkpointer& checkpointer, pid_t pid, const std::string& name) {
    return {{"schema", 1},
            {"pid", pid},
            {"name", name},
            {"driver", checkpointer.driver_version()},
            {"cuda", checkpointer.cuda_version()}};
}

void print_report(const Application& application, const gpu::Checkpointer& checkpointer, pid_t pid,
                  const std::string& name, const gpu::CheckpointReport& report) {
    for (const std::string& warning : report.warnings)
        application.context.log->warn("process {}: {}", pid, warning);
    if (application.json) {
        Json document = document_of(checkpointer, pid, name);
        document.update(gpu::to_json(report));
        print_json(document);
        return;
    }
    fmt::print("process {} ({}): {}, was {}\n{}", pid, name, gpu::name_of(report.after),
               gpu::name_of(report.before), gpu::report_text(report, wants_colour(STDOUT_FILENO)));
}

Result<int> show_state(const Application& application, const Options& options) {
    TRY_ASSIGN(const std::string name, check_process(options.pid));
    TRY_ASSIGN(auto checkpointer,
               gpu::Checkpointer::start(application.context, checkpoint_options(options).patience,
                                        "--timeout"));
    TRY_ASSIGN(const auto use, checkpointer.inspect(options.pid));
    const std::string state(use.state ? gpu::name_of(*use.state) : "no CUDA");
    if (application.json) {
        Json document = document_of(checkpointer, options.pid, name);
        document["state"] = use.state ? Json(state) : Json();
        document["devices"] = Json::array();
        for (const auto& device : use.devices)
            if (device.own)
                document["devices"].push_back({{"uuid", device.uuid}, {"bytes", *device.own}});
        if (const auto needs = gpu::kept_needs(application.context, options.pid);
            needs && use.state == gpu::ProcessState::checkpointed) {
            document["needs"] = Json::array();
            for (const auto& need : *needs)
                document["needs"].push_back({{"uuid", need.uuid}, {"bytes", need.bytes}});
        }
        print_json(document);
        return 0;
    }
    fmt::print("process {} ({}): {}\n", options.pid, name, state);
    for (const auto& device : use.devices)
        if (device.own)
            fmt::print("{} ({}): {} of {}\n", device.uuid, device.name, format_size(*device.own),
                       format_size(device.total));
    return 0;
}

Result<int> checkpoint(const Application& application, const Options& options) {
    TRY_ASSIGN(const std::string name, check_process(options.pid));
    const auto settings = checkpoint_options(options);
    // A lock may take its whole time before the driver answers.
    TRY_ASSIGN(auto checkpointer,
               gpu::Checkpointer::start(application.context,
                                        settings.patience + settings.lock_timeout, "--timeout"));
    TRY_ASSIGN(const auto report,
               gpu::checkpoint_process(application.context, checkpointer, options.pid, settings));
    print_report(application, checkpointer, options.pid, name, report);
    return 0;
}

Result<int> restore(const Application& application, const Options& options) {
    TRY_ASSIGN(const std::string name, check_process(options.pid));
    const auto settings = checkpoint_options(options);
    TRY_ASSIGN(auto checkpointer,
               gpu::Checkpointer::start(application.context, settings.patience, "--timeout"));
    TRY_ASSIGN(const auto report,
               gpu::restore_process(application.context, checkpointer, options.pid,
                                    gpu::kept_needs(application.context, options.pid), settings));
    print_report(application, checkpointer, options.pid, name, report);
    return 0;
}

void add_common(CLI::App& verb, Options& options) {
    verb.add_option("pid", options.pid, "Process that uses CUDA")
        ->required()
        ->check(CLI::PositiveNumber)
        ->type_name("PID");
    verb.add_flag("--force", options.force,
                  "Try what memplate knows to be dangerous or unsupported");
    add_gpu_options(verb, options.gpu, false);
}

}  // namespace

void add_gpu_checkpoint(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand("checkpoint",
                                     "Move the GPU state of a running process to its host memory");
    add_common(*verb, *options);
    verb->add_flag("--state", options->state, "Only show the state that the process is in");
    verb->add_option("--lock-timeout", options->lock_timeout_seconds,
                     "Seconds that work on the GPU may take to finish; then the process runs on")
        ->check(CLI::Range(0.001, 86400.0))
        ->type_name("S")
        ->capture_default_str();
    verb->footer(
        "Examples: memplate gpu checkpoint 4711; memplate gpu checkpoint --state 4711\n"
        "The device memory of the process is free until `memplate gpu restore`; calls that it "
        "makes "
        "meanwhile wait.");
    verb->callback([&application, options] {
        application.action = [&application, options] {
            return options->state ? show_state(application, *options)
                                  : checkpoint(application, *options);
        };
    });

    auto restore_options = std::make_shared<Options>();
    auto* restore_verb = noun.add_subcommand("restore", "Bring a checkpointed process back");
    add_common(*restore_verb, *restore_options);
    restore_verb->footer("Example: memplate gpu restore 4711");
    restore_verb->callback([&application, restore_options] {
        application.action = [&application, restore_options] {
            return restore(application, *restore_options);
        };
    });
}

}  // namespace memplate::cli
