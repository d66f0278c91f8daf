// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>

#include "util/fs.h"
#include "util/proc.h"

namespace memplate::proc {
namespace {

using testing::HasSubstr;

/// A directory that looks like /proc with one process, number 42.
class FakeProc : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-proc");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
        ASSERT_TRUE(make_directories(directory_.path() + "/42"));
        auto fd = open_at(AT_FDCWD, directory_.path(), O_RDONLY | O_DIRECTORY);
        ASSERT_TRUE(fd);
        proc_ = std::move(*fd);
    }
    void put(const std::string& name, std::string_view text) const {
        std::ofstream(directory_.path() + "/42/" + name, std::ios::binary) << text;
    }
    [[nodiscard]] int proc() const { return proc_.get(); }

  private:
    TemporaryDirectory directory_;
    UniqueFd proc_;
};

constexpr std::string_view rollup_text =
    "55f0d0000000-7ffd1d7fe000 ---p 00000000 00:00 0                          [rollup]\n"
    "Rss:                1700 kB\n"
    "Pss:                 409 kB\n"
    "Pss_Dirty:            92 kB\n"
    "Pss_Anon:             88 kB\n"
    "Shared_Clean:       1600 kB\n"
    "Shared_Dirty:          1 kB\n"
    "Private_Clean:         7 kB\n"
    "Private_Dirty:        92 kB\n"
    "Referenced:         1700 kB\n"
    "Anonymous:            88 kB\n"
    "AnonHugePages:         0 kB\n";

TEST_F(FakeProc, MemoryRollup) {
    put("smaps_rollup", rollup_text);
    const auto rollup = memory_rollup(proc(), 42);
    ASSERT_TRUE(rollup) << rollup.error().message;
    EXPECT_EQ(rollup->rss, 1700u * 1024);
    EXPECT_EQ(rollup->pss, 409u * 1024);
    EXPECT_EQ(rollup->shared_clean, 1600u * 1024);
    EXPECT_EQ(rollup->shared_dirty, 1u * 1024);
    EXPECT_EQ(rollup->private_clean, 7u * 1024);
    EXPECT_EQ(rollup->private_dirty, 92u * 1024);
    EXPECT_EQ(rollup->anonymous, 88u * 1024);
    MemoryRollup sum = *rollup;
    sum += *rollup;
    EXPECT_EQ(sum.rss, 3400u * 1024);
    EXPECT_EQ(sum.pss, 818u * 1024);
    EXPECT_EQ(sum.shared_clean, 3200u * 1024);
    EXPECT_EQ(sum.shared_dirty, 2u * 1024);
    EXPECT_EQ(sum.private_clean, 14u * 1024);
    EXPECT_EQ(sum.private_dirty, 184u * 1024);
    EXPECT_EQ(sum.anonymous, 176u * 1024);
}

TEST_F(FakeProc, MemoryRollupRefusesWhatItDoesNotUnderstand) {
    EXPECT_EQ(memory_rollup(proc(), 42).error().code, ENOENT);
    put("smaps_rollup", "Rss: 1 kB\nPss: 1 kB\n");
    EXPECT_THAT(memory_rollup(proc(), 42).error().message, HasSubstr("is missing"));
    put("smaps_rollup", "Rss: 1 MB\n");
    EXPECT_THAT(memory_rollup(proc(), 42).error().message, HasSubstr("42/smaps_rollup"));
    put("smaps_rollup", "Rss: -1 kB\n");
    EXPECT_FALSE(memory_rollup(proc(), 42));
    put("smaps_rollup", "Rss: 18446744073709551615 kB\n");
    EXPECT_FALSE(memory_rollup(proc(), 42));
}

