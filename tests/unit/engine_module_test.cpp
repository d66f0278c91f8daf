// SPDX-License-Identifier: Apache-2.0
//
// What is said when the module or one of its calls refuses. With a module: tests/vm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/module_templates.h"
#include "engine/pages_in_use.h"
#include "engine/pseudo_mm.h"
#include "util/fs.h"

namespace memplate::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// One line that begins with the module's name.
auto line_with(const std::string& text) {
    return AllOf(::testing::StartsWith("pseudo_mm: "), HasSubstr(text), Not(HasSubstr("\n")));
}

TEST(EngineModule, NotLoaded) {
    const auto module = Module::open("/dev/memplate-no-such-device");
    ASSERT_FALSE(module);
    EXPECT_EQ(module.error().kind, ErrorKind::unsupported);
    EXPECT_EQ(module.error().code, ENOENT);
    EXPECT_EQ(module.error().message,
              "pseudo_mm: the kernel module is not loaded (no /dev/memplate-no-such-device); "
              "modprobe pseudo_mm, or build it first with make kmod");
}

TEST(EngineModule, IsSeenWithoutItsDevice) {
    auto root = TemporaryDirectory::create("/tmp", "memplate-test-module");
    ASSERT_TRUE(root);
    const auto without_sys = module_is_loaded(root->path());
    ASSERT_FALSE(without_sys);
    EXPECT_THAT(without_sys.error().message,
                HasSubstr("cannot tell whether the kernel module is loaded"));
    ASSERT_TRUE(make_directories(root->path() + "/sys/module"));
    EXPECT_FALSE(*module_is_loaded(root->path()));
    ASSERT_TRUE(make_directories(root->path() + "/sys/module/pseudo_mm"));
    EXPECT_TRUE(*module_is_loaded(root->path()));
}

TEST(EngineModule, AnotherDevice) {
    const auto module = Module::open("/dev/null");
    ASSERT_FALSE(module);
    EXPECT_EQ(module.error().kind, ErrorKind::unsupported);
    EXPECT_THAT(module.error().message, line_with("/dev/null does not belong to the module"));
}

TEST(EngineModule, NoPermission) {
    for (const int code : {EACCES, EPERM}) {
        const Error error = open_error(code, "/dev/pseudo_mm");
        EXPECT_EQ(error.kind, ErrorKind::unsupported);
        EXPECT_THAT(error.message, line_with("no permission to open it; run memplate as root"));
    }
    EXPECT_THAT(open_error(EIO, "/dev/pseudo_mm").message, line_with("Input/output error"));
}

pseudo_mm_info info_of(uint32_t abi, uint64_t features) {
    pseudo_mm_info info{};
    info.abi = abi;
    info.features = features;
    return info;
}

TEST(EngineModule, InterfacesMustAgree) {
    EXPECT_TRUE(check_interface(info_of(PSEUDO_MM_ABI, 0)));
    const auto old = check_interface(info_of(PSEUDO_MM_ABI - 1, 0));
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().kind, ErrorKind::unsupported);
    EXPECT_THAT(old.error().message, line_with("the loaded module is too old"));
    EXPECT_THAT(old.error().message, HasSubstr("make kmod"));
    const auto newer = check_interface(info_of(PSEUDO_MM_ABI + 1, 0));
    ASSERT_FALSE(newer);
    EXPECT_EQ(newer.error().kind, ErrorKind::unsupported);
    EXPECT_THAT(newer.error().message, line_with("newer than this memplate"));
}

TEST(EngineModule, MissingFeaturesAreNamed) {
    constexpr uint64_t both = PSEUDO_MM_FEATURE_REMOTE | PSEUDO_MM_FEATURE_LAZY;
    EXPECT_TRUE(check_features(info_of(PSEUDO_MM_ABI, both), both));
    EXPECT_TRUE(check_features(info_of(PSEUDO_MM_ABI, 0), 0));
    const auto missing = check_features(info_of(PSEUDO_MM_ABI, PSEUDO_MM_FEATURE_ROLLBACK), both);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().kind, ErrorKind::unsupported);
    EXPECT_THAT(missing.error().message, line_with("(remote, lazy)"));
}

