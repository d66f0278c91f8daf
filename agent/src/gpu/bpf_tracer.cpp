// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>

#include "gpu/driver_file.h"
#include "gpu/driver_probes.h"
#include "gpu/program_trace.h"
#include "gpu_events.h"
#include "trace/bpf_loader.h"
#include "util/clock.h"
#include "util/proc.h"

// After gpu_events.h, as bpftool's header needs its types.
#include "gpu.skel.h"

namespace memplate::gpu {
namespace {

/// How many entry points without names get probes: each is one more to remove.
constexpr size_t most_entry_points = 64;
constexpr int64_t stop_patience_ns = 2'000'000'000;

struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

class BpfTracer : public ProgramTracer {
  public:
    BpfTracer() = default;
    BpfTracer(const BpfTracer&) = delete;
    BpfTracer& operator=(const BpfTracer&) = delete;
    ~BpfTracer() override {
        if (!ring_) return;
        // What the program has left behind goes on; first, nobody is stopped any more.
        gpu_bpf::detach(programs_.get());
        probes_ = {};
        ProgramTrace unwanted;
        trace_ = &unwanted;
        ring_buffer__consume(ring_.get());
        for (const Stopped& stopped : stopped_) let_go_on(static_cast<pid_t>(stopped.event.pid));
    }

    static Result<std::unique_ptr<ProgramTracer>> create(const Context& context) {
        if (!context.log->should_log(spdlog::level::debug)) libbpf_set_print(nullptr);
        auto tracer = std::make_unique<BpfTracer>();
        TRY(tracer->load());
        return tracer;
    }

    Result<> follow(pid_t pid, const std::string& driver, ProgramTrace& trace) override {
        // Setting probes takes 10 ms and more, in which the program need not stand still. Should it
        // use another file, it will be stopped when it maps that.
        if (const auto file = DriverFile::open(driver); file && file->shift()) {
            TRY(set_driver_probes(*file, trace));
            const memplate_gpu_driver key{
                (uint64_t{::gnu_dev_major(file->device())} << 20) | ::gnu_dev_minor(file->device()),
                file->inode()};
            const uint64_t shift = *file->shift();
            bpf_map_update_elem(bpf_map__fd(programs_->maps.drivers), &key, &shift, BPF_ANY);
        }
        programs_->data->first_process = static_cast<uint32_t>(pid);
        return {};
    }

    [[nodiscard]] int urgent() const override { return ring_buffer__epoll_fd(ring_.get()); }

    Result<> drain(ProgramTrace& trace) override {
        trace_ = &trace;
        if (const int error = ring_buffer__consume(ring_.get()); error < 0)
            return fail_errno(-error, "BPF ring buffer");
        // The program stands still: nothing more comes from that process.
        Result<> result;
        for (const Stopped& stopped : std::exchange(stopped_, {}))
            if (auto served = serve(stopped, trace); !served && result) result = std::move(served);
        return result;
    }

    Result<> finish(ProgramTrace& trace) override {
        TRY(drain(trace));
        take_open_calls(trace);
        trace.lost = programs_->bss->lost;
        return {};
    }

    [[nodiscard]] TraceMethod method() const override {
        TraceMethod method{.backend = "uprobes",
                           .accuracy =
                               "calls of the driver; files, waiting for disks and "
                               "processes as the kernel sees them",
                           .reason = {}};
        if (unnamed_ > most_entry_points)
            method.accuracy += fmt::format(
                "; {} entry points that the driver does not export are "
                "not seen, --backend inject sees them",
                unnamed_ - most_entry_points);
        return method;
    }

  private:
    struct Stopped {
        memplate_gpu_event event;
        std::string text;
    };

