// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/ipc.h"
#include "gpu/time_text.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

std::vector<uint64_t> sizes_of(const Json& report) {
    std::vector<uint64_t> sizes;
    for (const Json& result : report["results"])
        if (const auto bytes = result["bytes"].get<uint64_t>();
            sizes.empty() || sizes.back() != bytes)
            sizes.push_back(bytes);
    return sizes;
}

std::vector<std::string> names_of(const Json& report) {
    std::vector<std::string> names;
    for (const Json& result : report["results"]) {
        const auto name = result["transport"].get<std::string>();
        if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
    return names;
}

/// One line a size, one column a transport.
template <class Cell>
std::string matrix(const Json& report, const char* title, bool colour, const Cell& cell) {
    std::vector<Table::Column> columns = {{title, Table::Align::left}};
    for (const std::string& name : names_of(report)) columns.push_back({name, Table::Align::right});
    Table table(std::move(columns));
    for (const uint64_t bytes : sizes_of(report)) {
        std::vector<std::string> row = {format_size(bytes)};
        for (const Json& result : report["results"])
            if (result["bytes"].get<uint64_t>() == bytes) row.push_back(cell(result));
        table.add(std::move(row));
    }
    return table.render(colour);
}

std::string phases(const Json& report, uint64_t bytes, bool colour) {
    using enum Table::Align;
    Table table({{"TRANSPORT", left}, {"PHASE", left}, {"P50", right}, {"P99", right}});
    for (const Json& result : report["results"]) {
        if (result["bytes"].get<uint64_t>() != bytes) continue;
        auto name = result["transport"].get<std::string>();
        const auto row = [&](std::string phase, const Json& ns) {
            table.add({std::exchange(name, ""), std::move(phase), time_text(ns["p50"]),
                       time_text(ns["p99"])});
        };
        for (const bool of_latency : {true, false}) {
            for (const Json& phase : result["phases"])
                if (phase["of_latency"] == of_latency && phase["name"] != "second kernel")
                    row(fmt::format("{}{}", of_latency ? "" : "then ",
                                    phase["name"].get<std::string>()),
                        phase["ns"]);
            if (of_latency) row("latency", result["latency_ns"]);
        }
    }
    return table.render(colour);
}

}  // namespace

std::string ipc_text(const Json& report, bool colour) {
    const uint64_t largest = sizes_of(report).back();
    std::string text = matrix(report, "LATENCY P50", colour, [](const Json& result) {
        return time_text(result["latency_ns"]["p50"]);
    });
    text += "\n" + matrix(report, "LATENCY P99", colour, [](const Json& result) {
                return time_text(result["latency_ns"]["p99"]);
            });
    text += "\n" + matrix(report, "GB/S", colour, [](const Json& result) {
                const auto value = result["gb_per_s"].get<double>();
                return fmt::format("{:.{}f}", value, value < 10 ? 2 : value < 1000 ? 1 : 0);
            });
    text +=
        fmt::format("\nPhases at {}:\n{}", format_size(largest), phases(report, largest, colour));
    uint64_t verified = 0;
    bool handed_over = false;
    for (const Json& result : report["results"]) {
        verified += result["verified_bytes"].get<uint64_t>();
        handed_over |= result["hands_over"].get<bool>();
    }
    text += fmt::format("\n{} runs of each, transports in turn; contents verified: {}.\n",
                        report["runs"].get<unsigned>(), format_size(verified));
    if (handed_over)
        text +=
            "ipc, ipc-kept, vmm-fd and streams hand over the sender's memory; their GB/s include "
            "the copy\ninto the receiver's.\n";
    for (const Json& entry : report["left_out"]) {
        const std::string what = entry.contains("bytes")
                                     ? format_size(entry["bytes"].get<uint64_t>())
                                     : entry.value("transport", entry.value("phase", ""));
        text += fmt::format("left out: {}: {}\n", what, entry.value("reason", ""));
    }
    return text;
}

}  // namespace memplate::gpu
