// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "image_fixture.h"
#include "template/template.h"

namespace memplate {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr uint64_t pool_pages = 40;

template <class Stretches>
void add_stretch(Stretches* stretches, uint64_t first, uint64_t pages) {
    auto* stretch = stretches->Add();
    stretch->set_vaddr(at(first));
    stretch->set_pages(pages);
}

void add_run(proto::ProcessPages& process, uint64_t first, uint64_t pages, uint64_t page,
             proto::Placement placement = proto::PLACEMENT_SHARED) {
    auto* run = process.add_runs();
    run->set_vaddr(at(first));
    run->set_pages(pages);
    run->set_page(page);
    run->set_placement(placement);
}

proto::Manifest good_manifest() {
    proto::Manifest manifest;
    manifest.set_version(manifest_version);
    auto* process = manifest.add_processes();
    process->set_pid(100);
    process->set_zero_pages(9);
    add_run(*process, 16, 8, 2);
    add_run(*process, 30, 10, 10, proto::PLACEMENT_GROWSDOWN);
    add_stretch(process->mutable_present(), 16, 3);
    add_stretch(process->mutable_present(), 22, 2);
    add_stretch(process->mutable_present(), 30, 10);
    auto* image = manifest.add_images();
    image->set_name("core-100.img");
    image->set_bytes(5000);
    image->set_page(38);
    return manifest;
}

Result<> check(const proto::Manifest& manifest) {
    return validate(manifest, PageSource{-1, 0, pool_pages});
}

TEST(TemplateManifest, GoodOneIsAccepted) {
    EXPECT_EQ(error_of(check(good_manifest())), "no error");
    auto manifest = good_manifest();
    manifest.mutable_images(0)->set_page(39);
    manifest.mutable_images(0)->set_bytes(page_size);  // the very last page
    EXPECT_TRUE(check(manifest));
    manifest.mutable_images(0)->set_page(pool_pages);
    manifest.mutable_images(0)->set_bytes(0);
    EXPECT_TRUE(check(manifest));
}

TEST(TemplateManifest, DamageIsRefused) {
    struct Case {
        const char* message;
        std::function<void(proto::Manifest&, proto::ProcessPages&, proto::Run&, proto::Stretch&,
                           proto::Image&)>
            damage;
    };
    const uint64_t huge = UINT64_MAX / page_size;
#define DAMAGE                                                                             \
    [=]([[maybe_unused]] proto::Manifest & manifest,                                       \
        [[maybe_unused]] proto::ProcessPages & process, [[maybe_unused]] proto::Run & run, \
        [[maybe_unused]] proto::Stretch & stretch, [[maybe_unused]] proto::Image & image)
    const std::vector<Case> cases{{"version 0", DAMAGE{manifest.set_version(0);
}
}  // namespace
, {"version 2", DAMAGE{manifest.set_version(manifest_version + 1);
}  // namespace memplate
}
, {"no process", DAMAGE{manifest.clear_processes();
}
}
, {"run at", DAMAGE{run.set_vaddr(at(16) + 1);
}
}
, {"run at", DAMAGE{run.set_pages(0);
}
}
, {"run at", DAMAGE{run.set_pages(huge);
}
}
, {"run at", DAMAGE{run.set_vaddr(UINT64_MAX - page_size + 1);
}
}
, {"run at", DAMAGE{process.mutable_runs(1)->set_vaddr(at(23));
}
}
, {"run at", DAMAGE{process.mutable_runs()->SwapElements(0, 1);
}
}
, {"outside the pool", DAMAGE{run.set_page(pool_pages - 7);
}
}
, {"outside the pool", DAMAGE{run.set_page(pool_pages + 1);
}
}
, {"outside the pool", DAMAGE{run.set_page(UINT64_MAX);
}
}
, {"pages at", DAMAGE{stretch.set_vaddr(at(16) + 8);
}
}
, {"pages at", DAMAGE{stretch.set_pages(0);
}
}
, {"pages at", DAMAGE{stretch.set_pages(huge);
}
}
, {"pages at", DAMAGE{process.mutable_present(1)->set_vaddr(at(18));
}
}
, {"pages at", DAMAGE{process.mutable_present()->SwapElements(0, 1);
}
}
, {"are in no run", DAMAGE{stretch.set_vaddr(at(15));
}
}
, {"are in no run", DAMAGE{process.mutable_present(1)->set_pages(3);
}
}
, {"are in no run", DAMAGE{add_stretch(process.mutable_present(), 50, 1);
}
}
, {"are in no run", DAMAGE{process.clear_runs();
}
}
, {"impossible name", DAMAGE{image.set_name("");
}
}
, {"impossible name", DAMAGE{image.set_name("../../etc/passwd");
}
}
, {"impossible name", DAMAGE{image.set_name("a/b.img");
}
}
, {"impossible name", DAMAGE{image.set_name("..");
}
}
, {"impossible name", DAMAGE{image.set_name(std::string(129, 'a'));
}
}
, {"outside the pool", DAMAGE{image.set_bytes(2 * page_size + 1);
}
}
, {"outside the pool", DAMAGE{image.set_bytes(UINT64_MAX);
}
}
, {"outside the pool", DAMAGE{image.set_page(39);
}
}
, {"outside the pool", DAMAGE{image.set_page(UINT64_MAX);
}
}
,
}
;
#undef DAMAGE
for (size_t i = 0; i < cases.size(); ++i) {
    auto manifest = good_manifest();
    auto& process = *manifest.mutable_processes(0);
    cases[i].damage(manifest, process, *process.mutable_runs(0), *process.mutable_present(0),
                    *manifest.mutable_images(0));
    EXPECT_THAT(error_of(check(manifest)), HasSubstr(cases[i].message)) << "case " << i;
}
}

TEST(TemplateManifest, DeviceMemoryIsBounded) {
    auto manifest = good_manifest();
    auto* need = manifest.mutable_gpu()->add_processes()->add_needs();
    need->set_bytes(uint64_t{1} << 44);
    EXPECT_TRUE(check(manifest));
    need->set_bytes((uint64_t{1} << 44) + 1);
    EXPECT_THAT(error_of(check(manifest)), HasSubstr("on a GPU"));
}

TEST(TemplateManifest, EveryProcessIsChecked) {
    auto manifest = good_manifest();
    *manifest.add_processes() = manifest.processes(0);
    EXPECT_TRUE(check(manifest));
    manifest.mutable_processes(1)->mutable_runs(0)->set_page(1000);
    EXPECT_FALSE(check(manifest));
}

TEST(TemplateManifest, ProfilesAreChecked) {
    proto::Profile good;
    good.set_version(profile_version);
    auto* process = good.add_processes();
    add_stretch(process->mutable_written(), 3, 2);
    add_stretch(process->mutable_written(), 5, 2);
    add_stretch(process->mutable_read(), 1, 1);
    EXPECT_EQ(error_of(validate(good)), "no error");

    const std::vector<std::function<void(proto::Profile&)>> damages{
        [](auto& p) { p.set_version(profile_version + 1); },
        [](auto& p) { p.mutable_processes(0)->mutable_written()->SwapElements(0, 1); },
        [](auto& p) { p.mutable_processes(0)->mutable_written(0)->set_pages(3); },
        [](auto& p) { p.mutable_processes(0)->mutable_written(0)->set_vaddr(1); },
        [](auto& p) { p.mutable_processes(0)->mutable_read(0)->set_pages(0); },
        [](auto& p) { p.mutable_processes(0)->mutable_read(0)->set_pages(UINT64_MAX); },
    };
    for (size_t i = 0; i < damages.size(); ++i) {
        auto profile = good;
        damages[i](profile);
        EXPECT_FALSE(validate(profile)) << "case " << i;
    }
}

TEST(TemplateManifest, PagesWithinARun) {
    proto::ProcessPages process;
    add_run(process, 10, 10, 0);
    const auto within = [&](const std::vector<std::pair<uint64_t, uint64_t>>& stretches) {
        proto::ProcessPages other;
        for (const auto& [first, pages] : stretches)
            add_stretch(other.mutable_present(), first, pages);
        return pages_within(process.runs(0), other.present());
    };
    EXPECT_EQ(within({}), 0U);
    EXPECT_EQ(within({{0, 10}}), 0U);   // ends where the run begins
    EXPECT_EQ(within({{20, 10}}), 0U);  // begins where it ends
    EXPECT_EQ(within({{10, 10}}), 10U);
    EXPECT_EQ(within({{0, 100}}), 10U);
    EXPECT_EQ(within({{0, 11}, {12, 2}, {19, 5}}), 4U);
    EXPECT_EQ(within({{0, 1}, {2, 1}, {4, 1}, {15, 1}, {40, 1}}), 1U);
}

TEST(TemplateManifest, RunsWrittenByThreeQuartersAreNotMapped) {
    proto::ProcessPages process;
    add_run(process, 0, 8, 0);
    EXPECT_TRUE(run_is_mapped(process.runs(0), 0));
    EXPECT_TRUE(run_is_mapped(process.runs(0), 5));
    EXPECT_FALSE(run_is_mapped(process.runs(0), 6));
    process.mutable_runs(0)->set_placement(proto::PLACEMENT_SMALL);
    EXPECT_FALSE(run_is_mapped(process.runs(0), 0));
}

Template with_manifest() {
    Template tmpl;
    tmpl.manifest = good_manifest();
    return tmpl;
}

void learn_written(Template& tmpl, uint64_t first, uint64_t pages) {
    if (!tmpl.profile) tmpl.profile.emplace();
    if (tmpl.profile->processes().empty()) tmpl.profile->add_processes()->set_pid(100);
    add_stretch(tmpl.profile->mutable_processes(0)->mutable_written(), first, pages);
}

TEST(TemplateManifest, CountsPagesByTheirWay) {
    Template tmpl = with_manifest();
    auto counts = count_pages(tmpl);
    EXPECT_EQ(counts.stored, 15U);
    EXPECT_EQ(counts.shared, 5U);
    EXPECT_EQ(counts.precopied, 0U);
    EXPECT_EQ(counts.copied, 10U);
    EXPECT_EQ(counts.zero, 9U);
    EXPECT_EQ(counts.holes, 3U);

    learn_written(tmpl, 17, 2);
    counts = count_pages(tmpl);
    EXPECT_EQ(counts.shared, 3U);
    EXPECT_EQ(counts.precopied, 2U);
    EXPECT_EQ(counts.copied, 10U);
}

TEST(TemplateManifest, WritesIntoHolesAreNoPagesOfTheTemplate) {
    // All of the run is written, but only five of its eight pages are of the template.
    Template tmpl = with_manifest();
    learn_written(tmpl, 16, 8);
    const auto counts = count_pages(tmpl);
    EXPECT_EQ(counts.shared, 0U);
    EXPECT_EQ(counts.precopied, 5U);
    EXPECT_EQ(counts.copied, 10U);
    EXPECT_EQ(counts.stored, 15U);
}

TEST(TemplateManifest, ProfilesBelongToTheirProcess) {
    Template tmpl = with_manifest();
    EXPECT_EQ(tmpl.profile_of(100), nullptr);
    learn_written(tmpl, 16, 1);
    ASSERT_NE(tmpl.profile_of(100), nullptr);
    EXPECT_EQ(tmpl.profile_of(100)->written_size(), 1);
    EXPECT_EQ(tmpl.profile_of(101), nullptr);
}

TEST(TemplateManifest, OnlyHazardsOfTheWholeProcessBlock) {
    Template tmpl = with_manifest();
    EXPECT_EQ(tmpl.blocking_hazard(), nullptr);
    tmpl.manifest.add_hazards()->set_evidence("an area");
    EXPECT_EQ(tmpl.blocking_hazard(), nullptr);
    auto* hazard = tmpl.manifest.add_hazards();
    hazard->set_evidence("an allocator");
    hazard->set_whole_process(true);
    ASSERT_NE(tmpl.blocking_hazard(), nullptr);
    EXPECT_EQ(tmpl.blocking_hazard()->evidence(), "an allocator");
}

}  // namespace
}  // namespace memplate
