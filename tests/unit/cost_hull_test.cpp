// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "cost/hull.h"

namespace memplate::cost {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t ms = 1'000'000;
constexpr uint64_t mb = 1 << 20;

/// (ms, MB) pairs, over at `end_ms`.
Trace trace_of(const std::vector<std::pair<int64_t, uint64_t>>& levels, int64_t end_ms) {
    Trace trace;
    trace.name = "t";
    trace.complete = true;
    trace.events = {{0, "exec", ""}, {end_ms * ms, "exit", ""}};
    for (const auto& [time, level] : levels) trace.samples.push_back({time * ms, level * mb});
    return trace;
}

std::vector<uint64_t> in_mb(const std::vector<uint64_t>& bytes) {
    std::vector<uint64_t> result;
    for (const uint64_t one : bytes) result.push_back(one / mb);
    return result;
}

Trace functracer_trace(const std::string& text) {
    auto trace = parse_trace(text, "t.csv");
    EXPECT_TRUE(trace) << trace.error().message;
    return *trace;
}

TEST(CostHull, ALevelLastsUntilTheNextSample) {
    const auto hull =
        build_hull({trace_of({{0, 10}, {50, 30}, {260, 20}}, 350)}, {.lookahead_ns = 0});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(30, 30, 30, 20));
    EXPECT_EQ(hull->limit, hull->maximum);
    EXPECT_EQ(hull->at(-5), 30 * mb);
    EXPECT_EQ(hull->at(399 * ms), 20 * mb);
    EXPECT_EQ(hull->at(400 * ms), 30 * mb);  // longer than any trace: the flat limit
}

TEST(CostHull, TheLimitLooksAheadOverTheWholeWindow) {
    const Trace trace = trace_of({{0, 10}, {110, 50}, {190, 10}}, 450);
    const auto hull = build_hull({trace}, {.lookahead_ns = 200 * ms});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(10, 50, 10, 10, 10));
    EXPECT_THAT(in_mb(hull->limit), ElementsAre(50, 50, 10, 10, 10));
}

TEST(CostHull, MarginsAddUpAndRoundToPages) {
    const auto hull =
        build_hull({trace_of({{0, 100}}, 50)}, {.margin_bytes = 8 * mb + 1, .margin_percent = 10});
    ASSERT_TRUE(hull);
    EXPECT_EQ(hull->limit.at(0), 118 * mb + 4096);
    EXPECT_EQ(hull->maximum.at(0), 100 * mb);
}

TEST(CostHull, QuantileIsOfTheRunsThatStillRun) {
    std::vector<Trace> traces;
    for (uint64_t i = 1; i <= 10; i++) traces.push_back(trace_of({{0, i * 10}}, 50));
    traces.push_back(trace_of({{0, 5}, {100, 70}}, 150));
    const auto hull = build_hull(traces, {.lookahead_ns = 0, .quantile = 0.5});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->limit), ElementsAre(50, 70));
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(100, 70));
}

TEST(CostHull, ARisenWatermarkCountsBetweenTheSamples) {
    Trace trace = trace_of({{0, 10}, {105, 12}, {300, 12}}, 350);
    trace.samples[0].peak = 10 * mb;
    trace.samples[1].peak = 90 * mb;
    trace.samples[2].peak = 90 * mb;
    const auto hull = build_hull({trace}, {.lookahead_ns = 0});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(90, 90, 12, 12));
}

TEST(CostHull, AWatermarkBeforeTheFirstSampleCountsAfterAnExec) {
    Trace trace = trace_of({{150, 10}, {160, 10}}, 250);
    trace.samples[0].peak = 80 * mb;
    auto hull = build_hull({trace}, {.lookahead_ns = 0});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(80, 80, 10));
    EXPECT_EQ(trace.peak_bytes(), 80 * mb);
    trace.events.front().name = "start";  // followed: it may be from before
    hull = build_hull({trace}, {.lookahead_ns = 0});
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(0, 10, 10));
}

TEST(CostHull, ARiseIsSeenAcrossSamplesWithoutWatermark) {
    Trace trace = trace_of({{0, 10}, {110, 11}, {310, 12}}, 350);
    trace.samples[0].peak = 10 * mb;
    trace.samples[2].peak = 90 * mb;
    const auto hull = build_hull({trace}, {.lookahead_ns = 0});
    ASSERT_TRUE(hull);
    EXPECT_THAT(in_mb(hull->maximum), ElementsAre(90, 90, 90, 90));
}

TEST(CostHull, SamplesAfterTheExitCount) {
    Trace trace = trace_of({{0, 1}, {50, 2}, {450, 70}}, 100);
    const auto hull = build_hull({trace}, {.lookahead_ns = 0});
    ASSERT_TRUE(hull);
    EXPECT_EQ(hull->at(450 * ms), 70 * mb);
    EXPECT_EQ(hull->flat(), 70 * mb);
}

