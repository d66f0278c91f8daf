// SPDX-License-Identifier: Apache-2.0
//
// Histograms, tables, JSON lines and recordings.
#include <gmock/gmock.h>

#include "trace/device.h"
#include "trace/lines.h"
#include "trace/recording.h"
#include "trace/screen.h"
#include "trace/views.h"
#include "trace_fixture.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(TraceHistogram, LooksLikeBpftraces) {
    Histogram histogram;
    for (const double value : {16.0, 17.5, 31.9, 70.0}) histogram.add(value);
    EXPECT_EQ(histogram.text(), "[16, 32)                3 |" + std::string(52, '@') + "|\n" +
                                    "[32, 64)                0 |" + std::string(52, ' ') + "|\n" +
                                    "[64, 128)               1 |" + std::string(17, '@') +
                                    std::string(35, ' ') + "|\n");
    EXPECT_EQ(histogram.to_json().dump(),
              R"([{"min":16,"max":32,"count":3},{"min":64,"max":128,"count":1}])");
    EXPECT_EQ(histogram.below(5), 3U);
    EXPECT_EQ(histogram.below(4), 0U);
    EXPECT_DOUBLE_EQ(histogram.sum(), 135.4);
}

TEST(TraceHistogram, TakesAnyValue) {
    Histogram histogram;
    for (const double value : {0.0, -5.0, 0.3, 5000.0, 1e300, 1e-300}) histogram.add(value);
    EXPECT_EQ(histogram.count(), 6U);
    const std::string text = histogram.text(40);
    EXPECT_THAT(text, HasSubstr("[0]"));
    EXPECT_THAT(text, HasSubstr("[0.25, 0.5)"));
    EXPECT_THAT(text, HasSubstr("[4K, 8K)"));
    EXPECT_THAT(text, HasSubstr("[1T, 2T)"));
    for (const std::string& line : split(trim(text), '\n')) EXPECT_LE(line.size(), 40U);
}

TEST(TraceGrid, LeavesOutColumnsThatDoNotFit) {
    using enum Table::Align;
    Grid grid({{"container", left, 0}, {"now", right, 0}, {"peak", right, 1}, {"trend", left, 2}});
    grid.add({"a-container-with-a-long-name", "10.5 MiB", "12.5 MiB", "▁▂▃▄▅▆▇█"});
    EXPECT_THAT(grid.render(80, false), HasSubstr("trend"));
    const std::string middle = grid.render(40, false);
    EXPECT_THAT(middle, Not(HasSubstr("trend")));
    EXPECT_THAT(middle, HasSubstr("peak"));
    const std::string narrow = grid.render(30, false);
    EXPECT_THAT(narrow, Not(HasSubstr("peak")));
    EXPECT_THAT(narrow, HasSubstr("10.5 MiB"));
    // However narrow: no line wraps, and no escape sequence is cut.
    for (const std::string& line : split(trim(grid.render(12, true)), '\n')) {
        EXPECT_LE(std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; }), 12);
        EXPECT_THAT(line, Not(HasSubstr("\x1b")));
    }
}

TEST(TraceScreen, SparklinesAndLines) {
    EXPECT_EQ(sparkline({}), "");
    EXPECT_EQ(sparkline({0, 0}), "▁▁");
    EXPECT_EQ(sparkline({0, 50, 100}), "▁▅█");
    EXPECT_EQ(one_line("a\x1b[31mb\n", 80), "a?[31mb?");
    EXPECT_EQ(one_line("äöü", 2), "äö");
}

std::shared_ptr<Life> a_life(uint64_t id, const std::string& name) {
    auto life = std::make_shared<Life>();
    life->member = std::make_shared<Member>();
    life->member->cgroup = id;
    life->member->resolved = true;
    life->member->container = {"docker", docker_id, name, "/docker/" + docker_id, "alpine:3.20"};
    life->born_ns = 1000;
    life->begun = true;
    life->command = "/bin/sh";
    life->memory = {5'000'000, 4096, 8192, 1024};
    return life;
}

