// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "sandbox/cgroup.h"
#include "util/fs.h"

namespace memplate::sandbox {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// Plain directories and files in the shape of /sys/fs/cgroup; the kernel's part, making the
/// control files of a new group, is done by the test.
class FakeTree : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-cgroup");
        ASSERT_TRUE(created);
        folder_ = std::move(*created);
        root_ = open_at(AT_FDCWD, folder_.path(), O_RDONLY | O_DIRECTORY).value();
    }
    void add(const std::string& path, const std::string& text = "") {
        const std::string full = folder_.path() + "/" + path;
        ASSERT_TRUE(make_directories(full.substr(0, full.rfind('/'))));
        std::ofstream(full) << text;
    }
    void drop(const std::string& path) {
        ASSERT_EQ(::unlink((folder_.path() + "/" + path).c_str()), 0) << path;
    }
    [[nodiscard]] std::string text(const std::string& path) const {
        return read_file(folder_.path() + "/" + path).value_or("(none)");
    }
    [[nodiscard]] bool exists(const std::string& path) const {
        return ::access((folder_.path() + "/" + path).c_str(), F_OK) == 0;
    }
    TemporaryDirectory folder_;
    UniqueFd root_;
};

TEST_F(FakeTree, UnifiedGroupTakesProcessesAndLimits) {
    add("cgroup.controllers", "cpu memory pids");
    add("cgroup.subtree_control");
    add("memplate/cgroup.subtree_control");
    const auto group = Cgroup::create(root_, "one");
    ASSERT_TRUE(group) << group.error().message;
    ASSERT_TRUE(exists("memplate/one"));
    // Each controller by a write of its own; a plain file keeps the last.
    EXPECT_THAT(text("cgroup.subtree_control"), HasSubstr("+pids"));
    EXPECT_THAT(text("memplate/cgroup.subtree_control"), HasSubstr("+pids"));
    for (const char* file :
         {"cgroup.procs", "memory.max", "memory.swap.max", "cpu.max", "pids.max"})
        add(std::string("memplate/one/") + file);
    ASSERT_TRUE(group->place(4711));
    EXPECT_EQ(text("memplate/one/cgroup.procs"), "4711");
    EXPECT_THAT(group->processes().value(), testing::ElementsAre(4711));
    Limits limits;
    limits.memory_bytes = uint64_t{256} << 20;
    limits.cpus = 1.5;
    limits.processes = 40;
    const auto applied = group->apply(limits);
    ASSERT_TRUE(applied) << applied.error().message;
    EXPECT_EQ(text("memplate/one/memory.max"), "268435456");
    EXPECT_EQ(text("memplate/one/memory.swap.max"), "0");
    EXPECT_EQ(text("memplate/one/cpu.max"), "150000 100000");
    EXPECT_EQ(text("memplate/one/pids.max"), "40");
}

TEST_F(FakeTree, SeparateHierarchiesEachGetTheProcess) {
    for (const char* name : {"memory", "cpu", "pids"}) add(std::string(name) + "/cgroup.procs");
    ASSERT_TRUE(make_directories(folder_.path() + "/freezer"));  // not mounted
    const auto group = Cgroup::create(root_, "two");
    ASSERT_TRUE(group) << group.error().message;
    EXPECT_FALSE(exists("freezer/memplate"));
    for (const char* name : {"memory", "cpu", "pids"})
        add(std::string(name) + "/memplate/two/cgroup.procs");
    for (const char* file :
         {"memory/memplate/two/memory.limit_in_bytes", "cpu/memplate/two/cpu.cfs_period_us",
          "cpu/memplate/two/cpu.cfs_quota_us", "pids/memplate/two/pids.max"})
        add(file);
    ASSERT_TRUE(group->place(12));
    for (const char* name : {"memory", "cpu", "pids"})
        EXPECT_EQ(text(std::string(name) + "/memplate/two/cgroup.procs"), "12");
    Limits limits;
    limits.memory_bytes = 1 << 20;
    limits.cpus = 0.001;  // below what the kernel takes
    limits.processes = 3;
    ASSERT_TRUE(group->apply(limits));
    EXPECT_EQ(text("memory/memplate/two/memory.limit_in_bytes"), "1048576");
    EXPECT_EQ(text("cpu/memplate/two/cpu.cfs_period_us"), "100000");
    EXPECT_EQ(text("cpu/memplate/two/cpu.cfs_quota_us"), "1000");
    EXPECT_EQ(text("pids/memplate/two/pids.max"), "3");
}

TEST_F(FakeTree, ListsEachProcessOnceInOrder) {
    for (const char* name : {"memory", "cpu"}) add(std::string(name) + "/cgroup.procs");
    const auto group = Cgroup::create(root_, "x").value();
    add("memory/memplate/x/cgroup.procs", "30\n7\n");
    add("cpu/memplate/x/cgroup.procs", "7\n9\n0\n");
    EXPECT_THAT(group.processes().value(), testing::ElementsAre(7, 9, 30));
}

TEST_F(FakeTree, AMissingControllerMattersOnlyToItsLimit) {
    add("memory/cgroup.procs");
    const auto group = Cgroup::create(root_, "x").value();
    EXPECT_TRUE(group.apply({}));
    Limits limits;
    limits.processes = 5;
    const auto applied = group.apply(limits);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().kind, ErrorKind::unsupported);
    EXPECT_THAT(applied.error().message, HasSubstr("controller 'pids' is not available"));
    limits = {};
    limits.cpus = -1;
    EXPECT_FALSE(group.apply(limits));
}

TEST_F(FakeTree, NoHierarchyAtAllIsFineWithoutLimits) {
    const auto group = Cgroup::create(root_, "x");
    ASSERT_TRUE(group);
    EXPECT_FALSE(group->tracks_processes());
    EXPECT_TRUE(group->place(1));
    EXPECT_TRUE(group->apply({}));
    EXPECT_TRUE(group->kill_all(100ms));
    EXPECT_TRUE(group->remove(100ms));
}

TEST_F(FakeTree, TheLastOneTakesTheParentAlong) {
    add("cgroup.controllers");
    const auto one = Cgroup::create(root_, "one").value();
    const auto two = Cgroup::create(root_, "two").value();
    ASSERT_TRUE(one.remove(100ms));
    EXPECT_FALSE(exists("memplate/one"));
    EXPECT_TRUE(exists("memplate/two"));
    ASSERT_TRUE(one.remove(100ms)) << "removing twice is fine";
    ASSERT_TRUE(two.remove(100ms));
    EXPECT_FALSE(exists("memplate"));
}

TEST_F(FakeTree, OpenFindsOnlyWhatIsThere) {
    add("memory/cgroup.procs");
    add("cpu/cgroup.procs");
    ASSERT_TRUE(make_directories(folder_.path() + "/cpu/memplate/old"));
    add("cpu/memplate/old/cgroup.procs", "");
    const auto group = Cgroup::open(root_, "old").value();
    EXPECT_TRUE(group.tracks_processes());
    EXPECT_FALSE(exists("memory/memplate"));
    drop("cpu/memplate/old/cgroup.procs");
    EXPECT_TRUE(group.remove(100ms));
    EXPECT_FALSE(exists("cpu/memplate"));
    EXPECT_FALSE(Cgroup::open(root_, "never").value().tracks_processes());
}

}  // namespace
}  // namespace memplate::sandbox
