// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>

#include <cstdlib>

#include "util/fd.h"
#include "util/table.h"

namespace memplate {
namespace {

Table names_and_sizes() {
    return Table({{"NAME"}, {"SIZE", Table::Align::right}, {"NOTE"}});
}

TEST(Table, AlignsColumnsWithoutTrailingSpaces) {
    Table table = names_and_sizes();
    EXPECT_TRUE(table.empty());
    table.add({"numpy", "256 MiB", "sealed"});
    table.add({"a-longer-name", "4 KiB", ""});
    EXPECT_FALSE(table.empty());
    EXPECT_EQ(table.render(),
              "NAME              SIZE  NOTE\n"
              "numpy          256 MiB  sealed\n"
              "a-longer-name    4 KiB\n");
}

TEST(Table, HeaderIsBoldOnlyInColour) {
    Table table({{"NAME"}});
    table.add({"x"});
    EXPECT_EQ(table.render(true), "\x1b[1mNAME\x1b[0m\nx\n");
    EXPECT_EQ(table.render(false), "NAME\nx\n");
}

TEST(Table, EmptyTableIsItsHeader) {
    EXPECT_EQ(Table({{"A"}, {"B"}}).render(), "A  B\n");
    EXPECT_EQ(Table({}).render(), "");
}

TEST(Table, MissingCellsAreBlankAndControlsAreShownAsMarks) {
    Table table({{"A"}, {"B"}});
    table.add({"x"});
    table.add({"\x1b[31m", "two\nlines"});
    EXPECT_EQ(table.render(),
              "A      B\n"
              "x\n"
              "?[31m  two?lines\n");
}

TEST(Table, WidthsCountCharactersAndNotBytes) {
    Table table({{"NAME"}, {"N", Table::Align::right}});
    table.add({"öäü…", "1"});
    table.add({"abcde", "2"});
    EXPECT_EQ(table.render(),
              "NAME   N\n"
              "öäü…   1\n"
              "abcde  2\n");
}

TEST(Table, WidestTextColumnIsShortened) {
    Table table({{"NAME"}, {"PATH"}, {"BYTES", Table::Align::right}});
    table.add({"one", "/a/very/long/path/to/something", "1234567890"});
    table.add({"two", "/öööööööööööööööööööööööööö", "1"});
    table.add({"three", "/short", "12"});
    EXPECT_EQ(table.render(false, 34),
              "NAME   PATH                  BYTES\n"
              "one    /a/very/long/p…  1234567890\n"
              "two    /ööööööööööööö…           1\n"
              "three  /short                   12\n");
}

TEST(Table, NumbersAreNeverCut) {
    Table table({{"NAME"}, {"BYTES", Table::Align::right}});
    table.add({"abcdefgh", "12345678901234567890"});
    EXPECT_EQ(table.render(false, 10),
              "NAME                 BYTES\n"
              "abc…  12345678901234567890\n");
}

TEST(Table, FitsInAHundredCharactersByDefault) {
    Table table({{"A"}, {"B"}});
    table.add({std::string(90, 'a'), std::string(90, 'b')});
    const std::string text = table.render();
    const std::string row = text.substr(text.find('\n') + 1);
    // 49 characters a column; each "…" is three bytes but one character.
    EXPECT_EQ(row, std::string(48, 'a') + "…  " + std::string(48, 'b') + "…\n");
}

TEST(WantsColour, OnTerminalsUnlessNoColorIsSet) {
    const auto null = open_at(AT_FDCWD, "/dev/null", O_WRONLY);
    ASSERT_TRUE(null);
    ::unsetenv("NO_COLOR");
    EXPECT_FALSE(wants_colour(null->get()));
    int controller = -1;
    int terminal = -1;
    if (::openpty(&controller, &terminal, nullptr, nullptr, nullptr) != 0)
        GTEST_SKIP() << "no pseudo-terminals here";
    const UniqueFd controller_fd(controller);
    const UniqueFd terminal_fd(terminal);
    EXPECT_TRUE(wants_colour(terminal));
    ::setenv("NO_COLOR", "1", 1);
    EXPECT_FALSE(wants_colour(terminal));
    ::setenv("NO_COLOR", "", 1);
    EXPECT_TRUE(wants_colour(terminal));
    ::unsetenv("NO_COLOR");
}

}  // namespace
}  // namespace memplate
