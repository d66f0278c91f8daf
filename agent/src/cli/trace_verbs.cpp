// SPDX-License-Identifier: Apache-2.0
//
// memplate trace: the noun and what its verbs share.
#include "cli/trace_verbs.h"

#include <fcntl.h>

#include <CLI/CLI.hpp>

#include "cli/trace_page.h"
#include "util/fs.h"

namespace memplate::cli {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
    return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

void add_trace_filters(CLI::App& verb, TraceOptions& options) {
    verb.add_option("--name", options.filter.names,
                    "Only containers of this name or id; like the others a shell pattern, and may "
                    "be given again")
        ->type_name("NAME");
    verb.add_option("--cgroup", options.filter.cgroups,
                    "Only this memory cgroup, as in /proc/PID/cgroup, and those below it")
        ->type_name("PATH");
    verb.add_option("--image", options.filter.images,
                    "Only containers of this image, with or without registry and tag")
        ->type_name("IMAGE");
    verb.add_option("--command", options.filter.commands,
                    "Only containers whose entrypoint is this file")
        ->type_name("FILE");
    // One value an option: what follows is no second one.
    for (const char* name : {"--name", "--cgroup", "--image", "--command"})
        verb.get_option(name)->expected(1)->take_all();
    verb.add_option("--duration", options.seconds, "End after so many seconds; else Ctrl-C does")
        ->check(CLI::Range(0.05, 1e7))
        ->type_name("S");
}

void add_trace_interval(CLI::App& verb, TraceOptions& options) {
    verb.add_option("--interval", options.interval, "Seconds between two tables")
        ->check(CLI::Range(0.1, 3600.0))
        ->type_name("S")
        ->capture_default_str();
}

void add_trace_recording(CLI::App& verb, TraceOptions& options) {
    verb.add_option("--html", options.html_path, "Write a self-contained page with charts")
        ->type_name("FILE");
    auto* record = verb.add_option("--record", options.record_path,
                                   "Write phases and levels to this file, as JSON lines")
                       ->type_name("FILE");
    verb.add_option("--read", options.read_path, "Show such a file instead of what happens now")
        ->type_name("FILE")
        ->excludes(record);
}

Result<int> run_trace(const Application& application, const TraceOptions& options,
                      trace::SessionOptions session, trace::View& view) {
    trace::ViewTee all;
    all.connect(view);
    std::unique_ptr<trace::RecordingWriter> record;
    if (!options.record_path.empty()) {
        TRY_ASSIGN(record, trace::RecordingWriter::create(options.record_path));
        all.connect(*record);
    }
    trace::CurveCollector curves;
    if (!options.html_path.empty()) all.connect(curves);

    if (!options.read_path.empty()) {
        TRY(trace::replay(options.read_path, options.filter, all));
    } else {
        session.filter = options.filter;
        session.interval = milliseconds(options.interval);
        session.at_most = milliseconds(options.seconds);
        // Charts and recordings show memory too.
        session.memory = session.memory || record || !options.html_path.empty();
        TRY_ASSIGN(const auto running, trace::Session::open(application.context, session));
        TRY_ASSIGN(const auto end, running->run(all, application.context.stop));
        if (end == trace::SessionEnd::cgroup_gone && !application.quiet)
            fmt::print(stderr, "memplate: cgroup {}: removed, nothing is left to trace\n",
                       options.filter.cgroups.front());
    }
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path, trace_page(curves).html()));
    return 0;
}

void add_trace_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand("trace", "Watch containers start, and their memory");
    noun->require_subcommand(1);
    add_trace_start(*noun, application);
    add_trace_memory(*noun, application);
    add_trace_faults(*noun, application);
    add_trace_top(*noun, application);
    add_trace_export(*noun, application);
    // Last: the verbs would inherit it.
    noun->footer(
        "Needs root and a kernel with BTF (6.1 or later). What is measured how is part of every\n"
        "output, and so is how many events were lost. With --json: lines in bpftrace's shape,\n"
        "{\"type\":…,\"data\":{…}}, one for each phase or table.");
}

}  // namespace memplate::cli
