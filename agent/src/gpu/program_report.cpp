// SPDX-License-Identifier: Apache-2.0
#include "gpu/program_report.h"

#include <algorithm>
#include <array>

#include "gpu/statistics.h"
#include "util/clock.h"
#include "util/command.h"

namespace memplate::gpu {
namespace {

constexpr size_t most_gaps = 50;
/// Pieces of a lane that are closer than so small a part of the time are drawn as one.
constexpr int64_t finest_part = 2000;

double in_ms(int64_t ns) {
    return static_cast<double>(ns) / 1e6;
}

constexpr std::array all_activities = {Activity::start, Activity::link, Activity::import,
                                       Activity::disk,  Activity::user, Activity::driver,
                                       Activity::held};
constexpr std::array all_purposes = {
    CallPurpose::initialise, CallPurpose::context, CallPurpose::module, CallPurpose::memory,
    CallPurpose::copy,       CallPurpose::launch,  CallPurpose::wait,   CallPurpose::other};

template <class Key>
Json times_json(const auto& keys, const std::map<Key, int64_t>& times) {
    Json json = Json::object();
    for (const Key key : keys) {
        const auto found = times.find(key);
        json[std::string(name_of(key))] = in_ms(found == times.end() ? 0 : found->second);
    }
    return json;
}

Json calls_json(const Timeline& timeline) {
    std::vector<std::pair<std::string, CallTotals>> calls(timeline.calls.begin(),
                                                          timeline.calls.end());
    std::ranges::stable_sort(calls, std::greater(),
                             [](const auto& call) { return call.second.total_ns; });
    Json json = Json::array();
    for (const auto& [name, totals] : calls)
        json.push_back({{"name", name},
                        {"purpose", name_of(purpose_of(name))},
                        {"count", totals.count},
                        {"failed", totals.failed},
                        {"first_error", totals.first_error},
                        {"unfinished", totals.unfinished},
                        {"total_ms", in_ms(totals.total_ns)},
                        {"first_ms", in_ms(totals.first_ns)},
                        {"longest_ms", in_ms(totals.longest_ns)},
                        {"bytes", totals.bytes}});
    return json;
}

Json gaps_json(const ProgramTrace& trace, const Timeline& timeline) {
    std::vector<const Gap*> gaps;
    for (const Gap& gap : timeline.gaps) gaps.push_back(&gap);
    std::ranges::stable_sort(gaps, std::greater(), &Gap::ns);
    if (gaps.size() > most_gaps) gaps.resize(most_gaps);
    std::ranges::sort(gaps, {}, &Gap::begin_ns);
    Json json = Json::array();
    for (const Gap* gap : gaps)
        json.push_back({{"at_ms", in_ms(gap->begin_ns - trace.begin_ns)},
                        {"ms", in_ms(gap->ns())},
                        {"after", trace.texts[gap->after]},
                        {"before", trace.texts[gap->before]},
                        {"parts", times_json(all_activities, gap->parts)},
                        {"files", gap->files},
                        {"code_files", gap->code_files},
                        {"bytes_read", gap->bytes_read},
                        {"largest", trace.texts[gap->largest]}});
    return json;
}

Json labels_json(const StreamboxLabels& labels) {
    const auto value = [](const std::optional<int64_t>& ns) {
        return ns ? Json(in_ms(*ns)) : Json();
    };
    return {{"context_initialization_ms", value(labels.context_ns)},
            {"tensor_allocation_ms", value(labels.tensor_ns)},
            {"model_load_ms", value(labels.model_ns)}};
}

Json lanes_json(const ProgramTrace& trace, const Timeline& timeline) {
    const int64_t near = (trace.end_ns - trace.begin_ns) / finest_part;
    std::map<std::string, std::vector<std::pair<int64_t, int64_t>>> lanes;
    for (const Segment& segment : timeline.segments) {
        const std::string_view name = segment.activity == Activity::driver
                                          ? name_of(purpose_of(trace.texts[segment.call]))
                                          : name_of(segment.activity);
        auto& lane = lanes[std::string(name)];
        if (!lane.empty() && segment.begin_ns - lane.back().second <= near)
            lane.back().second = segment.end_ns;
        else
            lane.emplace_back(segment.begin_ns, segment.end_ns);
    }
    Json json = Json::object();
    for (const auto& [name, lane] : lanes)
        for (const auto& [begin, end] : lane)
            json[name].push_back({in_ms(begin - trace.begin_ns), in_ms(end - trace.begin_ns)});
    return json;
}

/// Of the starts that have a number there.
Json statistics_of(const Json& starts, const Json::json_pointer& where) {
    std::vector<double> samples;
    for (const Json& start : starts)
        if (start.at(where).is_number()) samples.push_back(start.at(where).get<double>());
    return statistics(samples);
}

size_t typical_start(const Json& starts) {
    std::vector<std::pair<double, size_t>> totals;
    for (const Json& start : starts)
        totals.emplace_back(start["total_ms"].get<double>(), totals.size());
    std::ranges::sort(totals);
    return totals[(totals.size() - 1) / 2].second;
}

}  // namespace

Json start_json(const ProgramTrace& trace) {
    const Timeline timeline = make_timeline(trace);
    int64_t sum = 0;
    for (const auto& [activity, ns] : timeline.activities) sum += ns;
    Json milestones = Json::array();
    for (const auto& [name, ns] : timeline.milestones)
        milestones.push_back({{"name", name}, {"ms", in_ms(ns)}});
    return {{"total_ms", in_ms(trace.end_ns - trace.begin_ns)},
            {"sum_ms", in_ms(sum)},
            {"failure", trace.cut ? "" : describe_status(trace.status)},
            {"cut", trace.cut},
            {"lost", trace.lost},
            {"processes", timeline.processes.size()},
            {"activities", times_json(all_activities, timeline.activities)},
            {"driver", times_json(all_purposes, timeline.purposes)},
            {"milestones", std::move(milestones)},
            {"calls", calls_json(timeline)},
            {"gaps", gaps_json(trace, timeline)},
            {"labels", labels_json(timeline.labels)},
            {"launches",
             {{"kernels", timeline.kernels},
              {"first_ms", in_ms(timeline.first_launches_ns)},
              {"later", timeline.later_launches},
              {"later_ms", in_ms(timeline.later_launches_ns)}}},
            {"copies", {{"bytes", timeline.copied_bytes}, {"ms", in_ms(timeline.copied_ns)}}},
            {"lanes", lanes_json(trace, timeline)}};
}

Result<Json> measure_program(const Context& context, ProgramOptions program, unsigned runs,
                             const InfoOptions& info) {
    // First: without a driver there is nothing to see.
    TRY_ASSIGN(Json gpu, query_info(context, info));
    program.driver = gpu["driver"].value("library", "");
    Json starts = Json::array();
    TraceMethod method;
    for (unsigned run = 0; run < runs; ++run) {
        if (runs > 1) context.progress->step(fmt::format("start {} of {}", run + 1, runs));
        TRY_ASSIGN(const ProgramTrace trace, trace_program(context, program));
        starts.push_back(start_json(trace));
        method = trace.method;
    }
    Json report = {
        {"schema", 1},
        {"verb", "gpu cold-start"},
        {"generated", iso_time(unix_time())},
        {"command", program.command},
        {"runs", runs},
        {"device", 0},
        {"gpu", std::move(gpu)},
        {"method",
         {{"backend", method.backend}, {"accuracy", method.accuracy}, {"reason", method.reason}}},
        {"total_ms", statistics_of(starts, Json::json_pointer("/total_ms"))}};
    for (const char* group : {"activities", "labels"})
        for (const auto& [name, value] : starts[0][group].items())
            report[group][name] =
                statistics_of(starts, Json::json_pointer("") / std::string(group) / name);
    report["typical"] = typical_start(starts);
    report["starts"] = std::move(starts);
    return report;
}

}  // namespace memplate::gpu
