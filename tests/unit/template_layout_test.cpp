// SPDX-License-Identifier: Apache-2.0
#include "image_fixture.h"
#include "template/layout.h"
#include "template/template.h"

namespace memplate {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

uint64_t number_of(uint64_t vaddr) {
    return (vaddr - at(0)) / page_size;
}

/// "first page + pages: how".
std::vector<std::string> runs_of(const proto::ProcessPages& pages) {
    std::vector<std::string> result;
    for (const auto& run : pages.runs())
        result.push_back(fmt::format("{}+{}: {}", number_of(run.vaddr()), run.pages(),
                                     placement_reason(run.placement())));
    return result;
}

std::vector<std::string> present_of(const proto::ProcessPages& pages) {
    std::vector<std::string> result;
    for (const auto& stretch : pages.present())
        result.push_back(fmt::format("{}+{}", number_of(stretch.vaddr()), stretch.pages()));
    return result;
}

proto::ProcessPages lay(const TestProcess& process, const LayoutOptions& options = {}) {
    const UniqueFd pages = memory_file(process.pages());
    return must(lay_out(process.loaded(), pages.get(), options));
}

TEST(TemplateLayout, NoPagesNoRuns) {
    const auto pages = lay({.areas = {area(0, 10)}});
    EXPECT_EQ(pages.pid(), 100U);
    EXPECT_THAT(pages.runs(), IsEmpty());
    EXPECT_THAT(pages.present(), IsEmpty());
    EXPECT_EQ(pages.zero_pages(), 0U);
}

TEST(TemplateLayout, ZeroPagesOfAnonymousMemoryAreDropped) {
    TestProcess process{.areas = {area(0, 100)}};
    process.fill(0, 4, 'a');
    process.fill(4, 2, 0);
    process.fill(6, 2, 'a');
    process.fill(60, 30, 0);
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages), ElementsAre("0+8: shared"));
    EXPECT_THAT(present_of(pages), ElementsAre("0+4", "6+2"));
    EXPECT_EQ(pages.zero_pages(), 32U);
}

TEST(TemplateLayout, ZeroMeansEveryByte) {
    TestProcess process{.areas = {area(0, 10)}};
    for (uint64_t n = 0; n < 3; ++n) process.fill(n, 1, 0);
    process.memory[at(0)].front() = 1;
    process.memory[at(1)].back() = 1;
    EXPECT_THAT(present_of(lay(process)), ElementsAre("0+2"));
}

TEST(TemplateLayout, ZeroPagesOverAFileAreKept) {
    TestProcess process{.areas = {file_area(0, 100, 1, 0)}};
    process.fill(0, 2, 'a');
    process.fill(2, 2, 0);
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages), ElementsAre("0+4: shared"));
    EXPECT_THAT(present_of(pages), ElementsAre("0+4"));
    EXPECT_EQ(pages.zero_pages(), 0U);
    EXPECT_EQ(pages.runs(0).owner(), proto::OWNER_FILE);
}

TEST(TemplateLayout, SmallGapsOfAnonymousMemoryAreJoined) {
    TestProcess process{.areas = {area(0, 200)}};
    process.fill(0, 2, 'a');
    process.fill(18, 2, 'b');  // after a gap of 16
    process.fill(37, 2, 'c');  // after a gap of 17
    process.fill(60, 2, 'd');
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages), ElementsAre("0+20: shared", "37+2: shared", "60+2: shared"));
    EXPECT_THAT(present_of(pages), ElementsAre("0+2", "18+2", "37+2", "60+2"));
}

TEST(TemplateLayout, GapsOverAFileAreNeverJoined) {
    TestProcess process{.areas = {file_area(0, 100, 1, 0)}};
    process.fill(0, 2, 'a');
    process.fill(3, 2, 'b');
    EXPECT_THAT(runs_of(lay(process)), ElementsAre("0+2: shared", "3+2: shared"));
}

TEST(TemplateLayout, SmallRunsAreCopied) {
    TestProcess process{.areas = {area(0, 200)}};
    process.fill(0, 1, 'a');
    process.fill(40, 2, 'b');
    process.fill(80, 3, 'c');
    EXPECT_THAT(runs_of(lay(process)), ElementsAre("0+1: small", "40+2: shared", "80+3: shared"));
    LayoutOptions options;
    options.small_run = 2;
    EXPECT_THAT(runs_of(lay(process, options)),
                ElementsAre("0+1: small", "40+2: small", "80+3: shared"));
}

