// SPDX-License-Identifier: Apache-2.0
#include "trace/probes.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <spdlog/logger.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <ranges>
#include <unordered_map>

#include "trace/probe_parts.h"
#include "util/fs.h"
#include "util/memory_cgroup.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

static_assert(static_cast<int>(EventKind::restore_phase) == MEMPLATE_RESTORE_PHASE);

/// A sweep may take one part in so many of a processor.
constexpr int64_t sweep_share = 100;
/// So long after an end another one of the same process may be told.
constexpr int64_t same_end_ns = 1'000'000'000;

int64_t time_ns(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}
int64_t monotonic_ns() {
    return time_ns(CLOCK_MONOTONIC);
}

/// The number of the hierarchy that the memory controller is on; 0 is the unified one.
Result<int> memory_hierarchy(const CgroupHierarchy& hierarchy) {
    if (hierarchy.unified) return 0;
    TRY_ASSIGN(const std::string text, read_file("/proc/self/cgroup"));
    for (const std::string& line : split(text, '\n')) {
        // "4:memory:/user"
        const std::vector<std::string> fields = split(line, ':');
        if (fields.size() < 3) continue;
        const auto controllers = split(fields[1], ',');
        if (std::ranges::find(controllers, "memory") == controllers.end()) continue;
        int number = 0;
        const std::string& first = fields[0];
        if (std::from_chars(first.data(), first.data() + first.size(), number).ec == std::errc{})
            return number;
    }
    return fail(ErrorKind::unsupported, "/proc/self/cgroup: no memory controller");
}

/// "0-3" → 4
unsigned possible_nodes() {
    const auto text = read_file("/sys/devices/system/node/possible");
    if (!text) return 1;
    const size_t digits = text->find_last_of("0123456789");
    if (digits == std::string::npos) return 1;
    const size_t before = text->find_last_not_of("0123456789", digits);
    unsigned last = 0;
    std::from_chars(text->data() + (before == std::string::npos ? 0 : before + 1),
                    text->data() + digits + 1, last);
    return last + 1;
}

bool multi_generational_lru() {
    const auto text = read_file("/sys/kernel/mm/lru_gen/enabled");  // "0x0007"
    unsigned bits = 0;
    if (text && text->starts_with("0x"))
        std::from_chars(text->data() + 2, text->data() + text->size(), bits, 16);
    return (bits & 1) != 0;
}