TEST_F(FakeProc, Mappings) {
    put("maps",
        "55f0d0a00000-55f0d0a21000 rw-p 00000000 00:00 0                          [heap]\n"
        "7f0000000000-7f0000001000 r-xs 0001f000 fd:01 1234567    /tmp/a file (deleted)\n"
        "7f0000001000-7f0000002000 ---p 00000000 00:00 0 \n"
        "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
    const auto maps = mappings(proc(), 42);
    ASSERT_TRUE(maps) << maps.error().message;
    ASSERT_EQ(maps->size(), 4u);
    const Mapping& heap = maps->at(0);
    EXPECT_EQ(heap.start, 0x55f0d0a00000u);
    EXPECT_EQ(heap.end, 0x55f0d0a21000u);
    EXPECT_EQ(heap.permissions, "rw-p");
    EXPECT_EQ(heap.path, "[heap]");
    const Mapping& file = maps->at(1);
    EXPECT_EQ(file.permissions, "r-xs");
    EXPECT_EQ(file.offset, 0x1f000u);
    EXPECT_EQ(file.inode, 1234567u);
    EXPECT_EQ(file.path, "/tmp/a file (deleted)");
    EXPECT_EQ(maps->at(2).path, "");
    EXPECT_EQ(maps->at(3).start, 0xffffffffff600000u);
}

TEST_F(FakeProc, MappingsOfAProcessWithoutMemoryAreNone) {
    put("maps", "");
    const auto maps = mappings(proc(), 42);
    ASSERT_TRUE(maps);
    EXPECT_TRUE(maps->empty());
}

TEST_F(FakeProc, MappingsRefuseMalformedLines) {
    for (const char* line :
         {"1000-2000 rw-p 0 00:00", "2000-1000 rw-p 0 00:00 0", "1000 rw-p 0 00:00 0",
          "1000-200g rw-p 0 00:00 0", "1000-2000 rw 0 00:00 0", "\n"}) {
        put("maps", line);
        const auto maps = mappings(proc(), 42);
        ASSERT_FALSE(maps) << line;
        EXPECT_THAT(maps.error().message, HasSubstr("42/maps"));
    }
}

TEST_F(FakeProc, StatWithANameMadeToConfuse) {
    put("stat",
        "42 (a) R 1 (b) S 17 42 42 0 -1 4194304 111 0 0 0 1 2 0 0 20 0 3 0 987654 10000000 250 "
        "18446744073709551615\n");
    const auto result = stat(proc(), 42);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->comm, "a) R 1 (b");
    EXPECT_EQ(result->state, 'S');
    EXPECT_EQ(result->parent, 17);
    EXPECT_EQ(result->threads, 3u);
    EXPECT_EQ(result->start_time, 987654u);
}

TEST_F(FakeProc, StatRefusesMalformedText) {
    for (const char* text : {"", "42 (x", "42 x) S 1", "42 (x) S 1 2 3", "42 )x( S 1",
                             "42 (x) SS 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
                             "42 (x) S y 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"}) {
        put("stat", text);
        EXPECT_FALSE(stat(proc(), 42)) << text;
    }
}

TEST_F(FakeProc, NamespacePidIsTheInnermost) {
    put("status", "Name:\tx\nNStgid:\t42\t9\t1\nNSpid:\t42\t9\t7\nNSpgid:\t42\t9\t1\n");
    EXPECT_EQ(namespace_pid(proc(), 42), 7);
    put("status", "NSpid:\t42\n");
    EXPECT_EQ(namespace_pid(proc(), 42), 42);
    put("status", "NSpid:\t\n");
    EXPECT_FALSE(namespace_pid(proc(), 42));
    put("status", "Name:\tx\n");
    EXPECT_THAT(namespace_pid(proc(), 42).error().message, HasSubstr("NSpid is missing"));
}

TEST_F(FakeProc, PageStates) {
    // Entries of the pages at 0, 4096, ...; the first must not be looked at below.
    const std::vector<uint64_t> entries = {UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 62,
                                           (uint64_t{1} << 63) | (uint64_t{1} << 61), 0};
    put("pagemap", std::string(reinterpret_cast<const char*>(entries.data()),
                               entries.size() * sizeof(uint64_t)));
    const auto states = page_states(proc(), 42, 4096, 4);
    ASSERT_TRUE(states) << states.error().message;
    ASSERT_EQ(states->size(), 4u);
    EXPECT_TRUE(states->at(0).present && !states->at(0).swapped && !states->at(0).file_or_shared);
    EXPECT_TRUE(!states->at(1).present && states->at(1).swapped && !states->at(1).file_or_shared);
    EXPECT_TRUE(states->at(2).present && !states->at(2).swapped && states->at(2).file_or_shared);
    EXPECT_TRUE(!states->at(3).present && !states->at(3).swapped && !states->at(3).file_or_shared);
    EXPECT_TRUE(page_states(proc(), 42, 0, 0)->empty());
}

