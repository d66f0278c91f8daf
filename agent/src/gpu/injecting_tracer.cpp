// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "gpu/inject/trace_file.h"
#include "gpu/program_trace.h"
#include "util/fd.h"
#include "util/installed.h"

namespace memplate::gpu {
namespace {

using inject::TraceFile;

constexpr const char* library_name = "libmemplate-gpu-trace.so";
constexpr const char* library_variable = "MEMPLATE_GPU_TRACE_LIBRARY";

Result<std::string> find_library() {
    auto path = find_installed(library_name, "lib/memplate", library_variable, R_OK);
    if (!path) {
        path.error().kind = ErrorKind::unsupported;
        path.error().message += " (it is built for x86-64 only)";
    }
    return path;
}

class InjectingTracer : public ProgramTracer {
  public:
    static Result<std::unique_ptr<ProgramTracer>> create() {
        auto tracer = std::make_unique<InjectingTracer>();
        TRY_ASSIGN(tracer->library_, find_library());
        tracer->fd_ = UniqueFd(::memfd_create("memplate-gpu-trace", MFD_CLOEXEC));
        if (!tracer->fd_) return fail_errno(errno, "memfd_create");
        if (::ftruncate(tracer->fd_.get(), sizeof(TraceFile)) != 0)
            return fail_errno(errno, "ftruncate");
        void* address = ::mmap(nullptr, sizeof(TraceFile), PROT_READ | PROT_WRITE, MAP_SHARED,
                               tracer->fd_.get(), 0);
        if (address == MAP_FAILED) return fail_errno(errno, "mmap");
        tracer->file_.reset(static_cast<TraceFile*>(address));
        return tracer;
    }

    [[nodiscard]] std::vector<std::string> environment() const override {
        // Ours is first: it must see the driver before others do.
        const char* others = std::getenv("LD_AUDIT");
        return {fmt::format("LD_AUDIT={}{}{}", library_, others != nullptr ? ":" : "",
                            others != nullptr ? others : ""),
                fmt::format("{}=/proc/{}/fd/{}", inject::variable, ::getpid(), fd_.get())};
    }

    Result<> follow(pid_t, const std::string&, ProgramTrace&) override { return {}; }
    Result<> drain(ProgramTrace&) override { return {}; }

    Result<> finish(ProgramTrace& trace) override {
        const uint64_t taken = __atomic_load_n(&file_->next, __ATOMIC_ACQUIRE);
        const uint64_t end = std::min<uint64_t>(taken, TraceFile::slots);
        for (uint64_t slot = 0; slot < end;) slot += take(slot, end, trace);
        trace.lost += taken - end;
        if (end == 0)
            return fail(ErrorKind::unsupported,
                        "the program did not load the injected library: it is linked statically, "
                        "runs with another user's rights or without glibc; use --backend bpf");
        return {};
    }

    [[nodiscard]] TraceMethod method() const override {
        return {.backend = "injected library",
                .accuracy =
                    "calls of the driver, and files that are opened and read through the C "
                    "library; waiting for a disk at a page fault is not seen",
                .reason = {}};
    }

  private:
    /// The number of slots that this record takes.
    uint64_t take(uint64_t slot, uint64_t end, ProgramTrace& trace) {
        const memplate_gpu_event& record = file_->events[slot];
        const unsigned kind = __atomic_load_n(&record.kind, __ATOMIC_ACQUIRE);
        const bool named = kind == inject::kind_of_name;
        const bool with_text =
            named || kind == MEMPLATE_GPU_OPENED || kind == MEMPLATE_GPU_EXECUTED;
        const uint64_t slots = with_text ? inject::slots_with_text : 1;
        // A writer that died had taken slots, and not said what for.
        if (slot + slots > end || (kind > MEMPLATE_GPU_EXITED && !named)) return 1;
        const char* text = reinterpret_cast<const char*>(&record + 1);
        if (named) {
            trace.texts.emplace_back(text, ::strnlen(text, MEMPLATE_GPU_TEXT));
            names_[{record.pid, record.call}] = static_cast<uint32_t>(trace.texts.size() - 1);
            return slots;
        }
        ProgramEvent event{
            .kind = static_cast<ProgramEvent::Kind>(kind),
            .begin_ns = static_cast<int64_t>(record.begin_ns),
            .end_ns = static_cast<int64_t>(record.end_ns),
            .pid = static_cast<pid_t>(record.pid),
            .thread = record.thread,
            .result = record.result,
            .text = 0,
            .arguments = {record.arguments[0], record.arguments[1], record.arguments[2]}};
        if (kind == MEMPLATE_GPU_CALL) {
            event.text = name_of(record, trace);
        } else if (with_text) {
            trace.texts.emplace_back(text, ::strnlen(text, MEMPLATE_GPU_TEXT));
            event.text = static_cast<uint32_t>(trace.texts.size() - 1);
        }
        if (kind == MEMPLATE_GPU_FORKED)
            parents_[static_cast<uint32_t>(record.arguments[0])] = record.pid;
        if (kind != MEMPLATE_GPU_NONE && event.begin_ns != 0) trace.events.push_back(event);
        return slots;
    }

    /// A process that was forked has its parent's names.
    uint32_t name_of(const memplate_gpu_event& record, ProgramTrace& trace) {
        uint32_t process = record.pid;
        auto known = names_.find({process, record.call});
        for (size_t depth = 0; known == names_.end() && depth < parents_.size(); ++depth) {
            const auto parent = parents_.find(process);
            if (parent == parents_.end()) break;
            process = parent->second;
            known = names_.find({process, record.call});
        }
        if (known == names_.end()) {
            trace.texts.emplace_back("unknown");
            known = names_.try_emplace({record.pid, record.call}, trace.texts.size() - 1).first;
        }
        return known->second;
    }

    struct Unmap {
        void operator()(TraceFile* file) const { ::munmap(file, sizeof(TraceFile)); }
    };
    std::string library_;
    UniqueFd fd_;
    std::unique_ptr<TraceFile, Unmap> file_;
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> names_;  ///< process, call → text
    std::map<uint32_t, uint32_t> parents_;                     ///< of processes that were forked
};

}  // namespace

Result<std::unique_ptr<ProgramTracer>> make_injecting_tracer() {
    return InjectingTracer::create();
}

}  // namespace memplate::gpu
