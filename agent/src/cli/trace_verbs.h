// SPDX-License-Identifier: Apache-2.0
//
// The verbs of `memplate trace`, one file each, and what they share.
#pragma once

#include <memory>
#include <string>

#include "cli/application.h"
#include "trace/recording.h"

namespace memplate::cli {

struct TraceOptions {
    trace::Filter filter;
    double seconds = 0;  ///< 0: until Ctrl-C
    double interval = 1;
    std::string record_path;
    std::string html_path;
    std::string read_path;
};

void add_trace_filters(CLI::App& verb, TraceOptions& options);
void add_trace_interval(CLI::App& verb, TraceOptions& options);
void add_trace_recording(CLI::App& verb, TraceOptions& options);

/// Traces into the view, a recording and a page, or plays a recording into them.
[[nodiscard]] Result<int> run_trace(const Application& application, const TraceOptions& options,
                                    trace::SessionOptions session, trace::View& view);

void add_trace_start(CLI::App& noun, Application& application);
void add_trace_memory(CLI::App& noun, Application& application);
void add_trace_faults(CLI::App& noun, Application& application);
void add_trace_top(CLI::App& noun, Application& application);
void add_trace_export(CLI::App& noun, Application& application);

}  // namespace memplate::cli
