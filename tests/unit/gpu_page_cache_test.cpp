// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "gpu/page_cache.h"
#include "util/fs.h"

namespace memplate::gpu {
namespace {

/// A file of some pages beside the test program: on a disk, where a tmpfs could not be evicted.
class ColdFilesTest : public testing::Test {
  protected:
    static constexpr size_t pages = 64;

    void SetUp() override {
        const auto self = std::filesystem::read_symlink("/proc/self/exe").parent_path();
        auto made = make_temporary_directory(self.string(), "page-cache");
        ASSERT_TRUE(made) << made.error().message;
        folder_ = *made;
        if (on_tmpfs(folder_)) GTEST_SKIP() << "the build folder is on a tmpfs";
        path_ = folder_ + "/file";
        const std::string data(pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE)), 'x');
        ASSERT_TRUE(write_file_atomic(AT_FDCWD, path_, data));
        ASSERT_TRUE(read_file(path_));
    }
    void TearDown() override { (void)remove_tree(folder_); }

    [[nodiscard]] size_t cached() const {
        const auto fd = open_at(AT_FDCWD, path_, O_RDONLY);
        const auto states = cached_pages(fd->get());
        EXPECT_TRUE(states);
        return static_cast<size_t>(std::ranges::count(*states, true));
    }

    std::string folder_;
    std::string path_;
};

TEST_F(ColdFilesTest, AreGoneWhileItLivesAndBackAfter) {
    ASSERT_EQ(cached(), pages);
    {
        const ColdFiles cold({path_});
        EXPECT_EQ(cached(), 0U);
        EXPECT_EQ(cold.cached_bytes(), pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
        EXPECT_EQ(cold.kept_bytes(), 0U);
    }
    EXPECT_EQ(cached(), pages);
}

TEST_F(ColdFilesTest, SaysWhatTheKernelKept) {
    const auto fd = open_at(AT_FDCWD, path_, O_RDONLY);
    const auto bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE)) * pages;
    void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd->get(), 0);
    ASSERT_NE(address, MAP_FAILED);
    {
        const ColdFiles cold({path_});
        EXPECT_EQ(cold.kept_bytes(), bytes);
    }
    ::munmap(address, bytes);
}

TEST_F(ColdFilesTest, LeavesOutWhatIsNotThere) {
    const ColdFiles cold({path_ + "-not-there", "/proc/version"});
    EXPECT_EQ(cold.cached_bytes(), 0U);
}

}  // namespace
}  // namespace memplate::gpu
