// SPDX-License-Identifier: Apache-2.0
#include "cost/page.h"

#include <algorithm>

#include "cost/clock.h"
#include "cost/cost_page.h"
#include "util/clock.h"
#include "util/html_page.h"
#include "util/text.h"

namespace memplate::cost {
namespace {

constexpr size_t most_points = 4000;

double in_mb(uint64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}
double in_ms(int64_t ns) {
    return static_cast<double>(ns) / 1e6;
}

std::string_view name_of(Page::Line line) {
    switch (line) {
        case Page::Line::level:
            return "level";
        case Page::Line::hull:
            return "hull";
        case Page::Line::limit:
            return "limit";
        case Page::Line::billed:
            return "billed";
        case Page::Line::flat:
            return "flat";
    }
    return "";
}

Json json_of(const Page::Chart& chart) {
    Json json = {{"title", chart.title},    {"unit", chart.unit},     {"note", chart.note},
                 {"series", Json::array()}, {"marks", Json::array()}, {"phases", Json::array()}};
    for (const Page::Series& series : chart.series)
        json["series"].push_back(
            {{"name", series.name}, {"kind", name_of(series.line)}, {"points", series.points}});
    for (const auto& [time, text] : chart.marks)
        json["marks"].push_back({{"t", time}, {"text", text}});
    for (const auto& [name, ms] : chart.phases)
        json["phases"].push_back({{"name", name}, {"ms", ms}});
    return json;
}

std::string with_spaces(std::string key) {
    std::ranges::replace(key, '_', ' ');
    return key;
}

Page::Series constant(std::string name, Page::Line line, double mb, double ms) {
    return {std::move(name), line, {{0, mb}, {ms, mb}}};
}

Page::Series steps(std::string name, Page::Line line, const Hull& hull,
                   const std::vector<uint64_t>& bytes) {
    Page::Series series{std::move(name), line, {}};
    for (size_t i = 0; i < bytes.size(); i++)
        series.points.emplace_back(in_ms(static_cast<int64_t>(i) * hull.options.step_ns),
                                   in_mb(bytes[i]));
    if (!bytes.empty()) series.points.emplace_back(in_ms(hull.duration_ns()), in_mb(bytes.back()));
    return series;
}

}  // namespace

std::string Page::html() const {
    Json data = {{"tiles", tiles}, {"charts", Json::array()}, {"facts", facts}};
    for (const Chart& chart : charts) data["charts"].push_back(json_of(chart));
    return fill_page(
        cost_page::html,
        {{"title", escape_html(headline) + " · memplate"},
         {"verb", escape_html(verb)},
         {"date", iso_time(unix_time())},
         {"headline", escape_html(headline)},
         {"lead", escape_html(lead)},
         {"summary", escape_html(text)},
         {"style", std::string(cost_page::report_css) + std::string(cost_page::css)},
         {"script", std::string(cost_page::page_js) + std::string(cost_page::charts_js)},
         {"data", escape_json(data)}});
}

Page::Series series_of(const Trace& trace, std::string name) {
    Page::Series series{std::move(name), Page::Line::level, {}};
    const int64_t zero = trace.zero_ns();
    // Of each bucket its first, least and largest sample, in order.
    const size_t bucket = trace.samples.size() / (most_points / 3) + 1;
    for (size_t begin = 0; begin < trace.samples.size(); begin += bucket) {
        const auto samples =
            std::span(trace.samples).subspan(begin, std::min(bucket, trace.samples.size() - begin));
        const auto [least, largest] = std::ranges::minmax_element(samples, {}, &Sample::bytes);
        std::vector<const Sample*> kept = {&samples.front(), &*least, &*largest};
        std::ranges::sort(kept);
        const auto repeated = std::ranges::unique(kept);
        kept.erase(repeated.begin(), repeated.end());
        for (const Sample* sample : kept)
            series.points.emplace_back(in_ms(sample->time_ns - zero), in_mb(sample->bytes));
    }
    if (!series.points.empty())
        series.points.emplace_back(in_ms(trace.end_ns() - zero), series.points.back().second);
    return series;
}

std::vector<std::pair<std::string, double>> phases_of(const Trace& trace) {
    std::vector<std::pair<std::string, double>> phases;
    const Event* before = nullptr;
    for (const Event& event : trace.events) {
        if (event.name == "clock" || event.name == "limit") continue;
        if (before != nullptr)
            phases.emplace_back(before->name + " → " + event.name,
                                in_ms(event.time_ns - before->time_ns));
        before = &event;
    }
    return phases;
}

Result<Page> run_page(const RunReport& report, const std::vector<Trace>& traces) {
    const PriceProfile& profile = report.profiles.front();
    const RunRecord all = report.typical();
    TRY_ASSIGN(const Bill bill, report.bill(profile, all));
    const double run_ms = in_ms(all.end_ns - all.start_ns);
    Page page;
    page.verb = "cost run";
    page.headline =
        fmt::format("{} for {}: {} for {} requests", format_size(all.peak_bytes),
                    format_milliseconds(run_ms), profile.money(bill.total), grouped(bill.requests));
    page.lead = fmt::format("{}. {}.", report.subject, profile.title());
    TRY_ASSIGN(page.text, report.text(false));
    page.tiles = {
        {profile.money(bill.total), fmt::format("for {} requests", grouped(bill.requests))},
        {profile.money(bill.overhead), "of it for memory and time that were not used"},
        {fmt::format("{} MB", bill.wasted_mb()), "billed, not used"},
        {fmt::format("{} ms", bill.wasted_ms()), "billed, not used"}};
    Page::Chart chart;
    chart.title = "Memory over time";
    double last_ms = 0;
    for (const Trace& trace : traces) {
        chart.series.push_back(series_of(trace, "memory used"));
        last_ms = std::max(last_ms, in_ms(trace.end_ns() - trace.zero_ns()));
        if (traces.size() == 1) {
            chart.phases = phases_of(trace);
            for (const Event& event : trace.events)
                if (event.name == "clock")
                    chart.marks.emplace_back(in_ms(event.time_ns - trace.zero_ns()),
                                             "wall clock " + event.detail);
        }
    }
    const auto billed_mb = static_cast<double>(bill.billed_mb);
    const auto billed_ms = static_cast<double>(bill.billed_ms);
    chart.series.push_back({"billed memory and time",
                            Page::Line::billed,
                            {{0, 0}, {0, billed_mb}, {billed_ms, billed_mb}, {billed_ms, 0}}});
    chart.series.push_back(
        constant("maximum", Page::Line::flat, in_mb(all.peak_bytes), std::max(last_ms, billed_ms)));
    chart.note = "Accuracy: " + all.method.accuracy + ".";
    page.charts.push_back(std::move(chart));
    page.facts = {{"method", all.method_text()},
                  {"prices", fmt::format("{}; {}", profile.title(), profile.source)}};
    if (!profile.unverified.empty())
        page.facts.emplace_back("not verified",
                                fmt::format("{}", fmt::join(profile.unverified, ", ")));
    for (const auto& [key, value] : report.environment.items())
        page.facts.emplace_back(with_spaces(key),
                                value.is_string() ? value.get<std::string>() : value.dump());
    return page;
}

Page hull_page(const Hull& hull, const std::vector<Trace>& traces, const std::string& text) {
    Page page;
    page.verb = "cost hull";
    double flat = 0;
    double along = 0;
    for (const Trace& trace : traces) {
        const int64_t duration = trace.end_ns() - trace.zero_ns();
        flat += gigabyte_seconds(hull.flat(), duration);
        along += gigabyte_seconds(hull, duration);
    }
    const std::string saved = fmt::format("{:.1f} %", saved_percent(flat, along));
    page.headline =
        fmt::format("A limit along the hull of {} traces reserves {} less", traces.size(), saved);
    page.lead = fmt::format("Against a flat limit of {}, on average over the traces.",
                            format_size(hull.flat()));
    page.text = text;
    page.tiles = {{saved, "of the GB-seconds of the flat limit"},
                  {format_size(hull.flat()), "flat limit"},
                  {fmt::format("{}", hull.limit.size()),
                   fmt::format("steps of {:g} ms", in_ms(hull.options.step_ns))}};
    Page::Chart chart;
    chart.title = "Memory over time";
    for (const Trace& trace : traces) chart.series.push_back(series_of(trace, trace.name));
    chart.series.push_back(steps("maximum hull", Page::Line::hull, hull, hull.maximum));
    chart.series.push_back(steps("limit", Page::Line::limit, hull, hull.limit));
    if (hull.options.quantile < 1)
        chart.note = "The quantile is below 1: some traces need more than the limit.";
    page.charts.push_back(std::move(chart));
    page.facts = {{"lookahead", fmt::format("{:g} ms", in_ms(hull.options.lookahead_ns))},
                  {"quantile", fmt::format("{:g}", hull.options.quantile)},
                  {"margin", fmt::format("{} and {:g} %", format_size(hull.options.margin_bytes),
                                         hull.options.margin_percent)}};
    return page;
}

Page tune_page(const TuneReport& report, const Hull& hull, const Trace& trace) {
    Page page;
    page.verb = "cost tune";
    const double saved_gb = report.flat_gb_seconds - report.tuned_gb_seconds;
    const std::string saved =
        fmt::format("{:.1f} %", saved_percent(report.flat_gb_seconds, report.tuned_gb_seconds));
    const auto interventions = std::ranges::count_if(
        report.changes, [](const auto& change) { return change.reason != Tuner::Reason::hull; });
    page.headline = fmt::format("{} of the reserved memory saved{}", saved,
                                report.dry_run ? ", on a recorded trace" : "");
    page.lead = report.subject;
    page.text = report.text(false);
    page.tiles = {{saved, fmt::format("{:.4f} of {:.4f} GB-s", saved_gb, report.flat_gb_seconds)},
                  {std::to_string(interventions), "interventions beside the hull"},
                  report.dry_run
                      ? std::pair<std::string, std::string>{std::to_string(report.above_limit),
                                                            "samples above the limit"}
                      : std::pair<std::string, std::string>{std::to_string(report.oom_kills),
                                                            "processes killed at the limit"}};
    Page::Chart chart;
    chart.title = "Memory and limit over time";
    chart.series.push_back(series_of(trace, "memory used"));
    chart.series.push_back(steps("maximum hull", Page::Line::hull, hull, hull.maximum));
    Page::Series limit{"limit set", Page::Line::limit, {{0, in_mb(report.first_limit)}}};
    for (const Tuner::Change& change : report.changes) {
        limit.points.emplace_back(in_ms(change.time_ns), in_mb(change.to));
        if (change.reason != Tuner::Reason::hull)
            chart.marks.emplace_back(in_ms(change.time_ns),
                                     fmt::format("{}: {} MB to {} MB", cost::name_of(change.reason),
                                                 change.from >> 20, change.to >> 20));
    }
    limit.points.emplace_back(in_ms(report.duration_ns), limit.points.back().second);
    chart.series.push_back(std::move(limit));
    chart.series.push_back(constant("flat limit", Page::Line::flat, in_mb(report.flat_bytes),
                                    in_ms(report.duration_ns)));
    chart.note = "Red marks at the bottom: interventions.";
    chart.phases = phases_of(trace);
    page.charts.push_back(std::move(chart));
    page.facts = {{"limits", report.mechanism}};
    if (report.run)
        page.facts.emplace_back(
            "method", fmt::format("{}: {}", report.run->method.backend, report.run->method.level));
    return page;
}

}  // namespace memplate::cost
