// SPDX-License-Identifier: Apache-2.0
//
// memplate cost run.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "bench/environment.h"
#include "cli/cost_verbs.h"
#include "cost/bpf_source.h"
#include "cost/clock.h"
#include "cost/functracer.h"
#include "cost/measure.h"
#include "cost/page.h"
#include "cost/run_report.h"
#include "util/clock.h"
#include "util/container.h"
#include "util/fs.h"
#include "util/table.h"

namespace memplate::cli {
namespace {

struct Options {
    PriceOptions price;
    std::vector<std::string> command;
    std::string container;
    std::string cgroup;
    std::string image;
    unsigned repeat = 1;
    std::string format = "memplate";
    cost::Backend backend = cost::Backend::automatic;
    double interval_ms = 1;
    double seconds = 0;
    std::string json_path;
    std::string csv_path;
    std::string dat_path;
    std::string html_path;
};

/// "trace.csv" → "trace-2.csv" for the second of several runs.
std::string numbered(const std::string& path, unsigned run, unsigned runs) {
    if (runs == 1) return path;
    const size_t slash = path.rfind('/');
    const size_t dot = path.rfind('.');
    const bool extension = dot != path.npos && (slash == path.npos || dot > slash + 1);
    const size_t at = extension ? dot : path.size();
    return fmt::format("{}-{}{}", path.substr(0, at), run, path.substr(at));
}

std::string subject_of(const Options& options) {
    if (!options.container.empty()) return "container " + options.container;
    if (!options.cgroup.empty()) return "cgroup " + options.cgroup;
    std::string words = options.image.empty() ? "" : "image " + options.image;
    for (const std::string& word : options.command) words += (words.empty() ? "" : " ") + word;
    return words;
}

Result<> check(const Options& options) {
    const int targets = static_cast<int>(!options.container.empty()) +
                        static_cast<int>(!options.cgroup.empty()) +
                        static_cast<int>(!options.image.empty());
    const bool follows = !options.container.empty() || !options.cgroup.empty();
    if (targets > 1)
        return fail(ErrorKind::usage, "--container, --cgroup and --image exclude each other");
    if (follows && !options.command.empty())
        return fail(ErrorKind::usage, "a command cannot be given with --container or --cgroup");
    if (targets == 0 && options.command.empty())
        return fail(ErrorKind::usage,
                    "nothing to measure; give -- COMMAND, --container, --cgroup or --image");
    constexpr double year = 366.0 * 24 * 3600;
    if (std::isnan(options.interval_ms) || std::isnan(options.seconds) || options.seconds > year)
        return fail(ErrorKind::usage, "--interval-ms or --duration: not a time that can be waited");
    if (!options.dat_path.empty() && options.format != "functracer")
        return fail(ErrorKind::usage, "--dat needs --format functracer");
    if (follows && options.repeat > 1)
        return fail(ErrorKind::usage, "--repeat needs a command or --image");
    return {};
}

/// Everything of one run that is written while it goes on.
struct Outputs {
    std::unique_ptr<cost::TraceWriter> trace;
    std::unique_ptr<cost::FunctracerWriter> raw;
    cost::TraceCollector collector;

