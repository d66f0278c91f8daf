// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "gpu/program_report.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

using enum Table::Align;

constexpr size_t most_calls = 15;
constexpr size_t most_gaps = 8;

struct Label {
    const char* key;
    const char* title;
};
constexpr std::array labels = {Label{"context_initialization_ms", "Context Initialization Time"},
                               Label{"tensor_allocation_ms", "Tensor1 Allocation Time"},
                               Label{"model_load_ms", "Model Load Time"}};

/// Three digits: something may take 0.004 ms or 4000.
std::string ms(const Json& value) {
    if (value.is_null()) return "-";
    const double number = value.get<double>();
    if (number == 0) return "0";
    const int digits = number >= 99.95 ? 0 : number >= 9.995 ? 1 : number >= 0.9995 ? 2 : 3;
    return fmt::format("{:.{}f}", number, digits);
}

std::string percent(double part, double whole) {
    return whole > 0 ? fmt::format("{:.1f}", 100 * part / whole) : "-";
}

std::string bytes(const Json& value) {
    return value.get<uint64_t>() == 0 ? "-" : format_size(value.get<uint64_t>());
}

/// Where the time of one start went.
std::string activity_table(const Json& start, bool colour) {
    Table table({{"TIME"}, {"MS", right}, {"%", right}});
    const double total = start["total_ms"].get<double>();
    const auto add = [&](std::string name, const Json& value) {
        table.add({std::move(name), ms(value), percent(value.get<double>(), total)});
    };
    for (const auto& [name, value] : start["activities"].items()) {
        if (value.get<double>() == 0) continue;
        add(name, value);
        if (name != "driver") continue;
        for (const auto& [purpose, part] : start["driver"].items())
            if (part.get<double>() != 0) add("  " + purpose, part);
    }
    add("total", start["total_ms"]);
    return table.render(colour);
}

std::string call_table(const Json& start, bool colour) {
    const Json& calls = start["calls"];
    if (calls.empty()) return "no call of the driver\n";
    Table table({{"CALL"},
                 {"COUNT", right},
                 {"MS", right},
                 {"FIRST MS", right},
                 {"LONGEST MS", right},
                 {"BYTES", right},
                 {"FAILED", right}});
    double others = 0;
    uint64_t other_count = 0;
    for (size_t i = 0; i < calls.size(); ++i) {
        const Json& call = calls[i];
        const bool odd = call["failed"] != 0 || call["unfinished"] != 0;
        if (i >= most_calls && !odd) {
            others += call["total_ms"].get<double>();
            other_count += call["count"].get<uint64_t>();
            continue;
        }
        std::string failed = call["failed"] == 0
                                 ? "-"
                                 : fmt::format("{} (error {})", call["failed"].get<uint64_t>(),
                                               call["first_error"].get<int>());
        if (call["unfinished"] != 0) failed = "did not return";
        table.add({call["name"], call["count"].dump(), ms(call["total_ms"]), ms(call["first_ms"]),
                   ms(call["longest_ms"]), bytes(call["bytes"]), failed});
    }
    if (other_count != 0)
        table.add({"all others", std::to_string(other_count), ms(others), "", "", "", ""});
    return table.render(colour);
}

std::string gap_table(const Json& start, bool colour) {
    std::vector<const Json*> gaps;
    for (const Json& gap : start["gaps"]) gaps.push_back(&gap);
    const auto longer = [](const Json* one, const Json* other) {
        return (*one)["ms"].get<double>() > (*other)["ms"].get<double>();
    };
    std::ranges::stable_sort(gaps, longer);
    if (gaps.size() > most_gaps) gaps.resize(most_gaps);
    std::ranges::sort(gaps, {}, [](const Json* gap) { return (*gap)["at_ms"].get<double>(); });
    Table table({{"AT MS", right},
                 {"MS", right},
                 {"UNTIL"},
                 {"IMPORT", right},
                 {"DISK", right},
                 {"USER", right},
                 {"OTHER", right},
                 {"FILES", right},
                 {"READ", right}});
    for (const Json* gap : gaps) {
        const Json& parts = (*gap)["parts"];
        const double other = parts["start"].get<double>() + parts["link"].get<double>() +
                             parts["held by memplate"].get<double>();
        const std::string until = (*gap)["before"];
        table.add({ms((*gap)["at_ms"]), ms((*gap)["ms"]), until.empty() ? "the end" : until,
                   ms(parts["import"]), ms(parts["disk"]), ms(parts["user code"]), ms(other),
                   (*gap)["files"].dump(), bytes((*gap)["bytes_read"])});
    }
    return table.render(colour);
}

/// Lines of at most so many characters, as far as spaces allow.
std::string wrapped(std::string_view text) {
    constexpr size_t most = 98;
    std::string result;
    size_t column = 0;
    for (const std::string& word : split(text, ' ')) {
        const bool fits = column + word.size() < most;
        if (column != 0) result += fits ? ' ' : '\n';
        column = (fits && column != 0 ? column + 1 : 0) + word.size();
        result += word;
    }
    return result + "\n";
}

