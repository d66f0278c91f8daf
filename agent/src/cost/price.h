// SPDX-License-Identifier: Apache-2.0
//
// What a number of equal requests costs under a price profile, what it would cost if only the
// memory and time used were billed, and where the difference comes from.
#pragma once

#include "cost/price_profile.h"

namespace memplate::cost {

struct Usage {
    uint64_t memory_bytes = 0;
    uint64_t duration_ms = 0;
    uint64_t requests = 1'000'000;
    std::optional<uint64_t> reserved_bytes{};  ///< the memory size ordered; default: what is used
    std::optional<uint64_t> cpu_milli{};       ///< where CPU is ordered apart
    bool free_tier = false;                    ///< the requests are the only ones of a month
};

struct Bill {
    uint64_t used_mb = 0;
    uint64_t billed_mb = 0;
    uint64_t used_ms = 0;
    uint64_t billed_ms = 0;
    uint64_t units = 0;  ///< billed_ms in the profile's granularity
    uint64_t cpu_milli = 0;
    uint64_t requests = 0;
    bool free_tier = false;
    Decimal memory_cost;
    Decimal cpu_cost;
    Decimal request_cost;
    Decimal total;
    Decimal net;
    Decimal overhead;
    /// How much billing memory (time) as it is billed adds to `net`; not valid when net is zero.
    Decimal memory_increase_percent;
    Decimal time_increase_percent;

    [[nodiscard]] uint64_t wasted_mb() const { return billed_mb - used_mb; }
    [[nodiscard]] uint64_t wasted_ms() const { return billed_ms - used_ms; }
    [[nodiscard]] Json to_json(const PriceProfile& profile) const;
};

/// Charged CPU counts in `net` for the time used: it is ordered with the memory size, not measured.
[[nodiscard]] Result<Bill> price(const PriceProfile& profile, const Usage& usage);

/// 1000000 → "1,000,000"
[[nodiscard]] std::string grouped(uint64_t number);
/// The report of one bill, a line a fact.
[[nodiscard]] std::string bill_text(const PriceProfile& profile, const Bill& bill);
/// "price.volume, effective" as a line of a report; empty if all is verified.
[[nodiscard]] std::string unverified_line(const PriceProfile& profile);

}  // namespace memplate::cost
