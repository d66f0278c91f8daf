// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "util/fs.h"
#include "util/lock.h"

namespace memplate {
namespace {

class Lock : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-lock");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        path_ = directory_.path() + "/file";
    }
    /// A new open file description of the one file.
    [[nodiscard]] UniqueFd opened() const {
        auto fd = open_at(AT_FDCWD, path_, O_RDWR | O_CREAT, 0600);
        return fd ? std::move(*fd) : UniqueFd();
    }
    TemporaryDirectory directory_;
    std::string path_;
};

TEST_F(Lock, SharedLocksAdmitEachOtherOnly) {
    const UniqueFd one = opened();
    const UniqueFd two = opened();
    EXPECT_EQ(try_lock_range(one.get(), LockMode::shared, 0, 10), true);
    EXPECT_EQ(try_lock_range(two.get(), LockMode::shared, 0, 10), true);
    EXPECT_EQ(try_lock_range(two.get(), LockMode::exclusive, 0, 10), false);
    EXPECT_TRUE(unlock_range(one.get(), 0, 10));
    EXPECT_EQ(try_lock_range(two.get(), LockMode::exclusive, 0, 10), true);
    EXPECT_EQ(try_lock_range(one.get(), LockMode::shared, 0, 10), false);
}

TEST_F(Lock, RangesAreIndependent) {
    const UniqueFd one = opened();
    const UniqueFd two = opened();
    EXPECT_EQ(try_lock_range(one.get(), LockMode::exclusive, 10, 5), true);
    EXPECT_EQ(try_lock_range(two.get(), LockMode::exclusive, 15, 5), true);
    EXPECT_EQ(try_lock_range(two.get(), LockMode::exclusive, 0, 10), true);
    EXPECT_EQ(try_lock_range(two.get(), LockMode::exclusive, 14, 1), false);
}

TEST_F(Lock, QuerySeesOthersButNotOnesOwn) {
    const UniqueFd one = opened();
    const UniqueFd two = opened();
    ASSERT_EQ(try_lock_range(one.get(), LockMode::shared, 100, 1), true);
    EXPECT_EQ(range_is_locked(two.get(), LockMode::exclusive, 100, 1), true);
    EXPECT_EQ(range_is_locked(two.get(), LockMode::shared, 100, 1), false);
    EXPECT_EQ(range_is_locked(two.get(), LockMode::exclusive, 101, 1), false);
    EXPECT_EQ(range_is_locked(one.get(), LockMode::exclusive, 100, 1), false);
}

TEST_F(Lock, ADuplicateKeepsTheLockAfterTheFirstDescriptorCloses) {
    const UniqueFd other = opened();
    UniqueFd first = opened();
    ASSERT_EQ(try_lock_range(first.get(), LockMode::exclusive, 0, 1), true);
    auto second = first.duplicate();
    ASSERT_TRUE(second);
    first.reset();
    EXPECT_EQ(try_lock_range(other.get(), LockMode::exclusive, 0, 1), false);
    second->reset();
    EXPECT_EQ(try_lock_range(other.get(), LockMode::exclusive, 0, 1), true);
}

TEST_F(Lock, AKilledHolderLeavesNoLock) {
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const UniqueFd fd = opened();
        if (try_lock_range(fd.get(), LockMode::exclusive, 0, 1) != true) ::_exit(1);
        (void)!::write(ready[1], "r", 1);
        for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    const UniqueFd fd = opened();
    EXPECT_EQ(try_lock_range(fd.get(), LockMode::exclusive, 0, 1), false);
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_EQ(try_lock_range(fd.get(), LockMode::exclusive, 0, 1), true);
}

TEST_F(Lock, WaitingLockIsTakenOnceFree) {
    const UniqueFd one = opened();
    const UniqueFd two = opened();
    ASSERT_TRUE(lock_range(one.get(), LockMode::exclusive, 0, 1));
    std::atomic<bool> taken = false;
    std::jthread waiter([&] {
        EXPECT_TRUE(lock_range(two.get(), LockMode::exclusive, 0, 1));
        taken = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_FALSE(taken);
    ASSERT_TRUE(unlock_range(one.get(), 0, 1));
    waiter.join();
    EXPECT_TRUE(taken);
}

TEST_F(Lock, LockFileExcludesUntilDestroyed) {
    const UniqueFd other = opened();
    {
        const auto lock = LockFile::acquire(path_);
        ASSERT_TRUE(lock);
        EXPECT_EQ(try_lock_range(other.get(), LockMode::exclusive, 0, 1), false);
    }
    EXPECT_EQ(try_lock_range(other.get(), LockMode::exclusive, 0, 1), true);
}

TEST_F(Lock, ErrorsAreReported) {
    const auto missing = LockFile::acquire(directory_.path() + "/missing/lock");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ENOENT);
    const auto closed = try_lock_range(-1, LockMode::shared, 0, 1);
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().code, EBADF);
}

}  // namespace
}  // namespace memplate
