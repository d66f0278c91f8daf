// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "cost/page.h"
#include "cost/record.h"
#include "util/command.h"

namespace memplate::cost {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Yields what it is told to, and fails when it is told to.
class ScriptedSource : public MemorySource {
  public:
    [[nodiscard]] Method method() const override { return {"scripted", "", "", ""}; }
    Result<> drain(TraceSink& sink) override {
        if (drains_ == gone_after) return fail_errno(ENODEV, "memory usage");
        sink.add(Sample{.time_ns = ++drains_, .bytes = 1});
        if (after && drains_ == 3) after();
        return {};
    }
    [[nodiscard]] uint64_t peak_bytes() const override { return 1; }
    int64_t gone_after = -1;
    std::function<void()> after;

  private:
    int64_t drains_ = 0;
};

TEST(CostRecord, EndsWithItsDescriptorAndDrainsOnceMore) {
    const UniqueFd end(::eventfd(0, EFD_CLOEXEC));
    ScriptedSource source;
    source.after = [&] { ASSERT_EQ(::eventfd_write(end.get(), 1), 0); };
    TraceCollector collector;
    const auto recording = record(source, collector, {.end_fd = end.get()});
    ASSERT_TRUE(recording);
    EXPECT_EQ(recording->end, RecordEnd::over);
    EXPECT_EQ(collector.trace.samples.size(), 4u);
}

TEST(CostRecord, AVanishedCgroupIsAnEnd) {
    ScriptedSource source;
    source.gone_after = 2;
    TraceCollector collector;
    const auto recording = record(source, collector, {});
    ASSERT_TRUE(recording);
    EXPECT_EQ(recording->end, RecordEnd::cgroup_gone);
    EXPECT_EQ(collector.trace.samples.size(), 2u);
}

TEST(CostRecord, StopsWhenAsked) {
    std::stop_source stop;
    ScriptedSource source;
    source.after = [&] { stop.request_stop(); };
    TraceCollector collector;
    const auto recording = record(source, collector, {.stop = stop.get_token()});
    ASSERT_TRUE(recording);
    EXPECT_EQ(recording->end, RecordEnd::stopped);
}

TEST(CostRecord, TellsThatItWasWoken) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    if (::send(writer.get(), "x", 1, MSG_OOB) != 1) GTEST_SKIP() << "no urgent data on this kernel";
    ScriptedSource source;
    source.gone_after = 3;
    TraceCollector collector;
    int woken = 0;
    ASSERT_TRUE(record(source, collector, {.wake_fd = reader.get(), .woken = [&] { woken++; }}));
    EXPECT_GT(woken, 0);
}

TEST(CostRecord, EndsInTime) {
    ScriptedSource source;
    TraceCollector collector;
    const auto recording = record(source, collector, {.at_most = std::chrono::milliseconds(3)});
    ASSERT_TRUE(recording);
    EXPECT_EQ(recording->end, RecordEnd::time_is_up);
}

int64_t clock_that_was_set() {
    static int64_t reads = 0;
    return wall_ns() + (++reads > 1 ? int64_t{3600} * ns_per_second : 0);
}

TEST(CostRecord, AClockThatIsSetIsAnEventAndNothingElse) {
    ScriptedSource source;
    source.gone_after = 5;
    TraceCollector collector;
    const auto recording = record(source, collector, {.wall_clock = clock_that_was_set});
    ASSERT_TRUE(recording);
    ASSERT_EQ(collector.trace.events.size(), 1u);
    EXPECT_EQ(collector.trace.events[0].name, "clock");
    EXPECT_THAT(collector.trace.events[0].detail, HasSubstr("set by +3600.0"));
    EXPECT_NEAR(static_cast<double>(recording->clock_set_ns) / 1e9, 3600, 0.1);
    EXPECT_LT(recording->end_ns - recording->start_ns, int64_t{3600} * ns_per_second);
}

