// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "util/text.h"

namespace memplate {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseSize, AcceptsBytesAndBinaryPrefixes) {
    EXPECT_EQ(parse_size("0"), 0u);
    EXPECT_EQ(parse_size("4096"), 4096u);
    EXPECT_EQ(parse_size("1K"), 1024u);
    EXPECT_EQ(parse_size("256M"), uint64_t{256} << 20);
    EXPECT_EQ(parse_size("256MiB"), uint64_t{256} << 20);
    EXPECT_EQ(parse_size("4g"), uint64_t{4} << 30);
    EXPECT_EQ(parse_size("2T"), uint64_t{2} << 40);
    EXPECT_EQ(parse_size("18446744073709551615"), UINT64_MAX);
    EXPECT_EQ(parse_size("16777215T"), uint64_t{16777215} << 40);
}

class RefusedSize : public testing::TestWithParam<const char*> {};

TEST_P(RefusedSize, IsAUsageError) {
    const auto size = parse_size(GetParam());
    ASSERT_FALSE(size) << GetParam() << " gave " << *size;
    EXPECT_EQ(size.error().kind, ErrorKind::usage);
    EXPECT_THAT(size.error().message, HasSubstr("is not a size"));
}

INSTANTIATE_TEST_SUITE_P(ParseSize, RefusedSize,
                         testing::Values("", " ", "K", "-1", "+1", "1.5G", "1 M", "1MB", "1Mi",
                                         "1X", "1M ", "0x10", "18446744073709551616", "16777216T",
                                         "18014398509481984K", "1GiBs"));

TEST(FormatSize, HasThreeSignificantDigitsAtMost) {
    EXPECT_EQ(format_size(0), "0 B");
    EXPECT_EQ(format_size(999), "999 B");
    EXPECT_EQ(format_size(1000), "0.977 KiB");
    EXPECT_EQ(format_size(1024), "1 KiB");
    EXPECT_EQ(format_size(1536), "1.5 KiB");
    EXPECT_EQ(format_size(uint64_t{256} << 20), "256 MiB");
    EXPECT_EQ(format_size((uint64_t{1} << 30) - 1), "1 GiB");
    EXPECT_EQ(format_size(UINT64_MAX), "16 EiB");
}

TEST(FormatMilliseconds, KeepsThreeDigitsAndGoesToSeconds) {
    EXPECT_EQ(format_milliseconds(0), "0.00 ms");
    EXPECT_EQ(format_milliseconds(0.4), "0.40 ms");
    EXPECT_EQ(format_milliseconds(9.994), "9.99 ms");
    EXPECT_EQ(format_milliseconds(9.996), "10.0 ms");
    EXPECT_EQ(format_milliseconds(12.34), "12.3 ms");
    EXPECT_EQ(format_milliseconds(99.96), "100 ms");
    EXPECT_EQ(format_milliseconds(999.4), "999 ms");
    EXPECT_EQ(format_milliseconds(999.6), "1.00 s");
    EXPECT_EQ(format_milliseconds(12340), "12.3 s");
    EXPECT_EQ(format_milliseconds(-2.5), "-2.50 ms");
    EXPECT_EQ(format_milliseconds(std::numeric_limits<double>::quiet_NaN()), "-");
}

TEST(CheckName, AcceptsNames) {
    for (const char* name : {"a", "0", "resnet-50", "python3.11_numpy", "a..b"})
        EXPECT_TRUE(check_name("template", name)) << name;
    EXPECT_TRUE(check_name("template", std::string(63, 'x')));
}

TEST(CheckName, RefusesOthers) {
    for (const char* name : {"", ".", "..", "-a", "_a", "Upper", "a/b", "a b", "\n", "é"}) {
        const auto checked = check_name("template", name);
        ASSERT_FALSE(checked) << name;
        EXPECT_EQ(checked.error().kind, ErrorKind::usage);
        EXPECT_EQ(checked.error().message.find('\n'), std::string::npos);
    }
    EXPECT_FALSE(check_name("template", std::string(64, 'x')));
    EXPECT_FALSE(check_name("template", std::string_view("a\0b", 3)));
}

TEST(Split, KeepsEmptyFields) {
    EXPECT_THAT(split("a,b,,c,", ','), ElementsAre("a", "b", "", "c", ""));
    EXPECT_THAT(split("", ','), ElementsAre(""));
    EXPECT_THAT(split("abc", ','), ElementsAre("abc"));
}

TEST(Trim, TakesBlanksOffBothEnds) {
    EXPECT_EQ(trim("  a b\t\r\n"), "a b");
    EXPECT_EQ(trim(" \n"), "");
    EXPECT_EQ(trim(""), "");
}

TEST(ParseUnsigned, TakesTheWholeString) {
    EXPECT_EQ(parse_unsigned("0"), 0u);
    EXPECT_EQ(parse_unsigned("18446744073709551615"), UINT64_MAX);
    for (const char* text : {"", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616"})
        EXPECT_FALSE(parse_unsigned(text)) << text;
}

TEST(RandomHex, HasTheLengthAndDoesNotRepeat) {
    std::set<std::string> seen;
    for (int i = 0; i < 100; i++) seen.insert(random_hex(8));
    EXPECT_EQ(seen.size(), 100u);
    EXPECT_EQ(random_hex(0), "");
    const std::string text = random_hex(100);
    EXPECT_EQ(text.size(), 200u);
    EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace
}  // namespace memplate
