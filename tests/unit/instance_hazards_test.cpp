// SPDX-License-Identifier: Apache-2.0
#include "image_fixture.h"
#include "instance/hazards.h"

namespace memplate::instance {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Call = SyscallRecorder::Call;
using CallRecord = SyscallRecorder::Record;

const std::map<pid_t, pid_t> inside{{5000, 100}, {5001, 101}};

CallRecord advised(int advice, uint64_t address, uint64_t length, pid_t pid = 5000) {
    CallRecord record;
    record.pid = pid;
    record.call = Call::madvise;
    record.address = address;
    record.length = length;
    record.advice = advice;
    return record;
}

CallRecord remapped(uint64_t address, uint64_t length, uint64_t new_length) {
    CallRecord record;
    record.pid = 5000;
    record.call = Call::mremap;
    record.address = address;
    record.length = length;
    record.new_length = new_length;
    return record;
}

TEST(InstanceHazards, AdviceThatLosesPagesIsAHazard) {
    const std::pair<int, proto::HazardKind> cases[]{{MADV_DONTNEED, proto::HAZARD_DISCARD},
                                                    {MADV_DONTNEED_LOCKED, proto::HAZARD_DISCARD},
                                                    {MADV_REMOVE, proto::HAZARD_DISCARD},
                                                    {MADV_FREE, proto::HAZARD_FREE},
                                                    {MADV_WIPEONFORK, proto::HAZARD_WIPEONFORK}};
    for (const auto& [advice, kind] : cases) {
        const auto hazards = judge_calls({advised(advice, at(3), 2 * page_size)}, inside);
        ASSERT_THAT(hazards, SizeIs(1)) << advice;
        EXPECT_EQ(hazards[0].kind(), kind) << advice;
        EXPECT_EQ(hazards[0].pid(), 100U) << "the pid in the images";
        EXPECT_EQ(hazards[0].start(), at(3));
        EXPECT_EQ(hazards[0].end(), at(5));
        EXPECT_FALSE(hazards[0].whole_process());
        EXPECT_FALSE(hazards[0].evidence().empty());
    }
    for (const int advice : {MADV_NORMAL, MADV_WILLNEED, MADV_HUGEPAGE, MADV_DONTDUMP})
        EXPECT_THAT(judge_calls({advised(advice, at(3), page_size)}, inside), IsEmpty()) << advice;
}

TEST(InstanceHazards, GrowthIsAHazardShrinkingIsNot) {
    EXPECT_THAT(judge_calls({remapped(at(0), page_size, page_size)}, inside), IsEmpty());
    EXPECT_THAT(judge_calls({remapped(at(0), 2 * page_size, page_size)}, inside), IsEmpty());
    const auto hazards = judge_calls({remapped(at(0), page_size, 2 * page_size)}, inside);
    ASSERT_THAT(hazards, SizeIs(1));
    EXPECT_EQ(hazards[0].kind(), proto::HAZARD_GROWTH);
    EXPECT_EQ(hazards[0].end(), at(1));
}

TEST(InstanceHazards, OtherProcessesAreIgnored) {
    EXPECT_THAT(judge_calls({advised(MADV_DONTNEED, at(0), page_size, 6000),
                             advised(MADV_DONTNEED, at(0), page_size, 0),
                             advised(MADV_DONTNEED, at(0), page_size, 100)},
                            inside),
                IsEmpty());
}

TEST(InstanceHazards, RepeatedCallsAreOneHazard) {
    const auto hazards = judge_calls(
        {advised(MADV_DONTNEED, at(0), page_size), advised(MADV_DONTNEED, at(0), page_size),
         advised(MADV_DONTNEED, at(1), page_size), advised(MADV_FREE, at(0), page_size),
         advised(MADV_DONTNEED, at(0), page_size, 5001)},
        inside);
    EXPECT_THAT(hazards, SizeIs(4));
}

TEST(InstanceHazards, AreasAreWholePages) {
    const auto hazards = judge_calls({advised(MADV_DONTNEED, at(3), 1)}, inside);
    ASSERT_THAT(hazards, SizeIs(1));
    EXPECT_EQ(hazards[0].start(), at(3));
    EXPECT_EQ(hazards[0].end(), at(4));
}

TEST(InstanceHazards, UnsharedAreasKnowTheirReason) {
    auto hazards = judge_calls(
        {advised(MADV_DONTNEED, at(0), page_size), remapped(at(2), page_size, 2 * page_size),
         advised(MADV_FREE, at(4), page_size), advised(MADV_WIPEONFORK, at(6), page_size, 5001)},
        inside);
    proto::Hazard whole;
    whole.set_pid(100);
    whole.set_whole_process(true);
    hazards.push_back(whole);
    const auto areas = unshared_areas(hazards);
    ASSERT_THAT(areas, SizeIs(2));
    const auto& root = areas.at(100);
    ASSERT_THAT(root, SizeIs(3));
    EXPECT_EQ(root[0].start, at(0));
    EXPECT_EQ(root[0].end, at(1));
    EXPECT_EQ(root[0].reason, proto::PLACEMENT_DISCARDED);
    EXPECT_EQ(root[1].reason, proto::PLACEMENT_GROWN);
    EXPECT_EQ(root[2].reason, proto::PLACEMENT_DISCARDED);
    ASSERT_THAT(areas.at(101), SizeIs(1));
    EXPECT_EQ(areas.at(101)[0].reason, proto::PLACEMENT_WIPEONFORK);
}

TEST(InstanceHazards, WipedAreasAreFoundInTheImages) {
    TestProcess process{.areas = {area(0, 4), area(4, 4), area(8, 4)}};
    process.areas[0].set_madv(1u << 16);
    process.areas[1].set_madv(1u << 18 | 1u << 16);
    criu::ImageSet images;
    images.processes.push_back(process.loaded());
    const auto hazards = find_wiped_areas(images);
    ASSERT_THAT(hazards, SizeIs(1));
    EXPECT_EQ(hazards[0].kind(), proto::HAZARD_WIPEONFORK);
    EXPECT_EQ(hazards[0].pid(), 100U);
    EXPECT_EQ(hazards[0].start(), at(4));
    EXPECT_EQ(hazards[0].end(), at(8));
}

/// A root with files, and images of a process that maps one of them.
class FindAllocators : public ::testing::Test {
  protected:
    void put(const std::string& name, std::string_view bytes) const {
        must(make_directories(root_.path() + "/lib"));
        must(write_file_atomic(AT_FDCWD, root_.path() + name, bytes));
    }

