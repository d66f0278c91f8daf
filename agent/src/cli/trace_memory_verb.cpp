// SPDX-License-Identifier: Apache-2.0
//
// memplate trace memory.
#include <CLI/CLI.hpp>

#include "cli/trace_verbs.h"
#include "trace/views.h"

namespace memplate::cli {

void add_trace_memory(CLI::App& noun, Application& application) {
    auto options = std::make_shared<TraceOptions>();
    auto* verb = noun.add_subcommand("memory", "Memory of each container, as a live table");
    add_trace_filters(*verb, *options);
    add_trace_interval(*verb, *options);
    add_trace_recording(*verb, *options);
    verb->footer(
        "now: all that is charged, page cache and kernel too. peak: the kernel's watermark. since\n"
        "exec: the same since the entrypoint was executed (≥: the largest level that was seen).\n"
        "inactive file: page cache that the kernel would drop first. docker stats: what that\n"
        "command shows, which is now without inactive file. trend: the largest of each interval.\n"
        "\n"
        "Example: memplate trace memory --name web --interval 0.5 --html web.html");
    verb->callback([&application, options] {
        application.action = [&application, options]() -> Result<int> {
            trace::MemoryView view(application.json);
            return run_trace(application, *options, {.memory = true}, view);
        };
    });
}

}  // namespace memplate::cli
