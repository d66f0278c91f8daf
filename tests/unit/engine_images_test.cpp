// SPDX-License-Identifier: Apache-2.0
//
// From an image directory through a page store to the images of an engine: what CRIU will make of
// them must be the memory that was checkpointed.
#include <set>

#include "engine_fixture.h"

namespace memplate::engine {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineImages : public EngineFixture {
  protected:
    /// "first page + pages: pool" or "…: file N at page P" or "…: anonymous".
    std::vector<std::string> areas(uint32_t pid) {
        std::vector<std::string> result;
        const auto mm = out_.mm(pid);
        for (const auto& vma : mm.vmas()) {
            std::string what = "anonymous";
            if (vma.shmid() >= 0x7f000001)
                what = "pool";
            else if ((vma.status() & status::file_private) != 0)
                what = fmt::format("file {} at page {}", vma.shmid(), vma.pgoff() / page_size);
            result.push_back(fmt::format("{}+{}: {}", (vma.start() - at(0)) / page_size,
                                         (vma.end() - vma.start()) / page_size, what));
        }
        return result;
    }

    /// The memory CRIU makes: mappings of the pool first, copied pages over them.
    Memory restored(uint32_t pid) {
        Memory result;
        const auto mm = out_.mm(pid);
        for (const auto& vma : mm.vmas()) {
            if (vma.shmid() < 0x7f000001) continue;
            for (uint64_t vaddr = vma.start(); vaddr < vma.end(); vaddr += page_size) {
                std::string page(page_size, 'x');
                must(pread_exact(tmpl_.pages.fd, writable_bytes_of(page),
                                 vma.pgoff() + (vaddr - vma.start())));
                result[vaddr] = page;
            }
        }
        for (const auto& [vaddr, bytes] : out_.memory(pid)) result[vaddr] = bytes;
        return result;
    }
};

TEST_F(EngineImages, CopyGivesExactlyThePresentPages) {
    TestProcess large{.areas = {area(0, 1000)}};
    large.pid = 101;
    large.parent = 100;
    large.pages_id = 2;
    large.fill(1, 990, 'z');
    store({example(), large});
    for (const Kind kind : {Kind::copy, Kind::lazy}) {
        ImageDirectory fresh;
        std::swap(out_, fresh);
        write(kind, {.restrict_capabilities = false, .volatile_directories = {}});
        EXPECT_EQ(out_.memory(100), without_zeros(example().memory));
        EXPECT_EQ(out_.memory(101), large.memory);
        // The rest is as it was.
        EXPECT_EQ(out_.names(), source_.names());
        for (const std::string& name : source_.names()) {
            if (name.starts_with("pages-") || name.starts_with("pagemap-")) continue;
            EXPECT_EQ(out_.get(name), source_.get(name)) << name;
        }
    }
}

TEST_F(EngineImages, OnlyAnonymousPagesMayBeLazy) {
    auto process = example();
    process.areas.push_back(area(300, 4, status::regular | status::anon_private | status::vdso));
    process.areas.push_back(area(400, 4, status::regular | status::anon_private,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED));
    process.fill(300, 2, 'v');
    process.fill(400, 2, 'l');
    store({process});
    write(Kind::lazy);
    const auto pagemap = out_.pagemap(100);
    for (const auto& range : pagemap.ranges) {
        const uint64_t page = (range.vaddr - at(0)) / page_size;
        EXPECT_EQ(range.lazy, page < 100 || (page >= 200 && page < 300)) << page;
    }
}

TEST_F(EngineImages, MappedSplitsTheAreas) {
    store({example()});
    write(Kind::mapped);
    EXPECT_THAT(areas(100), ElementsAre("0+10: anonymous", "10+10: pool", "20+44: anonymous",
                                        "100+8: file 7 at page 3", "108+4: pool",
                                        "112+20: file 7 at page 15", "200+16: anonymous"));
    EXPECT_THAT(copied(100), ElementsAre(40, 210, 211, 212, 213, 214, 215));
    EXPECT_EQ(without_zeros(restored(100)), without_zeros(example().memory));
}

TEST_F(EngineImages, MappedAreasAreWhatCriuExpects) {
    auto process = example();
    process.areas[0].set_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE);
    process.areas[0].set_madv(1u << 16);
    add_unknown_field(process.areas[0], 31);
    store({process});
    write(Kind::mapped);
    const auto mm = out_.mm(100);
    const auto& before = mm.vmas(0);
    const auto& pool = mm.vmas(1);
    EXPECT_EQ(pool.flags(), static_cast<uint32_t>(MAP_PRIVATE | MAP_NORESERVE));
    EXPECT_EQ(pool.status(), status::regular | status::file_private);
    EXPECT_EQ(pool.prot(), static_cast<uint32_t>(PROT_READ | PROT_WRITE));
    EXPECT_EQ(pool.madv(), 1u << 16);
    EXPECT_EQ(pool.fd(), -1);
    EXPECT_EQ(unknown_field(pool), 31U);
    EXPECT_EQ(before.flags(), process.areas[0].flags());
    EXPECT_EQ(before.status(), process.areas[0].status());
    EXPECT_EQ(before.shmid(), 0U);
    EXPECT_EQ(before.pgoff(), 0U);
    EXPECT_EQ(mm.exe_file_id(), 1U);
}

