// SPDX-License-Identifier: Apache-2.0
//
// What a provider charges, as data: one TOML file a price list, with the date it holds from, its
// source, and which of its constants nobody has verified. agent/prices/ has the ones we know.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cost/decimal.h"
#include "util/json.h"
#include "util/result.h"

namespace memplate::cost {

/// MB are 2^20 bytes and GB 2^30 bytes, as in the providers' formulas.
struct PriceProfile {
    struct Size {
        uint64_t mb = 0;
        uint64_t cpu_milli = 0;  ///< what comes with it, thousandths of `cpu_unit`
    };
    struct Rate {
        uint64_t above_gb_seconds = 0;
        Decimal per_gb_second;
    };

    std::string name;
    std::string provider;
    std::string region;
    std::string currency;
    std::string effective;  ///< "2020-12-01"
    std::string source;
    std::string billed;                   ///< which part of an instance's life is charged
    std::vector<std::string> unverified;  ///< keys of the file, "price.volume"
    std::string file;

    uint64_t granularity_ms = 1;
    uint64_t minimum_ms = 0;
    uint64_t minimum_mb = 1;
    uint64_t maximum_mb = 0;
    uint64_t step_mb = 1;
    std::vector<Size> sizes;  ///< ascending; when not empty, the only ones sold

    std::vector<Rate> rates;  ///< by the GB-seconds of the month; the first is from 0
    /// The price of one time unit at a memory size is a number of so many decimals in the list.
    std::optional<int> unit_decimals;
    Decimal per_million_requests;
    Decimal per_cpu_second;
    std::string cpu_unit;  ///< "vCPU", "GHz"; empty: CPU is not charged apart
    uint64_t default_cpu_milli = 0;

    uint64_t free_requests = 0;
    uint64_t free_gb_seconds = 0;
    uint64_t free_cpu_seconds = 0;

    [[nodiscard]] static Result<PriceProfile> parse(std::string_view text,
                                                    const std::string& origin);
    [[nodiscard]] Json to_json() const;
    /// 50.298 → "$50.30", 0.000000616 → "$0.00000062"
    [[nodiscard]] std::string money(Decimal amount, int decimals = 2) const;
    /// "aws-x86: AWS Lambda x86, us-east-1, prices of 2020-12-01"
    [[nodiscard]] std::string title() const;
};

/// All profiles of a *.toml file or of a directory of them, by name and then by date.
[[nodiscard]] Result<std::vector<PriceProfile>> load_profiles(const std::string& path);
/// Where the profiles of this installation are: beside the binary, or in share/memplate.
[[nodiscard]] Result<std::string> installed_profiles();
/// The newest of that name; an unknown name is an error that lists the known ones.
[[nodiscard]] Result<PriceProfile> find_profile(const std::vector<PriceProfile>& profiles,
                                                const std::string& name);

}  // namespace memplate::cost
