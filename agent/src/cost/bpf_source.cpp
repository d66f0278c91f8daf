// SPDX-License-Identifier: Apache-2.0
#include "cost/bpf_source.h"

#include <spdlog/logger.h>
#include <sys/stat.h>

#include <algorithm>

#include "cost/clock.h"
#include "trace/probes.h"

namespace memplate::cost {
namespace {

constexpr int64_t heartbeat_ns = 100 * ns_per_ms;
constexpr const char* exact_backend = "page_counter";

Result<uint64_t> number_of(const MemoryCgroup& cgroup) {
    struct stat directory{};
    if (::stat(cgroup.path().c_str(), &directory) != 0) return fail_errno(errno, cgroup.path());
    return directory.st_ino;
}

class BpfSource : public MemorySource {
  public:
    BpfSource(const MemoryCgroup& cgroup, uint64_t number, std::unique_ptr<trace::Probes> probes)
        : cgroup_(cgroup), number_(number), probes_(std::move(probes)) {
        for (const trace::ProbeMethod& method : probes_->methods())
            if (method.what == "memory") memory_ = method;
    }

    [[nodiscard]] bool exact() const { return memory_.backend == exact_backend; }

    [[nodiscard]] Method method() const override {
        return {.backend = "bpf",
                .level = memory_.backend,
                .peak = cgroup_.unified() ? "memory.peak" : "memory.max_usage_in_bytes",
                .accuracy = memory_.accuracy};
    }

    Result<> drain(TraceSink& sink) override {
        TRY(probes_->drain([&](const trace::Event& event) { take(event, sink); }));
        // All that was told before it has been passed on.
        pass_on_beat(sink);
        if (gone_) return fail_errno(ENODEV, cgroup_.path());
        const int64_t now = monotonic_ns();
        if (now - beat_ns_ < heartbeat_ns) return {};
        beat_ns_ = now;
        Sample sample{.time_ns = now};
        // A reading might be younger than its stamp; what was told is not.
        if (level_) {
            sample.bytes = *level_;
        } else {
            TRY_ASSIGN(sample.bytes, cgroup_.current());
        }
        TRY_ASSIGN(sample.peak, cgroup_.peak());
        TRY_ASSIGN(limit_, cgroup_.limit());
        TRY_ASSIGN(sample.inactive_file, cgroup_.inactive_file());
        sample.limit = limit_;
        peak_ = std::max({peak_, sample.bytes, sample.peak.value_or(0)});
        beat_ = sample;
        return {};
    }

    [[nodiscard]] uint64_t peak_bytes() const override {
        const auto peak = cgroup_.peak();
        return std::max(peak_, peak ? peak->value_or(0) : 0);
    }

  private:
    void take(const trace::Event& event, TraceSink& sink) {
        if (event.cgroup != number_) return;
        peak_ = std::max({peak_, event.bytes, event.peak});
        if (event.kind == trace::EventKind::cgroup_gone) gone_ = true;
        if (event.kind != trace::EventKind::level) return;
        if (event.time_ns >= beat_ns_) pass_on_beat(sink);
        // Of another processor it may come late.
        last_ns_ = std::max(last_ns_, event.time_ns);
        level_ = event.bytes;
        sink.add(Sample{.time_ns = last_ns_,
                        .bytes = event.bytes,
                        .peak = event.peak,
                        .limit = limit_,
                        .inactive_file = event.inactive_file});
    }

    void pass_on_beat(TraceSink& sink) {
        if (!beat_) return;
        last_ns_ = beat_->time_ns = std::max(last_ns_, beat_->time_ns);
        sink.add(*beat_);
        beat_.reset();
    }

    const MemoryCgroup& cgroup_;
    uint64_t number_;
    std::unique_ptr<trace::Probes> probes_;
    trace::ProbeMethod memory_;
    std::optional<uint64_t> limit_;
    std::optional<uint64_t> level_;  ///< the last one that was told
    uint64_t peak_ = 0;
    int64_t beat_ns_ = 0;
    int64_t last_ns_ = 0;  ///< passed on
    /// Read at the end of the last drain; events that are older come with the next one.
    std::optional<Sample> beat_;
    bool gone_ = false;
};

}  // namespace

Result<std::unique_ptr<MemorySource>> memory_source(const Context& context, Backend backend,
                                                    const MemoryCgroup& cgroup,
                                                    std::chrono::microseconds interval) {
    if (backend == Backend::poll) return poll_source(cgroup, interval);
    TRY_ASSIGN(const uint64_t number, number_of(cgroup));
    auto probes = trace::Probes::attach(context, {.start = false,
                                                  .memory = true,
                                                  .level_at_any_cost = backend == Backend::bpf,
                                                  .below_cgroup = number});
    if (!probes) {
        if (backend == Backend::bpf) return std::unexpected(std::move(probes.error()));
        context.log->debug("{}; polling instead", probes.error().message);
        return poll_source(cgroup, interval);
    }
    auto source = std::make_unique<BpfSource>(cgroup, number, std::move(*probes));
    if (backend == Backend::automatic && !source->exact()) {
        context.log->debug("this kernel refuses the exact BPF programs; polling instead");
        return poll_source(cgroup, interval);
    }
    return source;
}

}  // namespace memplate::cost