TEST(EngineModule, PoolErrors) {
    pseudo_mm_info info{};
    info.pools = 3;
    info.max_pools = 4;
    info.pool_pages = 90;
    info.max_pool_pages = 100;
    info.lingering_pools = 2;
    const Error full = pool_error(ENOSPC, info);
    EXPECT_EQ(full.kind, ErrorKind::failed);
    EXPECT_THAT(full.message, line_with("3 of 4 pools, 90 of 100 pool pages, 2 pools waiting"));
    EXPECT_THAT(full.message, HasSubstr("max_pool_pages in /sys/module/pseudo_mm/parameters"));
    EXPECT_EQ(pool_error(EPERM, info).kind, ErrorKind::unsupported);
    EXPECT_THAT(pool_error(EPERM, info).message, line_with("CAP_IPC_LOCK"));
    EXPECT_THAT(pool_error(EFAULT, info).message, line_with("memplate pool verify"));
    EXPECT_EQ(pool_error(EOPNOTSUPP, info).kind, ErrorKind::unsupported);
    EXPECT_THAT(pool_error(EOPNOTSUPP, info).message, line_with("--map=mem"));
    EXPECT_EQ(pool_error(EINTR, info).kind, ErrorKind::interrupted);
    EXPECT_THAT(pool_error(EIO, info).message, line_with("damaged"));
    EXPECT_THAT(pool_error(ENOMEM, info).message, line_with("not enough memory"));
    EXPECT_THAT(pool_error(EINVAL, info).message, line_with("Invalid argument"));
}

TEST(EngineModule, TemplateErrors) {
    EXPECT_THAT(template_error(ENOSPC).message, line_with("raise max_templates"));
    EXPECT_THAT(template_error(ENOMEM).message, line_with("not enough memory"));
    const pseudo_mm_extent extent{.addr = 0x7000, .page = 1, .nr_pages = 2, .kind = 0, .pad = 0};
    EXPECT_THAT(add_error(ENOSPC, extent).message, line_with("raise max_extents"));
    EXPECT_THAT(add_error(EEXIST, extent).message, line_with("at or after 0x7000"));
    EXPECT_THAT(add_error(ENOMEM, extent).message, line_with("not enough memory"));
}

TEST(EngineModule, AttachErrors) {
    EXPECT_THAT(attach_error(ESRCH, 17, 0).message, line_with("process 17 ended before"));
    EXPECT_EQ(attach_error(EPERM, 17, 0).kind, ErrorKind::unsupported);
    EXPECT_THAT(attach_error(EPERM, 17, 0).message, line_with("CAP_SYS_PTRACE"));
    EXPECT_THAT(attach_error(EFAULT, 17, 0x5000).message, line_with("at 0x5000"));
    EXPECT_THAT(attach_error(EOPNOTSUPP, 17, 0x5000).message, line_with("locked"));
    EXPECT_THAT(attach_error(ENXIO, 17, 0x5000).message, line_with("at 0x5000"));
    EXPECT_THAT(attach_error(ENOMEM, 17, 0).message, line_with("memory cgroup is at its limit"));
    EXPECT_EQ(attach_error(EINTR, 17, 0).kind, ErrorKind::interrupted);
    EXPECT_THAT(attach_error(EBADFD, 17, 0).message, line_with("not complete"));
    EXPECT_THAT(attach_error(EINVAL, 17, 0).message, line_with("process 17: Invalid argument"));
}

TEST(EngineModule, PageRunsNumberThePagesOfAModulePool) {
    const PageRuns runs({{100, 5}, {10, 2}, {12, 3}, {103, 4}, {12, 1}});
    ASSERT_EQ(runs.runs().size(), 2U);
    EXPECT_EQ(runs.runs()[0].first, 10U);
    EXPECT_EQ(runs.runs()[0].count, 5U);
    EXPECT_EQ(runs.runs()[1].first, 100U);
    EXPECT_EQ(runs.runs()[1].count, 7U);
    EXPECT_EQ(runs.index_of(10), 0U);
    EXPECT_EQ(runs.index_of(14), 4U);
    EXPECT_EQ(runs.index_of(100), 5U);
    EXPECT_EQ(runs.index_of(106), 11U);
    EXPECT_TRUE(PageRuns({}).runs().empty());
}

}  // namespace
}  // namespace memplate::engine
