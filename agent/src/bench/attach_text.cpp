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

double value(const Json& run, const char* measure, const std::string& quantile) {
    return run.at(measure).at(quantile).get<double>();
}

/// Millions: milliseconds of nanoseconds, and as people count instructions.
std::string amount(double number) {
    const double millions = number / 1e6;
    return fmt::format("{:.{}f}", millions, millions < 10 ? 2 : millions < 100 ? 1 : 0);
}

/// What it takes until every page has been read once.
double until_read(const Json& run, const std::string& unit) {
    return value(run, "attach", unit) + value(run, "read_all", unit);
}

/// The variants of one size.
std::string size_table(const std::vector<Json>& runs, const std::string& unit, bool colour) {
    std::vector<Table::Column> columns{{"variant"}};
    for (const auto& [key, title] : measures) {
        columns.push_back({title, Table::Align::right});
        columns.push_back({"p99", Table::Align::right});
    }
    columns.push_back({"copy is", Table::Align::right});
    Table table(std::move(columns));
    double copy = 0;
    for (const Json& run : runs)
        if (run.at("variant") == "copy") copy = until_read(run, unit);
    for (const Json& run : runs) {
        std::vector<std::string> cells{run.at("variant").get<std::string>()};
        for (const auto& [key, title] : measures) {
            cells.push_back(amount(value(run, key, unit)));
            cells.push_back(amount(value(run, key, "p99")));
        }
        cells.push_back(fmt::format("{:.1f}×", copy / until_read(run, unit)));
        table.add(std::move(cells));
    }
    return table.render(colour);
}

}  // namespace

std::string attach_report_text(const Json& report, bool colour) {
    const Json& environment = report.at("environment");
    const auto unit = report.at("unit").get<std::string>();
    const bool instructions = unit == "instructions";
    std::string text = fmt::format("kernel {}, {}, {}\n", environment.value("kernel", "unknown"),
                                   environment.value("cpu", "unknown processor"),
                                   instructions ? "million instructions" : "milliseconds");
    if (!instructions && environment.value("emulated", false))
        text +=
            "This machine is emulated: its times say nothing about real ones. Count "
            "instructions:\n  scripts/vm --icount -- memplate bench attach --instructions\n";
    std::map<uint64_t, std::vector<Json>> sizes;
    for (const Json& run : report.at("runs"))
        sizes[run.at("size_mb").get<uint64_t>()].push_back(run);
    for (const auto& [mb, runs] : sizes)
        text += fmt::format(
            "\n{} MiB: p50 and p99; last column: attach and first read, copy against it\n{}", mb,
            size_table(runs, unit, colour));
    std::map<std::string, std::vector<std::string>> skipped;  // by reason
    if (report.contains("skipped"))
        for (const auto& [name, why] : report["skipped"].items())
            skipped[why.get<std::string>()].push_back(name);
    for (const auto& [why, names] : skipped)
        text += fmt::format("\nleft out: {}: {}\n", fmt::join(names, ", "), why);
    return text;
}

}  // namespace memplate::bench
