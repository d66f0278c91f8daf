// SPDX-License-Identifier: Apache-2.0
//
// What a program that uses a GPU was seen doing, and who sees it: probes of the kernel, or a
// library that is injected into the program.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "util/context.h"

namespace memplate::gpu {

struct ProgramEvent {
    /// As in bpf/gpu_events.h, but for the last.
    enum class Kind : uint8_t {
        none,
        call,      ///< of the driver; `text` is its name
        opened,    ///< a file; `text` is its path, `result` its descriptor, or -1 for a library
        read,      ///< arguments: descriptor, bytes
        mapped,    ///< arguments: descriptor, bytes
        disk,      ///< the thread waited for a disk
        forked,    ///< arguments: the child
        executed,  ///< `text` is the file
        linked,    ///< the dynamic linker has mapped what the program needs
        exited,
        held,  ///< the program stood still while probes were set
    };
    Kind kind = Kind::none;
    int64_t begin_ns = 0;
    int64_t end_ns = 0;  ///< 0: had not returned when the trace ended
    pid_t pid = 0;
    uint32_t thread = 0;
    int result = 0;
    uint32_t text = 0;  ///< index into ProgramTrace::texts
    uint64_t arguments[3] = {};
};

/// How the program was seen: part of every output.
struct TraceMethod {
    std::string backend;   ///< "uprobes", "injected library"
    std::string accuracy;  ///< what it sees and what not
    std::string reason;    ///< why not the better one; empty if it is
};

/// One run. All times are CLOCK_MONOTONIC.
struct ProgramTrace {
    std::vector<ProgramEvent> events;  ///< in the order of their beginning, once it has ended
    std::vector<std::string> texts = {""};
    uint64_t lost = 0;     ///< events that found no room
    int64_t begin_ns = 0;  ///< before the program is let go
    int64_t exec_ns = 0;   ///< just before its exec
    int64_t end_ns = 0;    ///< when its end was seen
    int status = 0;        ///< wait status
    bool cut = false;      ///< ended by memplate after the time that was asked for
    TraceMethod method;

    [[nodiscard]] const std::string& text(const ProgramEvent& event) const {
        return texts[event.text];
    }
};

class ProgramTracer {
  public:
    virtual ~ProgramTracer() = default;
    /// What the program's environment needs.
    [[nodiscard]] virtual std::vector<std::string> environment() const { return {}; }
    /// The process that is to become the program, and the file of the driver that it will probably
    /// use.
    virtual Result<> follow(pid_t pid, const std::string& driver, ProgramTrace& trace) = 0;
    /// Becomes readable when something is urgent; -1: nothing ever is.
    [[nodiscard]] virtual int urgent() const { return -1; }
    /// Takes what has been told. To be called every 20 ms, and when it is urgent.
    virtual Result<> drain(ProgramTrace& trace) = 0;
    /// The last call: the program has ended.
    virtual Result<> finish(ProgramTrace& trace) = 0;
    [[nodiscard]] virtual TraceMethod method() const = 0;
};

/// Probes at the driver's calls and tracepoints (bpf/gpu.bpf.c). ErrorKind::unsupported where BPF
/// is not to be had, or not with many probes at once.
[[nodiscard]] Result<std::unique_ptr<ProgramTracer>> make_bpf_tracer(const Context& context);
/// The library libmemplate-gpu-trace.so. ErrorKind::unsupported if there is none for this
/// processor.
[[nodiscard]] Result<std::unique_ptr<ProgramTracer>> make_injecting_tracer();

struct ProgramOptions {
    std::vector<std::string> command;
    enum class Backend { automatic, bpf, inject } backend = Backend::automatic;
    int64_t at_most_ns = 0;  ///< the program is ended then; 0: never
    int output = -1;         ///< its standard output; -1: ours
    std::string driver;      ///< the file of the one that it will probably use
};
/// Runs the command once, to its end.
[[nodiscard]] Result<ProgramTrace> trace_program(const Context& context,
                                                 const ProgramOptions& options);

}  // namespace memplate::gpu