/// The directory of a cgroup by its id.
Result<UniqueFd> open_cgroup(const CgroupHierarchy& hierarchy, uint64_t id) {
    TRY_ASSIGN(UniqueFd root, open_at(AT_FDCWD, hierarchy.root, O_RDONLY | O_DIRECTORY));
    if (id == 0) return root;
    struct {
        file_handle head;
        uint64_t id;
    } handle{};
    constexpr int kernfs_handle = 0xfe;
    handle.head.handle_bytes = sizeof(id);
    handle.head.handle_type = kernfs_handle;
    std::memcpy(handle.head.f_handle, &id, sizeof(id));
    UniqueFd found(
        ::open_by_handle_at(root.get(), &handle.head, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!found) return fail_errno(errno, fmt::format("cgroup with number {}", id));
    return found;
}

struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

std::string text_of(const char* text, size_t room) {
    return {text, ::strnlen(text, room)};
}

Event event_of(const memplate_event& record, size_t size) {
    Event event{.kind = static_cast<EventKind>(record.kind),
                .time_ns = static_cast<int64_t>(record.time_ns),
                .cgroup = record.cgroup,
                .pid = static_cast<pid_t>(record.pid),
                .inner_pid = static_cast<pid_t>(record.inner_pid),
                .value = record.value,
                .bytes = record.bytes,
                .peak = record.peak,
                .inactive_file = record.inactive_file};
    if (size >= offsetof(memplate_event, text))
        event.command = text_of(record.command, sizeof(record.command));
    if (size > offsetof(memplate_event, text))
        event.text = text_of(record.text, size - offsetof(memplate_event, text));
    return event;
}

class BpfProbes : public Probes {
  public:
    explicit BpfProbes(const ProbeOptions& options) : options_(options) {}

    Result<> load(const Context& context) {
        // Its complaints are about programs that other kernels take; we try those one by one.
        if (!context.log->should_log(spdlog::level::debug)) libbpf_set_print(nullptr);
        TRY_ASSIGN(const auto hierarchy, CgroupHierarchy::find());
        TRY_ASSIGN(const UniqueFd directory, open_cgroup(hierarchy, options_.below_cgroup));
        Common common;
        TRY_ASSIGN(common.settings.hierarchy, memory_hierarchy(hierarchy));
        common.settings.level_step = options_.level_step;
        common.settings.only_below = options_.below_cgroup != 0;
        common.settings.lru_gen = multi_generational_lru();
        common.settings.nodes = possible_nodes();
        common.settings.tell_start = options_.start;
        TRY_ASSIGN(auto start, attach_start(common));
        shared_map_ = common.maps.at("shared");
        keep(std::move(start), options_.start);
        if (options_.start) {
            keep(attach_answers(common), true);
            keep(attach_phases(common), true);
        }
        if (options_.memory) keep(attach_memory(common, options_.level_at_any_cost), true);
        if (options_.faults) {
            TRY_ASSIGN(faults_, FaultCounter::attach(common));
            methods_.push_back(faults_->method());
        }
        TRY_ASSIGN(sweeper_, Sweeper::attach(common, directory.get()));
        const auto pass_on = [](void* self, void* data, size_t size) {
            static_cast<BpfProbes*>(self)->pending_.push_back(
                event_of(*static_cast<memplate_event*>(data), size));
            return 0;
        };
        ring_.reset(ring_buffer__new(common.maps.at("events"), pass_on, this, nullptr));
        if (!ring_) return cannot_load(errno);
        // From here on what exists is known to the programs.
        TRY(sweep());
        return {};
    }

    Result<> drain(const std::function<void(const Event&)>& sink) override {
        if (options_.memory && monotonic_ns() >= next_sweep_ns_) TRY(tell_levels());
        if (const int count = ring_buffer__consume(ring_.get()); count < 0)
            return fail_errno(-count, "BPF ring buffer");
        // Processors write their records in the order in which they get at the buffer.
        std::ranges::stable_sort(pending_, {}, &Event::time_ns);
        for (Event& event : pending_)
            if (complete(event)) sink(event);
        pending_.clear();
        std::erase_if(ends_, [now = monotonic_ns()](const auto& end) {
            return now - end.second > same_end_ns;
        });
        return {};
    }

    [[nodiscard]] uint64_t lost() const override {
        memplate_shared shared{};
        const uint32_t zero = 0;
        (void)bpf_map_lookup_elem(shared_map_, &zero, &shared);
        return shared.lost;
    }

    [[nodiscard]] const std::vector<ProbeMethod>& methods() const override { return methods_; }

    Result<std::vector<MemoryLevel>> sweep() override {
        TRY(walk());
        std::vector<MemoryLevel> levels;
        levels.reserve(swept_.size());
        for (const memplate_swept& record : swept_)
            levels.push_back({.cgroup = record.cgroup,
                              .bytes = record.bytes,
                              .peak = record.peak,
                              .inactive_file = record.inactive_file + below(record.cgroup)});
        return levels;
    }

    Result<std::vector<FaultCount>> faults() override {
        if (!faults_) return std::vector<FaultCount>{};
        return faults_->read();
    }

  private:
    struct Told {
        uint64_t bytes = 0;
        uint64_t peak = 0;
    };

    void keep(Attached attached, bool tell) {
        if (attached.programs) attachments_.push_back(std::move(attached.programs));
        if (tell) methods_.push_back(std::move(attached.method));
    }

    Result<> walk() {
        swept_.clear();
        TRY(sweeper_->sweep([this](const memplate_swept& record) { swept_.push_back(record); }));
        // The kernel counts this page cache for each cgroup alone.
        below_.clear();
        for (const memplate_swept& record : swept_ | std::views::reverse)
            if (const uint64_t sum = record.inactive_file + below(record.cgroup); sum != 0)
                below_[record.parent] += sum;
        return {};
    }

    [[nodiscard]] uint64_t below(uint64_t cgroup) const {
        const auto found = below_.find(cgroup);
        return found == below_.end() ? 0 : found->second;
    }

    /// What the programs have not told: steps too small, or changes they do not see.
    Result<> tell_levels() {
        // Its own time: on a busy machine others run meanwhile.
        const int64_t begin = time_ns(CLOCK_THREAD_CPUTIME_ID);
        TRY(walk());
        for (const memplate_swept& record : swept_)
            pending_.push_back({.kind = EventKind::level,
                                .time_ns = static_cast<int64_t>(record.time_ns),
                                .cgroup = record.cgroup,
                                .bytes = record.bytes,
                                .peak = record.peak,
                                .inactive_file = record.inactive_file});
        const int64_t end = time_ns(CLOCK_THREAD_CPUTIME_ID);
        next_sweep_ns_ = monotonic_ns() + (end - begin) * sweep_share;
        return {};
    }

    /// Fills in what only the sequence of events tells; false: there is nothing new in it.
    bool complete(Event& event) {
        switch (event.kind) {
            case EventKind::level: {
                Told& told = told_[event.cgroup];
                if (told.bytes == event.bytes && told.peak == event.peak) return false;
                told = {event.bytes, event.peak};
                event.inactive_file += below(event.cgroup);
                return true;
            }
            case EventKind::forked:
                ends_.erase(event.pid);
                return true;
            case EventKind::exited:
                // Of two last threads that end at once each finds itself the last.
                return event.pid == 0 || ends_.try_emplace(event.pid, event.time_ns).second;
            case EventKind::cgroup_gone:
                if (const auto told = told_.find(event.cgroup); told != told_.end()) {
                    event.peak = std::max(event.peak, told->second.peak);
                    told_.erase(told);
                }
                return true;
            default:
                return true;
        }
    }

    ProbeOptions options_;
    std::vector<Attachment> attachments_;
    std::vector<ProbeMethod> methods_;
    std::unique_ptr<Sweeper> sweeper_;
    std::unique_ptr<FaultCounter> faults_;
    std::unique_ptr<ring_buffer, FreeRing> ring_;
    int shared_map_ = -1;
    std::vector<Event> pending_;
    std::vector<memplate_swept> swept_;
    std::unordered_map<uint64_t, uint64_t> below_;  ///< page cache of the descendants
    std::unordered_map<uint64_t, Told> told_;
    std::unordered_map<pid_t, int64_t> ends_;
    int64_t next_sweep_ns_ = 0;
};

}  // namespace

Result<std::unique_ptr<Probes>> Probes::attach(const Context& context,
                                               const ProbeOptions& options) {
    auto probes = std::make_unique<BpfProbes>(options);
    TRY(probes->load(context));
    return probes;
}

}  // namespace memplate::trace
