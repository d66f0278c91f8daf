// SPDX-License-Identifier: Apache-2.0
//
// Engine attached without the module: what it takes out of the images is exactly what its plan
// brings back, page by page, and what the module refuses stays with CRIU.
#include <linux/pseudo_mm.h>
#include <sys/mman.h>

#include "engine/attached.h"
#include "engine_fixture.h"

namespace memplate::engine {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t anonymous = status::regular | status::anon_private;
constexpr uint32_t private_anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int wipe_on_fork = 18;

class EngineAttached : public EngineFixture {
  protected:
    void write(Lazy lazy = Lazy::never) {
        EngineFixture::write(Kind::attached, {.lazy = lazy, .volatile_directories = {}});
        plan_ = must(read_plan(out_.path()));
    }

    /// "first page + pages: kind", in the order of the plan.
    std::vector<std::string> extents(uint32_t pid) {
        std::vector<std::string> result;
        for (const auto& process : plan_.processes()) {
            if (process.pid() != pid) continue;
            for (const auto& extent : process.extents()) {
                const char* kind = extent.kind() == proto::ATTACH_SHARED   ? "shared"
                                   : extent.kind() == proto::ATTACH_COPIED ? "copied"
                                                                           : "lazy";
                result.push_back(fmt::format("{}+{}: {}", (extent.vaddr() - at(0)) / page_size,
                                             extent.pages(), kind));
            }
        }
        return result;
    }

    /// What CRIU restores and the module adds, which must be different pages.
    Memory restored(uint32_t pid) {
        Memory result = out_.memory(pid);
        for (const auto& process : plan_.processes()) {
            if (process.pid() != pid) continue;
            for (const auto& extent : process.extents()) {
                for (uint64_t n = 0; n < extent.pages(); ++n) {
                    std::string page(page_size, 'x');
                    must(tmpl_.pages.read(extent.page() + n, writable_bytes_of(page)));
                    EXPECT_TRUE(result.emplace(extent.vaddr() + n * page_size, page).second);
                }
            }
        }
        return result;
    }

    std::string mapped_areas(uint32_t pid) {
        std::string result;
        const auto mm = out_.mm(pid);
        for (const auto& vma : mm.vmas()) {
            if (vma.shmid() < 0x7f000001) continue;
            EXPECT_EQ(vma.pgoff(), vma.start()) << "the module delivers by offset";
            result += fmt::format("{}+{} ", (vma.start() - at(0)) / page_size,
                                  (vma.end() - vma.start()) / page_size);
        }
        return result;
    }

