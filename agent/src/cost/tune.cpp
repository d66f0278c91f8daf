// SPDX-License-Identifier: Apache-2.0
#include "cost/tune.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cost/clock.h"

namespace memplate::cost {
namespace {

/// Between memory.high, where the kernel slows the processes down, and memory.max, where it kills.
constexpr uint64_t throttle_gap = uint64_t{2} << 20;
constexpr std::chrono::microseconds stall(5'000);
constexpr std::chrono::microseconds stall_window(500'000);

/// Sets the limits of one cgroup and hears when they are short.
class LimitedCgroup {
  public:
    explicit LimitedCgroup(const MemoryCgroup& cgroup) : cgroup_(cgroup) {
        if (cgroup.unified()) {
            if (auto trigger = cgroup.pressure_trigger(stall, stall_window))
                trigger_ = std::move(*trigger);
        } else {
            // At the limit the processes wait until we raise it, instead of being killed.
            waits_ = cgroup.set_oom_kill(false).has_value();
        }
    }

    [[nodiscard]] std::string mechanism() const {
        if (cgroup_.unified())
            return fmt::format("memory.max, memory.high {} MiB below; memory.events{}",
                               throttle_gap >> 20, trigger_ ? " and memory.pressure" : "");
        return fmt::format("memory.limit_in_bytes; memory.failcnt{}",
                           waits_ ? ", memory.oom_control (processes wait)" : "");
    }
    [[nodiscard]] int wake_fd() const { return trigger_.get(); }
    void woken() { woken_ = true; }

    Result<> set(uint64_t bytes) const {
        if (!cgroup_.unified()) return cgroup_.set_limit(bytes);
        const auto high_of = [](uint64_t limit) {
            return limit > 2 * throttle_gap ? limit - throttle_gap : limit;
        };
        const uint64_t high = high_of(bytes);
        // In the order that never puts one above the other's old value.
        TRY_ASSIGN(const auto now, cgroup_.limit());
        if (now && *now >= bytes) {
            TRY(cgroup_.set_high(high));
            // Should it have grown since the decision, memory.max would kill.
            TRY_ASSIGN(const uint64_t use, cgroup_.current());
            if (use <= high) return cgroup_.set_limit(bytes);
            TRY(cgroup_.set_high(high_of(*now)));
            return fail_errno(EBUSY, "memory.max");
        }
        TRY(cgroup_.set_limit(bytes));
        return cgroup_.set_high(high);
    }

    /// Whether memory was short since the last call.
    Result<bool> pressure() {
        TRY_ASSIGN(const auto now, cgroup_.hits());
        bool is_short = std::exchange(woken_, false) || now.limit > hits_.limit;
        hits_ = now;
        if (waits_) {
            TRY_ASSIGN(const bool waiting, cgroup_.waits_for_memory());
            is_short = is_short || waiting;
        }
        pollfd event{trigger_.get(), POLLPRI, 0};
        if (trigger_ && ::poll(&event, 1, 0) > 0 && (event.revents & POLLPRI) != 0) is_short = true;
        return is_short;
    }
    [[nodiscard]] const MemoryCgroup::Hits& hits() const { return hits_; }

    /// There is no more to give: whoever still needs some is to be killed, not to wait.
    void give_up() {
        if (waits_ && cgroup_.set_oom_kill(true)) waits_ = false;
    }

  private:
    const MemoryCgroup& cgroup_;
    UniqueFd trigger_;
    bool waits_ = false;
    bool woken_ = false;
    MemoryCgroup::Hits hits_;
};

void fill(TuneReport& report, const Tuner& tuner, const TuneRequest& request) {
    report.changes = tuner.changes();
    // One that the run does not fit in would be no alternative.
    report.flat_bytes = std::max(request.flat_bytes, report.peak_bytes);
    report.flat_gb_seconds = gigabyte_seconds(report.flat_bytes, report.duration_ns);
    report.tuned_gb_seconds = tuner.gigabyte_seconds(report.duration_ns);
}

/// One tick of a live run.
Result<> adjust(Tuner& tuner, LimitedCgroup& limits, const MemoryCgroup& cgroup,
                const TunerOptions& options, int64_t since_exec_ns, TuneReport& report) {
    TRY_ASSIGN(const bool is_short, limits.pressure());
    TRY_ASSIGN(const uint64_t use, cgroup.current());
    const auto change = tuner.decide(since_exec_ns, use, is_short);
    if (!change) {
        if (is_short && options.ceiling && tuner.limit() >= *options.ceiling) limits.give_up();
        return {};
    }
    if (auto set = limits.set(change->to); !set) {
        // v1 refuses what it cannot reclaim at once; the next tick decides anew.
        if (set.error().code != EBUSY && set.error().code != EINTR)
            return Failure(std::move(set.error()).context("memory limit"));
        report.refused.push_back(
            fmt::format("{} ms: {} MB", since_exec_ns / ns_per_ms, change->to >> 20));
        return {};
    }
    tuner.apply(*change);
    return {};
}

}  // namespace

Result<TuneReport> tune_command(const Recorder& recorder, const CgroupHierarchy& hierarchy,
                                const std::vector<std::string>& words, const TuneRequest& request) {
    TRY_ASSIGN(const MemoryCgroup cgroup, MemoryCgroup::create(hierarchy));
    const int64_t start_ns = monotonic_ns();
    TRY_ASSIGN(Command command, Command::prepare(words, &cgroup, {.out = STDERR_FILENO}));
    LimitedCgroup limits(cgroup);
    Tuner tuner(request.hull, request.options);
    TuneReport report;
    report.mechanism = limits.mechanism();
    report.first_limit = tuner.limit();
    TRY_CONTEXT(limits.set(tuner.limit()), "memory limit");

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
    RecordOptions options{.interval = recorder.interval,
                          .stop = recorder.stop,
                          .end_fd = command.pidfd(),
                          .at_most = recorder.at_most,
                          .tick =
                              [&](int64_t now) {
                                  return adjust(tuner, limits, cgroup, request.options,
                                                now - run.start_ns, report);
                              },
                          .wake_fd = limits.wake_fd(),
                          .woken = [&] { limits.woken(); }};
    TRY_ASSIGN(const Recording recording, record(*source, tee, options));
    take_over(run, *source, recording);
    (void)limits.pressure();
    report.limit_hits = limits.hits().limit;
    report.oom_kills = limits.hits().killed;
    if (recording.end == RecordEnd::over) {
        tee.add(Event{run.end_ns, "exit", ""});
        TRY_ASSIGN(const int status, command.wait());
        run.failure = describe_status(status);
    }
    report.duration_ns = run.end_ns - run.start_ns;
    report.peak_bytes = run.peak_bytes;
    report.run = run;
    fill(report, tuner, request);
    return report;
}

TuneReport tune_trace(const Trace& trace, const TuneRequest& request) {
    constexpr int64_t tick = ns_per_ms;  // as a live run decides
    TuneReport report;
    report.dry_run = true;
    report.mechanism = "none: dry run";
    report.duration_ns = trace.end_ns() - trace.zero_ns();
    report.peak_bytes = trace.peak_bytes();
    Tuner tuner(request.hull, request.options);
    report.first_limit = tuner.limit();
    const auto step = [&](int64_t time, uint64_t use) {
        const bool is_short = use > tuner.limit();
        if (const auto change = tuner.decide(time, use, is_short)) tuner.apply(*change);
        return is_short;
    };
    for (size_t i = 0; i < trace.samples.size(); i++) {
        const Sample& sample = trace.samples[i];
        const int64_t from = std::max<int64_t>(sample.time_ns - trace.zero_ns(), 0);
        const int64_t to = i + 1 < trace.samples.size()
                               ? trace.samples[i + 1].time_ns - trace.zero_ns()
                               : report.duration_ns;
        if (step(from, sample.bytes)) report.above_limit++;
        // Until the next sample only the hull can change anything.
        for (int64_t time = from + tick; time < to; time += tick) (void)step(time, sample.bytes);
    }
    fill(report, tuner, request);
    return report;
}

}  // namespace memplate::cost
