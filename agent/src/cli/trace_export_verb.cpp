// SPDX-License-Identifier: Apache-2.0
//
// memplate trace export.
#include <CLI/CLI.hpp>

#include "cli/trace_verbs.h"
#include "trace/exporter.h"
#include "trace/lines.h"

namespace memplate::cli {
namespace {

struct Options {
    TraceOptions trace;
    std::string listen = "127.0.0.1:9750";
    double keep = 60;
    bool faults = false;
};

Result<int> trace_export(const Application& application, const Options& options) {
    TRY_ASSIGN(const auto exporter,
               trace::Exporter::listen({.listen = options.listen, .version = MEMPLATE_VERSION}));
    const std::string url =
        fmt::format("http://{}:{}/metrics", options.listen.substr(0, options.listen.rfind(':')),
                    exporter->port());
    if (application.json)
        trace::print_line({{"type", "listening"}, {"data", {{"url", url}}}});
    else
        fmt::print("serving {}; Ctrl-C ends it\n", url);
    (void)std::fflush(stdout);
    const std::chrono::milliseconds keep(static_cast<int64_t>(options.keep * 1000));
    return run_trace(application, options.trace,
                     {.memory = true, .faults = options.faults, .keep_ended = keep}, *exporter);
}

}  // namespace

void add_trace_export(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand("export", "Serve what is traced to Prometheus, at /metrics");
    verb->add_option("--listen", options->listen, "Where to listen; port 0: any that is free")
        ->type_name("ADDRESS:PORT")
        ->capture_default_str();
    add_trace_filters(*verb, options->trace);
    add_trace_interval(*verb, options->trace);
    verb->get_option("--interval")->description("Seconds between two updates");
    verb->add_option("--keep", options->keep, "Seconds that series of ended containers stay")
        ->check(CLI::Range(0.0, 86400.0))
        ->type_name("S")
        ->capture_default_str();
    verb->add_flag("--faults", options->faults, "Count page faults too: see trace faults");
    verb->footer(
        "Series are bounded: at most 500 containers and 50 images have their own; what is left "
        "out\n"
        "is counted. There is no authentication: listen on addresses that only your monitoring\n"
        "reaches.");
    verb->callback([&application, options] {
        application.action = [&application, options] {
            return trace_export(application, *options);
        };
    });
}

}  // namespace memplate::cli
