// SPDX-License-Identifier: Apache-2.0
//
// memplate cost tune.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "bench/environment.h"
#include "cli/cost_verbs.h"
#include "cost/bpf_source.h"
#include "cost/page.h"
#include "cost/trace_file.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct Options {
    std::vector<std::string> command;
    std::string hull_path;
    std::string dry_run;
    std::string flat;
    std::string ceiling;
    std::string headroom = "4M";
    std::string csv_path;
    std::string html_path;
    double interval_ms = 1;
};

Result<cost::TuneRequest> read_request(const Options& options) {
    cost::TuneRequest request;
    TRY_ASSIGN(const std::string text, read_file(options.hull_path));
    TRY_ASSIGN(request.hull, cost::Hull::parse(text, options.hull_path));
    request.flat_bytes = request.hull.flat();
    if (!options.flat.empty()) {
        TRY_ASSIGN(request.flat_bytes, parse_size(options.flat));
    }
    TRY_ASSIGN(request.options.headroom_bytes, parse_size(options.headroom));
    for (const uint64_t bytes : {request.flat_bytes, request.options.headroom_bytes})
        if (bytes > cost::most_trace_bytes)
            return fail(ErrorKind::usage, "--flat and --headroom: at most 1024T");
    if (!options.ceiling.empty()) {
        TRY_ASSIGN(const uint64_t bytes, parse_size(options.ceiling));
        if (bytes < request.options.headroom_bytes)
            return fail(ErrorKind::usage,
                        fmt::format("--ceiling {} is below the headroom of {}", options.ceiling,
                                    format_size(request.options.headroom_bytes)));
        request.options.ceiling = bytes;
    }
    return request;
}

Result<cost::TuneReport> tune(const Application& application, const Options& options,
                              const cost::TuneRequest& request, cost::TraceCollector& collector) {
    if (!options.dry_run.empty()) {
        TRY_ASSIGN(collector.trace, cost::read_trace(options.dry_run));
        constexpr int64_t longest = int64_t{48} * 3600 * cost::ns_per_second;
        if (collector.trace.samples.empty())
            return fail(ErrorKind::usage, options.dry_run + ": no sample in this trace");
        if (collector.trace.end_ns() - collector.trace.zero_ns() > longest)
            return fail(ErrorKind::usage, options.dry_run + ": longer than 48 hours");
        cost::TuneReport report = cost::tune_trace(collector.trace, request);
        report.subject = options.dry_run;
        return report;
    }
    TRY_ASSIGN(const auto hierarchy, CgroupHierarchy::find());
    std::string subject;
    for (const std::string& word : options.command) subject += (subject.empty() ? "" : " ") + word;
    std::unique_ptr<cost::TraceWriter> writer;
    cost::Recorder recorder;
    recorder.interval = std::chrono::microseconds(static_cast<int64_t>(options.interval_ms * 1000));
    recorder.stop = application.context.stop;
    recorder.source = [&](const MemoryCgroup& cgroup) {
        return cost::memory_source(application.context, cost::Backend::automatic, cgroup,
                                   recorder.interval);
    };
    recorder.connect = [&](const cost::Method& method, cost::TraceTee& tee) -> Result<> {
        if (!options.html_path.empty()) tee.connect(collector);
        if (options.csv_path.empty()) return {};
        const Json header = {{"subject", subject},
                             {"method", method.to_json()},
                             {"environment", describe_environment(application.context)}};
        TRY_ASSIGN(writer, cost::TraceWriter::create(options.csv_path, header));
        tee.connect(*writer);
        return {};
    };
    TRY_ASSIGN(auto report, cost::tune_command(recorder, hierarchy, options.command, request));
    if (writer) TRY(writer->finish());
    if (report.run->end == cost::RecordEnd::stopped) return interrupted();
    report.subject = subject;
    return report;
}

Result<int> cost_tune(const Application& application, const Options& options) {
    if (options.dry_run.empty() == options.command.empty())
        return fail(ErrorKind::usage, "give either -- COMMAND or --dry-run TRACE");
    if (std::isnan(options.interval_ms))
        return fail(ErrorKind::usage, "nan is no value for an option");
    TRY_ASSIGN(const cost::TuneRequest request, read_request(options));
    cost::TraceCollector collector;
    TRY_ASSIGN(const cost::TuneReport report, tune(application, options, request, collector));
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path,
                              cost::tune_page(report, request.hull, collector.trace).html()));
    if (application.json)
        print_json(report.to_json());
    else
        fmt::print("{}", report.text(wants_colour(STDOUT_FILENO)));
    return report.run && !report.run->failure.empty() ? 1 : 0;
}

}  // namespace

void add_cost_tune(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb =
        noun.add_subcommand("tune", "Run a command with a memory limit that follows a hull");
    verb->add_option("command", options->command, "Command and its arguments, after --")
        ->type_name("COMMAND");
    verb->add_option("--hull", options->hull_path, "From `cost hull`, or functracer's uhull.json")
        ->required()
        ->type_name("FILE");
    verb->add_option("--dry-run", options->dry_run, "Decide on a recorded trace instead of a run")
        ->type_name("TRACE");
    verb->add_option("--flat", options->flat,
                     "The constant limit to compare with; default: the hull's largest")
        ->type_name("SIZE");
    verb->add_option("--ceiling", options->ceiling, "Never set a limit above this")
        ->type_name("SIZE");
    verb->add_option("--headroom", options->headroom, "Never set a limit closer to the use")
        ->type_name("SIZE")
        ->capture_default_str();
    verb->add_option("--interval-ms", options->interval_ms, "Time between two decisions")
        ->check(CLI::Range(0.1, 1000.0))
        ->capture_default_str();
    verb->add_option("--csv", options->csv_path, "Write the trace of the run to this file");
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    verb->footer("Example: memplate cost tune --hull hull.json -- python3 function.py");
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return cost_tune(application, *options); };
    });
}

}  // namespace memplate::cli
