// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "gpu/checkpoint.h"
#include "util/fs.h"

namespace memplate::gpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t mebibyte = 1 << 20;

DeviceUse device(const std::string& uuid, uint64_t free, std::optional<uint64_t> own) {
    DeviceUse use;
    use.uuid = uuid;
    use.name = "Fake";
    use.known = true;
    use.total = 1000 * mebibyte;
    use.free = free;
    use.own = own;
    return use;
}

CheckpointFacts ordinary() {
    CheckpointFacts facts;
    facts.use.state = ProcessState::running;
    facts.use.devices = {device("GPU-a", 900 * mebibyte, 100 * mebibyte)};
    facts.memory.managed_bytes = 2 * mebibyte;
    facts.driver_version = "580.65.06";
    facts.host_available = 200 * mebibyte;
    return facts;
}

TEST(GpuCheckpointObstacles, AnOrdinaryProcessHasNone) {
    EXPECT_THAT(checkpoint_obstacles(ordinary()), IsEmpty());
}

TEST(GpuCheckpointObstacles, ManagedMemory) {
    auto facts = ordinary();
    facts.memory.managed_bytes = 100 * mebibyte;
    EXPECT_THAT(checkpoint_obstacles(facts),
                ElementsAre("it uses managed memory (UVM, 100 MiB), which cannot be checkpointed"));
}

TEST(GpuCheckpointObstacles, SharedMemoryUntilTheDriverCan) {
    auto facts = ordinary();
    facts.memory.shares = true;
    EXPECT_THAT(checkpoint_obstacles(facts), ElementsAre(HasSubstr("CUDA IPC")));
    facts.driver_version = "610.10";
    EXPECT_THAT(checkpoint_obstacles(facts), IsEmpty());
    facts.driver_version.clear();  // not told
    EXPECT_THAT(checkpoint_obstacles(facts), ElementsAre(HasSubstr("CUDA IPC")));
}

TEST(GpuCheckpointObstacles, MigOfADeviceThatItUses) {
    auto facts = ordinary();
    facts.use.devices.push_back(device("GPU-b", 1000 * mebibyte, std::nullopt));
    facts.use.devices[1].mig = true;  // not its device
    EXPECT_THAT(checkpoint_obstacles(facts), IsEmpty());
    facts.use.devices[0].mig = true;
    EXPECT_THAT(checkpoint_obstacles(facts),
                ElementsAre(HasSubstr("GPU-a (Fake) is divided by MIG")));
}

TEST(GpuCheckpointObstacles, AllAreTold) {
    auto facts = ordinary();
    facts.use.devices[0].mps = true;
    facts.memory.shares = true;
    facts.host_available = 99 * mebibyte;
    EXPECT_THAT(checkpoint_obstacles(facts),
                ElementsAre(HasSubstr("MPS"), HasSubstr("IPC"),
                            HasSubstr("100 MiB of device memory do not fit")));
}

TEST(GpuCheckpointObstacles, RoomToComeBack) {
    const std::vector<DeviceUse> devices = {device("GPU-a", 100 * mebibyte, std::nullopt),
                                            device("GPU-b", 10 * mebibyte, std::nullopt)};
    EXPECT_THAT(restore_obstacles(devices, {{"GPU-a", 100 * mebibyte}}), IsEmpty());
    EXPECT_THAT(restore_obstacles(devices, {{"GPU-a", 34 * mebibyte}}, 3),
                ElementsAre("102 MiB of device memory are needed on GPU-a and 100 MiB are free"));
    EXPECT_THAT(restore_obstacles(devices, {{"GPU-a", 1}, {"GPU-b", 11 * mebibyte}}),
                ElementsAre(HasSubstr("GPU-b")));
    EXPECT_THAT(restore_obstacles(devices, {{"GPU-c", 1}}),
                ElementsAre("it was checkpointed on GPU-c, which is not here"));
}

/// A directory that looks like /proc with one process, number 42.
class GpuCheckpointProc : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-gpu");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        ASSERT_TRUE(make_directories(directory_.path() + "/42"));
        auto fd = open_at(AT_FDCWD, directory_.path(), O_RDONLY | O_DIRECTORY);
        ASSERT_TRUE(fd);
        proc_ = std::move(*fd);
    }
    void put(const std::string& name, std::string_view text) const {
        std::ofstream(directory_.path() + "/" + name, std::ios::binary) << text;
    }
    [[nodiscard]] int proc() const { return proc_.get(); }

  private:
    TemporaryDirectory directory_;
    UniqueFd proc_;
};

