// SPDX-License-Identifier: Apache-2.0
#include "cost/price.h"

#include <algorithm>

namespace memplate::cost {
namespace {

constexpr uint64_t mebibyte = uint64_t{1} << 20;

uint64_t divide_up(uint64_t value, uint64_t step) {
    return value / step + (value % step != 0 ? 1 : 0);
}

struct Calculator {
    const PriceProfile& profile;
    const Usage& usage;
    uint64_t billed_mb;
    uint64_t cpu_milli;

    /// MB-milliseconds of all requests, without the free ones.
    [[nodiscard]] Int128 billable(uint64_t mb, uint64_t ms) const {
        const Int128 all = Int128{usage.requests} * mb * ms;
        const Int128 free = usage.free_tier ? Int128{profile.free_gb_seconds} * 1024 * 1000 : 0;
        return std::max(all - free, Int128{0});
    }

    /// Memory for `ms` of which `mb` count; the price of a unit is that of the billed size.
    [[nodiscard]] Decimal memory(uint64_t mb, uint64_t ms) const {
        const Int128 gb_second = Int128{1024} * 1000;
        if (profile.unit_decimals) {
            const Decimal unit = profile.rates.front()
                                     .per_gb_second
                                     .times(Int128{billed_mb} * profile.granularity_ms, gb_second,
                                            Decimal::Rounding::half_up)
                                     .rounded(*profile.unit_decimals);
            const Decimal part = unit.times(mb, billed_mb);
            // The free seconds are those of the billed size.
            return part.times(billable(billed_mb, ms), Int128{billed_mb} * profile.granularity_ms);
        }
        const Int128 total = billable(mb, ms);
        Decimal cost;
        for (size_t i = 0; i < profile.rates.size(); i++) {
            const Int128 from = profile.rates[i].above_gb_seconds * gb_second;
            const Int128 to = i + 1 < profile.rates.size()
                                  ? profile.rates[i + 1].above_gb_seconds * gb_second
                                  : total;
            if (total <= from) break;
            cost =
                cost + profile.rates[i].per_gb_second.times(std::min(total, to) - from, gb_second);
        }
        return cost;
    }

    [[nodiscard]] Decimal cpu(uint64_t ms) const {
        const Int128 all = Int128{usage.requests} * cpu_milli * ms;
        const Int128 free = usage.free_tier ? Int128{profile.free_cpu_seconds} * 1'000'000 : 0;
        return profile.per_cpu_second.times(std::max(all - free, Int128{0}), 1'000'000);
    }

