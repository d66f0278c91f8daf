// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "cli/application.h"
#include "cli/signal_watch.h"
#include "util/fs.h"

namespace memplate::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
};

Outcome memplate(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "memplate");
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    Outcome outcome;
    outcome.code = run_application(static_cast<int>(arguments.size()), arguments.data());
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
}

/// A configuration file of our own: the host's must not matter.
class CliApplication : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-cli");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        configure("");
    }
    void TearDown() override { ::unsetenv("MEMPLATE_CONFIG"); }
    void configure(const std::string& text) const {
        std::ofstream(path()) << text;
        ::setenv("MEMPLATE_CONFIG", path().c_str(), 1);
    }
    [[nodiscard]] std::string path() const { return directory_.path() + "/config.toml"; }

  private:
    TemporaryDirectory directory_;
};

TEST_F(CliApplication, HelpAndVersionSucceed) {
    const auto help = memplate({"--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.out, HasSubstr("Examples:"));
    const auto version = memplate({"--version"});
    EXPECT_EQ(version.code, 0);
    EXPECT_THAT(version.out, StartsWith("memplate "));
    EXPECT_THAT(version.out, HasSubstr("built with"));
}

TEST_F(CliApplication, NoCommandPrintsHelpAsAnError) {
    const auto outcome = memplate({});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, HasSubstr("Usage: memplate"));
}

TEST_F(CliApplication, WrongUsageIsOneLineThatNamesTheHelp) {
    for (const std::vector<const char*>& arguments :
         {std::vector<const char*>{"nonsense"}, {"config", "--nonsense"}, {"completion"}}) {
        const auto outcome = memplate(arguments);
        EXPECT_EQ(outcome.code, 2);
        EXPECT_EQ(outcome.out, "");
        EXPECT_THAT(outcome.err, StartsWith("memplate: "));
        EXPECT_THAT(outcome.err, HasSubstr("--help`"));
        EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    }
    EXPECT_THAT(memplate({"config", "--nonsense"}).err, HasSubstr("`memplate config --help`"));
}

TEST_F(CliApplication, GlobalOptionsMayFollowTheCommand) {
    const auto outcome = memplate({"config", "--json"});
    EXPECT_EQ(outcome.code, 0);
    const Json json = Json::parse(outcome.out, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << outcome.out;
    EXPECT_EQ(json["schema"], 1);
    EXPECT_EQ(json["settings"]["bridge"], "memplate0");
}

TEST_F(CliApplication, ConfigurationFileFromTheCommandLineWins) {
    const std::string other = path() + ".other";
    std::ofstream(other) << "bridge = \"other0\"\n";
    const auto outcome = memplate({"--config", other.c_str(), "config", "--json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("other0"));
    const auto missing = memplate({"--config", "/nonexistent", "config"});
    EXPECT_EQ(missing.code, 2);
    EXPECT_EQ(missing.err, "memplate: --config /nonexistent: No such file or directory\n");
}

TEST_F(CliApplication, AWrongConfigurationIsAUsageErrorButNotForItsOwnHelp) {
    configure("no_such_key = 1\n");
    const auto check = memplate({"config", "--check"});
    EXPECT_EQ(check.code, 2);
    EXPECT_THAT(check.err, HasSubstr("no_such_key"));
    EXPECT_EQ(memplate({"check"}).code, 2);
    const auto defaults = memplate({"config", "--print-default"});
    EXPECT_EQ(defaults.code, 0);
    EXPECT_THAT(defaults.out, HasSubstr("state_dir"));
    EXPECT_EQ(memplate({"completion", "bash"}).code, 0);
}

TEST_F(CliApplication, QuietAndVerboseExcludeEachOther) {
    EXPECT_EQ(memplate({"-q", "-v", "config"}).code, 2);
}

TEST_F(CliApplication, ManPagesAreWrittenForEveryCommand) {
    const std::string directory = path() + ".man";
    ASSERT_EQ(memplate({"man", "--output", directory.c_str()}).code, 0);
    EXPECT_TRUE(read_file(directory + "/memplate.1"));
    EXPECT_TRUE(read_file(directory + "/memplate-check.1"));
    EXPECT_TRUE(read_file(directory + "/memplate-config.1"));
    EXPECT_EQ(memplate({"man", "config"}).code, 0);
    EXPECT_EQ(memplate({"man", "nonsense"}).code, 2);
}

TEST_F(CliApplication, CheckTellsInJsonWhatWorks) {
    const auto outcome = memplate({"check", "--json"});
    const Json json = Json::parse(outcome.out, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << outcome.out;
    const bool main_job = json["engines"]["copy"] == true && json["engines"]["mapped"] == true;
    EXPECT_EQ(outcome.code, main_job ? 0 : 3);
}

TEST(CliSignalWatch, ASignalRequestsAStop) {
    for (const int number : {SIGINT, SIGTERM}) {
        const std::stop_source stop;
        const auto watch = SignalWatch::start(stop);
        ASSERT_TRUE(watch) << watch.error().message;
        ASSERT_EQ(::kill(::getpid(), number), 0);
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (!stop.stop_requested() && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        EXPECT_TRUE(stop.stop_requested());
    }
}

TEST(CliSignalWatch, TheMaskIsRestored) {
    sigset_t before;
    sigset_t after;
    ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &before), 0);
    {
        const auto watch = SignalWatch::start(std::stop_source());
        ASSERT_TRUE(watch);
        sigset_t during;
        ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &during), 0);
        EXPECT_EQ(::sigismember(&during, SIGINT), 1);
    }
    ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &after), 0);
    EXPECT_EQ(::sigismember(&before, SIGINT), ::sigismember(&after, SIGINT));
}

TEST(CliSignalWatchDeathTest, ASecondSignalEndsTheProcess) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_EXIT(
        {
            const std::stop_source stop;
            const auto watch = SignalWatch::start(stop);
            ::kill(::getpid(), SIGINT);
            // Two signals that are pending together would count as one.
            while (!stop.stop_requested())
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            ::kill(::getpid(), SIGINT);
            std::this_thread::sleep_for(std::chrono::seconds(10));
            ::_exit(1);
        },
        testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace memplate::cli
