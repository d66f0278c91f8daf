// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "util/result.h"

namespace memplate {
namespace {

Result<int> half(int number) {
    if (number % 2 != 0) return fail(ErrorKind::usage, fmt::format("{} is odd", number));
    return number / 2;
}

Result<int> quarter(int number) {
    TRY_ASSIGN(const int once, half(number));
    TRY_ASSIGN(const int twice, half(once));
    return twice;
}

Result<> check_quarter(int number) {
    TRY_CONTEXT(quarter(number), "quarter");
    return {};
}

TEST(Result, TryAssignPassesValuesAndErrors) {
    EXPECT_EQ(quarter(12), 3);
    const auto failed = quarter(6);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "3 is odd");
    EXPECT_EQ(failed.error().kind, ErrorKind::usage);
    EXPECT_EQ(failed.error().code, 0);
}

TEST(Result, TryAssignMovesValuesThatCannotBeCopied) {
    const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
    const auto use = [&]() -> Result<int> {
        TRY_ASSIGN(const auto number, make());
        return *number;
    };
    EXPECT_EQ(use(), 7);
}

TEST(Result, ContextGoesInFrontAndKeepsTheRest) {
    EXPECT_TRUE(check_quarter(8));
    const auto failed = check_quarter(6);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "quarter: 3 is odd");
    EXPECT_EQ(failed.error().kind, ErrorKind::usage);
    EXPECT_NE(std::strstr(failed.error().where.function_name(), "half"), nullptr);
}

TEST(Result, ErrnoIsKeptAndDescribed) {
    const Failure failure = fail_errno(ENOENT, "/no/such");
    EXPECT_EQ(failure.error().message, "/no/such: No such file or directory");
    EXPECT_EQ(failure.error().code, ENOENT);
    EXPECT_EQ(failure.error().kind, ErrorKind::failed);
}

TEST(Result, ErrnoWithoutANameIsStillReported) {
    EXPECT_EQ(fail_errno(4242, "call").error().message, "call: error 4242");
}

TEST(Result, KindsAreTheExitCodes) {
    EXPECT_EQ(static_cast<int>(ErrorKind::failed), 1);
    EXPECT_EQ(static_cast<int>(ErrorKind::usage), 2);
    EXPECT_EQ(static_cast<int>(ErrorKind::unsupported), 3);
    EXPECT_EQ(static_cast<int>(ErrorKind::interrupted), 130);
}

}  // namespace
}  // namespace memplate