TEST_F(EngineImages, EveryProcessHasAFileIdOfItsOwn) {
    const TestProcess zombie{.pid = 102, .parent = 100, .task_state = 2};
    TestProcess unmapped{.pid = 103, .parent = 100, .areas = {area(0, 4)}};
    unmapped.pages_id = 3;
    unmapped.fill(1, 1, 'u');
    store({example(), example(101, 2), zombie, unmapped});
    write(Kind::mapped);
    std::set<uint64_t> ids[2];
    for (const uint32_t pid : {100U, 101U}) {
        const auto mm = out_.mm(pid);
        for (const auto& vma : mm.vmas())
            if (vma.shmid() >= 0x7f000001) ids[pid - 100].insert(vma.shmid());
        EXPECT_EQ(without_zeros(restored(pid)), without_zeros(example().memory));
    }
    ASSERT_EQ(ids[0].size(), 1U);
    ASSERT_EQ(ids[1].size(), 1U);
    EXPECT_NE(*ids[0].begin(), *ids[1].begin());

    const auto files =
        must(criu::parse_entries(out_.get("files.img"), "files.img", criu::magic::files));
    ASSERT_EQ(files.size(), 4U) << "two of the function, one each of the two that are mapped";
    for (size_t i = 2; i < 4; ++i) {
        const auto file = must(criu::parse_message<image::File>(files[i], "files.img"));
        EXPECT_EQ(file.id(), *ids[i - 2].begin());
        EXPECT_EQ(file.type(), 1U);
        EXPECT_EQ(file.reg().id(), file.id());
        EXPECT_EQ(file.reg().name(), std::string("/") + pool_file_key);
        EXPECT_FALSE(file.reg().has_size());
    }
    // Too little to map is copied; a zombie has its image and nothing else to map.
    EXPECT_THAT(copied(103), ElementsAre(1));
    EXPECT_THAT(out_.names(), ::testing::Contains("core-102.img"));
}

TEST_F(EngineImages, PagesKnownToBeWrittenAreCopiedToo) {
    store({example()});
    learn_written(100, 12, 4);  // page 13 is a hole
    write(Kind::mapped);
    EXPECT_THAT(areas(100), ::testing::Contains("10+10: pool"));
    EXPECT_THAT(copied(100), ElementsAre(12, 14, 15, 40, 210, 211, 212, 213, 214, 215));
    EXPECT_EQ(without_zeros(restored(100)), without_zeros(example().memory));
}

TEST_F(EngineImages, MostlyWrittenRunsAreNotMapped) {
    TestProcess process{.areas = {area(0, 64)}};
    process.fill(0, 8, 'a');
    process.fill(40, 8, 'b');
    store({process});
    learn_written(100, 0, 6);  // three quarters
    write(Kind::mapped);
    EXPECT_THAT(areas(100), ElementsAre("0+40: anonymous", "40+8: pool", "48+16: anonymous"));
    EXPECT_THAT(copied(100), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
    EXPECT_EQ(restored(100), process.memory);
    EXPECT_EQ(count_pages(tmpl_).copied, 8U);
    EXPECT_EQ(count_pages(tmpl_).shared, 8U);
}

TEST_F(EngineImages, NumbersShownAgreeWithWhatTheEngineDoes) {
    store({example()});
    learn_written(100, 10, 8);  // with the hole: seven pages of ten
    write(Kind::mapped);
    const auto counts = count_pages(tmpl_);
    EXPECT_EQ(counts.precopied + counts.copied, copied(100).size());
    EXPECT_THAT(areas(100), ::testing::Contains("10+10: pool"));
}

TEST_F(EngineImages, NoMappedRunsNoPoolFile) {
    TestProcess process{.areas = {area(0, 4)}};
    process.fill(1, 1, 'a');
    store({process});
    write(Kind::mapped);
    EXPECT_EQ(out_.get("files.img"), source_.get("files.img"));
    EXPECT_EQ(out_.get("mm-100.img"), source_.get("mm-100.img"));
}

TEST_F(EngineImages, SharedMemoryKeepsItsPagesImage) {
    source_.put("pagemap-shmem-9.img", "shared");
    source_.put("pages-1.img", "");
    source_.put("pages-5.img", "shared memory");
    store({example(100, 2)});
    write(Kind::copy);
    EXPECT_EQ(out_.get("pages-5.img"), "shared memory");
    EXPECT_EQ(out_.pagemap(100).pages_id, 6U);
    EXPECT_EQ(out_.memory(100), without_zeros(example().memory));
}

TEST_F(EngineImages, OptionsReachTheImages) {
    store({example()});
    write(Kind::copy, {.restrict_capabilities = true, .volatile_directories = {"/bin/"}});
    EXPECT_NE(out_.get("core-100.img"), source_.get("core-100.img"));
    const auto files =
        must(criu::parse_entries(out_.get("files.img"), "files.img", criu::magic::files));
    EXPECT_FALSE(must(criu::parse_message<image::File>(files.at(0), "files.img")).reg().has_size());
    EXPECT_TRUE(must(criu::parse_message<image::File>(files.at(1), "files.img")).reg().has_size());
}

TEST_F(EngineImages, RunsOutsideTheirAreasAreRefused) {
    for (const uint64_t first : {uint64_t{58}, uint64_t{66}, uint64_t{300}}) {
        ImageDirectory fresh;
        store({example()});
        std::swap(out_, fresh);
        auto* process = tmpl_.manifest.mutable_processes(0);
        process->clear_runs();
        process->clear_present();
        auto* run = process->add_runs();
        run->set_vaddr(at(first));
        run->set_pages(10);
        EXPECT_THAT(error_of(write_images(Kind::mapped, tmpl_, out_.fd(), {})),
                    HasSubstr("mm-100.img: run at"))
            << first;
        tmpl_.manifest.Clear();
    }
}

TEST_F(EngineImages, DirectoriesInUseAreNotOverwritten) {
    store({example()});
    write(Kind::copy);
    EXPECT_FALSE(write_images(Kind::copy, tmpl_, out_.fd(), {}));
}

}  // namespace
}  // namespace memplate::engine
