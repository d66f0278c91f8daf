// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu: the noun and what its verbs share.
#include "cli/gpu_verbs.h"

#include <CLI/CLI.hpp>

namespace memplate::cli {

void add_gpu_options(CLI::App& verb, GpuOptions& options, bool with_device) {
    if (with_device)
        verb.add_option("--device", options.device, "Ordinal of the GPU")
            ->check(CLI::Range(0, 1023))
            ->type_name("N")
            ->capture_default_str();
    verb.add_option("--timeout", options.timeout_seconds,
                    "Seconds without an answer after which a call of the driver has hung")
        ->check(CLI::Range(0.1, 86400.0))
        ->type_name("S")
        ->capture_default_str();
}

void add_gpu_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand(
        "gpu", "Cold starts, footprint, transfers and checkpoints of GPU functions");
    noun->require_subcommand(1);
    noun->footer(
        "Example: memplate gpu cold-start -n 20\n"
        "The driver (libcuda.so.1) and NVML are loaded when they are needed, by a process of their "
        "own.\n"
        "Without a driver each verb ends with exit code 3.");
    add_gpu_info(*noun, application);
    add_gpu_cold_start(*noun, application);
    add_gpu_checkpoint(*noun, application);
    add_gpu_footprint(*noun, application);
    add_gpu_ipc(*noun, application);
}

}  // namespace memplate::cli