TEST_F(GpuCheckpointProc, MemoryOfTheUvmDriverAndOfIpc) {
    put("42/maps",
        "206000000-206200000 rw-s 00000000 00:06 570   /dev/nvidiactl\n"
        "206200000-206400000 rw-s 206200000 00:06 571  /dev/nvidia-uvm\n"
        "7ea03a000000-7ea03e000000 rw-s 7ea03a000000 00:06 571 /dev/nvidia-uvm\n"
        "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n");
    auto memory = read_process_memory(proc(), 42);
    ASSERT_TRUE(memory) << memory.error().message;
    EXPECT_EQ(memory->managed_bytes, 66 * mebibyte);
    EXPECT_FALSE(memory->shares);
    put("42/maps", "7f0000000000-7f0000001000 rw-s 00000000 00:1a 9 /dev/shm/cuda.shm.0.2a.1\n");
    memory = read_process_memory(proc(), 42);
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->managed_bytes, 0U);
    EXPECT_TRUE(memory->shares);
    EXPECT_FALSE(read_process_memory(proc(), 43));
}

TEST_F(GpuCheckpointProc, FreeMemoryOfTheHost) {
    put("meminfo", "MemTotal:       100 kB\nMemAvailable:    70 kB\nBuffers: 1 kB\n");
    const auto available = host_memory_available(proc(), 42);
    ASSERT_TRUE(available) << available.error().message;
    EXPECT_EQ(*available, 70U * 1024);
    put("meminfo", "MemTotal:       100 kB\n");
    EXPECT_FALSE(host_memory_available(proc(), 42));
}

TEST(GpuCheckpointReport, RatesAreOfDeviceBytes) {
    CheckpointReport report;
    report.before = ProcessState::running;
    report.after = ProcessState::checkpointed;
    report.steps = {{.name = "lock", .ms = 0.5},
                    {.name = "checkpoint",
                     .ms = 250,
                     .device_bytes = 1'000'000'000,
                     .host_bytes = 900'000'000}};
    report.devices = {{"GPU-a", 1'000'000'000}};
    const Json json = to_json(report);
    EXPECT_EQ(json["ms"], 250.5);
    EXPECT_EQ(json["steps"][0]["gb_per_s"], 0.0);
    EXPECT_EQ(json["steps"][1]["gb_per_s"], 4.0);
    EXPECT_EQ(json["after"], "checkpointed");
    EXPECT_EQ(json["devices"][0]["uuid"], "GPU-a");
    EXPECT_THAT(report_text(report, false), HasSubstr("4.00"));
}

TEST_F(GpuCheckpointProc, WhatAProcessNeedsIsKeptUntilItIsGone) {
    Context context;
    auto state = TemporaryDirectory::create("/tmp", "memplate-test-gpu-state");
    ASSERT_TRUE(state);
    context.settings.state_dir = state->path();
    EXPECT_FALSE(kept_needs(context, ::getpid()));
    const pid_t other = ::fork();
    if (other == 0) {
        ::pause();
        ::_exit(0);
    }
    ASSERT_TRUE(keep_needs(context, other, {{"GPU-b", 5}}));
    ASSERT_TRUE(keep_needs(context, ::getpid(), {{"GPU-a", 17}}));
    const auto needs = kept_needs(context, ::getpid());
    ASSERT_TRUE(needs);
    ASSERT_EQ(needs->size(), 1U);
    EXPECT_EQ((*needs)[0].uuid, "GPU-a");
    EXPECT_EQ((*needs)[0].bytes, 17U);
    EXPECT_TRUE(kept_needs(context, other));

    ::kill(other, SIGKILL);
    ASSERT_EQ(::waitpid(other, nullptr, 0), other);
    EXPECT_FALSE(kept_needs(context, other));  // its number may be another's soon
    ASSERT_TRUE(keep_needs(context, ::getpid(), {{"GPU-a", 18}}));
    EXPECT_NE(::access((state->path() + "/gpu/" + std::to_string(other) + ".json").c_str(), F_OK),
              0);
    forget_needs(context, ::getpid());
    EXPECT_FALSE(kept_needs(context, ::getpid()));
}

}  // namespace
}  // namespace memplate::gpu