TEST(TraceLines, AreInBpftracesShape) {
    const auto life = a_life(7, "web");
    const Json phase = phase_line(*life, {"exec", 2'001'000, "/bin/sh"});
    EXPECT_EQ(phase.at("type"), "phase");
    EXPECT_EQ(phase.at("data").at("ms"), 2.0);
    EXPECT_EQ(phase.at("data").at("container").at("name"), "web");
    EXPECT_EQ(phase.at("data").at("container").at("image"), "alpine:3.20");
    Snapshot snapshot;
    snapshot.lives = {life, a_life(8, "web")};
    const Json memory = memory_line(snapshot).at("data").at("@memory");
    EXPECT_EQ(memory.at("web").at("docker_stats_bytes"), 3072);
    EXPECT_TRUE(memory.contains("web (8)"));  // two of a name stay two
    FaultCount count{.cgroup = 7,
                     .device = 0,
                     .backing = FaultCount::Backing::anonymous,
                     .kind = FaultCount::Kind::copy_on_write,
                     .write = true,
                     .count = 12};
    snapshot.faults = {{life, count}};
    EXPECT_EQ(faults_line(snapshot).at("data").dump(),
              R"({"@faults":{"web,cow,anonymous,-,write":12}})");
    EXPECT_EQ(lost_line(3).dump(), R"({"type":"lost_events","data":{"events":3}})");
    Histogram histogram;
    histogram.add(20);
    EXPECT_EQ(histograms_line({{"alpine,exec", histogram}}).dump(),
              R"({"type":"hist","data":{"@start_ms":{"alpine,exec":)"
              R"([{"min":16,"max":32,"count":1}]}}})");
}

TEST(TraceStartTimes, AreByImageAndOthersAreOne) {
    StartTimes times;
    std::vector<std::shared_ptr<Life>> lives;
    for (int i = 0; i < 40; i++) {
        lives.push_back(a_life(static_cast<uint64_t>(i) + 1, "x"));
        lives.back()->member->container.image = i < 10 ? "alpine" : fmt::format("image-{}", i);
        times.add(*lives.back(), {"exec", 5'000'000, ""});
        times.add(*lives.back(), {"joined", 5'000'000, ""});  // no time that anybody waits for
    }
    const auto histograms = times.by_image();
    EXPECT_EQ(histograms.size(), 12U);
    EXPECT_EQ(histograms.at("alpine,exec").count(), 10U);
    EXPECT_EQ(histograms.at("others,exec").count(), 20U);
}

/// Keeps what it is told, as text.
class Listing : public View {
  public:
    Result<> begin(const std::vector<ProbeMethod>& methods) override {
        lines.push_back("methods " + std::to_string(methods.size()));
        return {};
    }
    Result<> phase(const Life& life, const Phase& phase) override {
        lines.push_back(fmt::format("{} {} {:g} {}", life.member->name(), phase.name,
                                    life.milliseconds(phase), phase.detail));
        return {};
    }
    Result<> level(const Life& life) override {
        const auto since = life.peak_since_entry();
        lines.push_back(fmt::format("{} level {} {} {} {}", life.member->name(), life.memory.bytes,
                                    life.memory.peak, since ? since->bytes : 0,
                                    since && since->exact));
        return {};
    }
    Result<> tick(const Snapshot&) override { return {}; }
    Result<> finish(const Snapshot& snapshot) override {
        lines.push_back(fmt::format("lost {}, {} lives", snapshot.lost, snapshot.lives.size()));
        return {};
    }
    std::vector<std::string> lines;
};

class TraceRecording : public TraceTree {
  protected:
    [[nodiscard]] std::string path() const { return root() + "/trace.jsonl"; }
    void play(View& view) const {
        const auto life = a_life(7, "web");
        ASSERT_TRUE(view.begin({{"start", "tracepoints", "exact"}}));
        life->phases = {{"made", 1000, "/x"}, {"exec", 2'001'000, "/bin/sh"}};
        ASSERT_TRUE(view.phase(*life, life->phases[0]));
        life->entered_ns = 2'001'000;
        life->peak_at_entry = 100;
        ASSERT_TRUE(view.phase(*life, life->phases[1]));
        ASSERT_TRUE(view.level(*life));
        life->memory.bytes = 16384;
        ASSERT_TRUE(view.level(*life));
        Snapshot snapshot;
        snapshot.lives = {life};
        snapshot.lost = 2;
        ASSERT_TRUE(view.finish(snapshot));
    }
};