TEST(CostHull, BrokenTimesAreRefused) {
    Trace trace = trace_of({{0, 1}}, 50);
    trace.events.back().time_ns = INT64_MAX / 2;
    const auto hull = build_hull({trace}, {});
    ASSERT_FALSE(hull);
    EXPECT_THAT(hull.error().message, HasSubstr("too long"));
    trace.samples.clear();
    EXPECT_FALSE(build_hull({trace}, {}));
}

// The promise of the module: at no moment of any trace is the limit below its level.
TEST(CostHullProperty, NeverBelowAnyTrace) {
    std::mt19937_64 random(20260717);
    const auto below = [&](uint64_t n) { return random() % n; };
    for (int round = 0; round < 300; round++) {
        std::vector<Trace> traces(1 + below(6));
        for (Trace& trace : traces) {
            trace.name = "random";
            int64_t time = static_cast<int64_t>(below(1'000'000'000'000));
            const int64_t zero = time;
            if (below(2) != 0) trace.events.push_back({zero, "exec", ""});
            uint64_t peak = 0;
            for (uint64_t i = 0, count = 1 + below(80); i < count; i++) {
                Sample sample;
                sample.time_ns = time;
                sample.bytes = below(1 << 30);
                peak = std::max({peak, sample.bytes, below(8) == 0 ? below(1 << 30) : 0});
                if (below(4) != 0) sample.peak = peak;
                trace.samples.push_back(sample);
                time += static_cast<int64_t>(below(below(5) == 0 ? 900'000'000 : 3'000'000));
            }
            if (below(2) != 0) trace.events.push_back({time, "exit", ""});
        }
        HullOptions options;
        options.step_ns = static_cast<int64_t>(1'000'000 + below(300'000'000));
        options.lookahead_ns = static_cast<int64_t>(below(600'000'000));
        options.margin_percent = static_cast<double>(below(50));
        const auto built = build_hull(traces, options);
        ASSERT_TRUE(built) << built.error().message;
        const auto hull = Hull::parse(built->to_json().dump(), "again");  // and after a file
        ASSERT_TRUE(hull) << hull.error().message;
        for (const Trace& trace : traces) {
            const Sample* marked = nullptr;
            for (size_t i = 0; i < trace.samples.size(); i++) {
                const Sample& sample = trace.samples[i];
                if (marked != nullptr && sample.peak > marked->peak) {
                    for (int64_t time : {marked->time_ns, sample.time_ns})
                        ASSERT_GE(hull->at(time - trace.zero_ns()), *sample.peak);
                }
                if (sample.peak) marked = &sample;
                const int64_t from = sample.time_ns - trace.zero_ns();
                const int64_t to = i + 1 < trace.samples.size()
                                       ? trace.samples[i + 1].time_ns - trace.zero_ns()
                                       : from + 1;
                for (int64_t time = from; time < std::max(to, from + 1);
                     time += std::max<int64_t>((to - from) / 7, 1))
                    ASSERT_GE(hull->at(time), sample.bytes) << "round " << round;
            }
        }
    }
}

TEST(CostHull, FilesAreReadAsWritten) {
    const auto built =
        build_hull({trace_of({{0, 10}, {150, 20}}, 250)}, {.quantile = 0.9, .margin_bytes = 5});
    ASSERT_TRUE(built);
    const auto read = Hull::parse(built->to_json().dump(1), "hull.json");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->limit, built->limit);
    EXPECT_EQ(read->maximum, built->maximum);
    EXPECT_EQ(read->after_end, built->after_end);
    EXPECT_EQ(read->options.step_ns, built->options.step_ns);
    EXPECT_EQ(read->options.quantile, 0.9);
}

TEST(CostHull, MalformedFilesAreOneClearLine) {
    const auto refusal = [](const std::string& text) {
        const auto hull = Hull::parse(text, "hull.json");
        EXPECT_FALSE(hull) << text;
        if (hull) return std::string();
        EXPECT_EQ(hull.error().kind, ErrorKind::usage);
        EXPECT_THAT(hull.error().message, StartsWith("hull.json: not a hull: "));
        EXPECT_EQ(hull.error().message.find('\n'), std::string::npos);
        return hull.error().message;
    };
    EXPECT_THAT(refusal("{\"0.0\": 1"), HasSubstr("at byte 10"));
    EXPECT_THAT(refusal("[1]"), HasSubstr("no JSON object"));
    EXPECT_THAT(refusal("{}"), HasSubstr("empty"));
    EXPECT_THAT(refusal("{\"x\": 1}"), HasSubstr("\"x\" is not a time"));
    EXPECT_THAT(refusal("{\"\": 1}"), HasSubstr("not a time"));
    EXPECT_THAT(refusal("{\"0.0\": \"1\"}"), HasSubstr("size in MiB"));
    EXPECT_THAT(refusal("{\"0.0\": -1}"), HasSubstr("size in MiB"));
    EXPECT_THAT(refusal("{\"1e9\": 1}"), HasSubstr("not a time"));
    EXPECT_THAT(refusal("{\"format\": \"other\"}"), HasSubstr("\"format\""));
    Json good = build_hull({trace_of({{0, 1}}, 1)}, {})->to_json();
    for (const char* key : {"step_ns", "limit_bytes", "maximum_bytes", "after_end_bytes"}) {
        Json bad = good;
        bad.erase(key);
        EXPECT_THAT(refusal(bad.dump()), HasSubstr(key));
    }
    for (const char* key : {"step_ns", "after_end_bytes"}) {
        Json bad = good;
        bad[key] = INT64_MAX;
        EXPECT_THAT(refusal(bad.dump()), HasSubstr(key));
    }
    Json large = good;
    large["limit_bytes"][0] = UINT64_MAX;
    EXPECT_THAT(refusal(large.dump()), HasSubstr("limit_bytes"));
    good["step_ns"] = 0;
    EXPECT_THAT(refusal(good.dump()), HasSubstr("step_ns"));
    good["step_ns"] = 1'000'000;
    good["limit_bytes"].push_back(5);
    EXPECT_THAT(refusal(good.dump()), HasSubstr("differ in length"));
}

