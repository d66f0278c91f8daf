// SPDX-License-Identifier: Apache-2.0
#include "cost/measure.h"

#include <unistd.h>

#include "cost/clock.h"

namespace memplate::cost {
namespace {

Result<Recording> record_run(const Recorder& recorder, MemorySource& source, TraceTee& tee,
                             RecordOptions options) {
    options.interval = recorder.interval;
    options.at_most = recorder.at_most;
    options.stop = recorder.stop;
    return record(source, tee, options);
}

}  // namespace

Result<std::unique_ptr<MemorySource>> source_of(const Recorder& recorder,
                                                const MemoryCgroup& cgroup) {
    return recorder.source ? recorder.source(cgroup) : poll_source(cgroup, recorder.interval);
}

void take_over(RunRecord& run, const MemorySource& source, const Recording& recording) {
    run.peak_bytes = source.peak_bytes();
    run.end = recording.end;
    run.end_ns = recording.end_ns;
    run.longest_gap_ns = recording.longest_gap_ns;
    run.clock_set_ns = recording.clock_set_ns;
}

std::string RunRecord::method_text() const {
    return fmt::format("{}: {} (longest gap {:.1f} ms), maximum from {}", method.backend,
                       method.level, static_cast<double>(longest_gap_ns) / 1e6, method.peak);
}

uint64_t RunRecord::duration_ms() const {
    return static_cast<uint64_t>((end_ns - start_ns + ns_per_ms - 1) / ns_per_ms);
}

Json RunRecord::to_json() const {
    Json json = {{"peak_bytes", peak_bytes},
                 {"duration_ns", end_ns - start_ns},
                 {"duration_ms", duration_ms()},
                 {"longest_gap_ns", longest_gap_ns},
                 {"followed", followed},
                 {"ended", end == RecordEnd::over || end == RecordEnd::cgroup_gone}};
    if (clock_set_ns != 0) json["clock_set_ns"] = clock_set_ns;
    if (!failure.empty()) json["failure"] = failure;
    return json;
}

Result<RunRecord> run_command(const Recorder& recorder, const CgroupHierarchy& hierarchy,
                              const std::vector<std::string>& words) {
    TRY_ASSIGN(const MemoryCgroup cgroup, MemoryCgroup::create(hierarchy));
    const int64_t start_ns = monotonic_ns();
    TRY_ASSIGN(Command command, Command::prepare(words, &cgroup, {.out = STDERR_FILENO}));
    TRY_ASSIGN(const auto source, source_of(recorder, cgroup));
    RunRecord run;
    run.method = source->method();
    run.cgroup = cgroup.path();
    TraceTee tee;
    TRY(recorder.connect(run.method, tee));
    TRY(command.release());
    run.start_ns = command.exec_ns();
    tee.add(Event{start_ns, "start", ""});
    tee.add(Event{run.start_ns, "exec", ""});
    TRY_ASSIGN(const Recording recording,
               record_run(recorder, *source, tee, {.end_fd = command.pidfd()}));
    take_over(run, *source, recording);
    // Stopped or out of time: its destructor ends the command.
    if (recording.end == RecordEnd::over) {
        tee.add(Event{run.end_ns, "exit", ""});
        TRY_ASSIGN(const int status, command.wait());
        run.failure = describe_status(status);
    }
    return run;
}

Result<RunRecord> follow_cgroup(const Recorder& recorder, const MemoryCgroup& cgroup) {
    TRY_ASSIGN(const auto source, source_of(recorder, cgroup));
    RunRecord run;
    run.followed = true;
    run.method = source->method();
    run.cgroup = cgroup.path();
    TraceTee tee;
    TRY(recorder.connect(run.method, tee));
    run.start_ns = monotonic_ns();
    tee.add(Event{run.start_ns, "start", "followed from here"});
    bool seen = false;  // one that is still empty has not begun
    TRY_ASSIGN(const Recording recording, record_run(recorder, *source, tee, {.ended = [&] {
                                                         const auto populated = cgroup.populated();
                                                         if (populated && *populated) seen = true;
                                                         return !populated || (seen && !*populated);
                                                     }}));
    take_over(run, *source, recording);
    if (recording.end == RecordEnd::over || recording.end == RecordEnd::cgroup_gone)
        tee.add(Event{run.end_ns, "exit", ""});
    return run;
}

}  // namespace memplate::cost
