// SPDX-License-Identifier: Apache-2.0
#include "cost/tuner.h"

#include <algorithm>

namespace memplate::cost {
namespace {

constexpr uint64_t page = 4096;

uint64_t whole_pages(uint64_t bytes) {
    return (bytes + page - 1) / page * page;
}

}  // namespace

Tuner::Tuner(const Hull& hull, const TunerOptions& options) : hull_(hull), options_(options) {
    limit_ = std::min(std::max(hull.at(0), options.headroom_bytes),
                      options.ceiling.value_or(UINT64_MAX));
    first_ = limit_;
}

std::optional<Tuner::Change> Tuner::decide(int64_t time_ns, uint64_t use, bool pressure) {
    const bool near = use + options_.headroom_bytes / 2 > limit_;
    if (pressure || near) {
        const auto more =
            static_cast<uint64_t>(static_cast<double>(use) * options_.raise_percent / 100);
        boost_ = whole_pages(use + std::max(more, options_.raise_bytes));
        // As long as a flat limit would do, no more than that.
        if (limit_ < hull_.flat() && use + options_.headroom_bytes <= hull_.flat())
            boost_ = std::min(boost_, hull_.flat());
        boost_reason_ = pressure ? Reason::pressure : Reason::near_limit;
        boost_until_ns_ = time_ns + options_.hold_ns;
    }
    const bool boosted = time_ns < boost_until_ns_;
    const uint64_t hull = std::max(hull_.at(time_ns), options_.headroom_bytes);
    const uint64_t above_use = whole_pages(use + options_.headroom_bytes);
    uint64_t wanted = std::max({hull, above_use, boosted ? boost_ : 0});
    // No limit in force is above the ceiling: this never shrinks one below the use.
    if (options_.ceiling) wanted = std::min(wanted, *options_.ceiling);

    Change change{.time_ns = time_ns, .from = limit_, .to = wanted, .use = use};
    if (wanted > limit_) {
        if (pressure || near) {
            if (wanted > hull) change.reason = boost_reason_;
            return change;
        }
        // More than half the headroom is left: only the hull itself asks for more.
        change.to = std::min(hull, wanted);
        return change.to > limit_ ? std::optional(change) : std::nullopt;
    }
    if (wanted == limit_) return std::nullopt;
    if (wanted == hull) return change;
    // Held up by the use or a raise: follow down in steps worth a write.
    if (boosted || limit_ - wanted < options_.headroom_bytes) return std::nullopt;
    change.reason = Reason::kept_above_use;
    return change;
}

void Tuner::apply(const Change& made) {
    changes_.push_back(made);
    limit_ = made.to;
}

double Tuner::gigabyte_seconds(int64_t end_ns) const {
    double sum = 0;
    uint64_t level = first_;
    int64_t from = 0;
    for (const Change& change : changes_) {
        const int64_t to = std::clamp<int64_t>(change.time_ns, from, end_ns);
        sum += cost::gigabyte_seconds(level, to - from);
        from = to;
        level = change.to;
    }
    return sum + cost::gigabyte_seconds(level, std::max<int64_t>(end_ns - from, 0));
}

std::string_view name_of(Tuner::Reason reason) {
    switch (reason) {
        case Tuner::Reason::hull:
            return "hull";
        case Tuner::Reason::kept_above_use:
            return "kept above use";
        case Tuner::Reason::near_limit:
            return "near the limit";
        case Tuner::Reason::pressure:
            return "memory pressure";
    }
    return "";
}

}  // namespace memplate::cost
