// SPDX-License-Identifier: Apache-2.0
#include "pool/allocator.h"

#include <algorithm>

namespace memplate::pool {

void PageSet::add(PageExtent extent) {
    if (extent.count == 0) return;
    uint64_t first = extent.first;
    uint64_t end = extent.first + extent.count;
    auto it = runs_.upper_bound(first);
    if (it != runs_.begin() && std::prev(it)->second >= first) --it;
    while (it != runs_.end() && it->first <= end) {
        first = std::min(first, it->first);
        end = std::max(end, it->second);
        it = runs_.erase(it);
    }
    runs_.emplace(first, end);
}

bool PageSet::contains(PageExtent extent) const {
    if (extent.count == 0) return true;
    const auto it = runs_.upper_bound(extent.first);
    return it != runs_.begin() && extent.count <= std::prev(it)->second &&
           extent.first <= std::prev(it)->second - extent.count;
}

bool PageSet::overlaps(PageExtent extent) const {
    if (extent.count == 0) return false;
    const auto it = runs_.lower_bound(extent.first + extent.count);
    return it != runs_.begin() && std::prev(it)->second > extent.first;
}

uint64_t PageSet::count() const {
    uint64_t pages = 0;
    for (const auto& [first, end] : runs_) pages += end - first;
    return pages;
}

std::vector<PageExtent> PageSet::gaps(uint64_t total) const {
    std::vector<PageExtent> out;
    uint64_t at = 0;
    for (const auto& [first, end] : runs_) {
        if (first >= total) break;
        if (first > at) out.push_back({at, first - at});
        at = end;
    }
    if (at < total) out.push_back({at, total - at});
    return out;
}

std::vector<PageExtent> PageSet::missing_from(PageExtent extent) const {
    std::vector<PageExtent> out;
    uint64_t at = extent.first;
    const uint64_t extent_end = extent.first + extent.count;
    auto it = runs_.upper_bound(at);
    if (it != runs_.begin()) --it;
    for (; it != runs_.end() && it->first < extent_end; ++it) {
        if (it->second <= at) continue;
        if (it->first > at) out.push_back({at, it->first - at});
        at = it->second;
    }
    if (at < extent_end) out.push_back({at, extent_end - at});
    return out;
}

std::vector<PageExtent> PageSet::runs() const {
    std::vector<PageExtent> out;
    for (const auto& [first, end] : runs_) out.push_back({first, end - first});
    return out;
}

uint64_t count_difference(const PageSet& all, const PageSet& without) {
    PageSet both = without;
    for (const PageExtent& run : all.runs()) both.add(run);
    return both.count() - without.count();
}

std::optional<PageExtent> Allocator::reserve(uint64_t count) {
    for (const PageExtent& gap : free_runs()) {
        if (gap.count < count) continue;
        const PageExtent extent{gap.first, count};
        occupied_.add(extent);
        return extent;
    }
    return std::nullopt;
}

std::optional<PageExtent> Allocator::reserve_some(uint64_t count) {
    if (const auto whole = reserve(count)) return whole;
    for (const PageExtent& gap : free_runs()) {
        const PageExtent extent{gap.first, std::min(gap.count, count)};
        occupied_.add(extent);
        return extent;
    }
    return std::nullopt;
}

uint64_t Allocator::largest_free_run() const {
    uint64_t largest = 0;
    for (const PageExtent& gap : free_runs()) largest = std::max(largest, gap.count);
    return largest;
}

}  // namespace memplate::pool
