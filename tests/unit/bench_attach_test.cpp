// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "bench/attach.h"
#include "bench/attach_variants.h"
#include "util/progress.h"

namespace memplate::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(BenchAttach, PiecesAreSpreadEvenly) {
    const auto all = spread(64, 1.0);
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].count, 64U);
    EXPECT_TRUE(spread(64, 0.0).empty());
    EXPECT_EQ(spread(1600, 0.0001).size(), 1U) << "a working set is not empty";
    std::vector<uint64_t> first;
    for (const auto& part : spread(160, 0.5)) {
        EXPECT_EQ(part.count, 16U);
        first.push_back(part.first);
    }
    EXPECT_THAT(first, ElementsAre(0, 32, 64, 96, 128));
}

TEST(BenchAttach, PagesAreChosenByName) {
    EXPECT_EQ(parse_attach_pages("eager")->name, "");
    EXPECT_EQ(parse_attach_pages("eager")->part, 1.0);
    EXPECT_EQ(parse_attach_pages("lazy")->name, "-lazy");
    EXPECT_EQ(parse_attach_pages("lazy")->part, 0.0);
    const auto tenth = parse_attach_pages("profile:0.10");
    ASSERT_TRUE(tenth);
    EXPECT_EQ(tenth->name, "-0.1");
    EXPECT_EQ(tenth->part, 0.1);
    EXPECT_TRUE(tenth->working_set);
    EXPECT_EQ(parse_attach_pages("profile:1")->name, "-1");
}

TEST(BenchAttach, OtherPagesAreRefused) {
    for (const char* text :
         {"", "Eager", "profile", "profile:", "profile:0", "profile:-0.1", "profile:1.01",
          "profile:10%", "profile:nan", "profile:inf", "profile:0.1 ", "profile:1e-999", "0.1"}) {
        const auto pages = parse_attach_pages(text);
        ASSERT_FALSE(pages) << text;
        EXPECT_EQ(pages.error().kind, ErrorKind::usage) << text;
        EXPECT_THAT(pages.error().message, HasSubstr(std::string("--pages ") + text + ": "));
    }
}

AttachRequest small_request(bool instructions) {
    return {.sizes = {2 << 20, 1 << 20},
            .pages = {*parse_attach_pages("profile:0.25"), *parse_attach_pages("lazy")},
            .runs = 3,
            .instructions = instructions,
            .command = {}};
}

/// Without the module; with it the same runs in tests/vm.
TEST(BenchAttach, EveryVariantDeliversTheRightPages) {
    Context context;
    context.progress = std::make_shared<Progress>(true);
    const auto report = bench_attach(context, small_request(false));
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ((*report)["schema"], 1);
    EXPECT_EQ((*report)["unit"], "ns");
    std::set<std::pair<std::string, int>> seen;
    for (const Json& run : (*report)["runs"]) {
        seen.emplace(run["variant"], run["size_mb"]);
        for (const char* measure : {"attach", "read_all", "cow_1_16", "fork", "exit"}) {
            EXPECT_EQ(run[measure]["n"], 3) << run << measure;
            EXPECT_GT(run[measure]["min"], 0) << run << measure;
            EXPECT_GE(run[measure]["ns"], run[measure]["min"]) << run << measure;
            EXPECT_LE(run[measure]["ns"], run[measure]["p99"]) << run << measure;
        }
    }
    EXPECT_EQ(seen.size(), (*report)["runs"].size()) << "one run per variant and size";
    const Json skipped = report->value("skipped", Json::object());
    for (const int mb : {1, 2}) {
        for (const char* variant : {"copy", "memfd-populate", "memfd-lazy"})
            EXPECT_TRUE(seen.contains({variant, mb})) << variant;
        for (const char* variant : {"attached-0.25", "attached-0.25-in-one", "attached-lazy"})
            EXPECT_NE(seen.contains({variant, mb}), skipped.contains(variant)) << variant;
        EXPECT_FALSE(seen.contains({"attached", mb})) << "nobody asked for it";
    }
    EXPECT_FALSE(skipped.contains("attached"));
}

TEST(BenchAttach, InstructionsAreNamedAsSuch) {
    Context context;
    context.progress = std::make_shared<Progress>(true);
    const auto report = bench_attach(context, small_request(true));
    ASSERT_TRUE(report) << report.error().message;
    const Json& attach = (*report)["runs"][0]["attach"];
    EXPECT_EQ(attach.begin().key(), "instructions");
    EXPECT_FALSE(attach.contains("ns"));
}

Json example(const char* unit, bool emulated) {
    const auto measure = [&](double p50) { return Json{{unit, p50}, {"p99", 2 * p50}}; };
    const auto run = [&](const char* variant, double attach, double read) {
        return Json{{"variant", variant},        {"size_mb", 64},
                    {"attach", measure(attach)}, {"read_all", measure(read)},
                    {"cow_1_16", measure(3e6)},  {"fork", measure(4e5)},
                    {"exit", measure(5e6)}};
    };
    Json report{{"unit", unit},
                {"environment", {{"kernel", "6.1"}, {"cpu", "Example 9000"}}},
                {"runs", {run("attached", 5e6, 1e6), run("copy", 119e6, 1e6)}},
                {"skipped", {{"attached-lazy", "pseudo_mm: not loaded"}}}};
    if (emulated) report["environment"]["emulated"] = true;
    return report;
}

TEST(BenchAttach, TheTableHasMediansTailsAndRatios) {
    const std::string text = attach_report_text(example("ns", false), false);
    EXPECT_THAT(text, HasSubstr("kernel 6.1, Example 9000, milliseconds\n"));
    EXPECT_THAT(text, HasSubstr("64 MiB"));
    EXPECT_THAT(text, HasSubstr("attached  "));
    EXPECT_THAT(text, HasSubstr("5.00  10.0"));
    EXPECT_THAT(text, HasSubstr("20.0×"));
    EXPECT_THAT(text, HasSubstr("left out: attached-lazy: pseudo_mm: not loaded"));
    EXPECT_THAT(text, Not(HasSubstr("--icount")));
}

TEST(BenchAttach, TimesOfAnEmulatedMachineAreCalledThat) {
    EXPECT_THAT(attach_report_text(example("ns", true), false),
                HasSubstr("scripts/vm --icount -- memplate bench attach --instructions"));
    const std::string counted = attach_report_text(example("instructions", true), false);
    EXPECT_THAT(counted, HasSubstr("million instructions"));
    EXPECT_THAT(counted, Not(HasSubstr("--icount")));
}

}  // namespace
}  // namespace memplate::bench
