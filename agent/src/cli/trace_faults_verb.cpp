// SPDX-License-Identifier: Apache-2.0
//
// memplate trace faults.
#include <CLI/CLI.hpp>

#include "cli/trace_verbs.h"
#include "trace/views.h"

namespace memplate::cli {

void add_trace_faults(CLI::App& noun, Application& application) {
    auto options = std::make_shared<TraceOptions>();
    auto* verb = noun.add_subcommand("faults", "Page faults by container, kind and backing device");
    add_trace_filters(*verb, *options);
    add_trace_interval(*verb, *options);
    verb->footer(
        "fault: minor (the page was in memory), major (it was read from a device), cow (a page "
        "was\n"
        "copied because it was written to). Counting makes every fault dearer, by about a tenth "
        "or\n"
        "by several microseconds: the method is named at the end. It is done by this command "
        "only,\n"
        "and where --faults is given.\n"
        "\n"
        "Example: memplate trace faults --name web --duration 10");
    verb->callback([&application, options] {
        application.action = [&application, options]() -> Result<int> {
            trace::FaultsView view(application.json);
            return run_trace(application, *options, {.faults = true}, view);
        };
    });
}

}  // namespace memplate::cli