    [[nodiscard]] Result<> finish() const {
        if (trace) TRY(trace->finish());
        if (raw) TRY(raw->finish());
        return {};
    }
};

Result<> connect(const Options& options, const Json& environment, unsigned number,
                 const cost::Method& method, Outputs& outputs, cost::TraceTee& tee) {
    const int64_t wall = cost::wall_ns();
    outputs.collector.trace.header = {
        {"subject", subject_of(options)}, {"started", iso_time(wall / cost::ns_per_second)},
        {"started_wall_ns", wall},        {"started_monotonic_ns", cost::monotonic_ns()},
        {"method", method.to_json()},     {"environment", environment}};
    if (!options.html_path.empty()) tee.connect(outputs.collector);
    if (options.csv_path.empty()) return {};
    const std::string path = numbered(options.csv_path, number, options.repeat);
    if (options.format == "functracer") {
        TRY_ASSIGN(outputs.raw, cost::FunctracerWriter::create(path, cost::monotonic_ns(),
                                                               cost::local_day_ms(wall)));
        tee.connect(*outputs.raw);
    } else {
        TRY_ASSIGN(outputs.trace, cost::TraceWriter::create(path, outputs.collector.trace.header));
        tee.connect(*outputs.trace);
    }
    return {};
}

Result<cost::RunRecord> measure(const Options& options, const cost::Recorder& recorder,
                                const CgroupHierarchy& hierarchy) {
    if (!options.image.empty())
        return cost::run_image(recorder, hierarchy, options.image, options.command);
    if (!options.command.empty()) return cost::run_command(recorder, hierarchy, options.command);
    std::string path = options.cgroup;
    if (!options.container.empty()) {
        TRY_ASSIGN(const auto container, find_container(hierarchy, options.container));
        path = container.cgroup;
    }
    TRY_ASSIGN(const auto cgroup, MemoryCgroup::open(hierarchy, path));
    return cost::follow_cgroup(recorder, cgroup);
}

/// functracer's own report and .dat rows, under its one profile or another in 100 ms units.
Result<std::string> functracer_output(const Options& options, const cost::RunReport& report) {
    std::string text;
    std::string rows;
    for (const cost::RunRecord& run : report.runs) {
        TRY_ASSIGN(const cost::Bill bill, report.bill(report.profiles.front(), run));
        text += cost::functracer_report(bill, run.peak_bytes);
        rows += cost::functracer_row(bill);
    }
    if (!options.dat_path.empty()) {
        TRY_ASSIGN(const UniqueFd file,
                   open_at(AT_FDCWD, options.dat_path, O_WRONLY | O_CREAT | O_APPEND, 0644));
        TRY(write_all(file.get(), bytes_of(rows)));
    }
    return text;
}

Result<int> cost_run(const Application& application, const Options& options) {
    TRY(check(options));
    PriceOptions prices = options.price;
    if (options.format == "functracer" && prices.profiles.empty()) prices.profiles = "aws-2020";
    if (prices.profiles.empty()) prices.profiles = "aws-x86";
    TRY_ASSIGN(PriceRequest request, read_price_options(prices));
    if (options.format == "functracer" && request.profiles.front().granularity_ms != 100)
        return fail(
            ErrorKind::usage,
            fmt::format("--format functracer: its columns count units of 100 ms, profile {} "
                        "has {} ms; use aws-2020",
                        request.profiles.front().name, request.profiles.front().granularity_ms));
    TRY_ASSIGN(const auto hierarchy, CgroupHierarchy::find());
    cost::RunReport report;
    report.subject = subject_of(options);
    report.profiles = std::move(request.profiles);
    report.usage = request.usage;
    report.environment = describe_environment(application.context);

    cost::Recorder recorder;
    recorder.interval = std::chrono::microseconds(static_cast<int64_t>(options.interval_ms * 1000));
    recorder.at_most = std::chrono::milliseconds(static_cast<int64_t>(options.seconds * 1000));
    recorder.stop = application.context.stop;
    recorder.source = [&](const MemoryCgroup& cgroup) {
        return cost::memory_source(application.context, options.backend, cgroup, recorder.interval);
    };
    std::vector<cost::Trace> traces;
    for (unsigned number = 1; number <= options.repeat; number++) {
        Outputs outputs;
        recorder.connect = [&](const cost::Method& method, cost::TraceTee& tee) {
            return connect(options, report.environment, number, method, outputs, tee);
        };
        if (options.repeat > 1)
            application.context.progress->step(fmt::format("run {} of {}", number, options.repeat));
        TRY_ASSIGN(cost::RunRecord run, measure(options, recorder, hierarchy));
        TRY(outputs.finish());
        if (run.end == cost::RecordEnd::stopped && !run.followed) return interrupted();
        report.runs.push_back(std::move(run));
        if (!options.html_path.empty()) traces.push_back(std::move(outputs.collector.trace));
    }
    application.context.progress->clear();

    TRY_ASSIGN(const Json document, report.to_json());
    if (!options.json_path.empty() && options.json_path != "-")
        TRY(write_file_atomic(AT_FDCWD, options.json_path, document.dump(2) + "\n"));
    if (application.json || options.json_path == "-") {
        print_json(document);
    } else if (options.format == "functracer") {
        TRY_ASSIGN(const std::string text, functracer_output(options, report));
        fmt::print("{}", text);
    } else {
        TRY_ASSIGN(const std::string text, report.text(wants_colour(STDOUT_FILENO)));
        fmt::print("{}", text);
    }
    // After the report: there is no page for a size that the first profile does not sell.
    if (!options.html_path.empty()) {
        TRY_ASSIGN(const cost::Page page, cost::run_page(report, traces));
        TRY(write_file_atomic(AT_FDCWD, options.html_path, page.html()));
    }
    return report.typical().failure.empty() ? 0 : 1;
}

}  // namespace

void add_cost_run(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    options->price.profiles.clear();
    auto* verb =
        noun.add_subcommand("run", "Memory, time and cost of a command, container or cgroup");
    verb->add_option("command", options->command, "Command and its arguments, after --")
        ->type_name("COMMAND");
    verb->add_option("--container", options->container,
                     "Follow a running container: its name, id or the beginning of its id")
        ->type_name("NAME");
    verb->add_option("--cgroup", options->cgroup, "Follow a memory cgroup, as in /proc/PID/cgroup")
        ->type_name("PATH");
    verb->add_option("--image", options->image, "Run a container of this image with podman")
        ->type_name("IMAGE");
    verb->add_option("--repeat", options->repeat, "Run it so many times, one after the other")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    verb->add_option("--format", options->format,
                     "Of the report and of --csv; functracer implies --profile aws-2020")
        ->check(CLI::IsMember({"memplate", "functracer"}))
        ->capture_default_str();
    const std::map<std::string, cost::Backend> backends = {{"auto", cost::Backend::automatic},
                                                           {"bpf", cost::Backend::bpf},
                                                           {"poll", cost::Backend::poll}};
    verb->add_option("--backend", options->backend,
                     "poll: read the level; bpf: be told by the kernel; auto: bpf if it is exact")
        ->transform(CLI::CheckedTransformer(backends).description("{auto,bpf,poll}"))
        ->default_str("auto");
    verb->add_option("--interval-ms", options->interval_ms, "Time between two readings")
        ->check(CLI::Range(0.1, 1000.0))
        ->capture_default_str();
    verb->add_option("--duration", options->seconds, "End the measurement after so many seconds")
        ->check(CLI::PositiveNumber)
        ->type_name("S");
    add_price_options(*verb, options->price);
    // Named apart from the global flag --json, which prints the report.
    verb->add_option("--json", options->json_path, "Write the report to this file; - prints it");
    verb->add_option("--csv", options->csv_path,
                     "Write the trace to this file; with --repeat NAME-1.csv and so on");
    verb->add_option("--dat", options->dat_path,
                     "Append functracer's row of each run (--format functracer)");
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    verb->footer(
        "Example: memplate cost run --repeat 5 --csv trace.csv -- python3 function.py\n"
        "The command runs in a memory cgroup of its own; its output goes to standard error.\n"
        "A container or cgroup is followed until it ends or Ctrl-C.");
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return cost_run(application, *options); };
    });
}

}  // namespace memplate::cli
