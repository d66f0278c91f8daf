// SPDX-License-Identifier: Apache-2.0
#include "trace/histogram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace memplate::trace {
namespace {

constexpr int smallest = -10;  // values are milliseconds: about a microsecond
constexpr int largest = 40;

/// "0.25", "16", "1K", "2M"
std::string bound(int exponent) {
    constexpr std::array<const char*, 5> units = {"", "K", "M", "G", "T"};
    if (exponent < 0) return fmt::format("{:.2g}", std::ldexp(1.0, exponent));
    const auto unit = static_cast<size_t>(exponent / 10);
    return fmt::format("{}{}", 1 << exponent % 10, units[std::min<size_t>(unit, 4)]);
}

}  // namespace

void Histogram::add(double value) {
    count_++;
    sum_ += value;
    if (!(value > 0)) {
        zeros_++;
        return;
    }
    int exponent = 0;
    std::frexp(value, &exponent);  // value = f × 2^exponent, f from 0.5
    buckets_[std::clamp(exponent - 1, smallest, largest)]++;
}

uint64_t Histogram::below(int exponent) const {
    uint64_t sum = zeros_;
    for (const auto& [bucket, count] : buckets_)
        if (bucket < exponent) sum += count;
    return sum;
}

std::string Histogram::text(size_t max_width) const {
    constexpr size_t label_width = 16;
    constexpr size_t count_width = 8;
    constexpr size_t fixed = label_width + 1 + count_width + 2 + 1;
    const size_t bar_width = std::clamp<size_t>(max_width > fixed ? max_width - fixed : 0, 10, 52);
    uint64_t most = zeros_;
    for (const auto& [bucket, count] : buckets_) most = std::max(most, count);
    std::string text;
    const auto line = [&](const std::string& label, uint64_t count) {
        const auto length =
            static_cast<size_t>(most == 0 ? 0
                                          : static_cast<double>(count) / static_cast<double>(most) *
                                                static_cast<double>(bar_width));
        text += fmt::format("{:<{}} {:>{}} |{:<{}}|\n", label, label_width, count, count_width,
                            std::string(length, '@'), bar_width);
    };
    if (zeros_ > 0) line("[0]", zeros_);
    if (buckets_.empty()) return text;
    for (int bucket = buckets_.begin()->first; bucket <= buckets_.rbegin()->first; bucket++) {
        const auto found = buckets_.find(bucket);
        line(fmt::format("[{}, {})", bound(bucket), bound(bucket + 1)),
             found == buckets_.end() ? 0 : found->second);
    }
    return text;
}

Json Histogram::to_json() const {
    Json list = Json::array();
    if (zeros_ > 0) list.push_back({{"min", 0}, {"max", 0}, {"count", zeros_}});
    const auto number = [](int exponent) -> Json {
        if (exponent < 0) return std::ldexp(1.0, exponent);
        return uint64_t{1} << exponent;
    };
    for (const auto& [bucket, count] : buckets_)
        list.push_back({{"min", number(bucket)}, {"max", number(bucket + 1)}, {"count", count}});
    return list;
}

}  // namespace memplate::trace
