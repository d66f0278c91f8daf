// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
    std::vector<uint64_t> first;
    for (const auto& part : spread(160, 0.5)) {
        EXPECT_EQ(part.count, 16U);
        first.push_back(part.first);
    }
    EXPECT_THAT(first, ElementsAre(0, 32, 64, 96, 128));
}

/// Without the module; with it the same runs in tests/vm.
TEST(BenchAttach, EveryVariantDeliversTheRightPages) {
    Context context;
    context.progress = std::make_shared<Progress>(true);
    const auto report = bench_attach(
        context, {.sizes = {2 << 20}, .runs = 3, .instructions = false, .command = {}});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ((*report)["unit"], "ns");
    const Json& size = (*report)["sizes"][0];
    EXPECT_EQ(size["bytes"], 2 << 20);
    for (const char* variant : {"copy", "memfd-populate", "memfd-lazy"})
        for (const char* measure : {"attach", "read_all", "cow_1_16", "fork", "exit"}) {
            EXPECT_EQ(size["variants"][variant][measure]["n"], 3) << variant << " " << measure;
            EXPECT_GT(size["variants"][variant][measure]["min"], 0) << variant << " " << measure;
        }
    for (const char* variant :
         {"attached", "attached-tenth", "attached-tenth-in-one", "attached-lazy"})
        EXPECT_NE(size["variants"].contains(variant),
                  report->value("skipped", Json()).contains(variant));
}

Json example(const char* unit, bool emulated) {
    const auto measure = [](double p50) { return Json{{"p50", p50}, {"p99", 2 * p50}}; };
    const auto variant = [&](double attach, double read) {
        return Json{{"attach", measure(attach)},
                    {"read_all", measure(read)},
                    {"cow_1_16", measure(3e6)},
                    {"fork", measure(4e5)},
                    {"exit", measure(5e6)}};
    };
    Json report{
        {"unit", unit},
        {"environment", {{"kernel", "6.1"}, {"cpu", "Example 9000"}}},
        {"sizes",
         {{{"bytes", 64 << 20},
           {"variants", {{"attached", variant(5e6, 1e6)}, {"copy", variant(119e6, 1e6)}}}}}},
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
