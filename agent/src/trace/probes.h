// SPDX-License-Identifier: Apache-2.0
//
// The BPF programs of bpf/, loaded and attached; what they tell, as events. Which hooks a kernel
// takes is found by loading them, never by its version.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trace/event.h"
#include "util/context.h"

namespace memplate::trace {

struct ProbeOptions {
    bool start = true;    ///< births, execs, first answers, exits
    bool memory = false;  ///< `level` events
    bool faults = false;  ///< page faults; the dearest: off unless asked for
    /// A level is told when it has changed by so much since the last one told.
    uint64_t level_step = 256 << 10;
    /// Where the exact programs do not load, take ones that make page faults up to 12 % dearer
    /// instead of reading the levels at each drain.
    bool level_at_any_cost = false;
    /// 0: all. Else only cgroups at and below this one (kernfs id) are told.
    uint64_t below_cgroup = 0;
};

/// How something is measured here, for people: part of every output.
struct ProbeMethod {
    std::string what;      ///< "start", "answers", "restores", "memory", "faults"
    std::string backend;   ///< "page_counter", "rss_stat", "tracepoints" …
    std::string accuracy;  ///< one sentence
};

/// The memory of one cgroup at one moment, from an iterator over all of them.
struct MemoryLevel {
    uint64_t cgroup = 0;
    uint64_t bytes = 0;
    uint64_t peak = 0;
    uint64_t inactive_file = 0;
};

/// Page faults counted since the probes were attached.
struct FaultCount {
    uint64_t cgroup = 0;
    uint32_t device = 0;  ///< of the backing file: major << 20 | minor; 0 for anonymous memory
    enum class Backing : uint8_t { anonymous, file, shared_memory, other } backing{};
    enum class Kind : uint8_t { minor, major, copy_on_write } kind{};
    bool write = false;
    uint64_t count = 0;
};

class Probes {
  public:
    /// unsupported (exit code 3): no BTF, no permission, no hook at all; the message names it.
    static Result<std::unique_ptr<Probes>> attach(const Context& context,
                                                  const ProbeOptions& options);
    virtual ~Probes() = default;

    /// Passes on what has happened since the last call, in time order. To be called every 20 ms or
    /// so.
    virtual Result<> drain(const std::function<void(const Event&)>& sink) = 0;
    /// Events that found no room.
    [[nodiscard]] virtual uint64_t lost() const = 0;
    [[nodiscard]] virtual const std::vector<ProbeMethod>& methods() const = 0;
    /// Of every memory cgroup; first use also tells which exist already.
    virtual Result<std::vector<MemoryLevel>> sweep() = 0;
    virtual Result<std::vector<FaultCount>> faults() = 0;
};

}  // namespace memplate::trace
