// SPDX-License-Identifier: Apache-2.0
//
// Hulls as files: our own JSON, and functracer's.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "cost/clock.h"
#include "cost/hull.h"
#include "cost/trace_file.h"
#include "util/toml_reader.h"

namespace memplate::cost {
namespace {

constexpr const char* format_name = "memplate-hull";
constexpr double mebibyte = 1 << 20;
constexpr size_t most_steps = 4'000'000;

Failure refuse(const std::string& origin, std::string_view what) {
    return fail(ErrorKind::usage,
                fmt::format("{}: not a hull: {}; `memplate cost hull` writes one", origin, what));
}

/// As Python's repr() of a float.
std::string python_float(double value) {
    std::string text = fmt::format("{}", value);
    if (text.find_first_of(".en") == text.npos) text += ".0";
    return text;
}

/// As Python's round(value, 1): correctly rounded from the exact binary value, ties to even.
double round_to_tenth(double value) {
    return std::strtod(fmt::format("{:.1f}", value).c_str(), nullptr);
}

Result<Hull> parse_own(const Json& json, const std::string& origin) {
    Hull hull;
    const auto integer = [&](const char* key, int64_t low, int64_t& value) -> Result<> {
        constexpr int64_t most = int64_t{1} << 50;  // bytes or ns
        if (!json.contains(key) || !json[key].is_number_integer() ||
            json[key].get<int64_t>() < low || json[key].get<int64_t>() > most)
            return refuse(origin,
                          fmt::format("\"{}\" must be an integer from {} to 2^50", key, low));
        value = json[key].get<int64_t>();
        return {};
    };
    const auto list = [&](const char* key, std::vector<uint64_t>& values) -> Result<> {
        if (!json.contains(key) || !json[key].is_array() || json[key].empty() ||
            json[key].size() > most_steps)
            return refuse(origin, fmt::format("\"{}\" must be a list of bytes", key));
        for (const Json& one : json[key]) {
            if (!one.is_number_unsigned() || one.get<uint64_t>() > most_trace_bytes)
                return refuse(origin, fmt::format("\"{}\" must be a list of bytes", key));
            values.push_back(one.get<uint64_t>());
        }
        return {};
    };
    int64_t after_end = 0;
    TRY(integer("step_ns", 1'000'000, hull.options.step_ns));
    TRY(integer("lookahead_ns", 0, hull.options.lookahead_ns));
    TRY(integer("after_end_bytes", 0, after_end));
    hull.after_end = static_cast<uint64_t>(after_end);
    TRY(list("maximum_bytes", hull.maximum));
    TRY(list("limit_bytes", hull.limit));
    if (hull.maximum.size() != hull.limit.size())
        return refuse(origin, "\"maximum_bytes\" and \"limit_bytes\" differ in length");
    if (json.contains("quantile") && json["quantile"].is_number())
        hull.options.quantile = json["quantile"].get<double>();
    if (json.contains("traces")) hull.traces = json["traces"];
    return hull;
}

/// {"0.0": 121.457, …}: seconds → MiB. Keys with a float's tail ("2.3000000000000003") are meant.
Result<Hull> parse_functracer(const Json& json, const std::string& origin) {
    std::map<size_t, uint64_t> bins;
    for (const auto& [key, value] : json.items()) {
        char* end = nullptr;
        const double seconds = std::strtod(key.c_str(), &end);
        if (key.empty() || *end != '\0' || !(seconds >= 0) || seconds > 1e5)
            return refuse(
                origin, fmt::format("the key \"{}\" is not a time in seconds", printable(key, 40)));
        if (!value.is_number() || !(value.get<double>() >= 0) || value.get<double>() > 1e9)
            return refuse(origin, fmt::format("the value at \"{}\" is not a size in MiB",
                                              printable(key, 40)));
        uint64_t& bytes = bins[static_cast<size_t>(std::llround(seconds * 10))];
        bytes = std::max(bytes, static_cast<uint64_t>(std::ceil(value.get<double>() * mebibyte)));
    }
    // The last one says that the run is over.
    if (bins.size() > 1 && bins.rbegin()->second == 0) bins.erase(std::prev(bins.end()));
    if (bins.empty()) return refuse(origin, "it is empty");
    Hull hull;
    hull.traces.push_back({{"file", origin}});
    // Its bins are tenths of a second by rounding: each begins half a one before its time. An empty
    // bin keeps the limit of the one before; before the first one its own holds.
    hull.options.step_ns = 50 * ns_per_ms;
    auto next = bins.begin();
    uint64_t level = next->second;
    for (size_t step = 0; step <= 2 * bins.rbegin()->first; step++) {
        if (next != bins.end() && next->first == (step + 1) / 2) level = (next++)->second;
        hull.maximum.push_back(level);
    }
    hull.limit = hull.maximum;
    hull.after_end = hull.flat();
    return hull;
}

}  // namespace

Json Hull::to_json() const {
    return {{"format", format_name},
            {"schema", 1},
            {"step_ns", options.step_ns},
            {"lookahead_ns", options.lookahead_ns},
            {"quantile", options.quantile},
            {"margin_bytes", options.margin_bytes},
            {"margin_percent", options.margin_percent},
            {"after_end_bytes", after_end},
            {"maximum_bytes", maximum},
            {"limit_bytes", limit},
            {"traces", traces}};
}

Result<Hull> Hull::parse(std::string_view text, const std::string& origin) {
    Json json;
    try {
        json = Json::parse(text);
    } catch (const Json::parse_error& error) {
        return refuse(origin, fmt::format("no valid JSON at byte {}", error.byte));
    }
    if (!json.is_object()) return refuse(origin, "no JSON object");
    if (!json.contains("format")) return parse_functracer(json, origin);
    if (json["format"] != format_name)
        return refuse(origin, fmt::format("\"format\" is not \"{}\"", format_name));
    return parse_own(json, origin);
}

std::string functracer_hull(const std::vector<Trace>& traces) {
    std::map<double, double> hull;
    for (const Trace& trace : traces) {
        // The same floating-point steps, with their errors: seconds of the day less those of the
        // first row. A trace of ours counts as one whose exec was at midnight.
        const bool of_day =
            trace.header.contains("format") && trace.header["format"] == "functracer";
        const int64_t first = of_day ? trace.samples.front().time_ns : trace.zero_ns();
        const auto seconds = [&](int64_t time) {
            const int64_t ms = (of_day ? time : time - first) / ns_per_ms;
            const int64_t whole = ms / 1000;
            return static_cast<double>(whole) + static_cast<double>(ms % 1000) / 1000;
        };
        const auto add = [&](int64_t time, uint64_t bytes) {
            const double bin = round_to_tenth(seconds(std::max(time, first)) - seconds(first));
            const double mb = static_cast<double>(bytes) / mebibyte;
            if (const auto [entry, added] = hull.try_emplace(bin, mb); !added)
                entry->second = std::max(entry->second, mb);
        };
        for (const Sample& sample : trace.samples) add(sample.time_ns, sample.bytes);
        // The rows that functracer writes for the start and the end.
        if (!of_day) add(first, 0);
        if (!of_day && trace.complete) add(trace.end_ns(), 0);
    }
    const double end = hull.rbegin()->first + 0.1;
    std::vector<std::pair<double, double>> bins(hull.begin(), hull.end());
    bins.emplace_back(end, 0);
    std::string text = "{";
    for (size_t i = 0; i < bins.size(); i++) {
        double value = bins[i].second;
        if (i + 2 < bins.size()) value += std::max(bins[i + 2].second - value, 0.0);
        text += fmt::format("{}\"{}\": {}", i == 0 ? "" : ", ", python_float(bins[i].first),
                            i + 1 == bins.size() ? "0" : python_float(value));
    }
    return text + "}";
}

}  // namespace memplate::cost
