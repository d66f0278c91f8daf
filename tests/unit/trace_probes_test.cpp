// SPDX-License-Identifier: Apache-2.0
//
// The real probes on the running kernel, with programs that stamp what they do themselves. Needs
// root; other kernels and container engines are the matter of tests/vm/test_trace.py.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/sdt.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "trace/probes.h"
#include "util/fs.h"
#include "util/memory_cgroup.h"

namespace memplate::trace {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr size_t page = 4096;

Context quiet() {
    Context context;
    context.log =
        std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::null_sink_mt>());
    return context;
}

int64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// A cgroup of this test, with children that go with it.
class OwnCgroup {
  public:
    explicit OwnCgroup(std::string path) : path_(std::move(path)) {
        made_ = ::mkdir(path_.c_str(), 0755) == 0;
    }
    OwnCgroup(const OwnCgroup&) = delete;
    OwnCgroup& operator=(const OwnCgroup&) = delete;
    ~OwnCgroup() { remove(); }
    [[nodiscard]] bool made() const { return made_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] uint64_t number() const {
        struct stat directory{};
        return ::stat(path_.c_str(), &directory) == 0 ? directory.st_ino : 0;
    }
    [[nodiscard]] uint64_t read(const char* v2, const char* v1) const {
        std::ifstream file(path_ + "/" + v2);
        if (!file) file.open(path_ + "/" + v1);
        uint64_t value = 0;
        file >> value;
        return value;
    }
    [[nodiscard]] uint64_t peak() const { return read("memory.peak", "memory.max_usage_in_bytes"); }
    bool remove() {
        // What has just ended in it may still be leaving.
        for (int tries = 0; ::rmdir(path_.c_str()) != 0; tries++) {
            if (errno == ENOENT) return true;
            if (errno != EBUSY || tries == 1000) return false;
            ::usleep(1000);
        }
        return true;
    }

  private:
    std::string path_;
    bool made_ = false;
};

class TraceProbes : public testing::Test {
  protected:
    void SetUp() override {
        const auto hierarchy = CgroupHierarchy::find();
        if (!hierarchy) GTEST_SKIP() << hierarchy.error().message;
        static int number = 0;
        group_ = std::make_unique<OwnCgroup>(
            fmt::format("{}/memplate-test-trace-{}-{}", hierarchy->root, ::getpid(), ++number));
        if (!group_->made()) GTEST_SKIP() << "no cgroup can be made in " << hierarchy->root;
    }

    /// Skips where this machine takes no BPF at all.
    void attach(ProbeOptions options) {
        options.below_cgroup = group_->number();
        auto attached = Probes::attach(context_, options);
        if (!attached && attached.error().kind == ErrorKind::unsupported)
            GTEST_SKIP() << attached.error().message;
        ASSERT_TRUE(attached) << attached.error().message;
        probes_ = std::move(*attached);
    }

    void drain() {
        const auto drained =
            probes_->drain([this](const Event& event) { events_.push_back(event); });
        ASSERT_TRUE(drained) << drained.error().message;
    }

    [[nodiscard]] std::vector<Event> of(EventKind kind, uint64_t cgroup = 0) const {
        std::vector<Event> found;
        for (const Event& event : events_)
            if (event.kind == kind && (cgroup == 0 || event.cgroup == cgroup))
                found.push_back(event);
        return found;
    }
    [[nodiscard]] std::string backend(const std::string& what) const {
        for (const ProbeMethod& method : probes_->methods())
            if (method.what == what) return method.backend;
        return "";
    }

    /// Runs `body` in a process in the cgroup; its status.
    template <class Body>
    int run_in(const OwnCgroup& group, const Body& body) const {
        const pid_t child = ::fork();
        if (child == 0) {
            const UniqueFd file(::open((group.path() + "/cgroup.procs").c_str(), O_WRONLY));
            if (::write(file.get(), "0", 1) != 1) ::_exit(99);
            ::_exit(body());
        }
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return status;
    }

    Context context_ = quiet();
    std::unique_ptr<OwnCgroup> group_;
    std::unique_ptr<Probes> probes_;
    std::vector<Event> events_;
};

