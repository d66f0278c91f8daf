// SPDX-License-Identifier: Apache-2.0
//
// Ascending, disjoint address intervals and the few set operations engines need.
#pragma once

#include <cstdint>
#include <vector>

#include "template.pb.h"

namespace memplate {

struct Interval {
    uint64_t start = 0;
    uint64_t end = 0;
    bool operator==(const Interval&) const = default;
};
using Intervals = std::vector<Interval>;

[[nodiscard]] Intervals to_intervals(
    const google::protobuf::RepeatedPtrField<proto::Stretch>& stretches);
/// What is in both.
[[nodiscard]] Intervals intersect(const Intervals& a, const Intervals& b);
/// The part of `intervals` inside [start, end).
[[nodiscard]] Intervals clip(const Intervals& intervals, uint64_t start, uint64_t end);
/// How many pages they hold.
[[nodiscard]] uint64_t count_pages(const Intervals& intervals);
/// Appends, joining with the last interval if they touch.
void append(Intervals& intervals, Interval next);

}  // namespace memplate
