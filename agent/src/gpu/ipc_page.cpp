// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/ipc.h"
#include "gpu/sharing_page.h"
#include "gpu/time_text.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

/// One series a transport; `point` gives its values after the size.
template <class Point>
Json series_of(const Json& report, const Point& point) {
    Json series = Json::array();
    for (const Json& result : report["results"]) {
        auto one = std::ranges::find_if(
            series, [&](const Json& known) { return known["name"] == result["transport"]; });
        if (one == series.end()) {
            series.push_back({{"name", result["transport"]},
                              {"handed", result["hands_over"]},
                              {"points", Json::array()}});
            one = series.end() - 1;
        }
        (*one)["points"].push_back(point(result));
    }
    return series;
}

/// Between processes, at the largest size.
const Json& fastest(const Json& report, bool hands_over) {
    const Json* best = nullptr;
    for (const Json& result : report["results"])
        if (result["hands_over"] == hands_over && result["transport"] != "streams" &&
            (best == nullptr || result["bytes"] > (*best)["bytes"] ||
             (result["bytes"] == (*best)["bytes"] &&
              result["latency_ns"]["p50"] < (*best)["latency_ns"]["p50"])))
            best = &result;
    static const Json none;
    return best == nullptr ? none : *best;
}

std::string words_for(const Json& result) {
    return fmt::format("{} by {}", format_size(result["bytes"].get<uint64_t>()),
                       result["transport"].get<std::string>());
}

}  // namespace

std::string ipc_html(const Json& report) {
    SharingPage page;
    page.verb = "gpu ipc";
    page.text = ipc_text(report, false);
    const Json& copied = fastest(report, false);
    const Json& handed = fastest(report, true);
    const Json& main = !handed.is_null()   ? handed
                       : !copied.is_null() ? copied
                                           : report["results"].back();
    page.headline = fmt::format("{} from one GPU function to another in {}", words_for(main),
                                time_text(main["latency_ns"]["p50"]));
    page.lead = fmt::format(
        "{}; {} messages of each size by each transport, in turn; every byte was compared with "
        "what was sent.",
        report["gpu"]["devices"][report["device"].get<size_t>()].value("name", "GPU"),
        report["runs"].get<unsigned>());
    for (const Json* result : {&handed, &copied})
        if (!result->is_null())
            page.tiles.emplace_back(
                time_text((*result)["latency_ns"]["p50"]),
                words_for(*result) +
                    ((*result)["hands_over"] ? ", memory handed over" : ", the fastest copy"));
    if (!copied.is_null() && !handed.is_null())
        page.tiles.emplace_back(
            fmt::format("{:.0f}×", copied["latency_ns"]["p50"].get<double>() /
                                       handed["latency_ns"]["p50"].get<double>()),
            "between them");
    page.charts.push_back(
        {{"kind", "loglog"},
         {"title", "Latency"},
         {"caption", "median; both axes logarithmic"},
         {"unit", "ns"},
         {"note",
          "From data in the sender's device memory until the receiver's work on it can be "
          "launched. Dashed: the sender's memory itself is handed over."},
         {"series", series_of(report, [](const Json& result) {
              return Json{result["bytes"], result["latency_ns"]["p50"],
                          result["latency_ns"]["p99"]};
          })}});
    page.charts.push_back({{"kind", "loglog"},
                           {"title", "Bandwidth"},
                           {"caption", "at the median; both axes logarithmic"},
                           {"unit", "GB/s"},
                           {"note",
                            "10⁹ bytes a second until the data is in memory of the "
                            "receiver's own: where memory is handed over, with the copy."},
                           {"series", series_of(report, [](const Json& result) {
                                return Json{result["bytes"], result["gb_per_s"]};
                            })}});
    page.facts = facts_of(report);
    return page.html();
}

}  // namespace memplate::gpu
