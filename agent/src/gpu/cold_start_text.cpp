// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "gpu/cold_start.h"
#include "util/stats.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

using enum Table::Align;

/// So many variants fit beside each other.
constexpr size_t most_columns = 6;

/// Milliseconds with three digits: a phase may take 0.004 or 4000.
std::string ms(const Json& value) {
    if (value.is_null()) return "-";
    const double number = value.get<double>();
    return fmt::format("{:.{}f}", number,
                       number >= 99.95    ? 0
                       : number >= 9.995  ? 1
                       : number >= 0.9995 ? 2
                                          : 3);
}

std::string interval(const Json& statistics) {
    if (statistics["median_low"].is_null()) return "-";
    return ms(statistics["median_low"]) + " – " + ms(statistics["median_high"]);
}

std::vector<Table::Column> columns(const char* first, StatisticsRule rule) {
    if (rule == StatisticsRule::streambox)
        return {{first},        {"MEDIAN", right}, {"AVERAGE", right},
                {"MIN", right}, {"MAX", right},    {"DROPPED", right}};
    return {{first},        {"P50", right}, {"95 % INTERVAL", right},
            {"P95", right}, {"P99", right}, {"MEAN", right},
            {"MIN", right}, {"MAX", right}, {"OUTLIERS", right}};
}

std::vector<std::string> row(std::string title, const Json& statistics, StatisticsRule rule) {
    if (rule == StatisticsRule::streambox) {
        const Json& numbers = statistics["streambox"];
        return {std::move(title),   ms(numbers["median"]), ms(numbers["average"]),
                ms(numbers["min"]), ms(numbers["max"]),    numbers["dropped"].dump()};
    }
    return {std::move(title),      ms(statistics["p50"]), interval(statistics),
            ms(statistics["p95"]), ms(statistics["p99"]), ms(statistics["mean"]),
            ms(statistics["min"]), ms(statistics["max"]), statistics["outliers"].dump()};
}

/// The phases of the base in full.
std::string base_table(const Json& report, StatisticsRule rule, bool colour) {
    const Json& base = report["variants"][0];
    Table table(columns("PHASE", rule));
    for (const Json& phase : base["phases"])
        table.add(row(phase["title"].get<std::string>(), phase["ms"], rule));
    table.add(row("total", base["total_ms"], rule));
    return fmt::format("{}, ms\n{}", base["name"].get<std::string>(), table.render(colour));
}

/// Medians of every variant's phases.
std::string phase_table(const Json& report, bool colour) {
    std::vector<Table::Column> columns = {{"PHASE"}};
    for (const Json& variant : report["variants"]) columns.push_back({variant["label"], right});
    Table table(std::move(columns));
    for (const Json& phase : report["variants"][0]["phases"]) {
        std::vector<std::string> cells = {phase["title"]};
        for (const Json& variant : report["variants"]) {
            const auto same = std::ranges::find_if(variant["phases"], [&](const Json& other) {
                return other["name"] == phase["name"];
            });
            cells.push_back(same == variant["phases"].end() ? "-" : ms((*same)["ms"]["p50"]));
        }
        table.add(std::move(cells));
    }
    std::vector<std::string> totals = {"total"};
    for (const Json& variant : report["variants"]) totals.push_back(ms(variant["total_ms"]["p50"]));
    table.add(std::move(totals));
    return "medians of each phase, ms\n" + table.render(colour);
}

std::string total_table(const Json& report, StatisticsRule rule, bool colour) {
    Table table(columns("TOTAL", rule));
    const bool named = report["variants"].size() > most_columns;
    for (const Json& variant : report["variants"])
        table.add(
            row(variant[named ? "name" : "label"].get<std::string>(), variant["total_ms"], rule));
    return "from before clone to the answer, ms\n" + table.render(colour);
}

}  // namespace

std::string phase_title(std::string_view name) {
    static const std::map<std::string_view, const char*> titles = {
        {"clone", "clone"},
        {"exec", "exec"},
        {"link", "link"},
        {"exec_and_link", "exec and link"},
        {"set_up", "set-up of the worker"},
        {"library_load", "load libcuda"},
        {"cuinit", "cuInit"},
        {"context", "primary context"},
        {"module_load", "load module"},
        {"function", "find kernel"},
        {"allocation", "allocate"},
        {"first_launch", "first launch"},
        {"second_launch", "second launch"},
        {"host_weights", "weights in host memory"},
        {"copy", "copy to the device"},
        {"cublas_load", "load cuBLAS"},
        {"cublas_create", "cuBLAS handle"},
        {"product", "first matrix product"},
        {"cudnn_load", "load cuDNN"},
        {"cudnn_create", "cuDNN handle"},
        {"answer", "answer to memplate"},
    };
    const auto found = titles.find(name);
    return found == titles.end() ? std::string(name) : found->second;
}

std::string cold_start_text(const Json& report, StatisticsRule rule, bool colour) {
    const Json& gpu = report["gpu"];
    const Json& device = gpu["devices"][report["device"].get<size_t>()];
    const Json& variants = report["variants"];
    const Json& base = variants[0];
    std::string text = fmt::format(
        "{}, driver {}, CUDA {}, persistence mode {}\n"
        "{} start{}{}, {:.1f} MB of weights ({:.1f} GB/s {})\n\n",
        device["name"].get<std::string>(), gpu["driver"].value("version", "unknown"),
        gpu["cuda_text"].get<std::string>(),
        !device.contains("persistence")     ? "unknown"
        : device["persistence"].get<bool>() ? "on"
                                            : "off",
        report["runs"].get<unsigned>(), report["runs"] == 1 ? "" : "s",
        variants.size() > 1 ? fmt::format(" of each of {} variants", variants.size()) : "",
        report["weights_bytes"].get<double>() / 1e6, base["copy_gb_per_s"]["p50"].get<double>(),
        base["copy"].get<std::string>());
    text += base_table(report, rule, colour);
    if (variants.size() > 1) {
        if (variants.size() <= most_columns) text += "\n" + phase_table(report, colour);
        text += "\n" + total_table(report, rule, colour);
    }
    text += "\nphases add up to the time measured outside; all results verified\n";
    for (const Json& note : report["notes"]) text += note.get<std::string>() + "\n";
    return text;
}

}  // namespace memplate::gpu
