// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cost/functracer.h"
#include "cost/trace.h"
#include "cost/trace_file.h"
#include "util/fs.h"

namespace memplate::cost {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t ms = 1'000'000;

class CostTrace : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-cost");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
    }
    [[nodiscard]] std::string path() const { return directory_.path() + "/trace.csv"; }
    [[nodiscard]] std::string text() const { return *read_file(path()); }
    TemporaryDirectory directory_;
};

Sample sample(int64_t time, uint64_t bytes) {
    return {.time_ns = time, .bytes = bytes};
}

std::string refusal(const std::string& text) {
    const auto trace = parse_trace(text, "t.csv");
    EXPECT_FALSE(trace) << text;
    if (trace) return {};
    EXPECT_EQ(trace.error().kind, ErrorKind::usage);
    EXPECT_EQ(trace.error().message.find('\n'), std::string::npos);
    return trace.error().message;
}

TEST_F(CostTrace, WhatIsWrittenIsRead) {
    auto writer = TraceWriter::create(path(), {{"subject", "a \"quoted\"\nname"}});
    ASSERT_TRUE(writer) << writer.error().message;
    (*writer)->add(Event{100, "exec", ""});
    Sample full = sample(200, 4096);
    full.peak = 8192;
    full.limit = 1 << 20;
    full.inactive_file = 0;
    (*writer)->add(full);
    (*writer)->add(sample(300, 0));
    (*writer)->add(Event{400, "limit", "to 5, because\n\"so\""});
    (*writer)->add(Event{500, "exit", ""});
    ASSERT_TRUE((*writer)->finish());

    const auto trace = read_trace(path());
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_TRUE(trace->complete);
    EXPECT_EQ(trace->header["subject"], "a \"quoted\"\nname");
    ASSERT_EQ(trace->samples.size(), 2u);
    EXPECT_EQ(trace->samples[0].peak, 8192u);
    EXPECT_EQ(trace->samples[0].limit, 1u << 20);
    EXPECT_EQ(trace->samples[0].inactive_file, 0u);
    EXPECT_EQ(trace->samples[1].peak, std::nullopt);
    ASSERT_EQ(trace->events.size(), 3u);
    EXPECT_EQ(trace->events[1].detail, "to 5  because  so ");
    EXPECT_EQ(trace->zero_ns(), 100);
    EXPECT_EQ(trace->end_ns(), 500);
}

TEST_F(CostTrace, EveryCutLeavesAReadablePrefix) {
    auto writer = TraceWriter::create(path(), Json::object());
    ASSERT_TRUE(writer);
    (*writer)->add(Event{1, "exec", ""});
    for (int i = 0; i < 20; i++)
        (*writer)->add(sample(1000 + i, 1'000'000 + static_cast<uint64_t>(i)));
    ASSERT_TRUE((*writer)->finish());
    const std::string whole = text();
    const size_t body = whole.find("1,,,,,exec");
    size_t most = 0;
    for (size_t length = body + 12; length < whole.size(); length++) {
        const auto trace = parse_trace(std::string_view(whole).substr(0, length), "cut");
        ASSERT_TRUE(trace) << length << ": " << trace.error().message;
        EXPECT_FALSE(trace->complete);
        for (size_t i = 0; i < trace->samples.size(); i++)
            ASSERT_EQ(trace->samples[i].bytes, 1'000'000 + i) << length;
        EXPECT_GE(trace->samples.size(), most);
        most = trace->samples.size();
    }
    EXPECT_EQ(most, 19u);  // the last line only counts with its end
}

TEST_F(CostTrace, AFullDiskIsReportedAtTheEnd) {
    auto writer = TraceWriter::create("/dev/full", Json::object());
    ASSERT_TRUE(writer);
    (*writer)->add(sample(1, 1));
    const auto finished = (*writer)->finish();
    ASSERT_FALSE(finished);
    EXPECT_THAT(finished.error().message, HasSubstr("/dev/full"));
}

TEST_F(CostTrace, MalformedFilesAreNamedByLine) {
    const std::string head = std::string(trace_signature) +
                             "\n# {}\ntime_ns,memory_bytes,peak_bytes,limit_bytes,"
                             "inactive_file_bytes,event,detail\n";
    EXPECT_THAT(refusal(""), HasSubstr("no sample"));
    EXPECT_THAT(refusal(head), HasSubstr("no sample"));
    EXPECT_THAT(refusal(std::string(trace_signature) + "\n# []\n"), StartsWith("t.csv:2: "));
    EXPECT_THAT(refusal(std::string(trace_signature) + "\n# {\n"), StartsWith("t.csv:2: "));
    EXPECT_THAT(refusal(std::string(trace_signature) + "\n# {}\nother\n"), StartsWith("t.csv:3: "));
    EXPECT_THAT(refusal(head + "1,2,3\n"), StartsWith("t.csv:4: 3 columns"));
    EXPECT_THAT(refusal(head + "x,2,,,,,\n"), HasSubstr("no time"));
    EXPECT_THAT(refusal(head + "1,-2,,,,,\n"), HasSubstr("not a number of bytes"));
    EXPECT_THAT(refusal(head + "-1,2,,,,,\n"), HasSubstr("no time"));
    EXPECT_THAT(refusal(head + "1,18446744073709551615,,,,,\n"), HasSubstr("number of bytes"));
    EXPECT_THAT(refusal(head + "1,2,18446744073709551615,,,,\n"), HasSubstr("number of bytes"));
    EXPECT_THAT(refusal(std::string(trace_signature) + "2\n# {}\n"), HasSubstr("trace 12"));
    EXPECT_THAT(refusal("12:00:00.000,18446744073709551615\n"), StartsWith("t.csv:1: "));
    EXPECT_THAT(refusal(head + "1,2,,,x,,\n"), HasSubstr("not a number of bytes"));
    EXPECT_THAT(refusal(head + "2000000000,2,,,,,\n1000000000,2,,,,,\n"),
                StartsWith("t.csv:5: time goes back by 1.000 s"));
    EXPECT_THAT(refusal("hello\n"), StartsWith("t.csv:1: not a trace"));
    EXPECT_THAT(refusal("24:00:00.000,0\n"), StartsWith("t.csv:1: "));
    EXPECT_THAT(refusal("12:00:00,0\n"), StartsWith("t.csv:1: "));
    EXPECT_THAT(refusal("12:00:00.000,0\n12:00:01.000,x\n"), StartsWith("t.csv:2: "));
    EXPECT_THAT(refusal("12:00:00.000,0\n12:00:01.000,5,6,7\n"), StartsWith("t.csv:2: "));
    EXPECT_FALSE(read_trace("/nowhere/trace.csv"));
}

