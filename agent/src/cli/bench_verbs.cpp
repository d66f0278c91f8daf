// SPDX-License-Identifier: Apache-2.0
//
// memplate bench restore.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "bench/report.h"
#include "bench/restore.h"
#include "cli/application.h"
#include "util/fs.h"
#include "util/table.h"

namespace memplate::cli {
namespace {

struct Options {
    bench::RestoreRequest request;
    std::string methods = "cold,copy,lazy,mapped,attached";
    std::string json_path;
    std::string html_path;
};

Result<int> bench_restore(Application& application, const Options& options) {
    bench::RestoreRequest request = options.request;
    TRY_ASSIGN(request.methods, bench::parse_methods(options.methods));
    request.command = "memplate bench restore";
    for (const std::string& file : request.function_files) request.command += " --function " + file;
    request.command += fmt::format(" --methods {} --runs {}", options.methods, request.runs);

    TRY_ASSIGN(const Json report, bench::bench_restore(application.context, request));
    if (!options.json_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.json_path, report.dump(1) + "\n"));
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path, render_report_html(report)));
    if (application.json) {
        print_json(report);
        return 0;
    }
    fmt::print("{}", report_summary_text(report, wants_colour(STDOUT_FILENO)));
    if (!options.json_path.empty()) fmt::print("data:  {}\n", options.json_path);
    if (!options.html_path.empty()) fmt::print("page:  {}\n", options.html_path);
    return 0;
}

}  // namespace

void add_bench_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand("bench", "Measure start methods against each other");
    noun->require_subcommand(1);
    auto options = std::make_shared<Options>();
    auto* verb = noun->add_subcommand(
        "restore", "Start time and memory of a function by method, interleaved in one run");
    verb->add_option("--function", options->request.function_files, "Function file; repeatable")
        ->required();
    verb->add_option("--methods", options->methods,
                     "Of cold, copy, lazy, mapped, attached; what is not possible here is left out")
        ->capture_default_str();
    verb->add_option("--runs", options->request.runs, "Runs of every method")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    verb->add_option("--instances", options->request.instances,
                     "Instances that run together for the memory figures; 0 leaves them out")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    // Named apart from the global flag --json, which prints the report.
    verb->add_option("--json", options->json_path, "Write the report to this file");
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    verb->footer(
        "Example: memplate bench restore --function big-state/function.toml --runs 20 "
        "--json out.json --html out.html");
    verb->callback([&application, options] {
        application.action = [&application, options] {
            return bench_restore(application, *options);
        };
    });
}

}  // namespace memplate::cli
