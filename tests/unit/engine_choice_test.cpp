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

TEST(EngineChoice, NamesAreParsed) {
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::mapped})
        EXPECT_EQ(must(parse_kind(name_of(kind))), kind);
    EXPECT_EQ(must(parse_kind("auto")), std::nullopt);
    for (const char* text : {"", "Copy", "mapped ", "attached"}) {
        const auto kind = parse_kind(text);
        ASSERT_FALSE(kind) << text;
        EXPECT_EQ(kind.error().kind, ErrorKind::usage);
        EXPECT_THAT(kind.error().message, HasSubstr("use auto, copy, lazy or mapped"));
    }
}

TEST(EngineChoice, AutoMapsUnlessAHazardRulesItOut) {
    EXPECT_EQ(choose(Template{}, std::nullopt).kind, Kind::mapped);
    EXPECT_EQ(choose(with_hazard(false), std::nullopt).kind, Kind::mapped);
    const Choice choice = choose(with_hazard(true), std::nullopt);
    EXPECT_EQ(choice.kind, Kind::copy);
    EXPECT_THAT(choice.reason, HasSubstr("libjemalloc.so.2 is loaded"));
    EXPECT_THAT(choice.warnings, IsEmpty());
}

TEST(EngineChoice, RequestsAreFollowedWithAWarningWhereDangerous) {
    for (const Kind kind : {Kind::copy, Kind::lazy, Kind::mapped}) {
        EXPECT_EQ(choose(Template{}, kind).kind, kind);
        EXPECT_THAT(choose(Template{}, kind).warnings, IsEmpty());
        EXPECT_EQ(choose(with_hazard(true), kind).kind, kind);
    }
    EXPECT_THAT(choose(with_hazard(true), Kind::copy).warnings, IsEmpty());
    EXPECT_THAT(choose(with_hazard(true), Kind::lazy).warnings, IsEmpty());
    EXPECT_THAT(choose(with_hazard(true), Kind::mapped).warnings,
                ElementsAre(HasSubstr("template python: engine mapped may corrupt memory")));
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
