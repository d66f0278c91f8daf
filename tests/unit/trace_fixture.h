// SPDX-License-Identifier: Apache-2.0
//
// Streams of events as the kernel tells them, and a tree of cgroups to which they belong.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "trace/registry.h"
#include "trace/tracker.h"
#include "util/fs.h"

namespace memplate::trace {

inline const std::string docker_id = std::string(52, 'a') + "000000000001";

/// A fake cgroup v1 hierarchy and file system.
class TraceTree : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-trace");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        write("cg/memory/cgroup.procs", "1\n");
    }
    void write(const std::string& path, const std::string& text) const {
        const std::filesystem::path full = directory_.path() + "/" + path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full) << text;
    }
    [[nodiscard]] std::string root() const { return directory_.path(); }
    [[nodiscard]] CgroupHierarchy hierarchy() const {
        return *CgroupHierarchy::find(root() + "/cg");
    }
    [[nodiscard]] std::string folder(const std::string& cgroup) const {
        return root() + "/cg/memory" + cgroup;
    }
    /// Makes a cgroup; its id.
    [[nodiscard]] uint64_t group(const std::string& cgroup,
                                 const std::string& processes = "") const {
        std::filesystem::create_directories(folder(cgroup));
        write("cg/memory" + cgroup + "/cgroup.procs", processes);
        return id_of(cgroup);
    }
    [[nodiscard]] uint64_t id_of(const std::string& cgroup) const {
        struct stat status{};
        EXPECT_EQ(::stat(folder(cgroup).c_str(), &status), 0) << cgroup;
        return status.st_ino;
    }
    void remove(const std::string& cgroup) const { std::filesystem::remove_all(folder(cgroup)); }

  private:
    TemporaryDirectory directory_;
};

inline Event event(EventKind kind, uint64_t cgroup, double ms, Event rest = {}) {
    rest.kind = kind;
    rest.cgroup = cgroup;
    rest.time_ns = 1'000'000'000 + static_cast<int64_t>(ms * 1e6);
    return rest;
}

/// What runc 1.1 does for a container, as measured: facts of the order, not of the times.
inline std::vector<Event> runc_start(uint64_t id, const std::string& path) {
    using enum EventKind;
    return {
        event(cgroup_made, id, 0, {.text = path}),
        event(joined, id, 12, {.pid = 70, .inner_pid = 70, .command = "runc"}),
        event(executed, id, 14,
              {.pid = 70, .inner_pid = 70, .command = "6", .text = "/proc/self/fd/6"}),
        event(forked, id, 18, {.pid = 71, .inner_pid = 71, .command = "runc:[0:PARENT]"}),
        event(forked, id, 20, {.pid = 72, .inner_pid = 1, .command = "runc:[1:CHILD]"}),
        event(exited, id, 21, {.pid = 71, .inner_pid = 71, .peak = 4'100'000}),
        event(exited, id, 22, {.pid = 70, .inner_pid = 70, .peak = 4'100'000}),
        event(executed, id, 60,
              {.pid = 72,
               .inner_pid = 1,
               .command = "server",
               .text = "/usr/bin/server",
               .bytes = 300'000,
               .peak = 4'136'960}),
        event(listening, id, 130, {.pid = 72, .inner_pid = 1, .value = 8080}),
        event(accepted, id, 150, {.value = 8080}),
        event(answered, id, 152, {.pid = 72, .inner_pid = 1, .value = 8080}),
        event(answered, id, 160, {.pid = 72, .inner_pid = 1, .value = 8080}),
    };
}

/// crun clones straight into the cgroup: nothing ever joins it.
inline std::vector<Event> crun_start(uint64_t id, const std::string& path) {
    using enum EventKind;
    return {
        event(cgroup_made, id, 0, {.text = path}),
        event(forked, id, 3, {.pid = 81, .inner_pid = 1, .command = "crun"}),
        event(executed, id, 9,
              {.pid = 81, .inner_pid = 1, .command = "sh", .text = "/bin/sh", .peak = 500'000}),
        event(exited, id, 30, {.pid = 81, .inner_pid = 1, .value = 3 << 8, .peak = 900'000}),
        event(cgroup_gone, id, 40, {.peak = 900'000}),
    };
}

}  // namespace memplate::trace