    Result<> load() {
        programs_.reset(gpu_bpf::open());
        if (!programs_) return trace::cannot_load(errno);
        struct stat status{};
        if (::stat("/proc/self/ns/pid", &status) != 0)
            return fail_errno(errno, "/proc/self/ns/pid");
        programs_->rodata->settings.pid_namespace = static_cast<uint32_t>(status.st_ino);
        auto& programs = programs_->progs;
        for (bpf_program* program : {programs.on_call, programs.on_return, programs.on_entry_point})
            DriverProbes::prepare(program);
        if (const int error = gpu_bpf::load(programs_.get()); error != 0)
            return trace::cannot_load(-error);
        TRY(DriverProbes::check(programs.on_call));
        if (const int error = gpu_bpf::attach(programs_.get()); error != 0)
            return trace::cannot_load(-error);
        const auto pass_on = [](void* self, void* data, size_t size) {
            static_cast<BpfTracer*>(self)->take(*static_cast<memplate_gpu_event*>(data), size);
            return 0;
        };
        ring_.reset(ring_buffer__new(bpf_map__fd(programs_->maps.events), pass_on, this, nullptr));
        if (!ring_) return trace::cannot_load(errno);
        return {};
    }

    void take(const memplate_gpu_event& record, size_t size) {
        const char* bytes = reinterpret_cast<const char*>(&record + 1);
        std::string text(bytes, ::strnlen(bytes, size - sizeof record));
        if (record.kind == MEMPLATE_GPU_DRIVER || record.kind == MEMPLATE_GPU_ENTRY_POINT) {
            stopped_.push_back({record, std::move(text)});
            return;
        }
        ProgramEvent event{
            .kind = static_cast<ProgramEvent::Kind>(record.kind),
            .begin_ns = static_cast<int64_t>(record.begin_ns),
            .end_ns = static_cast<int64_t>(record.end_ns),
            .pid = static_cast<pid_t>(record.pid),
            .thread = record.thread,
            .result = record.result,
            .text = 0,
            .arguments = {record.arguments[0], record.arguments[1], record.arguments[2]}};
        if (record.kind == MEMPLATE_GPU_CALL) {
            event.text = record.call;
        } else if (!text.empty()) {
            trace_->texts.push_back(std::move(text));
            event.text = static_cast<uint32_t>(trace_->texts.size() - 1);
        }
        trace_->events.push_back(event);
    }

    /// Calls that have not returned.
    void take_open_calls(ProgramTrace& trace) {
        const int map = bpf_map__fd(programs_->maps.open_calls);
        memplate_gpu_key key{};
        memplate_gpu_open_call call{};
        const memplate_gpu_key* before = nullptr;
        for (memplate_gpu_key next{}; bpf_map_get_next_key(map, before, &next) == 0;) {
            key = next;
            before = &key;
            if (bpf_map_lookup_elem(map, &key, &call) != 0) continue;
            trace.events.push_back(
                {.kind = ProgramEvent::Kind::call,
                 .begin_ns = static_cast<int64_t>(call.begin_ns),
                 .pid = static_cast<pid_t>(call.pid),
                 .thread = static_cast<uint32_t>(key.thread),
                 .text = static_cast<uint32_t>(key.call),
                 .arguments = {call.arguments[0], call.arguments[1], call.arguments[2]}});
        }
    }

    /// Sets the probes that a stopped process waits for, and lets it go on.
    Result<> serve(const Stopped& stopped, ProgramTrace& trace) {
        const auto pid = static_cast<pid_t>(stopped.event.pid);
        const auto set = stopped.event.kind == MEMPLATE_GPU_DRIVER
                             ? set_driver(stopped.event, trace)
                             : set_entry_point(stopped, trace);
        const auto let_go_ns = let_go_on(pid);
        trace.events.push_back({.kind = ProgramEvent::Kind::held,
                                .begin_ns = static_cast<int64_t>(stopped.event.begin_ns),
                                .end_ns = let_go_ns.value_or(monotonic_ns()),
                                .pid = pid});
        if (!let_go_ns) return {};  // somebody has killed it meanwhile
        return set;
    }

