// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "util/fs.h"

namespace memplate {
namespace {

namespace stdfs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class Fs : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-fs");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
    }
    [[nodiscard]] std::string at(const std::string& name) const {
        return directory_.path() + "/" + name;
    }
    static void put(const std::string& path, std::string_view text) {
        std::ofstream(path, std::ios::binary) << text;
    }
    TemporaryDirectory directory_;
};

TEST_F(Fs, ReadsFilesLongerThanOneBuffer) {
    std::string text(100'000, 'x');
    text[50'000] = '\0';
    put(at("long"), text);
    EXPECT_EQ(read_file(at("long")), text);
}

TEST_F(Fs, ReadsFilesOfUnknownSize) {
    const auto text = read_file("/proc/self/status");
    ASSERT_TRUE(text);
    EXPECT_THAT(*text, HasSubstr("NSpid:"));
}

TEST_F(Fs, RefusesFilesAboveTheLimit) {
    put(at("file"), "12345");
    EXPECT_EQ(read_file(at("file"), 5), "12345");
    const auto refused = read_file(at("file"), 4);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EFBIG);
    EXPECT_THAT(refused.error().message, HasSubstr(at("file")));
}

TEST_F(Fs, AtomicWriteReplacesAndLeavesNothingBehind) {
    ASSERT_TRUE(write_file_atomic(AT_FDCWD, at("file"), "old", 0600));
    ASSERT_TRUE(write_file_atomic(AT_FDCWD, at("file"), "new", 0600));
    EXPECT_EQ(read_file(at("file")), "new");
    EXPECT_THAT(*list_directory(AT_FDCWD, directory_.path()), ElementsAre("file"));
    struct stat status{};
    ASSERT_EQ(::stat(at("file").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(Fs, AtomicWriteWorksRelativeToADirectory) {
    const auto fd = open_at(AT_FDCWD, directory_.path(), O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(write_file_atomic(fd->get(), "file", "text"));
    EXPECT_EQ(read_file_at(fd->get(), "file"), "text");
}

TEST_F(Fs, FailedAtomicWriteKeepsTheOldAndRemovesTheTemporary) {
    ASSERT_TRUE(make_directories(at("taken/inside")));
    const auto written = write_file_atomic(AT_FDCWD, at("taken"), "text");
    ASSERT_FALSE(written);
    EXPECT_THAT(written.error().message, HasSubstr(at("taken")));
    EXPECT_THAT(*list_directory(AT_FDCWD, directory_.path()), ElementsAre("taken"));
}

TEST_F(Fs, ConcurrentAtomicWritesNeverShowAMixture) {
    {
        std::vector<std::jthread> writers;
        for (char letter = 'a'; letter < 'e'; letter++)
            writers.emplace_back([this, letter] {
                for (int i = 0; i < 20; i++)
                    EXPECT_TRUE(
                        write_file_atomic(AT_FDCWD, at("file"), std::string(20'000, letter)));
            });
    }
    const auto text = read_file(at("file"));
    ASSERT_TRUE(text);
    EXPECT_EQ(*text, std::string(20'000, text->front()));
    EXPECT_THAT(*list_directory(AT_FDCWD, directory_.path()), ElementsAre("file"));
}

TEST_F(Fs, ControlFilesMustExist) {
    put(at("control"), "before");
    ASSERT_TRUE(write_control_file(AT_FDCWD, at("control"), "after!"));
    EXPECT_EQ(read_file(at("control")), "after!");
    const auto missing = write_control_file(AT_FDCWD, at("missing"), "1");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ENOENT);
    EXPECT_FALSE(stdfs::exists(at("missing")));
}

TEST_F(Fs, ListsDirectoriesSortedAndThroughLinks) {
    for (const char* name : {"b", "a", ".hidden", "c"}) put(at(name), "");
    stdfs::create_symlink(directory_.path(), at("d"));
    EXPECT_THAT(*list_directory(AT_FDCWD, at("d")), ElementsAre(".hidden", "a", "b", "c", "d"));
    EXPECT_FALSE(list_directory(AT_FDCWD, at("a")));
}

TEST_F(Fs, MakesDirectoriesAndAcceptsExistingOnes) {
    ASSERT_TRUE(make_directories(at("a/b//c/")));
    EXPECT_TRUE(stdfs::is_directory(at("a/b/c")));
    EXPECT_TRUE(make_directories(at("a/b/c")));
    EXPECT_TRUE(make_directories("/"));
    put(at("file"), "");
    const auto refused = make_directories(at("file"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ENOTDIR);
    EXPECT_FALSE(make_directories(""));
}

TEST_F(Fs, PrivateDirectoriesAreOursAlone) {
    ASSERT_TRUE(make_private_directory(at("a/b")));
    EXPECT_TRUE(make_private_directory(at("a/b")));
    const std::string wrong = ": must be a directory that belongs to uid ";
    stdfs::create_symlink(at("a/b"), at("link"));
    EXPECT_THAT(make_private_directory(at("link")).error().message, StartsWith(at("link") + wrong));
    stdfs::permissions(at("a/b"), stdfs::perms::all);
    EXPECT_THAT(make_private_directory(at("a/b")).error().message, StartsWith(at("a/b") + wrong));
    if (::geteuid() != 0) return;
    stdfs::permissions(at("a/b"), stdfs::perms::owner_all);
    ASSERT_EQ(::chown(at("a/b").c_str(), 12345, 0), 0);
    EXPECT_THAT(make_private_directory(at("a/b")).error().message, StartsWith(at("a/b") + wrong));
}

TEST_F(Fs, RemovesTreesButNotWhatLinksPointTo) {
    ASSERT_TRUE(make_directories(at("keep")));
    put(at("keep/file"), "precious");
    ASSERT_TRUE(make_directories(at("tree/deep/deeper")));
    put(at("tree/deep/file"), "");
    stdfs::create_directory_symlink(at("keep"), at("tree/link"));
    stdfs::create_symlink("nowhere", at("tree/dangling"));
    ASSERT_TRUE(remove_tree(at("tree")));
    EXPECT_FALSE(stdfs::exists(at("tree")));
    EXPECT_EQ(read_file(at("keep/file")), "precious");
}

TEST_F(Fs, RemoveTreeTakesFilesLinksAndMissingPaths) {
    put(at("file"), "");
    stdfs::create_directory_symlink(directory_.path(), at("link"));
    EXPECT_TRUE(remove_tree(at("link")));
    EXPECT_TRUE(stdfs::exists(at("file")));
    EXPECT_TRUE(remove_tree(at("file")));
    EXPECT_FALSE(stdfs::exists(at("file")));
    EXPECT_TRUE(remove_tree(at("missing")));
}

TEST_F(Fs, RemoveTreeDoesNotEnterBindMounts) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    ASSERT_TRUE(make_directories(at("keep")));
    put(at("keep/file"), "precious");
    ASSERT_TRUE(make_directories(at("tree/mounted")));
    // In a mount namespace of its own, so that nothing stays mounted whatever happens.
    const pid_t child = ::fork();
    if (child == 0) {
        if (::unshare(CLONE_NEWNS) != 0 ||
            ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount(at("keep").c_str(), at("tree/mounted").c_str(), nullptr, MS_BIND, nullptr) != 0)
            ::_exit(77);
        const auto removed = remove_tree(at("tree"));
        ::_exit(!removed && removed.error().code == EXDEV ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "a mount namespace is not permitted here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(read_file(at("keep/file")), "precious");
}

TEST_F(Fs, TemporaryDirectoriesAreFreshAndRemoved) {
    std::string first_path;
    {
        auto first = TemporaryDirectory::create(at("new/parent"), "work");
        auto second = TemporaryDirectory::create(at("new/parent"), "work");
        ASSERT_TRUE(first && second);
        EXPECT_NE(first->path(), second->path());
        EXPECT_TRUE(first->path().starts_with(at("new/parent/work-")));
        first_path = first->path();
        put(first_path + "/file", "");
        const TemporaryDirectory moved = std::move(*first);
        EXPECT_TRUE(stdfs::exists(first_path));
    }
    EXPECT_FALSE(stdfs::exists(first_path));
    EXPECT_TRUE(stdfs::is_empty(at("new/parent")));
}

TEST_F(Fs, ReleasedTemporaryDirectoryStays) {
    std::string path;
    {
        auto created = TemporaryDirectory::create(directory_.path(), "kept");
        ASSERT_TRUE(created);
        path = created->release();
    }
    EXPECT_TRUE(stdfs::is_directory(path));
}

TEST(OnTmpfs, TellsTmpfsFromOthers) {
    EXPECT_FALSE(on_tmpfs("/proc"));
    EXPECT_FALSE(on_tmpfs("/no/such/path"));
    const auto mounts = read_file("/proc/self/mounts");
    ASSERT_TRUE(mounts);
    if (mounts->find("tmpfs /dev/shm tmpfs") == std::string::npos)
        GTEST_SKIP() << "/dev/shm is not a tmpfs here";
    EXPECT_TRUE(on_tmpfs("/dev/shm"));
}

}  // namespace
}  // namespace memplate
