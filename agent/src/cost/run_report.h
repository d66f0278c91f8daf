// SPDX-License-Identifier: Apache-2.0
//
// What `memplate cost run` has found out: as a JSON document (schema 1) and as text.
#pragma once

#include "cost/measure.h"
#include "cost/price.h"

namespace memplate::cost {

struct RunReport {
    std::string subject;  ///< the command line, or what was followed
    std::vector<RunRecord> runs;
    std::vector<PriceProfile> profiles;
    Usage usage;  ///< all but memory and time
    Json environment = Json::object();

    /// Of one run.
    [[nodiscard]] Result<Bill> bill(const PriceProfile& profile, const RunRecord& run) const;
    /// Of all: the largest memory and the mean time.
    [[nodiscard]] RunRecord typical() const;
    [[nodiscard]] Result<Json> to_json() const;
    [[nodiscard]] Result<std::string> text(bool colour) const;
};

}  // namespace memplate::cost
