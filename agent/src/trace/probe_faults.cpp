// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <tuple>

#include "faults.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {
namespace {

static_assert(static_cast<int>(FaultCount::Backing::other) == MEMPLATE_OTHER);
static_assert(static_cast<int>(FaultCount::Kind::copy_on_write) == MEMPLATE_COPY_ON_WRITE);

/// Runs `program` at every event of a kind, on every processor.
Result<> attach_to_events(bpf_program* program, uint64_t event, std::vector<OwnedLink>& links) {
    perf_event_attr attributes{};
    attributes.size = sizeof(attributes);
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = event;
    attributes.sample_period = 1;
    for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++) {
        const auto opened =
            ::syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
        if (opened < 0 && errno == ENODEV) continue;  // switched off
        if (opened < 0) return cannot_load(errno);
        UniqueFd fd(static_cast<int>(opened));
        OwnedLink link(bpf_program__attach_perf_event(program, fd.get()));
        if (!link) return cannot_load(errno);
        (void)fd.release();  // the link's now
        links.push_back(std::move(link));
    }
    return {};
}

class BpfFaultCounter : public FaultCounter {
  public:
    Result<> load(const Common& common) {
        method_.what = "faults";
        auto exact = load_object<faults_bpf>(common, [](faults_bpf& faults) {
            want(faults.progs.on_fault);
            want(faults.progs.on_protected_write);
        });
        if (exact) {
            skeleton_ = std::move(*exact);
            nested_ = true;
            method_.backend = "handle_mm_fault";
            method_.accuracy =
                "every fault, also of the kernel for a process; a huge page copied on write counts "
                "as minor";
            return {};
        }
        const auto events = [](faults_bpf& faults) {
            want(faults.progs.on_minor_event);
            want(faults.progs.on_major_event);
        };
        auto loaded = load_object<faults_bpf>(common, [&](faults_bpf& faults) {
            events(faults);
            want(faults.progs.on_user_fault);
        });
        method_.backend = "software events";
        method_.accuracy =
            "faults of user code, at 5 to 6 us each; a few are left out when a bpf() call is "
            "interrupted on their processor; copy_on_write includes pages that were only made "
            "writable";
        if (!loaded) {
            loaded = load_object<faults_bpf>(common, events);
            method_.accuracy =
                "faults of user code, at 5 to 6 us each; a few are left out when a bpf() call is "
                "interrupted on their processor; writes are not told";
        }
        if (!loaded) return std::unexpected(std::move(loaded.error()));
        skeleton_ = std::move(*loaded);
        TRY(attach_to_events(skeleton_->progs.on_minor_event, PERF_COUNT_SW_PAGE_FAULTS_MIN,
                             links_));
        return attach_to_events(skeleton_->progs.on_major_event, PERF_COUNT_SW_PAGE_FAULTS_MAJ,
                                links_);
    }

    [[nodiscard]] ProbeMethod method() const override { return method_; }

    Result<std::vector<FaultCount>> read() override {
        const int map = bpf_map__fd(skeleton_->maps.faults);
        std::vector<uint64_t> of_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
        std::vector<FaultCount> counts;
        memplate_fault key{};
        const memplate_fault* before = nullptr;
        while (bpf_map_get_next_key(map, before, &key) == 0) {
            before = &key;
            if (bpf_map_lookup_elem(map, &key, of_cpu.data()) != 0) continue;
            FaultCount count{.cgroup = key.cgroup,
                             .device = key.device,
                             .backing = static_cast<FaultCount::Backing>(key.backing),
                             .kind = static_cast<FaultCount::Kind>(key.kind),
                             .write = key.write != 0};
            for (const uint64_t number : of_cpu) count.count += number;
            counts.push_back(count);
        }
        if (nested_) take_copies_off(counts);
        return counts;
    }

  private:
    /// Each copy was counted once more, as a minor fault.
    static void take_copies_off(std::vector<FaultCount>& counts) {
        const auto key = [](const FaultCount& count) {
            return std::tuple(count.cgroup, count.device, count.backing);
        };
        std::map<decltype(key(FaultCount{})), uint64_t> copies;
        for (const FaultCount& count : counts)
            if (count.kind == FaultCount::Kind::copy_on_write) copies[key(count)] += count.count;
        for (FaultCount& count : counts) {
            if (count.kind != FaultCount::Kind::minor || !count.write) continue;
            const auto found = copies.find(key(count));
            if (found != copies.end()) count.count -= std::min(count.count, found->second);
        }
        std::erase_if(counts, [](const FaultCount& count) { return count.count == 0; });
    }

    OwnedSkeleton<faults_bpf> skeleton_;
    std::vector<OwnedLink> links_;
    ProbeMethod method_;
    bool nested_ = false;
};

}  // namespace

Result<std::unique_ptr<FaultCounter>> FaultCounter::attach(const Common& common) {
    auto counter = std::make_unique<BpfFaultCounter>();
    TRY(counter->load(common));
    return counter;
}

}  // namespace memplate::trace
