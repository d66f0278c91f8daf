// SPDX-License-Identifier: Apache-2.0
//
// Which memory limit a run has at each moment: the hull's, unless what really happens asks for
// more. Pure decisions; the same for a live run and for a recorded one.
#pragma once

#include "cost/hull.h"

namespace memplate::cost {

struct TunerOptions {
    uint64_t headroom_bytes = uint64_t{4} << 20;  ///< always left above the use
    /// At pressure or less than half the headroom left: so much above the use …
    double raise_percent = 25;
    uint64_t raise_bytes = uint64_t{16} << 20;
    int64_t hold_ns = 1'000'000'000;    ///< … for so long
    std::optional<uint64_t> ceiling{};  ///< never above, whatever happens
};

class Tuner {
  public:
    enum class Reason { hull, kept_above_use, near_limit, pressure };
    struct Change {
        int64_t time_ns = 0;  ///< since the exec
        uint64_t from = 0;
        uint64_t to = 0;
        uint64_t use = 0;
        Reason reason = Reason::hull;
    };

    Tuner(const Hull& hull, const TunerOptions& options);
    [[nodiscard]] uint64_t limit() const { return limit_; }
    /// The change to make now, if any. `pressure`: the kernel says that memory is short.
    [[nodiscard]] std::optional<Change> decide(int64_t time_ns, uint64_t use, bool pressure);
    /// The change was made (or refused: it was not). `made.to` may differ from what was decided.
    void apply(const Change& made);

    [[nodiscard]] const std::vector<Change>& changes() const { return changes_; }
    /// Sum of limit × time until `end_ns`.
    [[nodiscard]] double gigabyte_seconds(int64_t end_ns) const;

  private:
    const Hull& hull_;
    TunerOptions options_;
    uint64_t first_ = 0;
    uint64_t limit_ = 0;
    uint64_t boost_ = 0;
    Reason boost_reason_ = Reason::near_limit;
    int64_t boost_until_ns_ = INT64_MIN;
    std::vector<Change> changes_;
};

[[nodiscard]] std::string_view name_of(Tuner::Reason reason);

}  // namespace memplate::cost
