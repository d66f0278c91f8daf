// SPDX-License-Identifier: Apache-2.0
//
// One trace from attaching to detaching: drains the probes, knows the containers, and tells a view
// what is new. Views show it, record it or serve it.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <unordered_map>

#include "trace/filter.h"
#include "trace/probes.h"
#include "trace/resolver.h"
#include "trace/tracker.h"

namespace memplate::trace {

struct SessionOptions {
    Filter filter{};
    bool memory = false;
    bool faults = false;
    std::chrono::milliseconds interval{1000};  ///< between two ticks
    std::chrono::milliseconds at_most{0};      ///< 0: until stopped
    /// How long ended containers stay in what is shown.
    std::chrono::milliseconds keep_ended{0};
};

/// The faults of one container of one kind since the trace began.
struct LifeFaults {
    std::shared_ptr<const Life> life;
    FaultCount count;
};

/// All that is shown at one moment; of the filter only what it lets pass.
struct Snapshot {
    int64_t time_ns = 0;
    std::vector<std::shared_ptr<const Life>> lives;
    std::vector<LifeFaults> faults;
    uint64_t lost = 0;
};

enum class SessionEnd { stopped, time_is_up, cgroup_gone };

class View {
  public:
    virtual ~View() = default;
    /// Before anything else.
    virtual Result<> begin(const std::vector<ProbeMethod>& methods) = 0;
    virtual Result<> phase(const Life& life, const Phase& phase) = 0;
    /// The memory of a container has changed.
    virtual Result<> level(const Life& life) = 0;
    virtual Result<> tick(const Snapshot& snapshot) = 0;
    /// After everything else; what it prints is the final dump.
    virtual Result<> finish(const Snapshot& snapshot) = 0;
};

class Session {
  public:
    /// A pattern of --cgroup without wildcards must exist, and ends the trace when it is removed.
    static Result<std::unique_ptr<Session>> open(const Context& context, SessionOptions options);
    /// Parts of one's own, for tests.
    Session(std::unique_ptr<Probes> probes, CgroupHierarchy hierarchy, Resolver::Options resolver,
            SessionOptions options, uint64_t only_cgroup = 0);

    [[nodiscard]] Result<SessionEnd> run(View& view, const std::stop_token& stop);

  private:
    struct Held {
        std::shared_ptr<Life> life;
        Phase phase;
        std::chrono::steady_clock::time_point since;
    };
    Result<> drain(View& view);
    void handle(const Event& event);
    /// Passes on phases whose container's name is known, or will not be; all of them at the `last`.
    Result<> flush(View& view, bool last);
    Result<> sweep(int64_t now_ns);
    [[nodiscard]] bool shown(const Life& life) const;
    [[nodiscard]] Result<Snapshot> snapshot(int64_t now_ns);

    std::unique_ptr<Probes> probes_;
    SessionOptions options_;
    Registry registry_;
    Resolver resolver_;
    Tracker tracker_;
    uint64_t only_cgroup_ = 0;
    bool only_gone_ = false;
    std::deque<Held> held_;
    std::vector<std::shared_ptr<const Life>> changed_;  ///< their memory, since the last drain
    std::unordered_map<uint64_t, std::shared_ptr<const Life>> owners_;  ///< of counted faults
};

}  // namespace memplate::trace