TEST(CostCommand, HeldUntilReleasedAndStampedByItself) {
    auto command = Command::prepare({"/bin/true"}, nullptr, {});
    ASSERT_TRUE(command) << command.error().message;
    const int64_t before = monotonic_ns();
    ASSERT_TRUE(command->release());
    EXPECT_GE(command->exec_ns(), before);
    EXPECT_LE(command->exec_ns(), monotonic_ns());
    EXPECT_EQ(*command->wait(), 0);
}

TEST(CostCommand, SaysWhyItCannotStart) {
    auto command = Command::prepare({"/no/such/program"}, nullptr, {});
    ASSERT_TRUE(command);
    const auto released = command->release();
    ASSERT_FALSE(released);
    EXPECT_EQ(released.error().code, ENOENT);
    EXPECT_THAT(released.error().message, HasSubstr("/no/such/program"));
    EXPECT_FALSE(Command::prepare({}, nullptr, {}));
}

TEST(CostCommand, OneThatIsKilledWhileItWaits) {
    auto command = Command::prepare({"/bin/true"}, nullptr, {});
    ASSERT_TRUE(command);
    command->kill();
    const auto released = command->release();
    ASSERT_FALSE(released);
    EXPECT_EQ(released.error().message, "/bin/true was killed by signal 9 before it was executed");
}

TEST(CostCommand, OutputAndLastComplaint) {
    EXPECT_EQ(*run_and_read({"/bin/echo", "a"}), "a\n");
    const auto failed = run_and_read({"/bin/sh", "-c", "echo first >&2; echo last >&2; exit 4"});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "/bin/sh exited with status 4: last");
}

TEST(CostPage, TextNeverBecomesMarkup) {
    Page page;
    page.verb = "cost run";
    page.headline = "<script>alert(1)</script>";
    page.lead = "{{data}}";
    page.text = "</pre><b>";
    page.facts = {{"k", "</script><script>"}};
    Page::Chart chart;
    chart.title = "</script>";
    chart.series.push_back({"<b>", Page::Line::level, {{0, 1}, {1, 2}}});
    page.charts.push_back(chart);
    const std::string html = page.html();
    EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(html, Not(HasSubstr("</pre><b>")));
    EXPECT_THAT(html, HasSubstr("<p class=\"lead\">{{data}}</p>"));
    size_t scripts = 0;
    for (size_t at = 0; (at = html.find("</script>", at)) != html.npos; at++) scripts++;
    EXPECT_EQ(scripts, 2u);
}

TEST(CostPage, ThinningKeepsThePeaks) {
    Trace trace;
    for (int64_t i = 0; i < 100'000; i++)
        trace.samples.push_back({.time_ns = i * 1000, .bytes = static_cast<uint64_t>(i % 977)});
    trace.samples[54'321].bytes = 1 << 30;
    trace.samples[60'000].bytes = 0;
    const auto series = series_of(trace, "t");
    EXPECT_LE(series.points.size(), 4001u);
    EXPECT_TRUE(std::ranges::is_sorted(series.points, {}, &std::pair<double, double>::first));
    EXPECT_EQ(std::ranges::max(series.points, {}, &std::pair<double, double>::second).second, 1024);
    EXPECT_EQ(std::ranges::min(series.points, {}, &std::pair<double, double>::second).second, 0);
}

TEST(CostPage, PhasesAreBetweenTheEvents) {
    Trace trace;
    trace.events = {{0, "start"}, {2'000'000, "exec"}, {2'500'000, "clock"}, {5'000'000, "exit"}};
    const auto phases = phases_of(trace);
    ASSERT_EQ(phases.size(), 2u);
    EXPECT_EQ(phases[0], (std::pair<std::string, double>{"start → exec", 2}));
    EXPECT_EQ(phases[1], (std::pair<std::string, double>{"exec → exit", 3}));
}

}  // namespace
}  // namespace memplate::cost
