// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>

#include "engine/image_writer.h"
#include "image_fixture.h"

namespace memplate::engine {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Template with_hazard(bool whole_process) {
    Template tmpl;
    tmpl.record.name = "python";
    auto* hazard = tmpl.manifest.add_hazards();
    hazard->set_evidence("libjemalloc.so.2 is loaded");
    hazard->set_whole_process(whole_process);
    return tmpl;
}

Template not_mappable() {
    Template tmpl;
    tmpl.record.name = "python";
    tmpl.pages.not_mappable = "the pool is on a device";
    return tmpl;
}

const Result<> usable;

Result<> unusable() {
    return fail(ErrorKind::unsupported, "pseudo_mm: the module is not loaded");
}

TEST(EngineChoice, NamesAreParsed) {
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::mapped, Kind::attached})
        EXPECT_EQ(must(parse_kind(name_of(kind))), kind);
    EXPECT_EQ(must(parse_kind("auto")), std::nullopt);
    for (const char* text : {"", "Copy", "mapped ", "attach"}) {
        const auto kind = parse_kind(text);
        ASSERT_FALSE(kind) << text;
        EXPECT_EQ(kind.error().kind, ErrorKind::usage);
        EXPECT_THAT(kind.error().message, HasSubstr("use auto, attached, copy, lazy or mapped"));
    }
}

TEST(EngineChoice, AutoAttachesWhereItCan) {
    for (const Template& tmpl : {Template{}, with_hazard(true), not_mappable()}) {
        const Choice choice = must(choose(tmpl, std::nullopt, usable));
        EXPECT_EQ(choice.kind, Kind::attached);
        EXPECT_THAT(choice.warnings, IsEmpty());
    }
}

TEST(EngineChoice, AutoMapsUnlessAHazardRulesItOut) {
    const auto automatic = [](const Template& tmpl) {
        return must(choose(tmpl, std::nullopt, unusable()));
    };
    EXPECT_EQ(automatic(Template{}).kind, Kind::mapped);
    EXPECT_EQ(automatic(with_hazard(false)).kind, Kind::mapped);
    const Choice choice = automatic(with_hazard(true));
    EXPECT_EQ(choice.kind, Kind::copy);
    EXPECT_THAT(choice.reason, HasSubstr("libjemalloc.so.2 is loaded"));
    EXPECT_THAT(choice.warnings, IsEmpty());
}

TEST(EngineChoice, AutoCopiesFromAPoolThatCannotBeMapped) {
    const Choice choice = must(choose(not_mappable(), std::nullopt, unusable()));
    EXPECT_EQ(choice.kind, Kind::copy);
    EXPECT_EQ(choice.reason, "the pool is on a device; pseudo_mm: the module is not loaded");
}

TEST(EngineChoice, RequestsAreFollowedWithAWarningWhereDangerous) {
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::mapped, Kind::attached}) {
        const Choice plain = must(choose(Template{}, kind, usable));
        EXPECT_EQ(plain.kind, kind);
        EXPECT_THAT(plain.warnings, IsEmpty());
        const Choice dangerous = must(choose(with_hazard(true), kind, usable));
        EXPECT_EQ(dangerous.kind, kind);
        if (kind == Kind::mapped)
            EXPECT_THAT(dangerous.warnings, ElementsAre(HasSubstr("template python: engine mapped "
                                                                  "may corrupt memory")));
        else
            EXPECT_THAT(dangerous.warnings, IsEmpty());
    }
}

TEST(EngineChoice, RequestsThatCannotBeFollowedAreRefused) {
    const auto without_module = choose(Template{}, Kind::attached, unusable());
    ASSERT_FALSE(without_module);
    EXPECT_EQ(without_module.error().kind, ErrorKind::unsupported);
    EXPECT_EQ(without_module.error().message, "pseudo_mm: the module is not loaded");

    const auto mapped = choose(not_mappable(), Kind::mapped, usable);
    ASSERT_FALSE(mapped);
    EXPECT_EQ(mapped.error().kind, ErrorKind::unsupported);
    EXPECT_EQ(mapped.error().message,
              "template python: engine mapped is not possible: the pool is on a device; use "
              "attached or copy");
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::attached})
        EXPECT_EQ(must(choose(not_mappable(), kind, usable)).kind, kind);
}

image::Core core_of(const std::string& bytes) {
    const auto entries = must(criu::parse_entries(bytes, "core-100.img", criu::magic::core));
    return must(criu::parse_message<image::Core>(entries.at(0), "core-100.img"));
}

std::string core_bytes(const image::Core& core) {
    return criu::format_entries({core.SerializeAsString()}, criu::magic::core);
}