TEST_F(TraceProbes, AChurnOfContainersLosesNothing) {
    attach({.start = true});
    if (IsSkipped()) return;
    constexpr int containers = 100;
    constexpr int threads = 4;
    std::vector<std::jthread> workers;
    for (int worker = 0; worker < threads; worker++)
        workers.emplace_back([&, worker] {
            for (int i = worker; i < containers; i += threads) {
                OwnCgroup one(fmt::format("{}/c{}", group_->path(), i));
                (void)run_in(one, [] {
                    const char* shell[] = {"/bin/sh", "-c", "/bin/true; /bin/true; exit 3",
                                           nullptr};
                    ::execv(shell[0], const_cast<char**>(shell));
                    return 98;
                });
            }
        });
    for (std::atomic<bool> over = false; !over;) {
        std::jthread waiting([&] {
            workers.clear();
            over = true;
        });
        while (!over) {
            ::usleep(20'000);
            drain();
        }
    }
    drain();
    EXPECT_EQ(probes_->lost(), 0u);
    EXPECT_EQ(of(EventKind::cgroup_made).size(), size_t{containers});
    EXPECT_EQ(of(EventKind::cgroup_gone).size(), size_t{containers});
    EXPECT_EQ(of(EventKind::joined).size(), size_t{containers});
    EXPECT_EQ(of(EventKind::forked).size(), size_t{containers} * 2);
    EXPECT_EQ(of(EventKind::executed).size(), size_t{containers} * 3);
    EXPECT_EQ(of(EventKind::exited).size(), size_t{containers} * 3);
    std::map<uint64_t, int> status_3;
    for (const Event& event : of(EventKind::exited))
        if (WEXITSTATUS(event.value) == 3) status_3[event.cgroup]++;
    EXPECT_EQ(status_3.size(), size_t{containers});
    for (const Event& event : of(EventKind::cgroup_made)) {
        EXPECT_THAT(event.text, HasSubstr("/memplate-test-trace-"));
        const auto gone = of(EventKind::cgroup_gone, event.cgroup);
        ASSERT_EQ(gone.size(), 1u);
        EXPECT_GT(gone[0].time_ns, event.time_ns);
    }
    EXPECT_TRUE(std::ranges::is_sorted(of(EventKind::executed), {}, &Event::time_ns));
}

TEST_F(TraceProbes, StampsLieWithinThoseOfTheProgram) {
    attach({.start = true});
    if (IsSkipped()) return;
    const TemporaryDirectory directory = *TemporaryDirectory::create("/tmp", "memplate-test-trace");
    const std::string output = directory.path() + "/stamps";
    const int port = 20000 + ::getpid() % 20000;
    const int64_t made_before = now_ns();
    OwnCgroup one(group_->path() + "/one");
    const int64_t made_after = now_ns();
    const int64_t run_before = now_ns();
    const int status = run_in(one, [&] {
        if (::freopen(output.c_str(), "w", stdout) == nullptr) return 97;
        ::execl(MEMPLATE_STAMPS, MEMPLATE_STAMPS, std::to_string(port).c_str(), nullptr);
        return 98;
    });
    const int64_t run_after = now_ns();
    ASSERT_EQ(status, 0);
    const uint64_t number = one.number();
    const int64_t gone_before = now_ns();
    ASSERT_TRUE(one.remove());
    const int64_t gone_after = now_ns();
    drain();

    const auto within = [&](EventKind kind, int64_t before, int64_t after, size_t index = 0) {
        const auto found = of(kind, number);
        ASSERT_GT(found.size(), index) << "kind " << static_cast<int>(kind);
        EXPECT_GE(found[index].time_ns, before) << "kind " << static_cast<int>(kind);
        EXPECT_LE(found[index].time_ns, after) << "kind " << static_cast<int>(kind);
    };
    within(EventKind::cgroup_made, made_before, made_after);
    within(EventKind::joined, run_before, run_after);
    within(EventKind::cgroup_gone, gone_before, gone_after);
    const std::map<std::string, std::pair<EventKind, size_t>> kinds = {
        {"exec", {EventKind::executed, 1}},  // the second: the program starts itself anew
        {"listen", {EventKind::listening, 0}},
        {"fork", {EventKind::forked, 0}},
        {"accept", {EventKind::accepted, 0}},
        {"answer", {EventKind::answered, 0}}};
    std::ifstream lines(output);
    std::string what;
    pid_t pid = 0;
    int64_t before = 0;
    int64_t after = 0;
    size_t told = 0;
    while (lines >> what >> pid >> before >> after) {
        ASSERT_TRUE(kinds.contains(what)) << what;
        told++;
        const auto& [kind, index] = kinds.at(what);
        if (kind == EventKind::answered && backend("answers") == "none") continue;
        within(kind, before, after, index);
        const Event event = of(kind, number).at(index);
        const bool of_a_process = kind != EventKind::accepted;
        EXPECT_EQ(event.pid, of_a_process ? pid : 0) << what;
        EXPECT_EQ(event.command, of_a_process ? "stamps" : "") << what;
        const bool of_the_port = what != "exec" && what != "fork";
        EXPECT_EQ(event.value, of_the_port ? static_cast<uint64_t>(port) : 0u) << what;
    }
    EXPECT_EQ(told, kinds.size());
    EXPECT_THAT(of(EventKind::executed, number).at(0).text, testing::EndsWith("/stamps"));
    EXPECT_EQ(of(EventKind::exited, number).size(), 2u);
}

TEST_F(TraceProbes, AnEndOfManyThreadsIsToldOnce) {
    attach({.start = true});
    if (IsSkipped()) return;
    for (int i = 0; i < 50; i++)
        EXPECT_EQ(run_in(*group_,
                         [] {
                             std::vector<std::thread> threads;
                             for (int n = 0; n < 8; n++)
                                 threads.emplace_back([] { ::usleep(200); });
                             for (auto& thread : threads) thread.join();
                             return 5;
                         }),
                  5 << 8);
    drain();
    EXPECT_EQ(of(EventKind::exited).size(), 50u);
    for (const Event& event : of(EventKind::exited)) EXPECT_EQ(event.value, 5u << 8);
}

TEST_F(TraceProbes, LevelsAndPeakAreThoseOfTheKernel) {
    attach({.start = true, .memory = true});
    if (IsSkipped()) return;
    std::ofstream(group_->path() + "/cgroup.subtree_control") << "+memory";
    OwnCgroup one(group_->path() + "/one");
    if (one.peak() == 0 && one.read("memory.current", "memory.usage_in_bytes") == 0 &&
        ::access((one.path() + "/memory.stat").c_str(), F_OK) != 0)
        GTEST_SKIP() << "the memory controller is off for " << group_->path();
    const uint64_t number = one.number();
    // Each step waits until it has been looked at.
    int go[2];
    int done[2];
    ASSERT_EQ(::pipe2(go, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(done, O_CLOEXEC), 0);
    constexpr int steps = 6;
    constexpr size_t step = 10 << 20;
    std::jthread child([&] {
        (void)run_in(one, [&] {
            for (int i = 0; i < steps; i++) {
                char byte = 0;
                if (::read(go[0], &byte, 1) != 1) return 1;
                auto* memory = static_cast<char*>(::mmap(nullptr, step, PROT_READ | PROT_WRITE,
                                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                for (size_t at = 0; at < step; at += page) memory[at] = 1;
                if (::write(done[1], &byte, 1) != 1) return 1;
            }
            char byte = 0;
            return ::read(go[0], &byte, 1) == 1 ? 0 : 1;
        });
    });
    for (int i = 0; i < steps; i++) {
        ASSERT_EQ(::write(go[1], "x", 1), 1);
        char byte = 0;
        ASSERT_EQ(::read(done[0], &byte, 1), 1);
        const uint64_t before = one.read("memory.current", "memory.usage_in_bytes");
        const auto swept = probes_->sweep();
        ASSERT_TRUE(swept) << swept.error().message;
        const uint64_t after = one.read("memory.current", "memory.usage_in_bytes");
        const auto level = std::ranges::find(*swept, number, &MemoryLevel::cgroup);
        ASSERT_NE(level, swept->end());
        // It waits, so nothing but the kernel's own batches can change.
        EXPECT_GE(level->bytes + (512 << 10), std::min(before, after));
        EXPECT_LE(level->bytes, std::max(before, after) + (512 << 10));
        EXPECT_EQ(level->peak, one.peak());
        ::usleep(40'000);  // sweeps may not follow each other as they like
        drain();
        const auto levels = of(EventKind::level, number);
        ASSERT_FALSE(levels.empty());
        EXPECT_GE(levels.back().bytes + (512 << 10), size_t(i + 1) * step);
        EXPECT_LE(levels.back().peak, one.peak());
    }
    ASSERT_EQ(::write(go[1], "x", 1), 1);
    child.join();
    const uint64_t peak = one.peak();
    EXPECT_GE(peak, steps * step);
    ASSERT_TRUE(one.remove());
    drain();
    const auto gone = of(EventKind::cgroup_gone, number);
    ASSERT_EQ(gone.size(), 1u);
    EXPECT_EQ(gone[0].peak, peak);
    EXPECT_EQ(of(EventKind::exited, number).at(0).peak, peak);
    for (const int fd : {go[0], go[1], done[0], done[1]}) ::close(fd);
}

TEST_F(TraceProbes, OtherCgroupsAreNotTold) {
    OwnCgroup other(group_->path() + "-other");
    ASSERT_TRUE(other.made());
    attach({.start = true, .memory = true});
    if (IsSkipped()) return;
    OwnCgroup inner(other.path() + "/inner");
    (void)run_in(inner, [] { return 0; });
    (void)run_in(*group_, [] { return 0; });
    ASSERT_TRUE(inner.remove());
    drain();
    for (const Event& event : events_) EXPECT_EQ(event.cgroup, group_->number());
    EXPECT_EQ(of(EventKind::exited).size(), 1u);
}

TEST_F(TraceProbes, ChildrenOfCgroupsThatWereThereAreKnown) {
    OwnCgroup old(group_->path() + "/old");
    ASSERT_TRUE(old.made());
    attach({.start = true});
    if (IsSkipped()) return;
    OwnCgroup inner(old.path() + "/inner");
    (void)run_in(inner, [] { return 0; });
    drain();
    EXPECT_EQ(of(EventKind::cgroup_made, inner.number()).size(), 1u);
    EXPECT_EQ(of(EventKind::exited, inner.number()).size(), 1u);
}

TEST_F(TraceProbes, MarksOfARestoreAreTold) {
    attach({.start = true});
    if (IsSkipped()) return;
    if (backend("restores") == "none") GTEST_SKIP() << "no user probes on this kernel";
    const uint64_t number = group_->number();
    const char* phase = "attach";
    const int64_t before = now_ns();
    DTRACE_PROBE2(memplate, phase, number, phase);
    const int64_t after = now_ns();
    drain();
    const auto marks = of(EventKind::restore_phase, number);
    ASSERT_EQ(marks.size(), 1u);
    EXPECT_EQ(marks[0].text, "attach");
    EXPECT_EQ(marks[0].pid, ::getpid());
    EXPECT_GE(marks[0].time_ns, before);
    EXPECT_LE(marks[0].time_ns, after);
}

TEST_F(TraceProbes, FaultsAreCountedByKind) {
    attach({.start = false, .faults = true});
    if (IsSkipped()) return;
    constexpr size_t pages = 512;
    const auto touch = [](char* memory) {
        for (size_t at = 0; at < pages * page; at += page) memory[at] = 1;
    };
    EXPECT_EQ(run_in(*group_,
                     [&] {
                         auto* memory = static_cast<char*>(
                             ::mmap(nullptr, pages * page, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                         ::madvise(memory, pages * page, MADV_NOHUGEPAGE);
                         touch(memory);
                         const pid_t child = ::fork();
                         if (child == 0) {
                             touch(memory);  // copies
                             ::_exit(0);
                         }
                         return ::waitpid(child, nullptr, 0) == child ? 0 : 1;
                     }),
              0);
    const auto counts = probes_->faults();
    ASSERT_TRUE(counts) << counts.error().message;
    uint64_t taken = 0;
    uint64_t copied = 0;
    for (const FaultCount& count : *counts) {
        EXPECT_EQ(count.cgroup, group_->number());
        if (count.backing != FaultCount::Backing::anonymous || !count.write) continue;
        if (count.kind == FaultCount::Kind::minor) taken += count.count;
        if (count.kind == FaultCount::Kind::copy_on_write) copied += count.count;
    }
    // A little more comes from fork and exit. Of events some may be left out, see bpf/faults.bpf.c.
    const size_t least = backend("faults") == "software events" ? pages - pages / 16 : pages;
    EXPECT_GE(taken, least);
    EXPECT_LE(taken, pages + 64);
    EXPECT_GE(copied, least);
    EXPECT_LE(copied, pages + 128);
}

TEST_F(TraceProbes, SaysWhatIsMissing) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        constexpr uid_t nobody = 65534;
        if (::setgid(nobody) != 0 || ::setuid(nobody) != 0) ::_exit(99);
        const auto attached = Probes::attach(context_, {});
        const std::string text = attached ? "attached" : attached.error().message;
        (void)!::write(ends[1], text.data(), text.size());
        ::_exit(attached ? 0 : static_cast<int>(attached.error().kind));
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    char text[512] = {};
    ASSERT_GT(::read(ends[0], text, sizeof text - 1), 0);
    EXPECT_EQ(WEXITSTATUS(status), 3) << text;
    EXPECT_THAT(text, HasSubstr("root"));
    EXPECT_THAT(text, Not(HasSubstr("\n")));
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(TraceProbes, AnUnknownCgroupIsAnError) {
    const auto attached = Probes::attach(context_, {.below_cgroup = ~uint64_t{0}});
    ASSERT_FALSE(attached);
    EXPECT_THAT(attached.error().message, HasSubstr("cgroup"));
}

}  // namespace
}  // namespace memplate::trace
