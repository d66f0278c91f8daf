// SPDX-License-Identifier: Apache-2.0
//
// memplate bench restore, bench attach.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/attach.h"
#include "bench/report.h"
#include "bench/restore.h"
#include "cli/application.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

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
    if (!request.pool.empty()) request.command += " --pool " + request.pool;

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

struct AttachOptions {
    bench::AttachRequest request;
    std::vector<std::string> sizes{"64M", "256M"};
    std::vector<std::string> pages{"eager", "profile:0.1", "lazy"};
    std::string json_path;
};

Result<int> bench_attach(Application& application, const AttachOptions& options) {
    bench::AttachRequest request = options.request;
    request.command = fmt::format("memplate bench attach --runs {}", request.runs);
    if (request.instructions) request.command += " --instructions";
    for (const std::string& text : options.sizes) {
        TRY_ASSIGN(const uint64_t bytes, parse_size(text));
        if (bytes == 0 || bytes % (1 << 20) != 0)
            return fail(ErrorKind::usage, fmt::format("--size {}: give whole MiB", text));
        if (std::ranges::find(request.sizes, bytes) != request.sizes.end()) continue;
        request.sizes.push_back(bytes);
        request.command += " --size " + text;
    }
    for (const std::string& text : options.pages) {
        TRY_ASSIGN(auto pages, bench::parse_attach_pages(text));
        if (std::ranges::find(request.pages, pages.name, &bench::AttachPages::name) !=
            request.pages.end())
            continue;
        request.pages.push_back(std::move(pages));
        request.command += " --pages " + text;
    }
    TRY_ASSIGN(const Json report, bench::bench_attach(application.context, request));
    if (!options.json_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.json_path, report.dump(1) + "\n"));
    if (application.json) {
        print_json(report);
        return 0;
    }
    fmt::print("{}", bench::attach_report_text(report, wants_colour(STDOUT_FILENO)));
    if (!options.json_path.empty()) fmt::print("data:  {}\n", options.json_path);
    return 0;
}

void add_attach_verb(CLI::App& noun, Application& application) {
    auto options = std::make_shared<AttachOptions>();
    auto* verb = noun.add_subcommand(
        "attach",
        "What it costs to give a process the pages of a template, and what it pays afterwards");
    verb->add_option("--size", options->sizes, "Amounts of memory, in whole MiB; repeatable")
        ->capture_default_str()
        ->type_name("SIZE");
    verb->add_option("--pages", options->pages,
                     "Pages the module attaches at once: eager (all), lazy (none, each comes at "
                     "the first touch), profile:PART (a working set, like profile:0.1); repeatable")
        ->delimiter(',')
        ->capture_default_str()
        ->type_name("PAGES");
    verb->add_option("--runs", options->request.runs, "Runs of every variant")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    verb->add_flag("--instructions", options->request.instructions,
                   "The clock counts instructions: in a machine of scripts/vm --icount");
    verb->add_option("--json", options->json_path, "Write the report to this file");
    verb->footer(
        "Variants: attached (by the module: eager), attached-lazy, attached-0.1 (profile:0.1 in\n"
        "pieces all over the memory) and attached-0.1-in-one (as many pages in one piece);\n"
        "always memfd-populate and memfd-lazy (a private mapping, without the module) and copy.\n"
        "Example: memplate bench attach --size 256M --pages eager,profile:0.1 --json attach.json");
    verb->callback([&application, options] {
        application.action = [&application, options] {
            return bench_attach(application, *options);
        };
    });
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
    verb->add_option(
            "--pool", options->request.pool,
            "Build the templates in this pool, which keeps them; default: a pool in memory "
            "that is removed again")
        ->type_name("POOL");
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
    add_attach_verb(*noun, application);
}

}  // namespace memplate::cli
