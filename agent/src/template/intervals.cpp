// SPDX-License-Identifier: Apache-2.0
#include "template/intervals.h"

#include <algorithm>

#include "criu/images.h"

namespace memplate {

Intervals to_intervals(const google::protobuf::RepeatedPtrField<proto::Stretch>& stretches) {
    Intervals intervals;
    intervals.reserve(static_cast<size_t>(stretches.size()));
    for (const auto& stretch : stretches)
        append(intervals, {stretch.vaddr(), stretch.vaddr() + stretch.pages() * criu::page_size});
    return intervals;
}

Intervals intersect(const Intervals& a, const Intervals& b) {
    Intervals result;
    auto left = a.begin();
    auto right = b.begin();
    while (left != a.end() && right != b.end()) {
        const uint64_t start = std::max(left->start, right->start);
        const uint64_t end = std::min(left->end, right->end);
        if (start < end) result.push_back({start, end});
        (left->end < right->end ? left : right)++;
    }
    return result;
}

Intervals clip(const Intervals& intervals, uint64_t start, uint64_t end) {
    Intervals result;
    auto at = std::ranges::upper_bound(intervals, start, {}, &Interval::end);
    for (; at != intervals.end() && at->start < end; ++at)
        result.push_back({std::max(at->start, start), std::min(at->end, end)});
    return result;
}

uint64_t count_pages(const Intervals& intervals) {
    uint64_t bytes = 0;
    for (const auto& interval : intervals) bytes += interval.end - interval.start;
    return bytes / criu::page_size;
}

void append(Intervals& intervals, Interval next) {
    if (!intervals.empty() && intervals.back().end == next.start)
        intervals.back().end = next.end;
    else
        intervals.push_back(next);
}

}  // namespace memplate