TEST_F(CostTrace, FunctracerTraces) {
    const auto trace = parse_trace(
        "10:00:00.000,0\n10:00:00.050,4096,9223372036854771712\n10:00:00.100,8192,1048576\n"
        "10:00:00.150,0\n",
        "t.csv");
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_TRUE(trace->complete);
    EXPECT_EQ(trace->samples[1].limit, std::nullopt);  // docker's "unlimited"
    EXPECT_EQ(trace->samples[2].limit, 1u << 20);
    EXPECT_EQ(trace->end_ns() - trace->zero_ns(), 150 * ms);
    EXPECT_EQ(trace->peak_bytes(), 8192u);
}

TEST_F(CostTrace, FunctracerTracesAcrossMidnight) {
    const auto trace =
        parse_trace("23:59:59.900,0\n23:59:59.950,10\n00:00:00.050,20\n00:00:00.100,0\n", "t.csv");
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->end_ns() - trace->zero_ns(), 200 * ms);
    EXPECT_EQ(trace->samples[2].time_ns - trace->samples[1].time_ns, 100 * ms);
}

TEST_F(CostTrace, AClockSetBackIsAnErrorNotAMidnight) {
    EXPECT_THAT(refusal("10:00:00.000,0\n10:00:05.000,10\n10:00:01.800,20\n"),
                StartsWith("t.csv:3: the clock goes back by 3.200 s"));
}

TEST_F(CostTrace, FunctracersEndMayBeALittleBeforeItsLastSample) {
    const auto trace = parse_trace("10:00:00.000,0\n10:00:00.100,10\n10:00:00.091,0\n", "t.csv");
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_TRUE(trace->complete);
    EXPECT_EQ(trace->end_ns() - trace->zero_ns(), 100 * ms);
    EXPECT_THAT(refusal("10:00:00.100,1\n10:00:00.091,0\n10:00:00.092,0\n"),
                StartsWith("t.csv:2: "));
}

TEST_F(CostTrace, WritesFunctracersFormatOfWhatIsFollowed) {
    auto writer = FunctracerWriter::create(path(), 1000 * ms, 0);
    ASSERT_TRUE(writer);
    (*writer)->add(Event{999 * ms, "start", "followed from here"});
    (*writer)->add(sample(1100 * ms, 4096));
    (*writer)->add(Event{1200 * ms, "exit", ""});
    ASSERT_TRUE((*writer)->finish());
    EXPECT_EQ(text(), "23:59:59.999,0\n00:00:00.100,4096\n00:00:00.200,0\n");
}

TEST_F(CostTrace, WritesFunctracersFormatAcrossMidnight) {
    constexpr int64_t start = 5'000'000'000'000;
    // A quarter of a second before midnight.
    auto writer = FunctracerWriter::create(path(), start, 24 * 3600 * 1000 - 250);
    ASSERT_TRUE(writer);
    (*writer)->add(sample(start + 1 * ms, 111));  // before the exec: not of the run
    (*writer)->add(Event{start + 10 * ms, "exec", ""});
    (*writer)->add(sample(start + 100 * ms + 999'999, 4096));
    Sample limited = sample(start + 251 * ms, 8192);
    limited.limit = 1 << 20;
    (*writer)->add(limited);
    (*writer)->add(Event{start + 300 * ms, "clock", "set"});
    (*writer)->add(Event{start + 400 * ms, "exit", ""});
    ASSERT_TRUE((*writer)->finish());
    EXPECT_EQ(text(),
              "23:59:59.760,0\n23:59:59.850,4096\n00:00:00.001,8192,1048576\n00:00:00.150,0\n");
    const auto trace = read_trace(path());
    ASSERT_TRUE(trace) << trace.error().message;
    EXPECT_EQ(trace->end_ns() - trace->zero_ns(), 390 * ms);
}

TEST_F(CostTrace, AWatermarkFromBeforeDoesNotCount) {
    Trace trace;
    trace.samples = {sample(0, 100), sample(1, 200), sample(2, 150)};
    for (Sample& one : trace.samples) one.peak = 5000;
    EXPECT_EQ(trace.peak_bytes(), 200u);
    trace.samples[2].peak = 6000;
    EXPECT_EQ(trace.peak_bytes(), 6000u);
}

TEST_F(CostTrace, WithoutExecTimeBeginsWithTheTrace) {
    Trace trace;
    trace.samples = {sample(50, 1), sample(70, 1)};
    trace.events = {{40, "start", ""}};
    EXPECT_EQ(trace.zero_ns(), 40);
    EXPECT_EQ(trace.end_ns(), 70);
}

}  // namespace
}  // namespace memplate::cost
