// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "criu/images.h"
#include "template/intervals.h"

namespace memplate {

void PrintTo(const Interval& interval, std::ostream* out) {
    *out << "[" << interval.start << ", " << interval.end << ")";
}

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(TemplateIntervals, AppendJoinsWhatTouches) {
    Intervals intervals;
    append(intervals, {10, 20});
    append(intervals, {20, 30});
    append(intervals, {31, 40});
    EXPECT_THAT(intervals, ElementsAre(Interval{10, 30}, Interval{31, 40}));
}

TEST(TemplateIntervals, StretchesBecomeIntervals) {
    proto::ProcessPages pages;
    for (const auto& [vaddr, count] : {std::pair{4096, 2}, {12288, 1}, {40960, 3}}) {
        auto* stretch = pages.add_present();
        stretch->set_vaddr(static_cast<uint64_t>(vaddr));
        stretch->set_pages(static_cast<uint64_t>(count));
    }
    EXPECT_THAT(to_intervals(pages.present()),
                ElementsAre(Interval{4096, 16384}, Interval{40960, 53248}));
}

TEST(TemplateIntervals, IntersectAndClipAtTheirEdges) {
    const Intervals a{{10, 20}, {30, 40}};
    EXPECT_THAT(intersect(a, {{20, 30}}), IsEmpty());
    EXPECT_THAT(intersect(a, {{0, 100}}), ElementsAre(Interval{10, 20}, Interval{30, 40}));
    EXPECT_THAT(intersect(a, {{15, 35}}), ElementsAre(Interval{15, 20}, Interval{30, 35}));
    EXPECT_THAT(intersect({}, a), IsEmpty());
    EXPECT_THAT(clip(a, 20, 30), IsEmpty());
    EXPECT_THAT(clip(a, 12, 14), ElementsAre(Interval{12, 14}));
    EXPECT_THAT(clip(a, 19, 31), ElementsAre(Interval{19, 20}, Interval{30, 31}));
    EXPECT_THAT(clip(a, 40, 50), IsEmpty());
}

/// The same operations on plain sets of numbers.
TEST(TemplateIntervals, AgreeWithSetsOfNumbers) {
    std::mt19937 random(7);
    const auto any = [&] {
        Intervals intervals;
        uint64_t at = 0;
        for (int i = 0; i < 6; ++i) {
            const uint64_t start = at + random() % 5 + (i > 0 ? 1 : 0);
            at = start + 1 + random() % 6;
            intervals.push_back({start, at});
        }
        return intervals;
    };
    const auto numbers = [](const Intervals& intervals) {
        std::set<uint64_t> result;
        for (const auto& interval : intervals)
            for (uint64_t n = interval.start; n < interval.end; ++n)
                EXPECT_TRUE(result.insert(n).second) << n << " twice";
        return result;
    };
    for (int round = 0; round < 500; ++round) {
        const Intervals a = any();
        const Intervals b = any();
        const uint64_t start = random() % 40;
        const uint64_t end = start + random() % 20;
        std::set<uint64_t> both;
        std::ranges::set_intersection(numbers(a), numbers(b), std::inserter(both, both.end()));
        ASSERT_EQ(numbers(intersect(a, b)), both);
        std::set<uint64_t> inside;
        for (const uint64_t n : numbers(a))
            if (n >= start && n < end) inside.insert(n);
        ASSERT_EQ(numbers(clip(a, start, end)), inside) << start << "-" << end;
    }
}

}  // namespace
}  // namespace memplate
