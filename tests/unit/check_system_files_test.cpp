// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <optional>

#include "check/system_files.h"
#include "util/fs.h"

namespace memplate::check {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A directory with the parts of /proc and /sys that a test puts there.
class CheckSystemFiles : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-check");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        auto files = SystemFiles::open(directory_.path());
        ASSERT_TRUE(files) << files.error().message;
        files_ = std::move(*files);
    }
    void put(const std::string& path, std::string_view text = "") const {
        const std::string full = directory_.path() + "/" + path;
        ASSERT_TRUE(make_directories(full.substr(0, full.rfind('/'))));
        std::ofstream(full, std::ios::binary) << text;
    }
    [[nodiscard]] const SystemFiles& files() const { return *files_; }

  private:
    TemporaryDirectory directory_;
    std::optional<SystemFiles> files_;
};

TEST_F(CheckSystemFiles, UnifiedCgroup) {
    put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    put("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
    EXPECT_EQ(files().cgroup_version(), "v2");
    EXPECT_EQ(files().cgroup_controller("memory"), "cgroup v2 at /sys/fs/cgroup");
    EXPECT_EQ(files().cgroup_controller("pids"), "cgroup v2 at /sys/fs/cgroup");
    const auto absent = files().cgroup_controller("rdma");
    ASSERT_FALSE(absent);
    EXPECT_THAT(absent.error().message, HasSubstr("controllers of /sys/fs/cgroup"));
}

TEST_F(CheckSystemFiles, PartOfAControllerNameIsNotTheController) {
    put("sys/fs/cgroup/cgroup.controllers", "cpuset io\n");
    EXPECT_FALSE(files().cgroup_controller("cpu"));
}

TEST_F(CheckSystemFiles, SeparateHierarchies) {
    put("sys/fs/cgroup/memory/cgroup.procs");
    put("sys/fs/cgroup/unified/cgroup.procs");
    EXPECT_EQ(files().cgroup_version(), "v1");
    EXPECT_EQ(files().cgroup_controller("memory"), "cgroup v1 at /sys/fs/cgroup/memory");
    const auto absent = files().cgroup_controller("cpu");
    ASSERT_FALSE(absent);
    EXPECT_EQ(absent.error().message, "not mounted at /sys/fs/cgroup/cpu");
}

TEST_F(CheckSystemFiles, ReadOnlyHierarchyIsOfNoUse) {
    put("sys/fs/cgroup/memory/cgroup.procs");
    put("sys/fs/cgroup/cpu/cgroup.procs");
    put("proc/self/mounts",
        "cgroup /sys/fs/cgroup/memory cgroup ro,nosuid,memory 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup rw,errors=ro,cpu 0 0\n");
    const auto memory = files().cgroup_controller("memory");
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().message, "/sys/fs/cgroup/memory is read-only");
    EXPECT_TRUE(files().cgroup_controller("cpu"));
}

TEST_F(CheckSystemFiles, TheLastMountOnAPathCounts) {
    put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    put("proc/self/mounts",
        "cgroup2 /sys/fs/cgroup cgroup2 ro 0 0\n"
        "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
    EXPECT_TRUE(files().cgroup_controller("memory"));
}

TEST_F(CheckSystemFiles, NoCgroupsAtAll) {
    put("sys/fs/cgroup/README");
    const auto version = files().cgroup_version();
    ASSERT_FALSE(version);
    EXPECT_THAT(version.error().message, HasSubstr("no cgroup hierarchy"));
    EXPECT_FALSE(files().cgroup_controller("memory"));
}

TEST_F(CheckSystemFiles, Devices) {
    EXPECT_THAT(files().names_in("sys/bus/dax/devices"), IsEmpty());
    put("sys/bus/dax/devices/dax1.0/size");
    put("sys/bus/dax/devices/dax0.0/size");
    EXPECT_THAT(files().names_in("sys/bus/dax/devices"), ElementsAre("dax0.0", "dax1.0"));
}

TEST_F(CheckSystemFiles, APlainFileIsNoDevice) {
    put("dev/pseudo_mm");
    EXPECT_TRUE(files().exists("dev/pseudo_mm"));
    EXPECT_FALSE(files().is_character_device("dev/pseudo_mm"));
    const auto host = SystemFiles::open();
    ASSERT_TRUE(host);
    EXPECT_TRUE(host->is_character_device("dev/null"));
}

TEST(CheckSystemFilesOpen, MissingRootIsAnError) {
    EXPECT_FALSE(SystemFiles::open("/nonexistent"));
}

}  // namespace
}  // namespace memplate::check
