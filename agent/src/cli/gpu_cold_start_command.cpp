// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu cold-start -- COMMAND…
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "bench/environment.h"
#include "cli/gpu_verbs.h"
#include "util/fs.h"
#include "util/table.h"

namespace memplate::cli {

void add_gpu_command_options(CLI::App& verb, GpuCommandOptions& options) {
    using enum gpu::ProgramOptions::Backend;
    verb.add_option("command", options.program.command,
                    "Instead of starts of our own: this program, unmodified; after --")
        ->type_name("COMMAND");
    const std::map<std::string, gpu::ProgramOptions::Backend> backends = {
        {"auto", automatic}, {"bpf", bpf}, {"inject", inject}};
    verb.add_option("--backend", options.program.backend,
                    "How a COMMAND is seen: bpf: uprobes; inject: an audit library; auto: bpf "
                    "where it is to be had")
        ->transform(CLI::CheckedTransformer(backends).description("{auto,bpf,inject}"))
        ->default_str("auto");
    verb.add_option("--duration", options.seconds, "End a COMMAND after so many seconds")
        ->check(CLI::Range(0.001, 366.0 * 24 * 3600))
        ->type_name("S");
    verb.add_option("--labels", options.labels,
                    "streambox: of a COMMAND only the lines of the StreamBox experiments")
        ->check(CLI::IsMember({"streambox"}));
}

Result<int> gpu_cold_start_command(const Application& application, const GpuOptions& gpu_options,
                                   const GpuCommandOptions& options, unsigned runs,
                                   gpu::StatisticsRule rule, const std::string& html_path) {
    gpu::ProgramOptions program = options.program;
    program.at_most_ns = static_cast<int64_t>(options.seconds * 1e9);
    program.output = STDERR_FILENO;  // the report is ours to print
    gpu::InfoOptions info;
    info.patience =
        std::chrono::milliseconds(static_cast<int64_t>(gpu_options.timeout_seconds * 1000));
    TRY_ASSIGN(Json report, gpu::measure_program(application.context, program, runs, info));
    application.context.progress->clear();
    report["environment"] = describe_environment(application.context);
    if (!html_path.empty()) TRY(write_file_atomic(AT_FDCWD, html_path, gpu::program_html(report)));
    if (application.json)
        print_json(report);
    else if (!options.labels.empty())
        fmt::print("{}", gpu::program_labels(report));
    else
        fmt::print("{}", gpu::program_text(report, rule, wants_colour(STDOUT_FILENO)));
    if (!html_path.empty() && !application.json) fmt::print("page:  {}\n", html_path);
    for (const Json& start : report["starts"])
        if (!start["failure"].get<std::string>().empty()) return 1;
    return 0;
}

}  // namespace memplate::cli