// Worked out by hand from the rules: bins by rounding, the second next existing bin, a last 0.
TEST(CostFunctracerHull, ReproducesItsQuirks) {
    const Trace one = functracer_trace(
        "10:00:00.000,0\n"
        "10:00:00.030,1048576\n"  // 0.0
        "10:00:00.120,3145728\n"  // 0.1
        "10:00:00.160,209715\n"   // 0.2
        "10:00:00.500,5242880\n"  // 0.5: 0.3 and 0.4 are empty
        "10:00:00.640,0\n");      // 0.6
    EXPECT_EQ(functracer_hull({one}),
              "{\"0.0\": 1.0, \"0.1\": 5.0, \"0.2\": 0.19999980926513672, \"0.5\": 5.0, "
              "\"0.6\": 0.0, \"0.7\": 0}");
}

TEST(CostFunctracerHull, TheLastKeyHasTheErrorOfTheFloat) {
    std::string text = "10:00:00.000,0\n";
    text += "10:00:02.200,1048576\n";
    const std::string hull = functracer_hull({functracer_trace(text)});
    EXPECT_EQ(hull, "{\"0.0\": 0.0, \"2.2\": 1.0, \"2.3000000000000003\": 0}");
    // The skipped bin: 0.1 needs 9 MB, the limit at 0.0 looks at 0.2 only.
    const std::string skipped = functracer_hull(
        {functracer_trace("10:00:00.000,1048576\n10:00:00.100,9437184\n10:00:00.200,2097152\n")});
    EXPECT_THAT(skipped, StartsWith("{\"0.0\": 2.0, \"0.1\": 9.0,"));
    // Ours covers it.
    const auto ours = build_hull(
        {functracer_trace("10:00:00.000,1048576\n10:00:00.100,9437184\n10:00:00.200,2097152\n")},
        {});
    EXPECT_EQ(ours->limit.at(0), 9 * mb);
}

TEST(CostFunctracerHull, ItsFilesAreRead) {
    const auto hull =
        Hull::parse("{\"0.0\": 10.0, \"0.2\": 20.5, \"2.3000000000000003\": 0}", "uhull.json");
    ASSERT_TRUE(hull) << hull.error().message;
    // A key holds from 0.05 s before its time on.
    EXPECT_EQ(hull->at(149 * ms), 10 * mb);
    EXPECT_EQ(hull->at(150 * ms), 20 * mb + mb / 2);
    EXPECT_EQ(hull->duration_ns(), 250 * ms);
    EXPECT_EQ(hull->after_end, 20 * mb + mb / 2);
    const auto again = Hull::parse(functracer_hull({trace_of({{0, 10}, {310, 7}}, 400)}), "u");
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->at(0), 10 * mb);
    // Two spellings of one time: the larger counts.
    EXPECT_EQ(Hull::parse("{\"0.3\": 9, \"0.30000000000000004\": 5}", "u")->at(300 * ms), 9 * mb);
}

// What its tuner would have set at the time of each sample, which its rule promises.
TEST(CostFunctracerHull, ReadBackItCoversWhatItWasMadeOf) {
    const Trace trace = functracer_trace(
        "10:00:00.000,0\n10:00:00.010,1048576\n10:00:00.060,52428800\n10:00:00.160,1048576\n"
        "10:00:00.260,1048576\n10:00:00.360,0\n");
    const auto hull = Hull::parse(functracer_hull({trace}), "u");
    ASSERT_TRUE(hull) << hull.error().message;
    for (const Sample& sample : trace.samples)
        EXPECT_GE(hull->at(sample.time_ns - trace.zero_ns()), sample.bytes);
}

TEST(CostFunctracerHull, TracesOfOursCountFromTheirExec) {
    Trace trace = trace_of({{60, 5}, {160, 7}}, 260);
    trace.header = {{"format", 5}};
    EXPECT_EQ(functracer_hull({trace}),
              "{\"0.0\": 7.0, \"0.1\": 5.0, \"0.2\": 7.0, \"0.3\": 0.0, \"0.4\": 0}");
}

}  // namespace
}  // namespace memplate::cost
