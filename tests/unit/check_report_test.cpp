// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "check/report.h"
#include "util/text.h"

namespace memplate::check {
namespace {

using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Capability present(std::string name, std::vector<std::string_view> required_by) {
    return {.name = std::move(name),
            .group = "group",
            .ok = true,
            .reason = "found",
            .fix = "",
            .needed_for = "something",
            .required_by = std::move(required_by)};
}

Capability missing(std::string name, std::vector<std::string_view> required_by) {
    Capability capability = present(std::move(name), std::move(required_by));
    capability.ok = false;
    capability.reason = "not found";
    capability.fix = "install it";
    return capability;
}

size_t characters(const std::string& line) {
    return static_cast<size_t>(
        std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; }));
}

TEST(CheckReport, AMethodWorksOnlyIfAllItRequiresIsThere) {
    const Report report = make_report({present("root", {"copy", "mapped", "lazy"}),
                                       missing("userfaultfd", {"lazy"}), missing("extra", {})});
    EXPECT_TRUE(report.works("copy"));
    EXPECT_TRUE(report.works("mapped"));
    EXPECT_FALSE(report.works("lazy"));
    EXPECT_THAT(report.missing_for("lazy"), ElementsAre("userfaultfd"));
    EXPECT_THAT(report.missing_for("copy"), IsEmpty());
}

TEST(CheckReport, AnUnknownMethodDoesNotWork) {
    EXPECT_FALSE(make_report({}).works("teleport"));
}

TEST(CheckReport, JsonHasTheDocumentedKeys) {
    const Json json = to_json(make_report({missing("userfaultfd", {"lazy"})}));
    EXPECT_EQ(json["schema"], 1);
    ASSERT_EQ(json["capabilities"].size(), 1U);
    EXPECT_EQ(json["capabilities"][0].dump(),
              R"({"name":"userfaultfd","group":"group","ok":false,"reason":"not found",)"
              R"("fix":"install it","needed_for":"something"})");
    EXPECT_EQ(json["engines"].dump(),
              R"({"cold":true,"copy":true,"lazy":false,"mapped":true,"attached":true})");
}

TEST(CheckReport, TellsReasonAndFixOfWhatIsMissingOnly) {
    const std::string text =
        render(make_report({present("root", {}), missing("userfaultfd", {"lazy"})}), {});
    EXPECT_THAT(text, HasSubstr("userfaultfd: not found"));
    EXPECT_THAT(text, HasSubstr("to do: install it"));
    EXPECT_THAT(text, HasSubstr("lazy lacks: userfaultfd"));
    EXPECT_THAT(text, Not(HasSubstr("root: found")));
    EXPECT_THAT(text, HasSubstr("Start methods: cold yes, copy yes, lazy no, mapped yes"));
}

TEST(CheckReport, NothingToDoIsNotAnnounced) {
    EXPECT_THAT(render(make_report({present("root", {})}), {}), Not(HasSubstr("Not available")));
}

TEST(CheckReport, IsPlainAsciiUnlessUnicodeIsAskedFor) {
    const Report report = make_report({present("root", {}), missing("criu", {"copy"})});
    const std::string plain = render(report, {});
    EXPECT_TRUE(std::ranges::all_of(plain, [](char c) { return (c & 0x80) == 0; })) << plain;
    const std::string unicode = render(report, {.unicode = true});
    EXPECT_THAT(unicode, HasSubstr("✓"));
    EXPECT_THAT(unicode, HasSubstr("✗"));
}

TEST(CheckReport, NoLineIsWiderThan100Columns) {
    Capability wordy = missing("wordy", {"cold", "copy", "lazy", "mapped"});
    for (int i = 0; i < 60; i++) {
        wordy.reason += " reason";
        wordy.fix += " repair";
    }
    const std::string text = render(make_report({wordy}), {.unicode = true});
    for (const std::string& line : split(text, '\n')) EXPECT_LE(characters(line), 100U) << line;
    // Shortened in the table, whole below it.
    size_t words = 0;
    for (const std::string& word : split(text, ' ')) words += word.starts_with("reason") ? 1 : 0;
    EXPECT_THAT(words, Ge(60U));
}

}  // namespace
}  // namespace memplate::check
