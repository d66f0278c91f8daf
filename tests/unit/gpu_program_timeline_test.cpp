// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "gpu/driver_calls.h"
#include "gpu/program_report.h"
#include "gpu/program_segments.h"
#include "gpu/program_timeline.h"

namespace memplate::gpu {
namespace {

using Kind = ProgramEvent::Kind;
using ::testing::ElementsAre;
using ::testing::Pair;

constexpr int64_t ms = 1'000'000;
constexpr pid_t program = 7;

/// A program that runs for 10 s and is its own code from 10 ms on.
class Recorded {
  public:
    Recorded() {
        trace.begin_ns = 0;
        trace.exec_ns = 2 * ms;
        trace.end_ns = 10'000 * ms;
        add(Kind::executed, 2, 2, "program");
        add(Kind::linked, 10, 10);
    }
    ProgramEvent& add(Kind kind, int64_t begin, int64_t end, const std::string& text = "") {
        trace.texts.push_back(text);
        trace.events.push_back({.kind = kind,
                                .begin_ns = begin * ms,
                                .end_ns = end * ms,
                                .pid = program,
                                .text = static_cast<uint32_t>(trace.texts.size() - 1)});
        return trace.events.back();
    }
    void call(const std::string& name, int64_t begin, int64_t end, uint64_t bytes = 0,
              int result = 0) {
        ProgramEvent& event = add(Kind::call, begin, end, name);
        event.arguments[1] = event.arguments[2] = bytes;
        event.result = result;
    }
    void open(const std::string& path, int descriptor, int64_t begin, int64_t end) {
        add(Kind::opened, begin, end, path).result = descriptor;
    }
    void read(int descriptor, uint64_t bytes, int64_t begin, int64_t end) {
        ProgramEvent& event = add(Kind::read, begin, end);
        event.arguments[0] = static_cast<uint64_t>(descriptor);
        event.arguments[1] = bytes;
    }
    [[nodiscard]] Timeline timeline() const { return make_timeline(trace); }
    [[nodiscard]] int64_t spent(Activity activity) const {
        const auto activities = timeline().activities;
        const auto found = activities.find(activity);
        return found == activities.end() ? 0 : found->second / ms;
    }
    ProgramTrace trace;
};

TEST(GpuTimeline, SegmentsCoverTheWholeTime) {
    Recorded recorded;
    recorded.call("cuInit", 100, 400);
    recorded.call("cuMemAlloc_v2", 300, 500);
    recorded.open("/data/weights.bin", 3, 600, 601);
    recorded.read(3, 1000, 601, 650);
    const Timeline timeline = recorded.timeline();
    int64_t at = 0;
    int64_t sum = 0;
    for (const Segment& segment : timeline.segments) {
        EXPECT_EQ(segment.begin_ns, at);
        at = segment.end_ns;
    }
    for (const auto& [activity, ns] : timeline.activities) sum += ns;
    EXPECT_EQ(at, recorded.trace.end_ns);
    EXPECT_EQ(sum, recorded.trace.end_ns - recorded.trace.begin_ns);
    EXPECT_EQ(recorded.spent(Activity::start), 2);
    EXPECT_EQ(recorded.spent(Activity::link), 8);
    EXPECT_EQ(recorded.spent(Activity::driver), 400);
    EXPECT_EQ(recorded.spent(Activity::disk), 49);
}

TEST(GpuTimeline, OfTwoCallsAtOnceTheLaterOneCounts) {
    Recorded recorded;
    recorded.call("cuStreamSynchronize", 100, 500);
    recorded.call("cuMemAlloc_v2", 200, 300);
    const auto purposes = recorded.timeline().purposes;
    EXPECT_THAT(purposes, ElementsAre(Pair(CallPurpose::memory, 100 * ms),
                                      Pair(CallPurpose::wait, 300 * ms)));
}

TEST(GpuTimeline, TheDriverCountsBeforeTheDiskAndTheDiskBeforeImports) {
    Recorded recorded;
    recorded.open("/lib/a.py", 3, 100, 101);
    recorded.open("/lib/b.py", 4, 180, 181);
    recorded.add(Kind::disk, 120, 150);
    recorded.call("cuInit", 140, 160);
    EXPECT_EQ(recorded.spent(Activity::driver), 20);
    EXPECT_EQ(recorded.spent(Activity::disk), 20);
    EXPECT_EQ(recorded.spent(Activity::import), 81 - 40);
}

TEST(GpuTimeline, WorkBetweenTwoModulesIsImportUnlessItIsLong) {
    Recorded near;
    near.open("/lib/a.py", 3, 1000, 1001);
    near.open("/lib/b.py", 3, 1090, 1091);
    EXPECT_EQ(near.spent(Activity::import), 91);
    Recorded far;
    far.open("/lib/a.py", 3, 1000, 1001);
    far.open("/lib/b.py", 3, 1200, 1201);
    EXPECT_EQ(far.spent(Activity::import), 2);
    // Relocating a large library takes longer.
    Recorded library;
    library.open("/lib/libtorch.so.2", 3, 1000, 1001);
    library.open("/lib/b.py", 3, 1800, 1801);
    EXPECT_EQ(library.spent(Activity::import), 801);
}

TEST(GpuTimeline, AnotherProcessImportsForItself) {
    Recorded recorded;
    recorded.open("/lib/a.py", 3, 1000, 1001);
    recorded.add(Kind::opened, 1050, 1051, "/lib/b.py").pid = program + 1;
    EXPECT_EQ(recorded.spent(Activity::import), 2);
}

TEST(GpuTimeline, FilesOfTheKernelAreNoDisk) {
    Recorded recorded;
    recorded.open("/proc/self/maps", 3, 100, 101);
    recorded.read(3, 1000, 101, 200);
    EXPECT_EQ(recorded.spent(Activity::disk), 0);
    EXPECT_EQ(recorded.spent(Activity::user), 9990);
}

TEST(GpuTimeline, CallsAreCountedByName) {
    Recorded recorded;
    recorded.call("cuMemAlloc_v2", 100, 110, 1 << 20);
    recorded.call("cuMemAlloc_v2", 200, 240, 1 << 20);
    recorded.call("cuMemAlloc_v2", 300, 301, 1 << 30, 2);
    recorded.call("cuEventQuery", 310, 311, 0, 600);
    const auto calls = recorded.timeline().calls;
    const CallTotals& allocations = calls.find("cuMemAlloc_v2")->second;
    EXPECT_EQ(allocations.count, 3);
    EXPECT_EQ(allocations.failed, 1);
    EXPECT_EQ(allocations.first_error, 2);
    EXPECT_EQ(allocations.total_ns, 51 * ms);
    EXPECT_EQ(allocations.first_ns, 10 * ms);
    EXPECT_EQ(allocations.longest_ns, 40 * ms);
    EXPECT_EQ(allocations.bytes, 2 << 20);
    // "Not ready" is an answer.
    EXPECT_EQ(calls.find("cuEventQuery")->second.failed, 0);
}

TEST(GpuTimeline, ACallThatDidNotReturnLastsUntilTheEnd) {
    Recorded recorded;
    recorded.call("cuInit", 4000, 0);
    const Timeline timeline = recorded.timeline();
    EXPECT_EQ(timeline.calls.find("cuInit")->second.unfinished, 1);
    EXPECT_EQ(recorded.spent(Activity::driver), 6000);
    EXPECT_THAT(timeline.milestones,
                ElementsAre(Pair("exec", 2 * ms), Pair("linked", 10 * ms),
                            Pair("first call", 4000 * ms), Pair("end", 10'000 * ms)));
}

TEST(GpuTimeline, GapsKnowTheirCallsAndFiles) {
    Recorded recorded;
    recorded.call("cuInit", 1000, 1100);
    recorded.open("/lib/a.py", 3, 2000, 2001);
    recorded.open("/data/config.json", 4, 2010, 2011);
    recorded.read(4, 10, 2012, 2013);
    recorded.open("/data/weights.bin", 5, 2020, 2021);
    recorded.read(5, 1000, 2021, 2100);
    recorded.call("cuMemAlloc_v2", 3000, 3001);
    const Timeline timeline = recorded.timeline();
    ASSERT_EQ(timeline.gaps.size(), 3);
    const Gap& gap = timeline.gaps[1];
    EXPECT_EQ(recorded.trace.texts[gap.after], "cuInit");
    EXPECT_EQ(recorded.trace.texts[gap.before], "cuMemAlloc_v2");
    EXPECT_EQ(gap.ns(), 1900 * ms);
    EXPECT_EQ(gap.files, 3);
    EXPECT_EQ(gap.code_files, 1);
    EXPECT_EQ(gap.bytes_read, 1010);
    EXPECT_EQ(recorded.trace.texts[gap.largest], "/data/weights.bin");
    EXPECT_EQ(gap.parts.at(Activity::disk), 80 * ms);
    EXPECT_EQ(gap.parts.at(Activity::import), 1 * ms);
}

TEST(GpuTimeline, LabelsOfStreambox) {
    Recorded recorded;
    recorded.call("cuInit", 100, 200);
    recorded.call("cuDevicePrimaryCtxRetain", 300, 500);
    recorded.call("cuCtxSynchronize", 600, 610);
    recorded.call("cuMemAlloc_v2", 700, 710, 512);
    recorded.call("cuLaunchKernel", 720, 730);
    recorded.call("cuCtxSynchronize", 740, 750);
    recorded.call("cuMemAlloc_v2", 1000, 1010);
    recorded.call("cuMemcpyHtoDAsync_v2", 1100, 1200, 1000);
    recorded.call("cuStreamSynchronize", 1200, 1300);
    recorded.call("cuMemcpyHtoDAsync_v2", 1400, 1500, 1000);
    recorded.call("cuStreamSynchronize", 1500, 1600);
    recorded.call("cuLaunchKernel", 2000, 2010);
    recorded.call("cuMemcpyHtoDAsync_v2", 3000, 3100, 1000);
    const StreamboxLabels labels = recorded.timeline().labels;
    EXPECT_EQ(labels.context_ns, 310 * ms);
    EXPECT_EQ(labels.tensor_ns, 50 * ms);
    EXPECT_EQ(labels.model_ns, 600 * ms);
}

TEST(GpuTimeline, LabelsOfProgramsThatDoLess) {
    Recorded nothing;
    nothing.call("cuInit", 100, 200);
    EXPECT_FALSE(nothing.timeline().labels.context_ns);
    // Memory is taken without waiting for the context.
    Recorded direct;
    direct.call("cuCtxCreate_v2", 100, 200);
    direct.call("cuMemAlloc_v2", 300, 310);
    const StreamboxLabels labels = direct.timeline().labels;
    EXPECT_EQ(labels.context_ns, 100 * ms);
    EXPECT_FALSE(labels.tensor_ns);
    EXPECT_FALSE(labels.model_ns);
}

TEST(GpuTimeline, FirstLaunchesAreTimedApart) {
    Recorded recorded;
    for (const auto& [kernel, begin, end] :
         {std::tuple(1, 100, 150), {1, 200, 201}, {2, 300, 340}, {1, 400, 402}}) {
        recorded.call("cuLaunchKernel", begin, end);
        recorded.trace.events.back().arguments[0] = static_cast<uint64_t>(kernel);
    }
    const Timeline timeline = recorded.timeline();
    EXPECT_EQ(timeline.kernels, 2);
    EXPECT_EQ(timeline.first_launches_ns, 90 * ms);
    EXPECT_EQ(timeline.later_launches, 2);
    EXPECT_EQ(timeline.later_launches_ns, 3 * ms);
}

TEST(GpuTimeline, ReportAddsUp) {
    Recorded recorded;
    recorded.call("cuInit", 100, 400);
    recorded.call("cuLaunchKernel_ptsz", 500, 600);
    recorded.trace.method = {.backend = "uprobes", .accuracy = "all", .reason = {}};
    const Json start = start_json(recorded.trace);
    EXPECT_DOUBLE_EQ(start["sum_ms"], start["total_ms"]);
    EXPECT_DOUBLE_EQ(start["driver"]["initialise"], 300);
    EXPECT_DOUBLE_EQ(start["driver"]["launches"], 100);
    EXPECT_EQ(start["calls"][0]["name"], "cuInit");
    EXPECT_EQ(start["lanes"]["initialise"], Json::parse("[[100.0, 400.0]]"));
    EXPECT_TRUE(start["labels"]["model_load_ms"].is_null());
}

TEST(GpuDriverCalls, NamesAreThoseThatProgrammersWrite) {
    EXPECT_EQ(plain_name("cuMemAlloc_v2"), "cuMemAlloc");
    EXPECT_EQ(plain_name("cuMemcpyHtoDAsync_v2_ptsz"), "cuMemcpyHtoDAsync");
    EXPECT_EQ(plain_name("cuLaunchKernel_ptsz"), "cuLaunchKernel");
    EXPECT_EQ(plain_name("cuMemsetD32_v2_ptds"), "cuMemsetD32");
    EXPECT_EQ(plain_name("cuInit"), "cuInit");
}

TEST(GpuTimeline, ACallEndsWithItsProcess) {
    Recorded recorded;
    recorded.call("cuInit", 100, 0);
    recorded.trace.events.back().pid = 8;
    recorded.add(Kind::exited, 300, 300).pid = 8;
    EXPECT_EQ(recorded.spent(Activity::driver), 200);
    const Timeline timeline = recorded.timeline();
    EXPECT_EQ(timeline.calls.at("cuInit").total_ns, 200 * ms);
    EXPECT_EQ(timeline.calls.at("cuInit").unfinished, 1U);
}

TEST(GpuTimeline, LaunchesByTheirKernelAndCopiesThatWork) {
    Recorded recorded;
    for (const uint64_t kernel : {5, 6, 5}) {
        recorded.call("cuLaunchKernelEx", 100, 101);
        recorded.trace.events.back().arguments[0] = 0x7ffe0000 + kernel;  // its configuration
        recorded.trace.events.back().arguments[1] = kernel;
    }
    recorded.call("cuLaunchKernel", 102, 103, 0, 700);
    recorded.call("cuMemcpyHtoD_v2", 104, 105, 1000, 1);
    recorded.call("cuMemcpyHtoD_v2", 106, 107, 20);
    const Timeline timeline = recorded.timeline();
    EXPECT_EQ(timeline.kernels, 2U);
    EXPECT_EQ(timeline.later_launches, 1U);
    EXPECT_EQ(timeline.copied_bytes, 20U);
    EXPECT_THAT(timeline.milestones, ::testing::Contains(Pair("first launch", 101 * ms)));
}

TEST(GpuDriverCalls, Purposes) {
    using enum CallPurpose;
    const std::map<std::string_view, CallPurpose> expected = {
        {"cuInit", initialise},
        {"cuDevicePrimaryCtxRetain", context},
        {"cuCtxCreate_v4", context},
        {"cuModuleLoadData", module},
        {"cuLibraryLoadData", module},
        {"cuKernelGetFunction", module},
        {"cuMemAllocAsync_ptsz", memory},
        {"cuMemHostRegister_v2", memory},
        {"cuMemcpyHtoDAsync_v2", copy},
        {"cuMemsetD8_v2", copy},
        {"cuLaunchKernelEx", launch},
        {"cuGraphLaunch", launch},
        {"cuStreamSynchronize_ptsz", wait},
        {"cuEventSynchronize", wait},
        {"cuDeviceGetAttribute", other},
        {"cuMemGetInfo_v2", other},
        {"cuGetProcAddress_v2", other},
    };
    for (const auto& [call, purpose] : expected) EXPECT_EQ(purpose_of(call), purpose) << call;
    EXPECT_EQ(bytes_argument("cuMemAlloc_v2"), 1);
    EXPECT_EQ(bytes_argument("cuMemcpyHtoD_v2"), 2);
    EXPECT_EQ(bytes_argument("cuLaunchKernel"), -1);
    EXPECT_TRUE(copies_to_device("cuMemcpyHtoDAsync_v2_ptsz"));
    EXPECT_FALSE(copies_to_device("cuMemcpyDtoH_v2"));
}

TEST(GpuTimeline, KindsOfFiles) {
    EXPECT_TRUE(is_library("/usr/lib/libc.so.6"));
    EXPECT_TRUE(is_library("/usr/lib/x.cpython-311-x86_64-linux-gnu.so"));
    EXPECT_FALSE(is_library("/data/a.sorted"));
    EXPECT_TRUE(is_code("/usr/lib/python3/__pycache__/os.cpython-311.pyc"));
    EXPECT_FALSE(is_code("/data/weights.safetensors"));
}

}  // namespace
}  // namespace memplate::gpu