TEST_F(FakeProc, PageStatesReadMoreThanOneChunk) {
    constexpr uint64_t count = 70'000;
    std::vector<uint64_t> entries(count);
    entries[65'536] = uint64_t{1} << 63;
    put("pagemap",
        std::string(reinterpret_cast<const char*>(entries.data()), count * sizeof(uint64_t)));
    const auto states = page_states(proc(), 42, 0, count);
    ASSERT_TRUE(states) << states.error().message;
    ASSERT_EQ(states->size(), count);
    for (uint64_t page = 0; page < count; page++)
        EXPECT_EQ(states->at(page).present, page == 65'536) << page;
}

TEST_F(FakeProc, PageStatesRefuseBadRanges) {
    put("pagemap", std::string(16, '\0'));
    EXPECT_EQ(page_states(proc(), 42, 100, 1).error().code, EINVAL);
    const auto beyond = page_states(proc(), 42, 0, 3);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.error().code, ENODATA);
    EXPECT_THAT(beyond.error().message, HasSubstr("42/pagemap"));
}

TEST(HostProc, AgreesWithWhatWeKnowOfOurselves) {
    const auto host = open_host();
    ASSERT_TRUE(host);
    const pid_t self = ::getpid();

    const auto own = stat(host->get(), self);
    ASSERT_TRUE(own) << own.error().message;
    EXPECT_EQ(own->parent, ::getppid());
    EXPECT_EQ(own->state, 'R');
    EXPECT_GT(own->start_time, 0u);
    EXPECT_EQ(namespace_pid(host->get(), self), self);

    const auto rollup = memory_rollup(host->get(), self);
    ASSERT_TRUE(rollup) << rollup.error().message;
    EXPECT_GT(rollup->rss, 0u);
    EXPECT_LE(rollup->pss, rollup->rss);

    static const int marker = 1;
    const auto maps = mappings(host->get(), self);
    ASSERT_TRUE(maps) << maps.error().message;
    const auto address = reinterpret_cast<uint64_t>(&marker);
    EXPECT_TRUE(std::ranges::any_of(
        *maps, [&](const Mapping& m) { return m.start <= address && address < m.end; }));
}

TEST(HostProc, PageStatesTellCopiedPagesFromTheFiles) {
    constexpr size_t page = 4096;
    const UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), 3 * page), 0);
    void* const mapped =
        ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0);
    ASSERT_NE(mapped, MAP_FAILED);
    auto* const bytes = static_cast<volatile char*>(mapped);
    (void)bytes[0];     // read: the file's page
    bytes[page] = 'x';  // written: our copy
    const auto host = open_host();
    ASSERT_TRUE(host);
    const auto states = page_states(host->get(), ::getpid(), reinterpret_cast<uint64_t>(mapped), 2);
    ASSERT_TRUE(states) << states.error().message;
    EXPECT_TRUE(states->at(0).present && states->at(0).file_or_shared);
    EXPECT_TRUE(states->at(1).present && !states->at(1).file_or_shared);
    ::munmap(mapped, 3 * page);
}

}  // namespace
}  // namespace memplate::proc

TEST(ProcDescendants, WalksChildrenOfAllThreads) {
    auto root = memplate::TemporaryDirectory::create("/tmp", "memplate-descendants");
    ASSERT_TRUE(root);
    const auto add = [&](const std::string& pid, const std::string& tid, const std::string& text) {
        const std::string folder = root->path() + "/" + pid + "/task/" + tid;
        ASSERT_TRUE(memplate::make_directories(folder));
        ASSERT_TRUE(memplate::write_file_atomic(AT_FDCWD, folder + "/children", text));
    };
    add("10", "10", "11 ");
    add("10", "14", "12 ");
    add("11", "11", "13 \n");
    add("12", "12", "");
    add("13", "13", "");
    auto proc = memplate::open_at(AT_FDCWD, root->path(), O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(proc);
    EXPECT_EQ(memplate::proc::descendants(proc->get(), 10), (std::vector<pid_t>{11, 13, 12}));
    EXPECT_TRUE(memplate::proc::descendants(proc->get(), 99).empty());
}
