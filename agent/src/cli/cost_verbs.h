// SPDX-License-Identifier: Apache-2.0
//
// The verbs of `memplate cost`, one file each, and what they share.
#pragma once

#include <string>
#include <vector>

#include "cli/application.h"
#include "cost/price.h"

namespace memplate::cli {

struct PriceOptions {
    std::string profiles = "aws-x86";  ///< names, comma separated
    std::string list;                  ///< file or folder instead of the installed ones
    uint64_t requests = 1'000'000;
    std::string reserve;  ///< memory size ordered; empty: what is used
    std::string cpus;
    bool free_tier = false;
};
void add_price_options(CLI::App& verb, PriceOptions& options);
/// The profiles named, and a usage with everything but memory and time.
struct PriceRequest {
    std::vector<cost::PriceProfile> profiles;
    cost::Usage usage;
};
[[nodiscard]] Result<PriceRequest> read_price_options(const PriceOptions& options);

void add_cost_price(CLI::App& noun, Application& application);
void add_cost_run(CLI::App& noun, Application& application);
void add_cost_hull(CLI::App& noun, Application& application);
void add_cost_tune(CLI::App& noun, Application& application);

}  // namespace memplate::cli
