// SPDX-License-Identifier: Apache-2.0
#include "cost/record.h"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cost/clock.h"

namespace memplate::cost {
namespace {

/// Smaller steps are those of a clock that is being slewed.
constexpr int64_t clock_step_ns = 100 * ns_per_ms;
constexpr int64_t slow_check_ns = 10 * ns_per_ms;

bool is_gone(const Error& error) {
    return error.code == ENODEV || error.code == ENOENT;
}

/// Notices that the wall clock was set.
class ClockWatch {
  public:
    explicit ClockWatch(int64_t (*wall)()) : wall_(wall) {}
    void check(TraceSink& sink, int64_t now) {
        if (now < next_ns_) return;
        next_ns_ = now + ns_per_second;
        const int64_t offset = wall_() - monotonic_ns();
        const int64_t step = offset - offset_ns_;
        offset_ns_ = offset;
        if (std::abs(step) < clock_step_ns) return;
        set_ns_ += step;
        sink.add(
            Event{now, "clock", fmt::format("set by {:+.3f} s", static_cast<double>(step) / 1e9)});
    }
    [[nodiscard]] int64_t set_ns() const { return set_ns_; }

  private:
    int64_t (*wall_)();
    int64_t offset_ns_ = wall_() - monotonic_ns();
    int64_t next_ns_ = 0;
    int64_t set_ns_ = 0;
};

/// Lets the calling thread run as soon as its time has come: the recorded program may keep all
/// processors busy. Where that is not allowed nothing changes; the gaps are reported anyway.
class PromptScheduling {
  public:
    PromptScheduling() : policy_(::sched_getscheduler(0)) {
        ::sched_getparam(0, &previous_);
        const sched_param least{::sched_get_priority_min(SCHED_RR)};
        // Whatever is started meanwhile does not inherit it.
        changed_ =
            policy_ >= 0 && ::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &least) == 0;
    }
    PromptScheduling(const PromptScheduling&) = delete;
    PromptScheduling& operator=(const PromptScheduling&) = delete;
    ~PromptScheduling() {
        if (changed_) ::sched_setscheduler(0, policy_, &previous_);
    }

  private:
    int policy_;
    sched_param previous_{};
    bool changed_ = false;
};

}  // namespace

Result<Recording> record(MemorySource& source, TraceSink& sink, const RecordOptions& options) {
    Recording recording;
    recording.start_ns = monotonic_ns();
    const int64_t interval = options.interval.count() * 1000;
    const int64_t deadline = options.at_most.count() > 0
                                 ? recording.start_ns + options.at_most.count() * ns_per_ms
                                 : INT64_MAX;
    const PromptScheduling prompt;
    ClockWatch clock(options.wall_clock);
    int64_t next_check = recording.start_ns;
    int64_t drained_ns = recording.start_ns;
    const auto note_gap = [&](int64_t now) {
        recording.longest_gap_ns = std::max(recording.longest_gap_ns, now - drained_ns);
        drained_ns = now;
    };
    for (int64_t next = recording.start_ns;;) {
        if (auto drained = source.drain(sink); !drained) {
            if (!is_gone(drained.error())) return std::unexpected(std::move(drained.error()));
            recording.end = RecordEnd::cgroup_gone;
            break;
        }
        const int64_t now = monotonic_ns();  // not before the samples
        note_gap(now);
        clock.check(sink, now);
        if (options.tick) TRY(options.tick(now));
        if (options.stop.stop_requested()) {
            recording.end = RecordEnd::stopped;
            break;
        }
        if (now >= deadline) {
            recording.end = RecordEnd::time_is_up;
            break;
        }
        if (options.ended && now >= next_check) {
            next_check = now + slow_check_ns;
            if (options.ended()) break;
        }
        // Late ticks are left out, not made up for.
        next = std::max(next + interval, now);
        const int64_t wait = std::max<int64_t>(next - monotonic_ns(), 0);
        const timespec timeout{wait / ns_per_second, wait % ns_per_second};
        std::array<pollfd, 2> events = {pollfd{options.end_fd, POLLIN, 0},
                                        pollfd{options.wake_fd, POLLPRI, 0}};
        if (::ppoll(events.data(), events.size(), &timeout, nullptr) < 0 && errno != EINTR)
            return fail_errno(errno, "ppoll");
        if ((events[1].revents & POLLPRI) != 0 && options.woken) options.woken();
        if ((events[0].revents & POLLIN) != 0) break;
    }
    // What happened since the last drain.
    if (recording.end == RecordEnd::over) (void)source.drain(sink);
    recording.end_ns = monotonic_ns();
    note_gap(recording.end_ns);
    recording.clock_set_ns = clock.set_ns();
    return recording;
}

}  // namespace memplate::cost