    proto::AttachPlan plan_;
};

TEST_F(EngineAttached, WhatLeavesTheImagesComesBack) {
    store({example()});
    write();
    EXPECT_THAT(copied(100), ElementsAre(108, 109, 110, 111)) << "written pages of a file mapping";
    EXPECT_THAT(extents(100),
                ElementsAre("10+3: shared", "14+6: shared", "40+1: shared", "210+6: copied"));
    EXPECT_EQ(restored(100), without_zeros(example().memory));
    // CRIU builds the same areas.
    EXPECT_EQ(out_.get("mm-100.img"), source_.get("mm-100.img"));
    EXPECT_EQ(out_.get("files.img"), source_.get("files.img"));
}

TEST_F(EngineAttached, WhatTheModuleRefusesStaysWithCriu) {
    TestProcess process;
    const auto add = [&](uint64_t first, uint32_t state, uint32_t flags) {
        process.areas.push_back(area(first, 8, state, flags));
        process.fill(first, 2, 's');
    };
    add(0, anonymous, private_anonymous | MAP_LOCKED);
    add(10, anonymous, private_anonymous | MAP_HUGETLB);
    add(20, status::regular | status::vdso, private_anonymous);
    add(30, anonymous | status::vdso, private_anonymous);
    add(40, anonymous | status::vvar, private_anonymous);
    add(50, anonymous | status::aio_ring, private_anonymous);
    add(60, status::regular | status::anon_shared, MAP_SHARED | MAP_ANONYMOUS);
    add(70, status::regular | status::file_private, MAP_PRIVATE);
    add(80, anonymous, private_anonymous);
    store({process});
    write();
    EXPECT_THAT(extents(100), ElementsAre("80+2: shared"));
    EXPECT_EQ(copied(100).size(), 16U);
    EXPECT_EQ(restored(100), process.memory);
}

TEST_F(EngineAttached, NothingThatBarsMappingBarsFilling) {
    TestProcess process;
    for (uint64_t n = 0; n < 3; ++n) {
        process.areas.push_back(area(n * 32, 16));
        process.fill(n * 32, 8, static_cast<char>('a' + n));
    }
    process.areas[0].set_madv(1u << wipe_on_fork);
    process.areas[1].set_prot(PROT_NONE);
    fill({process});
    LayoutOptions layout;
    layout.unshared[100] = {{at(64), at(80), proto::PLACEMENT_DISCARDED}};
    store_filled(layout);
    write(Lazy::everything);
    EXPECT_THAT(extents(100), ElementsAre("0+8: shared", "32+8: shared", "64+8: shared"));
    EXPECT_THAT(copied(100), IsEmpty());
    EXPECT_EQ(restored(100), process.memory);
}

TEST_F(EngineAttached, PagesSeenWrittenAreCopied) {
    store({example()});
    learn_written(100, 12, 4);  // page 13 is a hole
    learn_read(100, 16, 1);
    write();
    EXPECT_THAT(extents(100), ElementsAre("10+2: shared", "12+1: copied", "14+2: copied",
                                          "16+4: shared", "40+1: shared", "210+6: copied"));
    EXPECT_EQ(restored(100), without_zeros(example().memory));
}

TEST_F(EngineAttached, SequenceAreasStayWithCriu) {
    fill({example()});
    auto core = example().core();
    core.mutable_thread_core()->mutable_rseq()->set_address(at(15) + 32);
    source_.put_message("core-100.img", core, criu::magic::core);
    store_filled();
    write();
    EXPECT_THAT(copied(100), ElementsAre(15, 108, 109, 110, 111));
    EXPECT_THAT(extents(100), ElementsAre("10+3: shared", "14+1: shared", "16+4: shared",
                                          "40+1: shared", "210+6: copied"));
    EXPECT_EQ(restored(100), without_zeros(example().memory));
}

TEST_F(EngineAttached, EveryProcessHasItsPart) {
    const TestProcess zombie{.pid = 102, .parent = 100, .task_state = 2};
    TestProcess files{.pid = 103, .parent = 100, .areas = {file_area(0, 4, 7, 0)}};
    files.pages_id = 3;
    files.fill(1, 1, 'f');
    store({example(), example(101, 2), zombie, files});
    write();
    std::vector<uint32_t> pids;
    for (const auto& process : plan_.processes()) {
        EXPECT_FALSE(process.mapped());
        pids.push_back(process.pid());
    }
    EXPECT_THAT(pids, ElementsAre(100, 101)) << "only those with something to fill";
    for (const uint32_t pid : {100U, 101U})
        EXPECT_EQ(restored(pid), without_zeros(example().memory));
    EXPECT_THAT(copied(103), ElementsAre(1));
    EXPECT_THAT(out_.names(), ::testing::Contains("core-102.img"));
}

class EngineAttachedLazy : public EngineAttached {
  protected:
    /// Two areas, one large enough to be worth a mapping.
    void SetUp() override {
        process_.areas = {area(0, 1000), area(2000, 300)};
        process_.fill(100, 500, 'a');
        process_.fill(2000, 200, 'b');
        store({process_});
    }
    TestProcess process_;
};

TEST_F(EngineAttachedLazy, UntouchedPagesComeLater) {
    learn_written(100, 100, 10);
    learn_read(100, 200, 50);
    write(Lazy::untouched);
    EXPECT_THAT(extents(100), ElementsAre("100+10: copied", "110+90: lazy", "200+50: shared",
                                          "250+350: lazy", "2000+200: shared"));
    EXPECT_EQ(mapped_areas(100), "100+500 ");
    EXPECT_EQ(restored(100), process_.memory);
    EXPECT_TRUE(plan_.processes(0).mapped());
    const auto files =
        must(criu::parse_entries(out_.get("files.img"), "files.img", criu::magic::files));
    const auto file = must(criu::parse_message<image::File>(files.back(), "files.img"));
    EXPECT_EQ(file.reg().name(), "/" + module_template_key(100));
    EXPECT_FALSE(file.reg().has_size());
}

TEST_F(EngineAttachedLazy, WithoutAProfileNothingIsUntouched) {
    write(Lazy::untouched);
    EXPECT_THAT(extents(100), ElementsAre("100+500: shared", "2000+200: shared"));
    EXPECT_EQ(mapped_areas(100), "");
}

TEST_F(EngineAttachedLazy, ToLearnEverythingComesLater) {
    learn_read(100, 200, 50);
    write(Lazy::everything);
    EXPECT_THAT(extents(100), ElementsAre("100+500: lazy", "2000+200: shared"));
    EXPECT_EQ(mapped_areas(100), "100+500 ");
    EXPECT_EQ(restored(100), process_.memory);
}

TEST_F(EngineAttachedLazy, HazardsRuleItOut) {
    auto* hazard = tmpl_.manifest.add_hazards();
    hazard->set_pid(100);
    hazard->set_kind(proto::HAZARD_ALLOCATOR);
    hazard->set_whole_process(true);
    write(Lazy::everything);
    EXPECT_EQ(mapped_areas(100), "");
    hazard->set_whole_process(false);
    hazard->set_kind(proto::HAZARD_UNTRACED);
    ImageDirectory fresh;
    std::swap(out_, fresh);
    write(Lazy::everything);
    EXPECT_EQ(mapped_areas(100), "");
    hazard->set_kind(proto::HAZARD_DISCARD);
    ImageDirectory again;
    std::swap(out_, again);
    write(Lazy::everything);
    EXPECT_EQ(mapped_areas(100), "100+500 ") << "the areas concerned have their own placement";
}

TEST_F(EngineAttachedLazy, RunsCutByDeduplicationMakeOneMapping) {
    auto* process = tmpl_.manifest.mutable_processes(0);
    const proto::Run whole = process->runs(0);
    const proto::Run other = process->runs(1);
    process->clear_runs();
    for (const auto& [first, pages] : {std::pair{0, 10}, {10, 300}, {310, 190}}) {
        auto* run = process->add_runs();
        *run = whole;
        run->set_vaddr(whole.vaddr() + static_cast<uint64_t>(first) * page_size);
        run->set_page(whole.page() + static_cast<uint64_t>(first));
        run->set_pages(static_cast<uint64_t>(pages));
    }
    process->mutable_runs(0)->set_placement(proto::PLACEMENT_SMALL);
    *process->add_runs() = other;
    write(Lazy::everything);
    EXPECT_THAT(extents(100),
                ElementsAre("100+10: lazy", "110+300: lazy", "410+190: lazy", "2000+200: shared"));
    EXPECT_EQ(mapped_areas(100), "100+500 ");
    EXPECT_EQ(restored(100), process_.memory);
}

TEST_F(EngineAttached, RunsOutsideTheirAreasAreRefused) {
    for (const uint64_t first : {uint64_t{58}, uint64_t{66}, uint64_t{300}}) {
        ImageDirectory fresh;
        std::swap(out_, fresh);
        store({example()});
        auto* process = tmpl_.manifest.mutable_processes(0);
        process->clear_runs();
        process->clear_present();
        auto* run = process->add_runs();
        run->set_vaddr(at(first));
        run->set_pages(10);
        EXPECT_THAT(error_of(write_images(Kind::attached, tmpl_, out_.fd(), {})),
                    HasSubstr("mm-100.img: run at"))
            << first;
        tmpl_.manifest.Clear();
    }
}

TEST_F(EngineAttached, DamagedPlansAreRefused) {
    store({example()});
    write();
    const auto refused = [&](const proto::AttachPlan& plan) {
        out_.put(attach_plan_file, plan.SerializeAsString());
        return error_of(read_plan(out_.path()));
    };
    auto plan = plan_;
    plan.set_version(attach_plan_version + 1);
    EXPECT_THAT(refused(plan), HasSubstr("attach.plan is damaged; remove the cache and run again"));
    plan = plan_;
    auto* extents = plan.mutable_processes(0)->mutable_extents();
    extents->SwapElements(0, 1);
    EXPECT_THAT(refused(plan), HasSubstr("damaged")) << "out of order";
    for (const auto& change :
         {std::function([](proto::AttachExtent& extent) { extent.set_pages(0); }),
          std::function([](proto::AttachExtent& extent) { extent.set_pages(UINT64_MAX); }),
          std::function([](proto::AttachExtent& extent) { extent.set_page(UINT64_MAX); }),
          std::function([](proto::AttachExtent& extent) { extent.set_vaddr(UINT64_MAX); })}) {
        plan = plan_;
        change(*plan.mutable_processes(0)->mutable_extents(3));
        EXPECT_THAT(refused(plan), HasSubstr("damaged"));
    }
    out_.put(attach_plan_file, "\xff");
    EXPECT_THAT(error_of(read_plan(out_.path())), HasSubstr("damaged"));
    out_.remove(attach_plan_file);
    EXPECT_THAT(error_of(read_plan(out_.path())), HasSubstr("attach.plan"));
}

}  // namespace
}  // namespace memplate::engine