TEST_F(TraceRecording, IsReadBackAsItWas) {
    Listing live;
    auto writer = RecordingWriter::create(path());
    ASSERT_TRUE(writer) << writer.error().message;
    ViewTee both;
    both.connect(live);
    both.connect(**writer);
    play(both);
    Listing again;
    const auto replayed = replay(path(), {}, again);
    ASSERT_TRUE(replayed) << replayed.error().message;
    EXPECT_EQ(again.lines, live.lines);
    EXPECT_EQ(live.lines.size(), 6U);
    Listing filtered;
    ASSERT_TRUE(replay(path(), {.names = {"db"}}, filtered));
    EXPECT_THAT(filtered.lines, ElementsAre("methods 1", "lost 2, 0 lives"));
}

TEST_F(TraceRecording, CutAnywhereItIsReadableToThere) {
    {
        auto writer = RecordingWriter::create(path());
        ASSERT_TRUE(writer);
        play(**writer);
    }
    const std::string whole = *read_file(path());
    const size_t first = whole.find('\n') + 1;
    for (size_t size = first; size < whole.size(); size += 7) {
        write("trace.jsonl", whole.substr(0, size));
        Listing listing;
        const auto replayed = replay(path(), {}, listing);
        ASSERT_TRUE(replayed) << size << replayed.error().message;
        EXPECT_GE(listing.lines.size(), 2U);
    }
}

TEST_F(TraceRecording, OtherFilesAreRefusedInOneLine) {
    const auto refusal = [&](const std::string& text) {
        write("trace.jsonl", text);
        Listing listing;
        const auto replayed = replay(path(), {}, listing);
        return replayed ? "" : replayed.error().message;
    };
    EXPECT_THAT(refusal(""), HasSubstr("empty"));
    EXPECT_THAT(refusal("hello\n"), HasSubstr("line 1: not a JSON object"));
    EXPECT_THAT(refusal("{\"type\":\"phase\",\"data\":{}}\n"), HasSubstr("not the beginning"));
    const std::string head = "{\"type\":\"attached_probes\",\"data\":{\"methods\":[]}}\n";
    for (const char* line : {"{}", "{\"type\":5,\"data\":{}}", "{\"type\":\"phase\",\"data\":[]}",
                             "{\"type\":\"level\",\"data\":{\"container\":{}}}"}) {
        const std::string message = refusal(head + line + "\n");
        EXPECT_THAT(message, HasSubstr("line 2")) << line;
        EXPECT_THAT(message, Not(HasSubstr("\n")));
    }
    EXPECT_EQ(refusal(head + "{\"type\":\"map\",\"data\":{\"@x\":{}}}\n"), "");
}

TEST_F(TraceRecording, CurvesAreThinnedAndKeepTheirMaximum) {
    CurveCollector curves;
    const auto life = a_life(7, "web");
    for (int i = 0; i < 100'000; i++) {
        life->memory.time_ns = i;
        life->memory.bytes = i == 54'321 ? 1'000'000 : 1000;
        ASSERT_TRUE(curves.level(*life));
    }
    const auto all = curves.curves();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_LE(all[0].levels.size(), 10'000U);
    EXPECT_EQ(all[0].most, 1'000'000U);
    EXPECT_EQ(
        std::ranges::max_element(all[0].levels, {}, &std::pair<int64_t, uint64_t>::second)->first,
        54'321);
    EXPECT_TRUE(std::ranges::is_sorted(all[0].levels, {}, &std::pair<int64_t, uint64_t>::first));
    EXPECT_EQ(all[0].levels.back().first, 99'999);
}

}  // namespace
}  // namespace memplate::trace
