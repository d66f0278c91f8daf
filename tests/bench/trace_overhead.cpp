// SPDX-License-Identifier: Apache-2.0
//
// What tracing costs the traced: CPU time of a fork+exec, a page fault, a write to /dev/null and a
// null system call in a traced cgroup, without probes and with more and more of them, in turn.
//
//   scripts/vm --kernel 6.12 --icount -- build/agent/bench/trace_overhead
//   build/agent/programs/stamps
//
// With --icount a nanosecond is one instruction. The program given is executed without arguments;
// it should do nothing. --json prints one object instead of a table.
#include <fcntl.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>

#include "trace/probes.h"
#include "util/json.h"
#include "util/memory_cgroup.h"

using namespace memplate;

namespace {

constexpr int rounds = 5;
constexpr int executions = 60;
constexpr size_t pages = 4096;
constexpr int calls = 40000;
constexpr std::array names = {"fork+exec", "page fault", "null write", "null syscall"};
using Times = std::array<double, names.size()>;

struct Case {
    const char* name;
    trace::ProbeOptions options{};
    bool traced = true;
    std::array<std::vector<double>, names.size()> times{};
};

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double cpu_ns(int who) {
    if (who == RUSAGE_SELF) {
        timespec now{};
        ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
    }
    rusage usage{};
    ::getrusage(who, &usage);
    return (seconds(usage.ru_utime) + seconds(usage.ru_stime)) * 1e9;
}

double executions_ns(const char* program) {
    const double before = cpu_ns(RUSAGE_SELF) + cpu_ns(RUSAGE_CHILDREN);
    for (int i = 0; i < executions; i++) {
        const pid_t child = ::vfork();  // NOLINT(bugprone-unsafe-functions)
        if (child == 0) {
            ::execl(program, program, nullptr);
            ::_exit(127);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        if (status != 0) ::_exit(1);
    }
    return (cpu_ns(RUSAGE_SELF) + cpu_ns(RUSAGE_CHILDREN) - before) / executions;
}

double faults_ns() {
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
    const double before = cpu_ns(RUSAGE_SELF);
    for (size_t i = 0; i < pages; i++) memory[i * 4096] = 1;
    const double after = cpu_ns(RUSAGE_SELF);
    ::munmap(memory, pages * 4096);
    return (after - before) / pages;
}

template <class Call>
double calls_ns(const Call& call) {
    const double before = cpu_ns(RUSAGE_SELF);
    for (int i = 0; i < calls; i++) call();
    return (cpu_ns(RUSAGE_SELF) - before) / calls;
}

/// One round in a process in the cgroup.
[[noreturn]] void work(const std::string& group, const char* program, int output) {
    std::ofstream(group + "/cgroup.procs") << "0" << std::flush;
    const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)executions_ns(program);  // caches are warm from here on
    Times times{};
    times[0] = executions_ns(program);
    // What the ended processes leave behind is freed later, in whoever runs then.
    ::usleep(300'000);
    (void)faults_ns();  // free pages are at hand from here on
    times[1] = faults_ns();
    ::usleep(100'000);
    times[2] = calls_ns([null] { (void)!::write(null, "x", 1); });
    times[3] = calls_ns([] { (void)::syscall(SYS_getppid); });
    (void)!::write(output, times.data(), sizeof times);
    ::_exit(0);
}

Result<> run(Case& one, const Context& context, const std::string& group, const char* program) {
    std::unique_ptr<trace::Probes> probes;
    if (one.traced) {
        TRY_ASSIGN(probes, trace::Probes::attach(context, one.options));
    }
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    const pid_t child = ::fork();
    if (child == 0) work(group, program, ends[1]);
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
        ::usleep(20'000);
        if (probes) TRY(probes->drain([](const trace::Event&) {}));
    }
    Times times{};
    const bool whole = ::read(ends[0], times.data(), sizeof times) == sizeof times;
    ::close(ends[0]);
    ::close(ends[1]);
    if (!whole) return fail("the measured process has failed");
    if (probes && probes->lost() != 0) return fail("events were lost");
    for (size_t i = 0; i < times.size(); i++) one.times[i].push_back(times[i]);
    return {};
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

Result<> measure(const char* program, bool json) {
    Context context;
    context.log = spdlog::stderr_logger_st("trace_overhead");
    TRY_ASSIGN(const auto hierarchy, CgroupHierarchy::find());
    if (hierarchy.unified)
        std::ofstream(hierarchy.root + "/cgroup.subtree_control") << "+memory" << std::flush;
    const std::string group = hierarchy.root + "/memplate-trace-overhead";
    const std::string other = group + "-other";
    ::mkdir(group.c_str(), 0755);
    ::mkdir(other.c_str(), 0755);
    struct stat directory{};
    ::stat(other.c_str(), &directory);
    std::vector<Case> cases(6);
    cases[0] = {.name = "none", .traced = false};
    cases[1] = {.name = "start", .options = {.start = true}};
    cases[2] = {.name = "start+memory", .options = {.start = true, .memory = true}};
    cases[3] = {.name = "start+memory, elsewhere",
                .options = {.start = true, .memory = true, .below_cgroup = directory.st_ino}};
    cases[4] = {.name = "start+memory+faults",
                .options = {.start = true, .memory = true, .faults = true}};
    cases[5] = {.name = "memory, step 1 MiB",
                .options = {.start = false, .memory = true, .level_step = 1 << 20}};
    Result<> done;
    for (int round = 0; round < rounds && done; round++)
        for (Case& one : cases)
            if (done = run(one, context, group, program); !done) break;
    ::rmdir(group.c_str());
    ::rmdir(other.c_str());
    TRY(done);
    Json document = Json::object();
    if (!json) fmt::print("{:<26}", "ns each (with --icount: instructions)");
    for (const char* name : names)
        if (!json) fmt::print("{:>22}", name);
    if (!json) fmt::print("\n");
    for (const Case& one : cases) {
        if (!json) fmt::print("{:<26}           ", one.name);
        for (size_t i = 0; i < names.size(); i++) {
            const double base = median(cases[0].times[i]);
            const double value = median(one.times[i]);
            const double percent = (value / base - 1) * 100;
            document[one.name][names[i]] = {{"ns", value}, {"percent", percent}};
            if (!json) fmt::print("{:>12.0f} {:>+7.2f} %", value, percent);
        }
        if (!json) fmt::print("\n");
    }
    if (json) fmt::print("{}\n", document.dump());
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    const bool json = argc == 3 && std::string(argv[2]) == "--json";
    if (argc != 2 && !json) {
        fmt::print(stderr, "usage: trace_overhead PROGRAM [--json]\n");
        return 2;
    }
    if (const auto measured = measure(argv[1], json); !measured) {
        fmt::print(stderr, "trace_overhead: {}\n", measured.error().message);
        return static_cast<int>(measured.error().kind);
    }
    return 0;
}
