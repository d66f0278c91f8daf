// SPDX-License-Identifier: Apache-2.0
//
// memplate cost: the noun and the options that its verbs share.
#include "cli/cost_verbs.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "util/text.h"

namespace memplate::cli {

void add_price_options(CLI::App& verb, PriceOptions& options) {
    verb.add_option("--profile", options.profiles, "Price profiles, comma separated, or `all`")
        ->capture_default_str();
    verb.add_option("--prices", options.list, "Price list: a TOML file or a folder of them")
        ->type_name("FILE");
    verb.add_option("--requests", options.requests, "Price so many requests")
        ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000'000}))
        ->capture_default_str();
    verb.add_option("--reserve", options.reserve,
                    "Memory size that is ordered; default: the next one that is sold")
        ->type_name("SIZE");
    verb.add_option("--cpus", options.cpus,
                    "CPU that is ordered, for profiles that sell it apart from memory");
    verb.add_flag("--free-tier", options.free_tier,
                  "The requests are all of a month: take its free ones off");
}

Result<PriceRequest> read_price_options(const PriceOptions& options) {
    PriceRequest request;
    std::string list = options.list;
    if (list.empty()) {
        TRY_ASSIGN(list, cost::installed_profiles());
    }
    TRY_ASSIGN(auto profiles, cost::load_profiles(list));
    if (options.profiles == "all") {
        request.profiles = std::move(profiles);
    } else {
        for (const std::string& name : split(options.profiles, ',')) {
            TRY_ASSIGN(auto profile, cost::find_profile(profiles, name));
            request.profiles.push_back(std::move(profile));
        }
    }
    request.usage.requests = options.requests;
    request.usage.free_tier = options.free_tier;
    if (!options.reserve.empty()) {
        TRY_ASSIGN(const uint64_t bytes, parse_size(options.reserve));
        request.usage.reserved_bytes = bytes;
    }
    if (!options.cpus.empty()) {
        const auto cpus = cost::Decimal::parse(options.cpus);
        if (!cpus || cpus->rounded(3) <= cost::Decimal(0) || *cpus > cost::Decimal(1024))
            return fail(
                ErrorKind::usage,
                fmt::format("--cpus {}: not a number of CPUs; write one as in 0.5", options.cpus));
        TRY_ASSIGN(const uint64_t milli, parse_unsigned(cpus->rounded(3).times(1000).text()));
        if (std::ranges::none_of(request.profiles, [](const cost::PriceProfile& one) {
                return !one.cpu_unit.empty() && one.sizes.empty();
            }))
            return fail(ErrorKind::usage,
                        "--cpus: no profile asked for sells CPU apart from memory");
        request.usage.cpu_milli = milli;
    }
    return request;
}

void add_cost_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand("cost", "What memory and time of a function cost");
    noun->require_subcommand(1);
    add_cost_price(*noun, application);
    add_cost_run(*noun, application);
    add_cost_hull(*noun, application);
    add_cost_tune(*noun, application);
}

}  // namespace memplate::cli
