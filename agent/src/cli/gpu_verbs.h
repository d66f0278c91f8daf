// SPDX-License-Identifier: Apache-2.0
//
// The verbs of `memplate gpu`, one file each, and what they share.
#pragma once

#include <memory>
#include <string>

#include "cli/application.h"
#include "gpu/program_report.h"

namespace memplate::cli {

struct GpuOptions {
    int device = 0;
    double timeout_seconds = 60;  ///< longest silence of a worker
};
/// --device and --timeout.
void add_gpu_options(CLI::App& verb, GpuOptions& options, bool with_device = true);

void add_gpu_info(CLI::App& noun, Application& application);
void add_gpu_cold_start(CLI::App& noun, Application& application);
void add_gpu_checkpoint(CLI::App& noun, Application& application);
void add_gpu_footprint(CLI::App& noun, Application& application);
void add_gpu_ipc(CLI::App& noun, Application& application);

/// What `gpu cold-start -- COMMAND…` has beside the options of gpu cold-start.
struct GpuCommandOptions {
    gpu::ProgramOptions program;
    double seconds = 0;
    std::string labels;
};
void add_gpu_command_options(CLI::App& verb, GpuCommandOptions& options);
Result<int> gpu_cold_start_command(const Application& application, const GpuOptions& gpu_options,
                                   const GpuCommandOptions& options, unsigned runs,
                                   gpu::StatisticsRule rule, const std::string& html_path);

}  // namespace memplate::cli
