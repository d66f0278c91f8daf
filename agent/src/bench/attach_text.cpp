// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "bench/attach.h"
#include "util/table.h"

namespace memplate::bench {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 5> measures{{{"attach", "attach"},
                                                                       {"read_all", "read all"},
                                                                       {"cow_1_16", "write"},
                                                                       {"fork", "fork"},
                                                                       {"exit", "exit"}}};

double value(const Json& variant, const char* measure, const char* quantile) {
    return variant.at(measure).at(quantile).get<double>();
}

/// Millions: milliseconds of nanoseconds, and as people count instructions.
std::string amount(double number) {
    const double millions = number / 1e6;
    return fmt::format("{:.{}f}", millions, millions < 10 ? 2 : millions < 100 ? 1 : 0);
}

/// What it takes until every page has been read once.
double until_read(const Json& variant) {
    return value(variant, "attach", "p50") + value(variant, "read_all", "p50");
}

std::string size_table(const Json& size, bool colour) {
    std::vector<Table::Column> columns{{"variant"}};
    for (const auto& [key, title] : measures) {
        columns.push_back({title, Table::Align::right});
        columns.push_back({"p99", Table::Align::right});
    }
    columns.push_back({"copy is", Table::Align::right});
    Table table(std::move(columns));
    const Json& variants = size.at("variants");
    const double copy = until_read(variants.at("copy"));
    for (const auto& [name, variant] : variants.items()) {
        std::vector<std::string> cells{name};
        for (const auto& [key, title] : measures)
            for (const char* quantile : {"p50", "p99"})
                cells.push_back(amount(value(variant, key, quantile)));
        cells.push_back(fmt::format("{:.1f}×", copy / until_read(variant)));
        table.add(std::move(cells));
    }
    return table.render(colour);
}

}  // namespace

std::string attach_report_text(const Json& report, bool colour) {
    const Json& environment = report.at("environment");
    const bool instructions = report.at("unit") == "instructions";
    std::string text = fmt::format("kernel {}, {}, {}\n", environment.value("kernel", "unknown"),
                                   environment.value("cpu", "unknown processor"),
                                   instructions ? "million instructions" : "milliseconds");
    if (!instructions && environment.value("emulated", false))
        text +=
            "This machine is emulated: its times say nothing about real ones. Count "
            "instructions:\n  scripts/vm --icount -- memplate bench attach --instructions\n";
    for (const Json& size : report.at("sizes"))
        text += fmt::format(
            "\n{} MiB: p50 and p99; last column: attach and first read, copy against it\n{}",
            size.at("bytes").get<uint64_t>() >> 20, size_table(size, colour));
    std::map<std::string, std::vector<std::string>> skipped;  // by reason
    if (report.contains("skipped"))
        for (const auto& [name, why] : report["skipped"].items())
            skipped[why.get<std::string>()].push_back(name);
    for (const auto& [why, names] : skipped)
        text += fmt::format("\nleft out: {}: {}\n", fmt::join(names, ", "), why);
    return text;
}

}  // namespace memplate::bench
