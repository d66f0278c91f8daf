// SPDX-License-Identifier: Apache-2.0
//
// memplate cost price.
#include <CLI/CLI.hpp>

#include "cli/cost_verbs.h"

namespace memplate::cli {
namespace {

struct Options {
    PriceOptions price;
    uint64_t memory_bytes = 0;
    uint64_t duration_ms = 0;
};

Result<int> cost_price(const Application& application, const Options& options) {
    TRY_ASSIGN(PriceRequest request, read_price_options(options.price));
    request.usage.memory_bytes = options.memory_bytes;
    request.usage.duration_ms = options.duration_ms;
    Json bills = Json::array();
    std::string text;
    for (const cost::PriceProfile& profile : request.profiles) {
        auto bill = cost::price(profile, request.usage);
        if (!bill) {
            // Among several, a profile that does not sell so much is a fact, not a failure.
            if (request.profiles.size() == 1 || bill.error().kind == ErrorKind::usage)
                return std::unexpected(std::move(bill.error()));
            bills.push_back({{"profile", profile.to_json()}, {"error", bill.error().message}});
            text += (text.empty() ? "" : "\n") + bill.error().message + "\n";
            continue;
        }
        bills.push_back(bill->to_json(profile));
        text += (text.empty() ? "" : "\n") + cost::bill_text(profile, *bill);
    }
    if (application.json) {
        Json document = {{"schema", 1}};
        if (bills.size() == 1)
            document.update(bills[0]);
        else
            document["bills"] = std::move(bills);
        print_json(document);
    } else {
        fmt::print("{}", text);
    }
    return 0;
}

}  // namespace

void add_cost_price(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand("price", "Cost of so many requests, and what of it is waste");
    add_price_options(*verb, options->price);
    verb->add_option("--memory-bytes", options->memory_bytes, "Memory used by a request, bytes")
        ->required();
    verb->add_option("--duration-ms", options->duration_ms, "Run time of a request, milliseconds")
        ->required();
    verb->footer(
        "Example: memplate cost price --profile aws-2020 --memory-bytes 810766336 "
        "--duration-ms 3652\n"
        "An unknown profile lists the known ones. MB are 2^20 bytes. --json: one object, or\n"
        "`bills` when several profiles are asked for.");
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return cost_price(application, *options); };
    });
}

}  // namespace memplate::cli
