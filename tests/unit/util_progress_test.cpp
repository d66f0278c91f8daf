// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/mman.h>

#include <array>
#include <thread>
#include <vector>

#include "util/fd.h"
#include "util/progress.h"

namespace memplate {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

std::string contents(const UniqueFd& fd) {
    std::string text(file_size(fd.get()).value_or(0), '\0');
    EXPECT_TRUE(pread_exact(fd.get(), writable_bytes_of(text), 0));
    return text;
}

class OnFile : public testing::Test {
  protected:
    UniqueFd file_{::memfd_create("test", MFD_CLOEXEC)};
};

TEST_F(OnFile, OneLineForEachStep) {
    {
        Progress progress(false, file_.get());
        progress.step("dump", 100);
        progress.advance(50);
        progress.advance(50);
        progress.step("classify pages");
        progress.clear();
    }
    EXPECT_EQ(contents(file_), "dump\nclassify pages\n");
}

TEST_F(OnFile, QuietPrintsNothing) {
    {
        Progress progress(true, file_.get());
        progress.step("dump", 100);
        progress.advance(50);
    }
    EXPECT_EQ(contents(file_), "");
}

TEST_F(OnFile, ThreadsMayAdvanceAtOnce) {
    Progress progress(false, file_.get());
    progress.step("copy", 4'000);
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; i++)
            threads.emplace_back([&] {
                for (int k = 0; k < 1'000; k++) progress.advance();
            });
    }
    EXPECT_EQ(contents(file_), "copy\n");
}

class OnTerminal : public testing::Test {
  protected:
    void SetUp() override {
        ::setenv("TERM", "xterm", 1);
        int controller = -1;
        int terminal = -1;
        winsize size{};
        size.ws_col = 60;
        size.ws_row = 24;
        if (::openpty(&controller, &terminal, nullptr, nullptr, &size) != 0)
            GTEST_SKIP() << "no pseudo-terminals here";
        controller_ = UniqueFd(controller);
        terminal_ = UniqueFd(terminal);
        ASSERT_EQ(::fcntl(controller, F_SETFL, O_NONBLOCK), 0);
    }
    /// What appeared since the last call.
    std::string shown() const {
        std::array<char, 4096> buffer{};
        const ssize_t n = ::read(controller_.get(), buffer.data(), buffer.size());
        return {buffer.data(), static_cast<size_t>(std::max<ssize_t>(n, 0))};
    }
    UniqueFd controller_;
    UniqueFd terminal_;
};

TEST_F(OnTerminal, ShortWorkStaysSilent) {
    {
        Progress progress(false, terminal_.get());
        progress.step("dump", 10);
        progress.advance(10);
    }
    EXPECT_EQ(shown(), "");
}

TEST_F(OnTerminal, LongWorkIsDrawnInPlaceAndErased) {
    Progress progress(false, terminal_.get());
    progress.step("dump", 200);
    std::this_thread::sleep_for(320ms);
    progress.advance(50);
    const std::string bar = shown();
    EXPECT_THAT(bar, HasSubstr("\r\x1b[Kdump ["));
    EXPECT_THAT(bar, EndsWith(" 25 %"));
    EXPECT_THAT(bar, Not(HasSubstr("\n")));
    progress.advance(50);  // too soon after the last
    EXPECT_EQ(shown(), "");
    progress.step("classify pages");
    EXPECT_EQ(shown(), "\r\x1b[Kclassify pages");
    progress.clear();
    EXPECT_EQ(shown(), "\r\x1b[K");
    progress.advance();  // nothing between clear() and the next step
    progress.clear();
    EXPECT_EQ(shown(), "");
}

TEST_F(OnTerminal, LineFitsTheTerminal) {
    Progress progress(false, terminal_.get());
    std::this_thread::sleep_for(320ms);
    progress.step(std::string(100, 'x'), 10);
    EXPECT_EQ(shown(), "\r\x1b[K" + std::string(59, 'x'));
}

TEST_F(OnTerminal, MoreThanTheTotalIsAFullBar) {
    Progress progress(false, terminal_.get());
    progress.step("copy", 10);
    std::this_thread::sleep_for(320ms);
    progress.advance(11);
    EXPECT_THAT(shown(), EndsWith("==] 100 %"));
}

}  // namespace
}  // namespace memplate
