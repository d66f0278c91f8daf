// SPDX-License-Identifier: Apache-2.0
//
// The verbs of `memplate gpu`, one file each, and what they share.
#pragma once

#include <memory>
#include <string>

#include "cli/application.h"

namespace memplate::cli {

struct GpuOptions {
    int device = 0;
    double timeout_seconds = 60;  ///< longest silence of a worker
};
/// --device and --timeout.
void add_gpu_options(CLI::App& verb, GpuOptions& options, bool with_device = true);

void add_gpu_info(CLI::App& noun, Application& application);

}  // namespace memplate::cli
