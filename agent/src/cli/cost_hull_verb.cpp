// SPDX-License-Identifier: Apache-2.0
//
// memplate cost hull.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "cli/cost_verbs.h"
#include "cost/page.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct Options {
    std::vector<std::string> traces;
    std::string output;
    std::string compat;
    double quantile = 1;
    double step_ms = 100;
    double lookahead_ms = 200;
    double margin_mb = 4;  // as much as `cost tune` leaves free
    double margin_percent = 0;
    std::string html_path;
};

cost::HullOptions hull_options(const Options& options) {
    cost::HullOptions result;
    result.step_ns = static_cast<int64_t>(options.step_ms * 1e6);
    result.lookahead_ns = static_cast<int64_t>(options.lookahead_ms * 1e6);
    result.quantile = options.quantile;
    result.margin_bytes = static_cast<uint64_t>(options.margin_mb * (1 << 20));
    result.margin_percent = options.margin_percent;
    return result;
}

/// One row a trace: what a limit along the hull would reserve for it, against a flat one.
std::string summary(const cost::Hull& hull, const std::vector<cost::Trace>& traces) {
    using enum Table::Align;
    Table table({{"trace", left},
                 {"time ms", right},
                 {"peak MB", right},
                 {"flat GB-s", right},
                 {"hull GB-s", right},
                 {"saved %", right},
                 {"", left}});
    for (const cost::Trace& trace : traces) {
        const int64_t duration = trace.end_ns() - trace.zero_ns();
        const double flat = cost::gigabyte_seconds(hull.flat(), duration);
        const double along = cost::gigabyte_seconds(hull, duration);
        table.add({trace.name, fmt::format("{:.0f}", static_cast<double>(duration) / 1e6),
                   fmt::format("{:.1f}", static_cast<double>(trace.peak_bytes()) / (1 << 20)),
                   fmt::format("{:.4f}", flat), fmt::format("{:.4f}", along),
                   fmt::format("{:.1f}", cost::saved_percent(flat, along)),
                   trace.complete ? "" : "cut short"});
    }
    return fmt::format("{}\n{} steps of {:g} ms, flat limit {}\n",
                       table.render(wants_colour(STDOUT_FILENO)), hull.limit.size(),
                       static_cast<double>(hull.options.step_ns) / 1e6, format_size(hull.flat()));
}

Result<int> cost_hull(const Application& application, const Options& options) {
    for (const double value : {options.quantile, options.step_ms, options.lookahead_ms,
                               options.margin_mb, options.margin_percent})
        if (std::isnan(value)) return fail(ErrorKind::usage, "nan is no value for an option");
    std::vector<cost::Trace> traces;
    for (const std::string& path : options.traces) {
        TRY_ASSIGN(auto trace, cost::read_trace(path));
        traces.push_back(std::move(trace));
    }
    TRY_ASSIGN(const cost::Hull hull, cost::build_hull(traces, hull_options(options)));
    const bool functracer = options.compat == "functracer";
    const std::string text =
        functracer ? cost::functracer_hull(traces) : hull.to_json().dump(1) + "\n";
    if (options.output != "-") TRY(write_file_atomic(AT_FDCWD, options.output, text));
    const std::string report = summary(hull, traces);
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path,
                              cost::hull_page(hull, traces, report).html()));
    if (options.output == "-" || application.json)
        fmt::print("{}{}", text, functracer ? "\n" : "");
    else
        fmt::print("{}written: {}\n", report, options.output);
    return 0;
}

}  // namespace

void add_cost_hull(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand("hull", "Learn from traces how much memory is needed when");
    verb->add_option("traces", options->traces, "Traces, of `cost run --csv` or of functracer")
        ->required()
        ->type_name("TRACE");
    verb->add_option("-o,--output", options->output, "Hull file to write; - prints it")
        ->required()
        ->type_name("FILE");
    verb->add_option("--compat", options->compat,
                     "Write functracer's uhull.json, formed as functracer forms it")
        ->check(CLI::IsMember({"functracer"}));
    verb->add_option("--quantile", options->quantile,
                     "Cover this share of the traces in each step; below 1 others need more")
        ->check(CLI::Range(0.01, 1.0))
        ->capture_default_str();
    verb->add_option("--margin-mb", options->margin_mb,
                     "Add so much to the limit; with less than 4, `cost tune` often raises it")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    verb->add_option("--margin-percent", options->margin_percent, "Add so much to the limit")
        ->check(CLI::Range(0.0, 1e4))
        ->capture_default_str();
    verb->add_option("--step-ms", options->step_ms, "Length of a step")
        ->check(CLI::Range(1.0, 1e6))
        ->capture_default_str();
    verb->add_option("--lookahead-ms", options->lookahead_ms,
                     "The limit covers what comes so much later")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    verb->footer("Example: memplate cost hull trace-*.csv --margin-mb 8 -o hull.json");
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return cost_hull(application, *options); };
    });
}

}  // namespace memplate::cli
