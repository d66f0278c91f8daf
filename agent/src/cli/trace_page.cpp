// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_page.h"

#include <algorithm>

#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

constexpr size_t most_charts = 24;

double in_mb(uint64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}
double in_ms(int64_t ns) {
    return static_cast<double>(ns) / 1e6;
}

cost::Page::Chart chart_of(const trace::Curve& curve) {
    const trace::Life& life = *curve.life;
    cost::Page::Chart chart;
    chart.title = life.member->name();
    const bool started = life.begun && !life.phases.empty();
    chart.unit = started ? "MB of 2^20 bytes, since the cgroup was made"
                         : "MB of 2^20 bytes; it ran before the trace began";
    const int64_t zero_ns = started                ? life.born_ns
                            : curve.levels.empty() ? 0
                                                   : curve.levels.front().first;
    cost::Page::Series series{"memory", cost::Page::Line::level, {}};
    for (const auto& [time_ns, bytes] : curve.levels)
        series.points.emplace_back(in_ms(time_ns - zero_ns), in_mb(bytes));
    double last = series.points.empty() ? 0 : series.points.back().first;
    if (started) last = std::max(last, life.milliseconds(life.phases.back()));
    if (!series.points.empty()) series.points.emplace_back(last, series.points.back().second);
    chart.series.push_back(std::move(series));
    if (life.memory.peak > 0)
        chart.series.push_back({"peak (the kernel's watermark)",
                                cost::Page::Line::flat,
                                {{0, in_mb(life.memory.peak)}, {last, in_mb(life.memory.peak)}}});
    const trace::Phase* before = nullptr;
    for (const trace::Phase& phase : life.phases) {
        if (!started) break;
        chart.marks.emplace_back(life.milliseconds(phase), phase.name + " " + phase.detail);
        // How long it ran is no part of its start.
        if (before != nullptr && phase.name != "ended")
            chart.phases.emplace_back(before->name + " → " + phase.name,
                                      in_ms(phase.time_ns - before->time_ns));
        before = &phase;
    }
    if (!chart.marks.empty()) chart.note = "Red marks at the bottom: phases of the start.";
    return chart;
}

std::string table_of(const std::vector<trace::Curve>& curves) {
    using enum Table::Align;
    Table table({{"container", left},
                 {"exec ms", right},
                 {"ready ms", right},
                 {"peak", right},
                 {"since exec", right},
                 {"image", left}});
    for (const trace::Curve& curve : curves) {
        const trace::Life& life = *curve.life;
        const auto time = [&](std::initializer_list<const char*> names) -> std::string {
            for (const char* name : names)
                if (const trace::Phase* phase = life.phase(name); phase != nullptr && life.begun)
                    return fmt::format("{:.1f}", life.milliseconds(*phase));
            return "-";
        };
        const auto since = life.peak_since_entry();
        table.add(
            {life.member->name(), time({"exec", "resume"}),
             time({"answered", "ready", "listening"}), format_size(life.memory.peak),
             since ? fmt::format("{}{}", since->exact ? "" : "≥ ", format_size(since->bytes)) : "-",
             life.member->container.image});
    }
    return table.render();
}

}  // namespace

cost::Page trace_page(const trace::CurveCollector& collector) {
    const std::vector<trace::Curve> curves = collector.curves();
    const auto starts =
        std::ranges::count_if(curves, [](const auto& curve) { return curve.life->begun; });
    uint64_t most = 0;
    for (const trace::Curve& curve : curves)
        most = std::max({most, curve.most, curve.life->memory.peak});
    cost::Page page;
    page.verb = "trace";
    page.headline = fmt::format("{} container{} traced, {} start{}", curves.size(),
                                curves.size() == 1 ? "" : "s", starts, starts == 1 ? "" : "s");
    page.tiles = {{std::to_string(curves.size()), "containers"},
                  {std::to_string(starts), "starts seen"},
                  {format_size(most), "largest memory peak"},
                  {std::to_string(collector.lost()), "events lost"}};
    for (const trace::Curve& curve : std::span(curves).first(std::min(curves.size(), most_charts)))
        page.charts.push_back(chart_of(curve));
    if (curves.size() > most_charts)
        page.lead = fmt::format(
            "Charts of the {} largest; the others are in the table of the "
            "report.",
            most_charts);
    page.text = table_of(curves);
    for (const trace::ProbeMethod& method : collector.methods())
        page.facts.emplace_back(method.what,
                                fmt::format("{}: {}", method.backend, method.accuracy));
    page.facts.emplace_back("events lost", std::to_string(collector.lost()));
    return page;
}

}  // namespace memplate::cli
