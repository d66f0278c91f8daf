// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "util/fd.h"

namespace memplate {
namespace {

bool is_open(int fd) {
    return ::fcntl(fd, F_GETFD) >= 0;
}

UniqueFd memory_file() {
    return UniqueFd(::memfd_create("test", MFD_CLOEXEC));
}

TEST(UniqueFd, ClosesAtTheEndOfItsScope) {
    int number = -1;
    {
        const UniqueFd fd = memory_file();
        number = fd.get();
        EXPECT_TRUE(is_open(number));
    }
    EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, MoveLeavesTheSourceEmptyAndClosesTheTarget) {
    UniqueFd first = memory_file();
    UniqueFd second = memory_file();
    const int kept = first.get();
    const int closed = second.get();
    second = std::move(first);
    EXPECT_EQ(second.get(), kept);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is what is tested
    EXPECT_FALSE(is_open(closed));
    const UniqueFd third(std::move(second));
    EXPECT_EQ(third.get(), kept);
    EXPECT_TRUE(is_open(kept));
}

TEST(UniqueFd, ReleaseGivesUpOwnership) {
    UniqueFd fd = memory_file();
    const int number = fd.release();
    EXPECT_FALSE(fd);
    fd.reset();
    EXPECT_TRUE(is_open(number));
    ::close(number);
}

TEST(UniqueFd, DuplicateSharesTheOpenFile) {
    const UniqueFd fd = memory_file();
    const auto second = fd.duplicate();
    ASSERT_TRUE(second);
    EXPECT_NE(second->get(), fd.get());
    EXPECT_EQ(::lseek(fd.get(), 17, SEEK_SET), 17);
    EXPECT_EQ(::lseek(second->get(), 0, SEEK_CUR), 17);
    EXPECT_EQ(::fcntl(second->get(), F_GETFD), FD_CLOEXEC);
    const auto nothing = UniqueFd().duplicate();
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().code, EBADF);
}

TEST(Fd, OpenIsCloseOnExecAndNamesTheMissingPath) {
    const auto fd = open_at(AT_FDCWD, "/dev/null", O_RDONLY);
    ASSERT_TRUE(fd);
    EXPECT_EQ(::fcntl(fd->get(), F_GETFD), FD_CLOEXEC);
    const auto missing = open_at(AT_FDCWD, "/no/such/file", O_RDONLY);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ENOENT);
    EXPECT_NE(missing.error().message.find("/no/such/file"), std::string::npos);
}

TEST(Fd, WritesAtOffsetsAndReadsBackExactly) {
    const UniqueFd fd = memory_file();
    const std::string text = "pages";
    ASSERT_TRUE(pwrite_all(fd.get(), bytes_of(text), 4096));
    EXPECT_EQ(file_size(fd.get()), 4096 + text.size());
    std::string back(text.size(), '\0');
    ASSERT_TRUE(pread_exact(fd.get(), writable_bytes_of(back), 4096));
    EXPECT_EQ(back, text);
}

TEST(Fd, ShortFileIsAnErrorWithItsOwnCode) {
    const UniqueFd fd = memory_file();
    const std::string text = "short";
    ASSERT_TRUE(pwrite_all(fd.get(), bytes_of(text), 0));
    std::array<char, 6> back{};
    const auto read = pread_exact(fd.get(), writable_bytes_of(back), 0);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, ENODATA);
}

TEST(Fd, WriteAllContinuesAtTheCurrentPosition) {
    const UniqueFd fd = memory_file();
    ASSERT_TRUE(write_all(fd.get(), bytes_of(std::string("one"))));
    ASSERT_TRUE(write_all(fd.get(), bytes_of(std::string("two"))));
    std::string back(6, '\0');
    ASSERT_TRUE(pread_exact(fd.get(), writable_bytes_of(back), 0));
    EXPECT_EQ(back, "onetwo");
}

TEST(Fd, WriteErrorsAreReported) {
    const auto full = open_at(AT_FDCWD, "/dev/full", O_WRONLY);
    ASSERT_TRUE(full);
    const auto written = write_all(full->get(), bytes_of(std::string("x")));
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, ENOSPC);
    EXPECT_FALSE(file_size(-1));
}

}  // namespace
}  // namespace memplate
