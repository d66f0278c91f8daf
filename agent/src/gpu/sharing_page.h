// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "util/json.h"

namespace memplate::gpu {

/// A self-contained page about what processes on a GPU share.
struct SharingPage {
    using Pairs = std::vector<std::pair<std::string, std::string>>;
    std::string verb;
    std::string headline;
    std::string lead;
    std::string text;  ///< the report
    Pairs tiles;
    /// {"kind": "loglog", "title", "caption", "unit" ("ns" | "GB/s"), "note", "series": [{"name",
    /// "points":
    /// [[bytes, value]]}]} or {"kind": "stacked", "title", "unit", "note", "parts": [name],
    /// "bars": [{"name", "values": [bytes], "text"}]}
    Json charts = Json::array();
    Pairs facts;

    [[nodiscard]] std::string html() const;
};

/// What a page says of the machine: device, driver and all that changes the result.
[[nodiscard]] SharingPage::Pairs facts_of(const Json& report);

}  // namespace memplate::gpu