    std::vector<proto::Hazard> find(const std::string& name,
                                    int protection = PROT_READ | PROT_EXEC) const {
        TestProcess process{.areas = {area(0, 4), file_area(8, 4, 7, 0)}};
        process.areas[1].set_prot(static_cast<uint32_t>(protection));
        TestProcess other = process;
        other.pid = 101;
        other.areas.pop_back();
        criu::ImageSet images;
        images.processes = {process.loaded(), other.loaded()};
        images.files = {regular_file(7, name, 1)};
        return find_allocators(images, root_.path());
    }

    TemporaryDirectory root_ = must(TemporaryDirectory::create(::testing::TempDir(), "root"));
};

TEST_F(FindAllocators, LibraryIsKnownByItsName) {
    const auto hazards = find("/usr/lib/libjemalloc.so.2");
    ASSERT_THAT(hazards, SizeIs(1));
    EXPECT_EQ(hazards[0].kind(), proto::HAZARD_ALLOCATOR);
    EXPECT_EQ(hazards[0].pid(), 100U);
    EXPECT_TRUE(hazards[0].whole_process());
    EXPECT_THAT(hazards[0].evidence(), HasSubstr("libjemalloc.so.2 is loaded"));
}

TEST_F(FindAllocators, LinkedAllocatorIsKnownByItsText) {
    put("/lib/program",
        "\x7f"
        "ELF.....<jemalloc>: out of memory....");
    const auto hazards = find("/lib/program");
    ASSERT_THAT(hazards, SizeIs(1));
    EXPECT_THAT(hazards[0].evidence(), HasSubstr("program contains jemalloc"));
}

TEST_F(FindAllocators, TextIsFoundAnywhereInTheFile) {
    constexpr size_t piece = 4u << 20;
    for (const size_t place : {piece - 5, piece, 2 * piece - 1, 2 * piece + 90}) {
        std::string bytes(2 * piece + 101, '.');
        bytes.replace(place, 12, "<jemalloc>: ");
        bytes.resize(2 * piece + 102);
        put("/lib/program", bytes);
        EXPECT_THAT(find("/lib/program"), SizeIs(1)) << place;
    }
}

TEST_F(FindAllocators, OrdinaryProgramsHaveNone) {
    put("/lib/program", "malloc jemalloc <jemalloc>");
    EXPECT_THAT(find("/lib/program"), IsEmpty());
    EXPECT_THAT(find("/lib/missing"), IsEmpty());
    put("/lib/empty", "");
    EXPECT_THAT(find("/lib/empty"), IsEmpty());
}

TEST_F(FindAllocators, OnlyCodeCounts) {
    put("/lib/text.so", "<jemalloc>: ");
    EXPECT_THAT(find("/lib/text.so", PROT_READ), IsEmpty());
    EXPECT_THAT(find("/lib/text.so"), SizeIs(1));
    EXPECT_THAT(find("/lib/libjemalloc.so.2", PROT_READ | PROT_WRITE), IsEmpty());
}

}  // namespace
}  // namespace memplate::instance
