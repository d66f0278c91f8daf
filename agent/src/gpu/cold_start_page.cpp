// SPDX-License-Identifier: Apache-2.0
#include "gpu/cold_start.h"
#include "gpu/cold_start_page_parts.h"
#include "gpu/sharing_page.h"
#include "util/clock.h"
#include "util/html_page.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

/// The bars of the chart, and the totals of each start as dots.
Json chart_of(const Json& report) {
    Json bars = Json::array();
    for (const Json& variant : report["variants"]) {
        Json phases = Json::array();
        for (const Json& phase : variant["phases"])
            phases.push_back({{"name", phase["title"]},
                              {"ms", phase["ms"]["p50"]},
                              {"low", phase["ms"]["min"]},
                              {"high", phase["ms"]["max"]}});
        bars.push_back({{"name", variant["label"]},
                        {"variant", variant["name"]},
                        {"phases", phases},
                        {"total", variant["total_ms"]["p50"]},
                        {"samples", variant["total_ms"]["samples"]}});
    }
    return bars;
}

const Json* fastest_and_slowest(const Json& report, bool slowest) {
    const Json* found = nullptr;
    for (const Json& variant : report["variants"])
        if (found == nullptr ||
            (variant["total_ms"]["p50"] > (*found)["total_ms"]["p50"]) == slowest)
            found = &variant;
    return found;
}

const Json& longest_phase(const Json& variant) {
    const Json* longest = &variant["phases"][0];
    for (const Json& phase : variant["phases"])
        if (phase["ms"]["p50"] > (*longest)["ms"]["p50"]) longest = &phase;
    return *longest;
}

}  // namespace

std::string cold_start_html(const Json& report) {
    using namespace cold_start_page_parts;
    const Json& base = report["variants"][0];
    const double total = base["total_ms"]["p50"];
    const Json& longest = longest_phase(base);
    const Json& slowest = *fastest_and_slowest(report, true);
    const auto shown = [](const Json& value) { return format_milliseconds(value.get<double>()); };
    const std::string headline = fmt::format(
        "A cold start takes {}, {:.0f} % of it {}", format_milliseconds(total),
        100 * longest["ms"]["p50"].get<double>() / total, longest["title"].get<std::string>());
    const Json& device = report["gpu"]["devices"][report["device"].get<size_t>()];
    SharingPage::Pairs tiles = {
        {shown(base["total_ms"]["p50"]), "median, " + base["name"].get<std::string>()},
        {shown(base["total_ms"]["p99"]), "p99"},
        {fmt::format("{:.1f} GB/s", base["copy_gb_per_s"]["p50"].get<double>()),
         "weights to the device, " + base["copy"].get<std::string>()}};
    if (&slowest != &base)
        tiles.emplace_back(shown(slowest["total_ms"]["p50"]),
                           "slowest: " + slowest["label"].get<std::string>());
    SharingPage::Pairs facts = facts_of(report);
    for (const auto& [name, library] : report["libraries"].items())
        facts.emplace_back(
            name, library.contains("library")
                      ? fmt::format("{}, version {}", library["library"].get<std::string>(),
                                    library["version"].get<int64_t>())
                      : library["missing"].get<std::string>());
    for (const Json& note : report["notes"]) facts.emplace_back("note", note.get<std::string>());
    const Json data = {{"tiles", tiles}, {"bars", chart_of(report)}, {"facts", facts}};
    return fill_page(
        cold_start_page_parts::html,
        {{"title", escape_html(headline) + " · memplate"},
         {"verb", "gpu cold-start"},
         {"date", report["generated"].get<std::string>()},
         {"headline", escape_html(headline)},
         {"lead", escape_html(fmt::format(
                      "{}: {} fresh processes of each variant, in turn, from before clone to the "
                      "answer; {:.1f} MB of weights.",
                      device["name"].get<std::string>(), report["runs"].get<unsigned>(),
                      report["weights_bytes"].get<double>() / 1e6))},
         {"summary", escape_html(cold_start_text(report, StatisticsRule::percentiles, false))},
         {"style", std::string(report_css) + std::string(css) + std::string(sharing_css)},
         {"script", std::string(page_js) + std::string(charts_js)},
         {"data", escape_json(data)}});
}

}  // namespace memplate::gpu
