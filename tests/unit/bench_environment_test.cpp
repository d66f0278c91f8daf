// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "bench/environment.h"
#include "util/fd.h"

namespace memplate {
namespace {

/// A fake /proc and /sys.
class Environment : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "environment-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        root_ = name;
        for (const char* part : {"proc", "sys"}) std::filesystem::create_directories(root_ / part);
        proc_ = UniqueFd(::open((root_ / "proc").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        sys_ = UniqueFd(::open((root_ / "sys").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    void TearDown() override { std::filesystem::remove_all(root_); }

    void write(const std::string& path, const std::string& text) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
    }
    [[nodiscard]] Json describe(const CriuDescription& criu = {}) const {
        return describe_environment_at(proc_.get(), sys_.get(), Context{}, criu);
    }

  private:
    std::filesystem::path root_;
    UniqueFd proc_;
    UniqueFd sys_;
};

TEST_F(Environment, IsReadFromBothTrees) {
    write("proc/sys/kernel/osrelease", "6.1.0-test\n");
    write("proc/cpuinfo",
          "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Example 9000 Processor\n"
          "flags\t\t: fpu hypervisor sse\n");
    write("proc/meminfo", "MemTotal:       24684720 kB\nMemFree:  1 kB\n");
    write("proc/loadavg", "0.54 0.13 10.04 2/89 6349\n");
    write("sys/devices/system/cpu/online", "0-1,4\n");
    write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    const Json found = describe({.version = "4.2.1", .root = "/opt/criu"});
    EXPECT_EQ(found["kernel"], "6.1.0-test");
    EXPECT_EQ(found["cpu"], "Example 9000 Processor");
    EXPECT_EQ(found["cores"], 3);
    EXPECT_EQ(found["virtual_machine"], true);
    EXPECT_EQ(found["memory_mb"], 25277);
    EXPECT_EQ(found["cgroup"], "v2");
    EXPECT_EQ(found["transparent_hugepages"], "madvise");
    EXPECT_EQ(found["criu"], "4.2.1");
    EXPECT_EQ(found["criu_root"], "/opt/criu");
    EXPECT_EQ(found["load"], Json({0.54, 0.13, 10.04}));
    EXPECT_TRUE(found["memplate"].is_string());
}

TEST_F(Environment, WhatIsMissingIsLeftOut) {
    write("sys/fs/cgroup/memory/tasks", "");
    const Json found = describe();
    EXPECT_EQ(found["cgroup"], "v1");
    for (const char* key : {"kernel", "cpu", "cores", "memory_mb", "load", "criu", "criu_root",
                            "virtual_machine", "transparent_hugepages"})
        EXPECT_FALSE(found.contains(key)) << key;
    EXPECT_TRUE(found.contains("memplate"));
}

TEST_F(Environment, GarbageIsLeftOut) {
    write("proc/cpuinfo", "model name\nflags : fpu hypervisors\n");
    write("proc/meminfo", "MemTotal: lots\n");
    write("proc/loadavg", "0.5 x 1.0\n");
    write("sys/devices/system/cpu/online", "1-0\n");
    write("sys/kernel/mm/transparent_hugepage/enabled", "]always[\n");
    const Json found = describe();
    EXPECT_EQ(found["virtual_machine"], false);
    for (const char* key : {"cpu", "cores", "memory_mb", "load", "cgroup", "transparent_hugepages"})
        EXPECT_FALSE(found.contains(key)) << key;
}

TEST(EnvironmentOfThisMachine, HasWhatEveryLinuxHas) {
    const Json found = describe_environment(Context{});
    EXPECT_FALSE(found.value("kernel", "").empty());
    EXPECT_GE(found.value("cores", 0), 1);
    EXPECT_GT(found.value("memory_mb", 0), 0);
    EXPECT_EQ(found.value("load", Json()).size(), 3u);
}

}  // namespace
}  // namespace memplate
