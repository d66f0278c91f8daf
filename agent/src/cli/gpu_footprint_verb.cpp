// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu footprint.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "bench/environment.h"
#include "cli/gpu_verbs.h"
#include "gpu/footprint.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct Options {
    GpuOptions gpu;
    unsigned processes = 4;
    std::string weights = "97800000";
    std::vector<std::string> loading{"lazy", "eager"};
    bool mps = false;
    bool device_given = false;
    int thread_percentage = 0;
    std::vector<std::string> libraries{"cublas", "cudnn"};
    std::string format = "memplate";
    std::string html_path;
};

Result<gpu::FootprintOptions> footprint_options(const Options& options) {
    gpu::FootprintOptions result;
    result.device = options.gpu.device;
    result.processes = options.processes;
    if (options.libraries != std::vector<std::string>{"none"}) result.libraries = options.libraries;
    result.mps = options.mps;
    result.thread_percentage = options.thread_percentage;
    result.patience =
        std::chrono::milliseconds(static_cast<int64_t>(options.gpu.timeout_seconds * 1000));
    if (options.mps && !options.device_given)
        return fail(ErrorKind::usage,
                    "--mps: starts a daemon on the device; give the one it may have with --device");
    TRY_ASSIGN(result.weights_bytes, parse_size(options.weights));
    if (result.weights_bytes == 0)
        return fail(ErrorKind::usage, "--weights 0: a model has at least a byte");
    result.loading = options.loading;
    return result;
}

Result<int> gpu_footprint(const Application& application, const Options& options) {
    TRY_ASSIGN(const gpu::FootprintOptions request, footprint_options(options));
    TRY_ASSIGN(Json report, gpu::run_footprint(application.context, request));
    report["environment"] = describe_environment(application.context);
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path, gpu::footprint_html(report)));
    if (application.json) {
        print_json(report);
        return 0;
    }
    if (options.format == "streambox") {
        fmt::print("{}", gpu::footprint_streambox(report));
        return 0;
    }
    fmt::print("{}", gpu::footprint_text(report, wants_colour(STDOUT_FILENO)));
    if (!options.html_path.empty()) fmt::print("page:  {}\n", options.html_path);
    return 0;
}

}  // namespace

void add_gpu_footprint(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb =
        noun.add_subcommand("footprint", "Device memory of processes: begin, context, code, model");
    verb->add_option("-n,--processes", options->processes, "Processes at the same time")
        ->check(CLI::Range(1U, 1000U))
        ->capture_default_str();
    verb->add_option("--weights", options->weights, "Bytes of each model; default: ResNet50's")
        ->type_name("SIZE")
        ->capture_default_str();
    verb->add_option("--loading", options->loading, "How kernels are loaded: lazy, eager or both")
        ->delimiter(',')
        ->check(CLI::IsMember({"lazy", "eager"}))
        ->type_name("LIST")
        ->capture_default_str();
    verb->add_option("--libraries", options->libraries,
                     "Of cublas, cudnn, where they are installed; or none")
        ->delimiter(',')
        ->check(CLI::IsMember({"cublas", "cudnn", "none"}))
        ->type_name("LIST")
        ->capture_default_str();
    verb->add_flag("--mps", options->mps,
                   "Once more under MPS: a daemon is started for it, and stopped; needs --device");
    verb->add_option("--mps-thread-percentage", options->thread_percentage,
                     "Active threads of each MPS client")
        ->check(CLI::Range(1, 100))
        ->type_name("N");
    verb->add_option("--format", options->format, "streambox: its labels and values")
        ->check(CLI::IsMember({"memplate", "streambox"}))
        ->capture_default_str();
    verb->add_option("--html", options->html_path, "Write a self-contained page with a chart");
    add_gpu_options(*verb, options->gpu);
    verb->footer(
        "MPS gets pipe and log folders of its own in a temporary folder; compute modes stay as "
        "they "
        "are.\n"
        "Example: memplate gpu footprint -n 8 --device 0 --mps --mps-thread-percentage 10");
    verb->callback([&application, options, verb] {
        options->device_given = verb->count("--device") > 0;
        application.needs_settings = false;
        application.action = [&application, options] {
            return gpu_footprint(application, *options);
        };
    });
}

}  // namespace memplate::cli
