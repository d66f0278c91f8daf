// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "pool/allocator.h"

namespace memplate::pool {
namespace {

using Extents = std::vector<PageExtent>;

TEST(PageSet, JoinsNeighbours) {
    PageSet set;
    set.add({10, 5});
    set.add({20, 5});
    set.add({15, 5});
    EXPECT_EQ(set.runs(), (Extents{{10, 15}}));
    EXPECT_EQ(set.gaps(30), (Extents{{0, 10}, {25, 5}}));
    EXPECT_TRUE(set.contains({10, 15}));
    EXPECT_FALSE(set.contains({10, 16}));
    EXPECT_FALSE(set.contains({9, 2}));
    EXPECT_TRUE(set.overlaps({9, 2}));
    EXPECT_FALSE(set.overlaps({25, 5}));
    EXPECT_FALSE(set.overlaps({5, 5}));
}

TEST(PageSet, AgreesWithABitmap) {
    constexpr uint64_t total = 200;
    std::mt19937 random(1);
    for (int round = 0; round < 200; ++round) {
        PageSet set;
        std::vector<bool> bits(total);
        for (int i = 0; i < 20; ++i) {
            const uint64_t first = random() % total;
            const PageExtent extent{first, random() % std::min<uint64_t>(20, total - first)};
            bool any = false;
            bool all = true;
            for (uint64_t p = extent.first; p < extent.first + extent.count; ++p) {
                any = any || bits[p];
                all = all && bits[p];
            }
            ASSERT_EQ(set.overlaps(extent), any);
            ASSERT_EQ(set.contains(extent), all);
            set.add(extent);
            for (uint64_t p = extent.first; p < extent.first + extent.count; ++p) bits[p] = true;
            ASSERT_EQ(set.count(), static_cast<uint64_t>(std::ranges::count(bits, true)));
        }
        uint64_t free = 0;
        for (const PageExtent& gap : set.gaps(total)) {
            for (uint64_t p = gap.first; p < gap.first + gap.count; ++p) ASSERT_FALSE(bits[p]);
            free += gap.count;
        }
        ASSERT_EQ(free + set.count(), total);
    }
}

TEST(PageSet, CountsADifference) {
    PageSet a;
    PageSet b;
    a.add({0, 10});
    a.add({50, 10});
    b.add({5, 50});
    EXPECT_EQ(count_difference(a, b), 10U);
    EXPECT_EQ(count_difference(b, a), 40U);
}

TEST(Allocator, TakesTheFirstRunThatFits) {
    PageSet occupied;
    occupied.add({10, 10});
    occupied.add({25, 5});
    Allocator allocator(40, occupied);
    EXPECT_EQ(allocator.free_pages(), 25U);
    EXPECT_EQ(allocator.largest_free_run(), 10U);
    EXPECT_EQ(allocator.reserve(4), (PageExtent{0, 4}));
    EXPECT_EQ(allocator.reserve(10), (PageExtent{30, 10}));
    EXPECT_EQ(allocator.reserve(6), (PageExtent{4, 6}));
    EXPECT_EQ(allocator.reserve(6), std::nullopt);
    EXPECT_EQ(allocator.reserve(UINT64_MAX), std::nullopt);
    EXPECT_EQ(allocator.reserve(5), (PageExtent{20, 5}));
    EXPECT_EQ(allocator.free_pages(), 0U);
}

}  // namespace
}  // namespace memplate::pool
