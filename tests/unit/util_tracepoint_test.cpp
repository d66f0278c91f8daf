// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <optional>
#include <thread>

#include "util/fs.h"
#include "util/tracepoint.h"

namespace memplate {
namespace {

using testing::HasSubstr;
using Call = SyscallRecorder::Call;
using Record = SyscallRecorder::Record;

constexpr size_t page = 4096;

TEST(TracepointFormat, ReadsNamesOffsetsAndSizes) {
    const auto fields = parse_tracepoint_format(
        "name: sys_enter_x\nID: 726\nformat:\n"
        "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
        "\n"
        "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n"
        "\tfield:const char * path;\toffset:16;\tsize:8;\tsigned:0;\n"
        "\tfield:unsigned long args[6];\toffset:24;\tsize:48;\tsigned:0;\n"
        "\n"
        "print fmt: \"field: 0x%08lx;\", ((unsigned long)(REC->start))\n");
    ASSERT_TRUE(fields) << fields.error().message;
    ASSERT_EQ(fields->size(), 4u);
    EXPECT_EQ(fields->at(0).name, "common_type");
    EXPECT_EQ(fields->at(1).name, "__syscall_nr");
    EXPECT_EQ(fields->at(1).offset, 8u);
    EXPECT_EQ(fields->at(1).size, 4u);
    EXPECT_EQ(fields->at(2).name, "path");
    EXPECT_EQ(fields->at(3).name, "args");
    EXPECT_EQ(fields->at(3).offset, 24u);
    EXPECT_EQ(fields->at(3).size, 48u);
}

TEST(TracepointFormat, RefusesMalformedFields) {
    EXPECT_FALSE(parse_tracepoint_format("\tfield:int x;\toffset:y;\tsize:4;\n"));
    EXPECT_FALSE(parse_tracepoint_format("\tfield:int x;\tsize:4;\n"));
    EXPECT_FALSE(parse_tracepoint_format("\tfield:int x;\toffset:4;\n"));
    EXPECT_FALSE(parse_tracepoint_format("\tfield:;\toffset:4;\tsize:4;\n"));
    EXPECT_TRUE(parse_tracepoint_format("")->empty());
}

class Recorder : public testing::Test {
  protected:
    void SetUp() override {
        auto started = SyscallRecorder::start();
        if (!started && started.error().kind == ErrorKind::unsupported)
            GTEST_SKIP() << started.error().message;
        ASSERT_TRUE(started) << started.error().message;
        recorder_ = std::move(*started);
        void* const memory = ::mmap(nullptr, pages * page, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(memory, MAP_FAILED);
        memory_ = static_cast<char*>(memory);
    }
    void TearDown() override {
        if (memory_ != nullptr) ::munmap(memory_, pages * page);
    }
    /// Runs `work` in a child process (with these clone(2) flags) and waits for it; its pid here.
    static pid_t run_in_child(const std::function<void()>& work, unsigned long flags = 0) {
        const auto child = static_cast<pid_t>(::syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
        if (child == 0) {
            work();
            ::_exit(0);
        }
        int status = -1;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        return child;
    }
    /// What was recorded of one process.
    std::vector<Record> records_of(pid_t pid) {
        auto records = recorder_->drain();
        EXPECT_TRUE(records) << records.error().message;
        if (!records) return {};
        std::erase_if(*records, [pid](const Record& record) { return record.pid != pid; });
        return *records;
    }
    [[nodiscard]] uint64_t address(size_t offset = 0) const {
        return reinterpret_cast<uint64_t>(memory_) + offset;
    }
    static constexpr size_t pages = 8;
    std::optional<SyscallRecorder> recorder_;
    char* memory_ = nullptr;
};

TEST_F(Recorder, SeesMadviseOfAChild) {
    const pid_t child = run_in_child([this] {
        ::madvise(memory_ + page, 2 * page, MADV_DONTNEED);
        ::madvise(memory_, page, MADV_FREE);
        ::madvise(memory_ + 1, page, MADV_DONTNEED);  // refused by the kernel, seen all the same
    });
    const auto records = records_of(child);
    ASSERT_EQ(records.size(), 3u);
    EXPECT_EQ(records[0].call, Call::madvise);
    EXPECT_EQ(records[0].tid, child);
    EXPECT_EQ(records[0].address, address(page));
    EXPECT_EQ(records[0].length, 2 * page);
    EXPECT_EQ(records[0].advice, MADV_DONTNEED);
    EXPECT_EQ(records[1].address, address());
    EXPECT_EQ(records[1].length, page);
    EXPECT_EQ(records[1].advice, MADV_FREE);
    EXPECT_EQ(records[2].address, address(1));
}

TEST_F(Recorder, SeesMremapOfAChild) {
    const pid_t child = run_in_child([this] {
        // First a shrink in place, then a move to where the shrink made room.
        if (::mremap(memory_, pages * page, 2 * page, 0) != memory_) ::_exit(1);
        void* const target = memory_ + 4 * page;
        if (::mremap(memory_, page, 3 * page, MREMAP_MAYMOVE | MREMAP_FIXED, target) != target)
            ::_exit(2);
    });
    const auto records = records_of(child);
    ASSERT_EQ(records.size(), 2u);
    EXPECT_EQ(records[0].call, Call::mremap);
    EXPECT_EQ(records[0].address, address());
    EXPECT_EQ(records[0].length, pages * page);
    EXPECT_EQ(records[0].new_length, 2 * page);
    EXPECT_EQ(records[0].flags, 0u);
    EXPECT_EQ(records[1].call, Call::mremap);
    EXPECT_EQ(records[1].address, address());
    EXPECT_EQ(records[1].length, page);
    EXPECT_EQ(records[1].new_length, 3 * page);
    EXPECT_EQ(records[1].flags, static_cast<uint64_t>(MREMAP_MAYMOVE | MREMAP_FIXED));
    EXPECT_EQ(records[1].new_address, address(4 * page));
}

TEST_F(Recorder, KeepsTheOrderAcrossCallsAndCpus) {
    timespec before{};
    ::clock_gettime(CLOCK_MONOTONIC, &before);
    const pid_t child = run_in_child([this] {
        for (size_t i = 0; i < 100; i++) {
            cpu_set_t cpus;
            CPU_ZERO(&cpus);
            CPU_SET(i % static_cast<size_t>(::sysconf(_SC_NPROCESSORS_ONLN)), &cpus);
            ::sched_setaffinity(0, sizeof cpus, &cpus);
            if (i % 2 == 0)
                ::madvise(memory_, (i + 1) * page, MADV_NORMAL);
            else
                ::mremap(memory_, (i + 1) * page, 0, 0);
        }
    });
    const auto records = records_of(child);
    ASSERT_EQ(records.size(), 100u);
    for (size_t i = 0; i < records.size(); i++) EXPECT_EQ(records[i].length, (i + 1) * page) << i;
    EXPECT_GE(records.front().time, static_cast<uint64_t>(before.tv_sec) * 1'000'000'000 +
                                        static_cast<uint64_t>(before.tv_nsec));
}

TEST_F(Recorder, TellsThreadsFromTheirProcess) {
    pid_t thread = 0;
    std::thread([&] {
        thread = ::gettid();
        ::madvise(memory_, 3 * page, MADV_DONTNEED);
    }).join();
    const auto records = records_of(::getpid());
    const auto ours = std::ranges::find(records, address(), &Record::address);
    ASSERT_NE(ours, records.end());
    EXPECT_EQ(ours->tid, thread);
    EXPECT_NE(ours->tid, ours->pid);
    EXPECT_EQ(ours->length, 3 * page);
}

TEST_F(Recorder, NamesProcessesOfOtherPidNamespacesByOurPid) {
    const pid_t child = run_in_child(
        [this] {
            if (::getpid() != 1) ::_exit(1);
            ::madvise(memory_, page, MADV_DONTNEED);
        },
        CLONE_NEWPID);
    const auto records = records_of(child);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].address, address());
    EXPECT_EQ(records[0].tid, child);
}

TEST_F(Recorder, DrainsOnceAndGoesOn) {
    const auto advise = [this] { ::madvise(memory_, page, MADV_DONTNEED); };
    const pid_t first = run_in_child(advise);
    EXPECT_EQ(records_of(first).size(), 1u);
    EXPECT_EQ(records_of(first).size(), 0u);
    const pid_t second = run_in_child(advise);
    EXPECT_EQ(records_of(second).size(), 1u);
}

TEST_F(Recorder, ReadsRecordsThatWrapAroundTheBuffer) {
    // Several times the buffer, drained often enough that our own calls cannot fill it. Calls of
    // the rest of the machine can: rounds in which something was lost do not count.
    int whole_rounds = 0;
    for (int round = 0; round < 200 && whole_rounds < 20; round++) {
        const uint64_t lost_before = recorder_->lost();
        const pid_t child = run_in_child([this] {
            for (size_t i = 0; i < 1'000; i++) ::madvise(memory_, i, MADV_DONTNEED);
        });
        const auto records = records_of(child);
        if (recorder_->lost() != lost_before) continue;
        ++whole_rounds;
        ASSERT_EQ(records.size(), 1'000u) << round;
        for (size_t i = 0; i < records.size(); i++) ASSERT_EQ(records[i].length, i) << round;
    }
    EXPECT_EQ(whole_rounds, 20);
}

TEST_F(Recorder, CountsWhatDidNotFit) {
    constexpr size_t calls = 20'000;
    EXPECT_EQ(recorder_->lost(), 0u);
    const pid_t child = run_in_child([this] {
        for (size_t i = 0; i < calls; i++) ::madvise(memory_, page, MADV_DONTNEED);
    });
    // Known at once, not only with the next record that fits.
    const uint64_t lost = recorder_->lost();
    const size_t seen = records_of(child).size();
    EXPECT_GT(seen, 1'000u);
    EXPECT_LT(seen, calls);
    // Other processes may have lost calls as well.
    EXPECT_GE(seen + lost, calls);
    EXPECT_GT(lost, 0u);
}

TEST_F(Recorder, LeavesNothingMounted) {
    const auto before = read_file("/proc/self/mountinfo");
    const auto another = SyscallRecorder::start();
    ASSERT_TRUE(another) << another.error().message;
    EXPECT_EQ(read_file("/proc/self/mountinfo").value_or("unreadable"), before.value_or(""));
}

TEST(RecorderWithoutRights, IsUnsupportedAndSaysWhy) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give it up";
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
            ::_exit(77);
        const auto started = SyscallRecorder::start();
        const bool refused = !started && started.error().kind == ErrorKind::unsupported &&
                             started.error().message.find("root") != std::string::npos;
        ::_exit(refused ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "the user id cannot be changed here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace memplate