    [[nodiscard]] Decimal requests() const {
        const uint64_t free = usage.free_tier ? profile.free_requests : 0;
        return profile.per_million_requests.times(usage.requests - std::min(free, usage.requests),
                                                  1'000'000);
    }
};

Decimal percent_over(Decimal cost, Decimal net) {
    return cost.divided_by(net).times(100) - Decimal(100);
}

/// The size sold for so much memory, and the CPU that comes with it.
Result<PriceProfile::Size> size_for(const PriceProfile& profile, uint64_t mb) {
    for (const PriceProfile::Size& size : profile.sizes)
        if (size.mb >= mb) return size;
    const uint64_t above = mb > profile.minimum_mb ? mb - profile.minimum_mb : 0;
    const uint64_t sold = profile.minimum_mb + divide_up(above, profile.step_mb) * profile.step_mb;
    if (!profile.sizes.empty() || sold > profile.maximum_mb)
        return fail(fmt::format("profile {}: {} MB is more than the {} MB it sells at most",
                                profile.name, mb, profile.maximum_mb));
    return PriceProfile::Size{sold, 0};
}

double json_number(Decimal value) {
    return value.rounded(12).to_double();
}

Json percent_number(Decimal value) {
    return value.valid() ? Json(value.rounded(6).to_double()) : Json(nullptr);
}

/// 83 → "0.083".
std::string thousandths(uint64_t value) {
    return Decimal(static_cast<int64_t>(value)).times(1, 1000).text();
}

}  // namespace

Result<Bill> price(const PriceProfile& profile, const Usage& usage) {
    // Beyond, a sum could not be told from a mistyped one, nor be held.
    constexpr uint64_t most = 1'000'000'000'000;
    if (usage.requests == 0 || usage.requests > most || usage.duration_ms > most / 100 ||
        usage.memory_bytes > (uint64_t{1} << 50))
        return fail(ErrorKind::usage,
                    "price: requests must be 1 to 10^12, the duration at most 10^10 ms and the "
                    "memory at most 2^50 bytes");
    Bill bill;
    bill.requests = usage.requests;
    bill.free_tier = usage.free_tier;
    bill.used_ms = usage.duration_ms;
    bill.used_mb = divide_up(usage.memory_bytes, mebibyte);
    const uint64_t ordered = divide_up(usage.reserved_bytes.value_or(usage.memory_bytes), mebibyte);
    if (ordered < bill.used_mb)
        return fail(ErrorKind::usage,
                    fmt::format("price: the size ordered, {} MB, is below the {} MB used", ordered,
                                bill.used_mb));
    TRY_ASSIGN(const PriceProfile::Size size, size_for(profile, ordered));
    bill.billed_mb = size.mb;
    bill.units = divide_up(std::max(usage.duration_ms, profile.minimum_ms), profile.granularity_ms);
    bill.billed_ms = bill.units * profile.granularity_ms;
    if (!profile.cpu_unit.empty())
        bill.cpu_milli = size.cpu_milli != 0 ? size.cpu_milli
                                             : usage.cpu_milli.value_or(profile.default_cpu_milli);

    const Calculator with{profile, usage, bill.billed_mb, bill.cpu_milli};
    bill.memory_cost = with.memory(bill.billed_mb, bill.billed_ms);
    bill.cpu_cost = with.cpu(bill.billed_ms);
    bill.request_cost = with.requests();
    bill.total = bill.memory_cost + bill.cpu_cost + bill.request_cost;
    const auto cost = [&](uint64_t mb, uint64_t ms) {
        return with.memory(mb, ms) + with.cpu(ms) + bill.request_cost;
    };
    bill.net = cost(bill.used_mb, bill.used_ms);
    bill.overhead = bill.total - bill.net;
    bill.memory_increase_percent = percent_over(cost(bill.billed_mb, bill.used_ms), bill.net);
    bill.time_increase_percent = percent_over(cost(bill.used_mb, bill.billed_ms), bill.net);
    if (!bill.total.valid() || !bill.net.valid())
        return fail(ErrorKind::usage,
                    "price: the cost is too large to be computed; use fewer requests");
    return bill;
}

Json Bill::to_json(const PriceProfile& profile) const {
    Json json = {
        {"profile", profile.to_json()},
        {"requests", requests},
        {"free_tier", free_tier},
        {"memory_mb", used_mb},
        {"billed_memory_mb", billed_mb},
        {"duration_ms", used_ms},
        {"billed_duration_ms", billed_ms},
        {"billed_units", units},
        {"cost", json_number(total)},
        {"net_cost", json_number(net)},
        {"overhead_cost", json_number(overhead)},
        {"memory_increase_percent", percent_number(memory_increase_percent)},
        {"time_increase_percent", percent_number(time_increase_percent)},
        {"wasted_ms", wasted_ms()},
        {"wasted_mb", wasted_mb()},
        {"memory_cost", json_number(memory_cost)},
        {"cpu_cost", json_number(cpu_cost)},
        {"request_cost", json_number(request_cost)},
    };
    if (!profile.cpu_unit.empty())
        json["cpu"] = {{"unit", profile.cpu_unit},
                       {"amount", static_cast<double>(cpu_milli) / 1000}};
    return json;
}

std::string grouped(uint64_t number) {
    std::string text = std::to_string(number);
    for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
    return text;
}

std::string bill_text(const PriceProfile& profile, const Bill& bill) {
    const auto line = [](std::string_view name, const std::string& value) {
        return fmt::format("{:<18}{}\n", name, value);
    };
    std::string text = line("profile", profile.title());
    std::string billed = fmt::format("{} MB for {} ms", bill.billed_mb, bill.billed_ms);
    if (profile.granularity_ms > 1)
        billed += fmt::format(" ({} units of {} ms)", bill.units, profile.granularity_ms);
    if (!profile.cpu_unit.empty())
        billed += fmt::format(", {} {}", thousandths(bill.cpu_milli), profile.cpu_unit);
    text += line("used", fmt::format("{} MB for {} ms", bill.used_mb, bill.used_ms));
    text += line("billed", billed);
    std::string parts = fmt::format("{} memory", profile.money(bill.memory_cost));
    if (!profile.cpu_unit.empty()) parts += fmt::format(" + {} CPU", profile.money(bill.cpu_cost));
    parts += fmt::format(" + {} requests", profile.money(bill.request_cost));
    text += line("cost", fmt::format("{} for {} requests{} = {}", profile.money(bill.total),
                                     grouped(bill.requests),
                                     bill.free_tier ? " after the free tier" : "", parts));
    text += line("net cost", profile.money(bill.net));
    text += line("overhead cost", profile.money(bill.overhead));
    if (bill.memory_increase_percent.valid() && bill.time_increase_percent.valid())
        text += line("price increase", fmt::format("+{} % by unused memory, +{} % by unused time",
                                                   bill.memory_increase_percent.text(2),
                                                   bill.time_increase_percent.text(2)));
    text += line("wasted", fmt::format("{} MB, {} ms", bill.wasted_mb(), bill.wasted_ms()));
    return text + unverified_line(profile);
}

std::string unverified_line(const PriceProfile& profile) {
    if (profile.unverified.empty()) return {};
    return fmt::format("{:<18}{}\n", "not verified", fmt::join(profile.unverified, ", "));
}

}  // namespace memplate::cost
