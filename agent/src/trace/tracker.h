// SPDX-License-Identifier: Apache-2.0
//
// Turns events into the lives of containers: which phase of a start began when, how much memory it
// took. Pure: no clock, no files.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trace/event.h"
#include "trace/probes.h"
#include "trace/registry.h"

namespace memplate::trace {

/// The names of phases, in the order of a start: "made" (the cgroup), "joined" (its first process),
/// "runtime" (what the container runtime executes), "exec" (the entrypoint), "listening",
/// "accepted", "answered" (each the first), "ended". A memplate restore has its own between
/// "joined" and "accepted": "sandbox", "restore", "attach", "resume", "ready".
struct Phase {
    std::string name;
    int64_t time_ns = 0;
    std::string detail{};
};

struct MemoryState {
    int64_t time_ns = 0;
    uint64_t bytes = 0;
    uint64_t peak = 0;  ///< the kernel's watermark
    uint64_t inactive_file = 0;
    /// `docker stats` shows this.
    [[nodiscard]] uint64_t without_inactive_file() const {
        return bytes - std::min(bytes, inactive_file);
    }
};

struct Life : std::enable_shared_from_this<Life> {
    std::shared_ptr<Member> member;
    /// When the start began; 0: it ran before the trace did.
    int64_t born_ns = 0;
    bool begun = false;  ///< a process was seen to enter it
    std::vector<Phase> phases;
    std::string command;  ///< the entrypoint's file, or what is known of it
    std::string runtime;  ///< "runc" once it was seen at work
    pid_t entry_pid = 0;
    std::string exit_status;    ///< of the entrypoint, once it has ended
    std::set<pid_t> processes;  ///< of a start that is being followed
    int64_t entered_ns = 0;     ///< exec of the entrypoint, or resume of a restored one
    int64_t ended_ns = 0;
    bool removed = false;  ///< the cgroup too
    bool told = false;     ///< a view knows of it: its name is waited for no more
    MemoryState memory;
    std::optional<uint64_t> peak_at_entry;
    uint64_t largest_since_entry = 0;

    [[nodiscard]] const Phase* phase(std::string_view name) const;
    /// Since its birth.
    [[nodiscard]] double milliseconds(const Phase& phase) const {
        return static_cast<double>(phase.time_ns - born_ns) / 1e6;
    }
    struct Peak {
        uint64_t bytes = 0;
        bool exact = false;  ///< else the largest level that was seen
    };
    /// What the runtime needed before the entrypoint was executed does not count.
    [[nodiscard]] std::optional<Peak> peak_since_entry() const;
    /// What people see as its state: the last phase, or "running".
    [[nodiscard]] std::string state() const;
};

class Tracker {
  public:
    /// Called for each phase once the container has a process, in time order for each container.
    using Sink = std::function<void(const std::shared_ptr<Life>&, const Phase&)>;
    explicit Tracker(Sink sink) : sink_(std::move(sink)) {}

    void handle(const std::shared_ptr<Member>& member, const Event& event);
    void level(const std::shared_ptr<Member>& member, const MemoryLevel& level, int64_t time_ns);
    /// The cgroup was removed; also when that was seen late.
    void removed(const std::shared_ptr<Member>& member, int64_t time_ns);
    /// Forgets lives whose cgroups were removed before that moment.
    void forget(int64_t before_ns);

    [[nodiscard]] const std::map<const Member*, std::shared_ptr<Life>>& lives() const {
        return lives_;
    }

  private:
    Life& life_of(const std::shared_ptr<Member>& member);
    void begin(const std::shared_ptr<Member>& member, const Event& event);
    void executed(Life& life, const Event& event);
    void exited(Life& life, const Event& event);
    void enter(Life& life, const Event& event);
    void end(Life& life, int64_t time_ns, std::string detail);
    void add(Life& life, std::string name, int64_t time_ns, std::string detail = "");
    /// Of those that may occur more than once only the first counts.
    void add_first(Life& life, const char* name, const Event& event, std::string detail);

    Sink sink_;
    std::map<const Member*, std::shared_ptr<Life>> lives_;
};

}  // namespace memplate::trace