std::string milestones(const Json& start) {
    std::string text;
    for (const Json& one : start["milestones"])
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", one["name"].get<std::string>(),
                            ms(one["ms"]));
    return wrapped(text + " ms");
}

std::vector<Table::Column> statistics_columns(StatisticsRule rule) {
    if (rule == StatisticsRule::streambox)
        return {{"MS"},         {"MEDIAN", right}, {"AVERAGE", right},
                {"MIN", right}, {"MAX", right},    {"DROPPED", right}};
    return {{"MS"},          {"P50", right}, {"P95", right}, {"P99", right},
            {"MEAN", right}, {"MIN", right}, {"MAX", right}, {"OUTLIERS", right}};
}

std::vector<std::string> statistics_row(std::string name, const Json& numbers,
                                        StatisticsRule rule) {
    if (rule == StatisticsRule::streambox) {
        const Json& rest = numbers["streambox"];
        return {std::move(name), ms(rest["median"]), ms(rest["average"]),
                ms(rest["min"]), ms(rest["max"]),    rest["dropped"].dump()};
    }
    return {std::move(name),    ms(numbers["p50"]),        ms(numbers["p95"]),
            ms(numbers["p99"]), ms(numbers["mean"]),       ms(numbers["min"]),
            ms(numbers["max"]), numbers["outliers"].dump()};
}

std::string statistics_table(const Json& report, StatisticsRule rule, bool colour) {
    Table table(statistics_columns(rule));
    for (const auto& [name, numbers] : report["activities"].items())
        if (numbers["max"].get<double>() != 0) table.add(statistics_row(name, numbers, rule));
    table.add(statistics_row("total", report["total_ms"], rule));
    for (const Label& label : labels)
        if (const Json& numbers = report["labels"][label.key]; numbers["n"] != 0)
            table.add(statistics_row(label.title, numbers, rule));
    return table.render(colour);
}

std::string extras(const Json& start) {
    std::string text;
    const Json& launches = start["launches"];
    if (launches["kernels"] != 0)
        text += fmt::format("first launches of {} kernels {} ms, {} later launches {} ms\n",
                            launches["kernels"].get<uint64_t>(), ms(launches["first_ms"]),
                            launches["later"].get<uint64_t>(), ms(launches["later_ms"]));
    const Json& copies = start["copies"];
    if (copies["bytes"] != 0 && copies["ms"].get<double>() > 0)
        text += fmt::format("{} copied to the device in {} ms: {:.2f} GB/s\n",
                            format_size(copies["bytes"].get<uint64_t>()), ms(copies["ms"]),
                            copies["bytes"].get<double>() / copies["ms"].get<double>() / 1e6);
    if (start["lost"] != 0)
        text += fmt::format("{} events found no room: the tables miss them\n",
                            start["lost"].get<uint64_t>());
    if (start["cut"].get<bool>()) text += "ended by memplate (--duration)\n";
    if (const std::string failure = start["failure"]; !failure.empty())
        text += fmt::format("the command {}\n", failure);
    return text;
}

}  // namespace

std::string program_labels(const Json& report) {
    std::string text;
    for (const Json& start : report["starts"])
        for (const Label& label : labels)
            if (const Json& value = start["labels"][label.key]; value.is_number())
                text += fmt::format("{}:  {} ms\n", label.title, value.get<double>());
    return text;
}

std::string program_text(const Json& report, StatisticsRule rule, bool colour) {
    const Json& start = report["starts"][report["typical"].get<size_t>()];
    const Json& gpu = report["gpu"];
    const Json& method = report["method"];
    std::string text =
        fmt::format("{}, driver {}, CUDA {}\n", gpu["devices"][0].value("name", "unknown device"),
                    gpu["driver"].value("version", "unknown"), gpu.value("cuda_text", "unknown"));
    text += wrapped(fmt::format("seen by {}: {}", method["backend"].get<std::string>(),
                                method["accuracy"].get<std::string>()));
    if (const std::string reason = method["reason"]; !reason.empty())
        text += wrapped("no uprobes: " + reason);
    if (report["runs"] != 1)
        text += fmt::format("\n{} starts\n{}\nthe start with the median total\n",
                            report["runs"].get<unsigned>(), statistics_table(report, rule, colour));
    text += "\n" + activity_table(start, colour) + "\n" + milestones(start) + "\n" +
            call_table(start, colour);
    if (!start["gaps"].empty())
        text += "\nbetween calls of the driver, ms\n" + gap_table(start, colour);
    const std::string rest = extras(start);
    return rest.empty() ? text : text + "\n" + rest;
}

}  // namespace memplate::gpu
