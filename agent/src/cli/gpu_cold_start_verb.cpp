// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu cold-start.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/environment.h"
#include "cli/gpu_verbs.h"
#include "gpu/cold_start.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct Options {
    GpuOptions gpu;
    GpuCommandOptions command;
    unsigned runs = 20;
    gpu::StartFactors factors;
    std::string weights = "97800000";
    std::vector<std::string> libraries = {"cublas", "cudnn"};
    std::string statistics = "percentiles";
    std::string html_path;
};

Result<gpu::ColdStartOptions> cold_start_options(const Options& options) {
    gpu::ColdStartOptions result;
    result.device = options.gpu.device;
    result.runs = options.runs;
    result.patience =
        std::chrono::milliseconds(static_cast<int64_t>(options.gpu.timeout_seconds * 1000));
    TRY_ASSIGN(result.weights_bytes, parse_size(options.weights));
    if (result.weights_bytes == 0 || result.weights_bytes % sizeof(float) != 0)
        return fail(ErrorKind::usage, fmt::format("--weights {}: whole floats of 4 B, at least one",
                                                  options.weights));
    TRY_ASSIGN(result.variants, gpu::make_variants(options.factors));
    const auto asked = [&](const char* library) {
        return std::ranges::find(options.libraries, library) != options.libraries.end();
    };
    result.cublas = asked("cublas");
    result.cudnn = asked("cudnn");
    return result;
}

gpu::StatisticsRule rule_of(const Options& options) {
    return options.statistics == "streambox" ? gpu::StatisticsRule::streambox
                                             : gpu::StatisticsRule::percentiles;
}

/// What only starts of our own have, and what only those of a command have.
Result<> check(const CLI::App& verb, bool command) {
    const std::vector<const char*> foreign =
        command ? std::vector{"--module",  "--loading", "--copy",      "--page-cache",
                              "--combine", "--weights", "--libraries", "--device"}
                : std::vector{"--backend", "--duration", "--labels"};
    for (const char* name : foreign)
        if (verb.count(name) != 0)
            return fail(ErrorKind::usage, fmt::format("{} cannot be given with{} a COMMAND", name,
                                                      command ? "" : "out"));
    return {};
}

Result<int> gpu_cold_start(const Application& application, const Options& options) {
    TRY_ASSIGN(const gpu::ColdStartOptions request, cold_start_options(options));
    TRY_ASSIGN(Json report, gpu::measure_cold_starts(application.context, request));
    application.context.progress->clear();
    report["environment"] = describe_environment(application.context);
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path, gpu::cold_start_html(report)));
    if (application.json) {
        print_json(report);
        return 0;
    }
    fmt::print("{}", gpu::cold_start_text(report, rule_of(options), wants_colour(STDOUT_FILENO)));
    if (!options.html_path.empty()) fmt::print("page:  {}\n", options.html_path);
    return 0;
}

}  // namespace

void add_gpu_cold_start(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand(
        "cold-start", "Where the time of a GPU function's start goes, a fresh process each time");
    verb->add_option("-n,--runs", options->runs, "Starts of each variant, or of COMMAND")
        ->check(CLI::Range(1U, 100'000U))
        ->capture_default_str();
    const auto add_factor = [&](const char* name, std::vector<std::string>& values,
                                const char* description) {
        verb->add_option(name, values, description)
            ->delimiter(',')
            ->type_name("LIST")
            ->capture_default_str();
    };
    add_factor("--module", options->factors.module,
               "Kernels as machine code, as PTX compiled before, as PTX with an empty JIT cache");
    add_factor("--loading", options->factors.loading, "CUDA_MODULE_LOADING");
    add_factor("--copy", options->factors.copy, "Host memory that the weights are copied from");
    add_factor("--page-cache", options->factors.page_cache,
               "Libraries and programs in memory, or read from their disk");
    verb->add_flag("--combine", options->factors.combine,
                   "All combinations of these lists; else the first values, and each other value "
                   "instead of its first one");
    verb->add_option("--weights", options->weights,
                     "Bytes copied to the device; default: ResNet50's")
        ->type_name("SIZE")
        ->capture_default_str();
    verb->add_option("--libraries", options->libraries, "Of cublas, cudnn; or none")
        ->delimiter(',')
        ->check(CLI::IsMember({"cublas", "cudnn", "none"}))
        ->type_name("LIST")
        ->capture_default_str();
    verb->add_option("--stats", options->statistics,
                     "percentiles, or StreamBox's rule: outliers dropped by quartiles")
        ->check(CLI::IsMember({"percentiles", "streambox"}))
        ->capture_default_str();
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    add_gpu_options(*verb, options->gpu);
    add_gpu_command_options(*verb, options->command);
    verb->footer(
        "Examples: memplate gpu cold-start -n 50 --page-cache warm,cold --html start.html\n"
        "          memplate gpu cold-start -- python3 serve.py\n"
        "A COMMAND is started once unless -n says otherwise; its output goes to standard error.");
    verb->callback([&application, options, verb] {
        application.needs_settings = false;
        application.action = [&application, options, verb]() -> Result<int> {
            const bool command = !options->command.program.command.empty();
            TRY(check(*verb, command));
            if (!command) return gpu_cold_start(application, *options);
            return gpu_cold_start_command(application, options->gpu, options->command,
                                          verb->count("--runs") != 0 ? options->runs : 1,
                                          rule_of(*options), options->html_path);
        };
    });
}

}  // namespace memplate::cli
