// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <array>

#include "check/capabilities.h"
#include "check/child.h"
#include "check/probes.h"
#include "util/fs.h"

namespace memplate::check {
namespace {

using testing::HasSubstr;

TEST(CheckChild, SuccessAndErrorComeBack) {
    EXPECT_TRUE(in_child([]() -> Result<> { return {}; }));
    const auto result = in_child([]() -> Result<> { return fail_errno(EPERM, "unshare"); });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message, "unshare: Operation not permitted");
}

TEST(CheckChild, ChangesStayInTheChild) {
    std::array<char, 4096> before{};
    std::array<char, 4096> after{};
    ASSERT_NE(::getcwd(before.data(), before.size()), nullptr);
    EXPECT_TRUE(in_child([]() -> Result<> {
        if (::chdir("/proc") != 0) return fail_errno(errno, "chdir");
        return {};
    }));
    ASSERT_NE(::getcwd(after.data(), after.size()), nullptr);
    EXPECT_EQ(before, after);
}

TEST(CheckChild, ADeadChildIsAnError) {
    const auto result = in_child([]() -> Result<> {
        ::raise(SIGKILL);
        return {};
    });
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("signal 9"));
}

TEST(CheckChild, AChildThatHangsIsEnded) {
    const auto result = in_child(
        []() -> Result<> {
            for (;;) ::pause();
        },
        std::chrono::milliseconds(50));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().message, "no answer within 50 ms");
}

TEST(CheckProbes, WhatEveryUserMayDoWorks) {
    const auto sealing = try_memfd_sealing();
    EXPECT_TRUE(sealing) << sealing.error().message;
    const auto pagemap = try_pagemap();
    EXPECT_TRUE(pagemap) << pagemap.error().message;
}

TEST(CheckProbes, RefusalIsReported) {
    const auto result = try_namespace(CLONE_VM | CLONE_SIGHAND | CLONE_PTRACE);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("unshare: "));
}

/// What other processes see of this machine and of this process.
std::vector<std::string> surroundings() {
    std::vector<std::string> seen;
    seen.push_back(read_file("/proc/self/mounts").value_or("unreadable"));
    for (const std::string& link :
         list_directory(AT_FDCWD, "/sys/class/net").value_or(std::vector<std::string>{}))
        seen.push_back(link);
    for (const char* kind : {"pid_for_children", "mnt", "net", "ipc", "uts", "cgroup"}) {
        std::array<char, 64> target{};
        const std::string path = std::string("/proc/self/ns/") + kind;
        if (::readlink(path.c_str(), target.data(), target.size() - 1) > 0)
            seen.emplace_back(target.data());
    }
    return seen;
}

TEST(CheckProbes, LeaveNothingBehind) {
    const auto before = surroundings();
    for (const int flag : {CLONE_NEWPID, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWUTS})
        (void)try_namespace(flag);
    (void)try_overlay();
    (void)try_bridge();
    (void)try_veth();
    EXPECT_EQ(surroundings(), before);
    EXPECT_NE(::access("/memplate-check", F_OK), 0);
    EXPECT_NE(::access("/tmp/upper", F_OK), 0);
}

TEST(CheckExamine, EveryCapabilityHasItsTexts) {
    Context context;
    auto state = TemporaryDirectory::create("/tmp", "memplate-test-check");
    ASSERT_TRUE(state);
    context.settings.state_dir = state->path();
    const Report report = examine(context, state->path());  // an empty /proc, /sys and /dev
    EXPECT_FALSE(report.works("attached"));
    for (const Capability& capability : report.capabilities) {
        EXPECT_FALSE(capability.group.empty()) << capability.name;
        EXPECT_FALSE(capability.reason.empty()) << capability.name;
        EXPECT_FALSE(capability.needed_for.empty()) << capability.name;
        EXPECT_EQ(capability.fix.empty(), capability.ok) << capability.name;
        EXPECT_FALSE(capability.ok && capability.group == "limits") << capability.name;
    }
}

TEST(CheckExamine, AnUnreadableSystemMeansNothingWorks) {
    const Report report = examine(Context{}, "/nonexistent");
    for (const auto& [method, works] : report.methods) EXPECT_FALSE(works) << method;
}

}  // namespace
}  // namespace memplate::check
