// SPDX-License-Identifier: Apache-2.0
//
// memplate trace top.
#include <CLI/CLI.hpp>
#include <map>

#include "cli/trace_verbs.h"
#include "trace/views.h"

namespace memplate::cli {
namespace {

using Order = trace::TopView::Order;
const std::map<std::string, Order> orders = {
    {"memory", Order::memory}, {"start", Order::start}, {"name", Order::name}};

struct Options {
    TraceOptions trace;
    bool faults = false;
    std::string order = "memory";
};

}  // namespace

void add_trace_top(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand("top", "All containers in one refreshing table");
    add_trace_filters(*verb, options->trace);
    add_trace_interval(*verb, options->trace);
    verb->add_option("--sort", options->order, "Largest, latest started, or by name")
        ->check(CLI::IsMember({"memory", "start", "name"}))
        ->capture_default_str();
    verb->add_flag("--faults", options->faults, "Count page faults too: see trace faults");
    verb->footer(
        "exec ms and ready ms: from the birth of the cgroup to the entrypoint's exec, and to the\n"
        "first answer (else: restored, or listening); `before` in age: it ran before the trace.\n"
        "On a terminal the table is redrawn in place, elsewhere one follows the other. Columns "
        "that\n"
        "do not fit are left out.");
    verb->callback([&application, options] {
        application.action = [&application, options]() -> Result<int> {
            trace::TopView view(application.json, options->faults, orders.at(options->order));
            return run_trace(
                application, options->trace,
                {.memory = true, .faults = options->faults, .keep_ended = std::chrono::seconds(10)},
                view);
        };
    });
}

}  // namespace memplate::cli