TEST(TemplateLayout, RunsEndWithTheirArea) {
    TestProcess process{.areas = {area(0, 10), area(10, 10), area(25, 10)}};
    process.fill(8, 4, 'a');  // one range over two areas
    process.fill(19, 1, 'b');
    process.fill(25, 2, 'c');  // a gap that would be joined inside an area
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages), ElementsAre("8+2: shared", "10+10: shared", "25+2: shared"));
    EXPECT_THAT(present_of(pages), ElementsAre("8+2", "10+2", "19+1", "25+2"));
}

TEST(TemplateLayout, SpecialAreasAreNotMapped) {
    const uint32_t anonymous = status::regular | status::anon_private;
    const uint32_t plain = MAP_PRIVATE | MAP_ANONYMOUS;
    TestProcess process;
    process.areas = {
        area(0, 10, anonymous | status::stack),
        area(10, 10, anonymous, plain | MAP_GROWSDOWN),
        area(20, 10, anonymous, plain | MAP_HUGETLB),
        area(30, 10, anonymous, plain | MAP_LOCKED),
        area(40, 10),
        area(50, 10, anonymous | status::vdso),
        area(60, 10, status::regular | status::vvar),
        area(70, 10, anonymous | status::heap),
    };
    process.areas[4].set_madv(1u << 18);  // MADV_WIPEONFORK
    for (uint64_t n = 0; n < 80; n += 10) process.fill(n, 2, 'a');
    process.fill(2, 2, 0);
    process.fill(52, 2, 0);
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages),
                ElementsAre("0+2: stack: grows down", "10+2: stack: grows down", "20+2: huge pages",
                            "30+2: locked in memory", "40+2: wiped on fork",
                            // Of the kernel's pages even zeros are kept.
                            "50+4: of the kernel", "60+2: of the kernel", "70+2: shared"));
    EXPECT_EQ(pages.zero_pages(), 2U);
    EXPECT_EQ(pages.runs(0).owner(), proto::OWNER_STACK);
    EXPECT_EQ(pages.runs(1).owner(), proto::OWNER_STACK);
    EXPECT_EQ(pages.runs(2).owner(), proto::OWNER_ANONYMOUS);
    EXPECT_EQ(pages.runs(7).owner(), proto::OWNER_HEAP);
}

TEST(TemplateLayout, OtherAdviceDoesNotKeepFromMapping) {
    TestProcess process{.areas = {area(0, 10)}};
    process.areas[0].set_madv(1u << 14 | 1u << 16);  // huge pages, not in core dumps
    process.fill(0, 4, 'a');
    EXPECT_THAT(runs_of(lay(process)), ElementsAre("0+4: shared"));
}

TEST(TemplateLayout, AreasSeenToMisbehaveAreNotMapped) {
    TestProcess process{.areas = {area(0, 10), area(10, 10), area(20, 10), area(30, 10)}};
    for (uint64_t n = 0; n < 40; n += 10) process.fill(n, 3, 'a');
    LayoutOptions options;
    options.unshared[100] = {{at(12), at(13), proto::PLACEMENT_DISCARDED},
                             {at(30), at(40), proto::PLACEMENT_GROWN}};
    options.unshared[101] = {{at(0), at(10), proto::PLACEMENT_DISCARDED}};  // of another process
    EXPECT_THAT(runs_of(lay(process, options)),
                ElementsAre("0+3: shared", "10+3: given back by madvise", "20+3: shared",
                            "30+3: grown by mremap"));
    // What ends where an area begins does not concern it.
    options.unshared[100] = {{at(10), at(20), proto::PLACEMENT_DISCARDED}};
    EXPECT_THAT(
        runs_of(lay(process, options)),
        ElementsAre("0+3: shared", "10+3: given back by madvise", "20+3: shared", "30+3: shared"));
}

TEST(TemplateLayout, LargeRangesAreReadWhole) {
    TestProcess process{.areas = {area(0, 2000)}};
    process.fill(0, 700, 'a');
    process.memory[at(300)] = page_content(0, 0);
    process.memory[at(699)] = page_content(0, 0);
    process.fill(900, 300, 'b');
    const auto pages = lay(process);
    EXPECT_THAT(runs_of(pages), ElementsAre("0+699: shared", "900+300: shared"));
    EXPECT_THAT(present_of(pages), ElementsAre("0+300", "301+398", "900+300"));
    EXPECT_EQ(pages.zero_pages(), 2U);
}

TEST(TemplateLayout, ShortPagesImageIsAnError) {
    TestProcess process{.areas = {area(0, 20)}};
    process.fill(0, 10, 'a');
    const std::string bytes = process.pages();
    const UniqueFd pages = memory_file(std::string_view(bytes).substr(0, bytes.size() - 1));
    EXPECT_FALSE(lay_out(process.loaded(), pages.get(), {}));
}

}  // namespace
}  // namespace memplate