    /// When: before it can run, which on a busy machine is long before kill() returns. Nothing: it
    /// has ended. A signal to go on that comes before the one to stop would be lost.
    static std::optional<int64_t> let_go_on(pid_t pid) {
        const auto proc = proc::open_host();
        const int64_t deadline = monotonic_ns() + stop_patience_ns;
        bool ended = false;
        while (proc && monotonic_ns() < deadline) {
            const auto now = proc::stat(proc->get(), pid);
            if (!now) return {};
            ended = now->state == 'Z';  // its main thread, at least
            if (ended || now->state == 'T') break;
            ::usleep(100);
        }
        const int64_t let_go_ns = monotonic_ns();
        ::kill(pid, SIGCONT);
        if (ended) return {};
        return let_go_ns;
    }

    Result<> set_driver(const memplate_gpu_event& event, ProgramTrace& trace) {
        TRY_ASSIGN(DriverFile file,
                   DriverFile::mapped_by(static_cast<pid_t>(event.pid), event.arguments[0]));
        const auto process_number = static_cast<uint32_t>(event.arguments[1]);
        const int processes = bpf_map__fd(programs_->maps.processes);
        memplate_gpu_process process{};
        if (bpf_map_lookup_elem(processes, &process_number, &process) == 0) {
            process.driver = file.base();
            bpf_map_update_elem(processes, &process_number, &process, BPF_EXIST);
        }
        return set_driver_probes(file, trace);
    }

    Result<> set_driver_probes(const DriverFile& file, ProgramTrace& trace) {
        const auto identity = std::pair(file.device(), file.inode());
        if (drivers_.contains(identity)) return {};
        TRY_ASSIGN(const auto functions, file.functions());
        TRY(set_probes(file, functions, trace));
        drivers_.insert(identity);
        return {};
    }

    Result<> set_entry_point(const Stopped& stopped, ProgramTrace& trace) {
        const auto pid = static_cast<pid_t>(stopped.event.pid);
        const uint64_t address = stopped.event.arguments[0];
        if (++unnamed_ > most_entry_points) return {};
        const auto file = DriverFile::mapped_by(pid, address);
        auto function = file ? file->at(address) : std::nullopt;
        if (!function) return {};  // code made while the program runs
        function->name = stopped.text;
        if (unnamed_ == most_entry_points) programs_->bss->no_more_entry_points = 1;
        return set_probes(*file, {*function}, trace);
    }

    Result<> set_probes(const DriverFile& file, const std::vector<DriverFile::Function>& functions,
                        ProgramTrace& trace) {
        std::vector<DriverProbes::Place> all;
        std::vector<DriverProbes::Place> plain;
        std::vector<DriverProbes::Place> naming;
        for (const auto& function : functions) {
            trace.texts.push_back(function.name);
            const DriverProbes::Place place{function.offset, trace.texts.size() - 1};
            all.push_back(place);
            (function.name.starts_with("cuGetProcAddress") ? naming : plain).push_back(place);
            const uint8_t one = 1;
            bpf_map_update_elem(bpf_map__fd(programs_->maps.probed), &function.address, &one,
                                BPF_ANY);
        }
        const auto& programs = programs_->progs;
        TRY(probes_.set(programs.on_return, true, file.path(), plain));
        TRY(probes_.set(programs.on_entry_point, true, file.path(), naming));
        return probes_.set(programs.on_call, false, file.path(), all);
    }

    trace::OwnedSkeleton<gpu_bpf> programs_;
    std::unique_ptr<ring_buffer, FreeRing> ring_;
    DriverProbes probes_;
    ProgramTrace* trace_ = nullptr;  ///< while it drains
    std::vector<Stopped> stopped_;
    std::set<std::pair<dev_t, ino_t>> drivers_;
    size_t unnamed_ = 0;
};

}  // namespace

Result<std::unique_ptr<ProgramTracer>> make_bpf_tracer(const Context& context) {
    return BpfTracer::create(context);
}

}  // namespace memplate::gpu
