// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "instance/criu_command.h"

namespace memplate::instance {
namespace {

TEST(CriuCommandLine, DefaultsToTheWorkingDirectory) {
    const auto line = read_command_line({"restore"});
    EXPECT_TRUE(line.restore);
    EXPECT_EQ(line.images_directory, ".");
    EXPECT_EQ(line.images_option, 0U);
    EXPECT_FALSE(line.images_attached);
    EXPECT_FALSE(line.work_directory);
}

TEST(CriuCommandLine, OtherCommandsAreNoRestore) {
    EXPECT_FALSE(read_command_line({}).restore);
    EXPECT_FALSE(read_command_line({"dump", "-t", "17", "-D", "/images"}).restore);
    EXPECT_FALSE(read_command_line({"check", "--all"}).restore);
}

TEST(CriuCommandLine, ImagesDirectoryInEveryForm) {
    for (const char* option : {"-D", "--images-dir"}) {
        const auto line = read_command_line({"restore", "-d", option, "/images"});
        EXPECT_TRUE(line.restore) << option;
        EXPECT_EQ(line.images_directory, "/images") << option;
        EXPECT_EQ(line.images_option, 3U) << option;
        EXPECT_FALSE(line.images_attached) << option;
    }
    for (const char* option : {"-D/images", "--images-dir=/images"}) {
        const auto line = read_command_line({option, "restore"});
        EXPECT_TRUE(line.restore) << option;
        EXPECT_EQ(line.images_directory, "/images") << option;
        EXPECT_EQ(line.images_option, 0U) << option;
        EXPECT_TRUE(line.images_attached) << option;
    }
}

TEST(CriuCommandLine, WorkDirectoryInEveryForm) {
    EXPECT_TRUE(read_command_line({"restore", "-W", "/work"}).work_directory);
    EXPECT_TRUE(read_command_line({"restore", "--work-dir", "/work"}).work_directory);
    EXPECT_TRUE(read_command_line({"restore", "-W/work"}).work_directory);
    EXPECT_TRUE(read_command_line({"restore", "--work-dir=/work"}).work_directory);
}

TEST(CriuCommandLine, ValuesOfOptionsAreNotTheCommand) {
    for (const char* option : {"-o", "--log-file", "-t", "--root", "--pidfile", "-W", "-D",
                               "--inherit-fd", "--external", "--action-script"})
        EXPECT_FALSE(read_command_line({"dump", option, "restore"}).restore) << option;
    const auto line = read_command_line({"restore", "-o", "-D", "-D", "/images"});
    EXPECT_EQ(line.images_directory, "/images");
    EXPECT_EQ(line.images_option, 4U);
}

TEST(CriuCommandLine, CommandAfterTwoDashesIsNotRead) {
    const auto line =
        read_command_line({"restore", "-D", "/images", "--exec-cmd", "--", "supervise", "-D", "x"});
    EXPECT_TRUE(line.restore);
    EXPECT_EQ(line.images_directory, "/images");
    EXPECT_EQ(line.images_option, 2U);
    EXPECT_FALSE(read_command_line({"dump", "--", "restore"}).restore);
}

TEST(CriuCommandLine, LastDirectoryCounts) {
    const auto line = read_command_line({"restore", "-D", "/one", "-D", "/two"});
    EXPECT_EQ(line.images_directory, "/two");
    EXPECT_EQ(line.images_option, 4U);
    const auto mixed = read_command_line({"restore", "--images-dir=/one", "-D", "/two"});
    EXPECT_EQ(mixed.images_directory, "/two");
    EXPECT_EQ(mixed.images_option, 3U);
    EXPECT_FALSE(mixed.images_attached);
}

TEST(CriuCommandLine, OptionWithoutItsValueIsLeftToCriu) {
    const auto line = read_command_line({"restore", "-D"});
    EXPECT_TRUE(line.restore);
    EXPECT_EQ(line.images_directory, ".");
}

}  // namespace
}  // namespace memplate::instance
