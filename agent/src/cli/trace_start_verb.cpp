// SPDX-License-Identifier: Apache-2.0
//
// memplate trace start.
#include <CLI/CLI.hpp>

#include "cli/trace_verbs.h"
#include "trace/views.h"

namespace memplate::cli {

void add_trace_start(CLI::App& noun, Application& application) {
    auto options = std::make_shared<TraceOptions>();
    auto* verb = noun.add_subcommand("start", "A line for each phase of each container's start");
    add_trace_filters(*verb, *options);
    add_trace_recording(*verb, *options);
    verb->footer(
        "Phases: made (its cgroup), joined (the first process), runtime (what the container "
        "runtime\n"
        "executes), exec (the entrypoint), listening, accepted, answered (the first each), ended;\n"
        "of a memplate restore also sandbox, restore, attach, resume, ready. Times are since the\n"
        "cgroup was made. At the end: a histogram of the times for each image and phase.\n"
        "Containers that run already show no start.\n"
        "\n"
        "Example: memplate trace start --image 'alpine*' --duration 60");
    verb->callback([&application, options] {
        application.action = [&application, options]() -> Result<int> {
            trace::StartView view(application.json);
            return run_trace(application, *options, {}, view);
        };
    });
}

}  // namespace memplate::cli