TEST(EngineCapabilities, AreCutDownToTheContainerDefault) {
    auto core = TestProcess().core();
    core.mutable_thread_core()->mutable_creds()->add_cap_eff(0xffffffff);  // of a later kernel
    const auto cut = core_of(must(restrict_capabilities("core-100.img", core_bytes(core))));
    const auto& creds = cut.thread_core().creds();
    const auto has = [](const auto& words, int capability) {
        return (words[capability / 32] >> (capability % 32) & 1) != 0;
    };
    for (const auto* words :
         {&creds.cap_inh(), &creds.cap_prm(), &creds.cap_eff(), &creds.cap_bnd()}) {
        for (const int kept : {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETUID, CAP_SETGID,
                               CAP_NET_BIND_SERVICE, CAP_SETFCAP})
            EXPECT_TRUE(has(*words, kept)) << kept;
        for (const int lost :
             {CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_BPF,
              CAP_CHECKPOINT_RESTORE, CAP_SYSLOG, CAP_DAC_READ_SEARCH})
            EXPECT_FALSE(has(*words, lost)) << lost;
    }
    EXPECT_EQ(creds.cap_eff(2), 0U);
}

TEST(EngineCapabilities, AreNotGainedAndNothingElseChanges) {
    auto core = TestProcess().core();
    auto* creds = core.mutable_thread_core()->mutable_creds();
    for (auto* words : {creds->mutable_cap_inh(), creds->mutable_cap_prm(),
                        creds->mutable_cap_eff(), creds->mutable_cap_bnd()}) {
        words->Set(0, 1u << CAP_CHOWN);
        words->Set(1, 0);
    }
    add_unknown_field(core, 21);
    add_unknown_field(*creds, 22);
    const auto cut = must(restrict_capabilities("core-100.img", core_bytes(core)));
    EXPECT_EQ(cut, core_bytes(core));
    EXPECT_EQ(unknown_field(core_of(cut).thread_core().creds()), 22U);
}

TEST(EngineCapabilities, OtherImagesAreLeftAlone) {
    EXPECT_EQ(must(restrict_capabilities("mm-100.img", "whatever")), "whatever");
    EXPECT_FALSE(restrict_capabilities("core-100.img", "whatever"));
    image::Core bare;
    bare.set_mtype(1);
    EXPECT_EQ(must(restrict_capabilities("core-100.img", core_bytes(bare))), core_bytes(bare));
}

std::string files_bytes(const std::vector<image::File>& files) {
    std::vector<std::string> entries;
    for (const auto& file : files) entries.push_back(file.SerializeAsString());
    return criu::format_entries(entries, criu::magic::files);
}

std::vector<image::File> files_of(const std::string& bytes) {
    std::vector<image::File> files;
    for (const auto& entry : must(criu::parse_entries(bytes, "files.img", criu::magic::files)))
        files.push_back(must(criu::parse_message<image::File>(entry, "files.img")));
    return files;
}

TEST(EngineFiles, OnlyVolatileFilesLoseTheirSize) {
    auto odd = regular_file(3, "/run/memplate/output", 9);
    add_unknown_field(odd, 23);
    image::File socket;
    socket.set_type(2);
    socket.set_id(4);
    const std::string bytes = files_bytes({regular_file(1, "/bin/function", 4711),
                                           regular_file(2, "/run/memplate2/x", 8), odd, socket});
    EXPECT_EQ(must(rewrite_files(bytes, {}, {})), bytes);
    const auto files = files_of(must(rewrite_files(bytes, {"/run/memplate/"}, {})));
    ASSERT_EQ(files.size(), 4U);
    EXPECT_EQ(files[0].reg().size(), 4711U);
    EXPECT_EQ(files[1].reg().size(), 8U);
    EXPECT_FALSE(files[2].reg().has_size());
    EXPECT_EQ(files[2].reg().name(), "/run/memplate/output");
    EXPECT_EQ(unknown_field(files[2]), 23U);
    EXPECT_FALSE(files[3].has_reg());
}

TEST(EngineFiles, ExtraEntriesAreAppended) {
    const std::string bytes = files_bytes({regular_file(1, "/bin/function", 4711)});
    const auto files = files_of(must(rewrite_files(bytes, {}, {regular_file(9, "/pool", 1)})));
    ASSERT_EQ(files.size(), 2U);
    EXPECT_EQ(files[1].id(), 9U);
    EXPECT_EQ(error_of(rewrite_files(bytes, {}, {regular_file(1, "/pool", 1)})),
              "files.img: id 0x1 is taken");
    EXPECT_FALSE(rewrite_files("nothing", {}, {}));
}

TEST(EnginePagesId, IsAboveThoseOfKeptImages) {
    proto::Manifest manifest;
    EXPECT_EQ(first_free_pages_id(manifest), 1U);
    for (const char* name : {"pages-3.img", "pages-12.img", "pages-x.img", "pages-99", "mm-50.img"})
        manifest.add_images()->set_name(name);
    EXPECT_EQ(first_free_pages_id(manifest), 13U);
}

}  // namespace
}  // namespace memplate::engine
