// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu info.
#include <CLI/CLI.hpp>

#include "cli/gpu_verbs.h"
#include "gpu/info.h"

namespace memplate::cli {
namespace {

Result<int> gpu_info(const Application& application, const GpuOptions& options) {
    gpu::InfoOptions query;
    query.patience =
        std::chrono::milliseconds(static_cast<int64_t>(options.timeout_seconds * 1000));
    TRY_ASSIGN(Json info, gpu::query_info(application.context, query));
    if (application.json) {
        Json document = {{"schema", 1}};
        document.update(info);
        print_json(document);
    } else {
        fmt::print("{}", gpu::info_text(info));
    }
    return 0;
}

}  // namespace

void add_gpu_info(CLI::App& noun, Application& application) {
    auto options = std::make_shared<GpuOptions>();
    auto* verb =
        noun.add_subcommand("info", "Driver and devices: everything that changes a cold start");
    add_gpu_options(*verb, *options, false);
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return gpu_info(application, *options); };
    });
}

}  // namespace memplate::cli
