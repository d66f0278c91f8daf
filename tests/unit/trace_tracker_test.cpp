// SPDX-License-Identifier: Apache-2.0
//
// Lives of containers from event streams of runc, crun, memplate restores and plain cgroups.
#include <gmock/gmock.h>

#include <random>

#include "trace_fixture.h"

namespace memplate::trace {
namespace {

using enum EventKind;
using testing::ElementsAre;
using testing::IsEmpty;

class TraceTracker : public testing::Test {
  protected:
    std::shared_ptr<Member> member(uint64_t id, const std::string& path) {
        auto& member = members_[id];
        if (!member) {
            member = std::make_shared<Member>();
            member->cgroup = id;
            member->container = container_of(path);
        }
        return member;
    }
    void play(const std::vector<Event>& events, const std::string& path) {
        for (const Event& one : events) tracker_.handle(member(one.cgroup, path), one);
    }
    [[nodiscard]] const Life& life(uint64_t id) const {
        return *tracker_.lives().at(members_.at(id).get());
    }
    /// "exec 60 /usr/bin/server"
    [[nodiscard]] std::vector<std::string> told() const { return told_; }

    std::vector<std::string> told_;
    Tracker tracker_{[this](const std::shared_ptr<Life>& life, const Phase& phase) {
        told_.push_back(
            fmt::format("{} {:g} {}", phase.name, life->milliseconds(phase), phase.detail));
    }};
    std::map<uint64_t, std::shared_ptr<Member>> members_;
};

const std::string docker_path = "/docker/" + docker_id;

TEST_F(TraceTracker, RuncExecutesItselfBeforeTheEntrypoint) {
    play(runc_start(5, docker_path), docker_path);
    EXPECT_THAT(told(),
                ElementsAre("made 0 " + docker_path, "joined 12 runc", "runtime 14 runc init",
                            "exec 60 /usr/bin/server", "listening 130 port 8080",
                            "accepted 150 port 8080", "answered 152 port 8080"));
    EXPECT_EQ(life(5).command, "/usr/bin/server");
    EXPECT_EQ(life(5).state(), "answered");
    EXPECT_EQ(life(5).ended_ns, 0);
}

TEST_F(TraceTracker, RuncWithoutAPidNamespaceIsKnownByTheNameOfItsStage) {
    auto events = runc_start(5, docker_path);
    for (Event& one : events) one.inner_pid = one.pid;
    play(events, docker_path);
    ASSERT_TRUE(life(5).phase("exec"));
    EXPECT_EQ(life(5).phase("exec")->detail, "/usr/bin/server");
}

TEST_F(TraceTracker, HooksAreNoEntrypoint) {
    auto events = runc_start(5, docker_path);
    events.insert(
        events.begin() + 7,
        event(executed, 5, 40,
              {.pid = 75, .inner_pid = 2, .command = "ldconfig", .text = "/sbin/ldconfig"}));
    play(events, docker_path);
    EXPECT_EQ(life(5).phase("exec")->detail, "/usr/bin/server");
}

TEST_F(TraceTracker, CrunExecutesTheEntrypointAtOnce) {
    play(crun_start(6, docker_path), docker_path);
    EXPECT_THAT(told(), ElementsAre("made 0 " + docker_path, "joined 3 crun", "exec 9 /bin/sh",
                                    "ended 30 exit status 3"));
    EXPECT_TRUE(life(6).removed);
    EXPECT_EQ(life(6).peak_since_entry()->bytes, 900'000U);
    EXPECT_TRUE(life(6).peak_since_entry()->exact);
}

TEST_F(TraceTracker, ContainersOfRuntimesAloneAreKnownByWhatTheyDo) {
    play(runc_start(5, "/pods/web"), "/pods/web");
    EXPECT_EQ(life(5).member->container.engine, "runc");
    EXPECT_EQ(life(5).member->name(), "web");
    play(crun_start(6, "/db"), "/db");
    EXPECT_EQ(life(6).member->container.engine, "crun");
    EXPECT_EQ(life(6).member->name(), "db");
}

TEST_F(TraceTracker, ThePeakSinceTheEntrypointLeavesTheRuntimeOut) {
    play(runc_start(5, docker_path), docker_path);
    // runc had needed 4.1 MB; the server is far below that: only what was seen is known.
    tracker_.level(member(5, docker_path), {5, 800'000, 4'136'960, 1000}, 2'000'000'000);
    tracker_.level(member(5, docker_path), {5, 700'000, 4'136'960, 1000}, 2'000'000'100);
    auto peak = life(5).peak_since_entry();
    ASSERT_TRUE(peak);
    EXPECT_EQ(peak->bytes, 800'000U);
    EXPECT_FALSE(peak->exact);
    EXPECT_EQ(life(5).memory.without_inactive_file(), 699'000U);
    // Once the watermark rises it tells.
    tracker_.level(member(5, docker_path), {5, 5'000'000, 9'000'000, 0}, 2'000'000'200);
    peak = life(5).peak_since_entry();
    EXPECT_EQ(peak->bytes, 9'000'000U);
    EXPECT_TRUE(peak->exact);
}

TEST_F(TraceTracker, MemplateRestoresHavePhasesAndNoExec) {
    const std::string path = "/memplate/hello-1a2b3c";
    play({event(cgroup_made, 7, 0, {.text = path}),
          event(joined, 7, 1, {.pid = 90, .inner_pid = 1, .command = "memplate-keeper"}),
          event(restore_phase, 7, 1.5, {.text = "sandbox"}),
          event(executed, 7, 2,
                {.pid = 91,
                 .inner_pid = 2,
                 .command = "ld-linux-x86-64",
                 .text = "/run/memplate/criu/lib/ld-linux-x86-64.so.2"}),
          event(restore_phase, 7, 3, {.text = "restore"}),
          event(forked, 7, 4, {.pid = 92, .inner_pid = 1000, .command = "criu"}),
          event(restore_phase, 7, 6, {.text = "attach"}),
          event(restore_phase, 7, 7, {.text = "resume", .bytes = 100, .peak = 200}),
          event(restore_phase, 7, 8, {.text = "ready"}), event(accepted, 7, 9, {.value = 80}),
          event(answered, 7, 10, {.value = 80}), event(exited, 7, 11, {.pid = 91, .inner_pid = 2}),
          event(exited, 7, 20, {.pid = 92, .inner_pid = 1000}),
          event(exited, 7, 21, {.pid = 90, .inner_pid = 1, .value = 9, .peak = 5000}),
          event(cgroup_gone, 7, 22, {.peak = 5000})},
         path);
    EXPECT_THAT(told(),
                ElementsAre("made 0 " + path, "joined 1 memplate-keeper", "sandbox 1.5 ",
                            "runtime 2 /run/memplate/criu/lib/ld-linux-x86-64.so.2", "restore 3 ",
                            "attach 6 ", "resume 7 ", "ready 8 ", "accepted 9 port 80",
                            "answered 10 port 80", "ended 21 killed by SIGKILL"));
    EXPECT_EQ(life(7).peak_since_entry()->bytes, 5000U);
}

TEST_F(TraceTracker, APlainCgroupStartsWithItsFirstExec) {
    play({event(cgroup_made, 8, 0, {.text = "/job"}),
          event(joined, 8, 1, {.pid = 5, .inner_pid = 5, .command = "sh"}),
          event(executed, 8, 2,
                {.pid = 5, .inner_pid = 5, .command = "make", .text = "/usr/bin/make"}),
          event(forked, 8, 3, {.pid = 6, .inner_pid = 6, .command = "make"}),
          event(executed, 8, 4, {.pid = 6, .inner_pid = 6, .command = "cc", .text = "/usr/bin/cc"}),
          event(exited, 8, 5, {.pid = 5, .inner_pid = 5, .value = 0}),
          event(exited, 8, 9, {.pid = 6, .inner_pid = 6, .value = 0})},
         "/job");
    // What it leaves behind goes on; with the last process it ends.
    EXPECT_THAT(told(), ElementsAre("made 0 /job", "joined 1 sh", "exec 2 /usr/bin/make",
                                    "ended 9 exit status 0"));
}

TEST_F(TraceTracker, ACgroupUsedAgainIsAnotherStart) {
    const auto once = [&](pid_t pid, double at) {
        play({event(joined, 8, at, {.pid = pid, .inner_pid = pid, .command = "sh"}),
              event(executed, 8, at + 1, {.pid = pid, .inner_pid = pid, .text = "/bin/true"}),
              event(exited, 8, at + 2, {.pid = pid, .inner_pid = pid})},
             "/job");
    };
    play({event(cgroup_made, 8, 0, {.text = "/job"})}, "/job");
    once(5, 10);
    once(6, 100);
    EXPECT_THAT(told(), ElementsAre("made 0 /job", "joined 10 sh", "exec 11 /bin/true",
                                    "ended 12 exit status 0", "joined 0 sh", "exec 1 /bin/true",
                                    "ended 2 exit status 0"));
}

TEST_F(TraceTracker, AnEmptyCgroupIsNoStart) {
    play({event(cgroup_made, 8, 0, {.text = "/docker"}), event(cgroup_gone, 8, 9)}, "/docker");
    EXPECT_THAT(told(), IsEmpty());
}

TEST_F(TraceTracker, WhatRanBeforeShowsNoStart) {
    member(8, docker_path)->occupied = true;
    auto events = runc_start(8, docker_path);
    events.erase(events.begin());
    play(events, docker_path);
    EXPECT_THAT(told(), IsEmpty());
    EXPECT_EQ(life(8).state(), "running");
    EXPECT_FALSE(life(8).peak_since_entry());
    play({event(cgroup_gone, 8, 500)}, docker_path);
    EXPECT_THAT(told(), IsEmpty());
    EXPECT_TRUE(life(8).removed);
}

TEST_F(TraceTracker, LostEventsLeaveOutPhasesAndNothingElse) {
    const auto whole = runc_start(5, docker_path);
    for (size_t lost = 0; lost < whole.size(); lost++) {
        members_.clear();
        auto events = whole;
        events.erase(events.begin() + static_cast<std::ptrdiff_t>(lost));
        Tracker tracker([](const auto&, const auto&) {});
        const auto one = member(5, docker_path);
        for (const Event& each : events) tracker.handle(one, each);
        const Life& life = *tracker.lives().at(one.get());
        EXPECT_TRUE(std::ranges::is_sorted(life.phases, {}, &Phase::time_ns)) << lost;
        // Without runc's own exec (2) nothing tells the other from it; without the entrypoint's (7)
        // there is none.
        const Phase* exec = life.phase("exec");
        if (lost != 2 && lost != 7) {
            ASSERT_TRUE(exec) << lost;
            EXPECT_EQ(exec->detail, "/usr/bin/server") << lost;
        }
        EXPECT_GE(life.phases.size(), 6U) << lost;
    }
}

TEST_F(TraceTracker, ChurnOfManyContainersMixed) {
    constexpr uint64_t containers = 400;
    std::vector<Event> all;
    for (uint64_t id = 1; id <= containers; id++) {
        auto events = id % 2 == 0 ? runc_start(id, "/docker/x") : crun_start(id, "/docker/x");
        if (id % 2 == 0) events.push_back(event(cgroup_gone, id, 200));
        for (Event& one : events) one.time_ns += static_cast<int64_t>(id * 3'000'000);
        all.insert(all.end(), events.begin(), events.end());
    }
    std::ranges::stable_sort(all, {}, &Event::time_ns);
    for (const Event& one : all)
        tracker_.handle(member(one.cgroup, fmt::format("/docker/{:064x}", one.cgroup)), one);
    EXPECT_EQ(std::ranges::count_if(told_, [](const auto& t) { return t.starts_with("exec "); }),
              containers);
    EXPECT_EQ(std::ranges::count_if(told_, [](const auto& t) { return t.starts_with("ended "); }),
              containers);
    EXPECT_EQ(tracker_.lives().size(), containers);
    tracker_.forget(std::numeric_limits<int64_t>::max());
    EXPECT_TRUE(tracker_.lives().empty());
}

}  // namespace
}  // namespace memplate::trace
