// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "image_fixture.h"

namespace memplate::criu {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CriuImages, EntriesAreFramedAsCriuDoes) {
    EXPECT_EQ(format_entries({"ab", ""}, magic::core),
              std::string("\x19\x43\x56\x54\x47\x38\x05\x55\2\0\0\0ab\0\0\0\0", 18));
    // The inventory alone has no common magic in front.
    EXPECT_EQ(format_entries({"c"}, magic::inventory), std::string("\x16\x31\x31\x58\1\0\0\0c", 9));
}

TEST(CriuImages, EntriesRoundTrip) {
    const std::vector<std::string> entries{"first", "", std::string(70000, 'x')};
    for (const uint32_t kind : {magic::inventory, magic::process_tree, magic::core, magic::mm,
                                magic::pagemap, magic::files}) {
        EXPECT_EQ(must(parse_entries(format_entries(entries, kind), "x.img", kind)), entries);
        EXPECT_TRUE(must(parse_entries(format_entries({}, kind), "x.img", kind)).empty());
    }
}

TEST(CriuImages, EveryCutIsNoticed) {
    const std::string whole = format_entries({"first", "second"}, magic::mm);
    for (size_t length = 0; length < whole.size(); ++length) {
        const auto result = parse_entries(whole.substr(0, length), "mm-1.img", magic::mm);
        if (length == 8 || length == 17)  // between two entries: nothing tells
            EXPECT_TRUE(result) << length;
        else
            EXPECT_EQ(error_of(result), "mm-1.img: the image is cut short") << length;
    }
}

TEST(CriuImages, SizesBeyondTheImageAreRefused) {
    std::string bytes = format_entries({"abcd"}, magic::mm);
    bytes.replace(8, 4, "\xff\xff\xff\xff");
    EXPECT_THAT(error_of(parse_entries(bytes, "mm-1.img", magic::mm)), HasSubstr("cut short"));
}

TEST(CriuImages, WrongMagicIsRefused) {
    const std::string core = format_entries({"x"}, magic::core);
    EXPECT_EQ(error_of(parse_entries(core, "mm-1.img", magic::mm)),
              "mm-1.img: not the CRIU image its name says");
    EXPECT_EQ(error_of(parse_entries("GIF89a..", "mm-1.img", magic::mm)),
              "mm-1.img: not a CRIU image");
    EXPECT_EQ(error_of(parse_entries(core, "inventory.img", magic::inventory)),
              "inventory.img: not the CRIU image its name says");
}

TEST(CriuImages, UnknownFieldsSurvive) {
    image::Mm mm = TestProcess{.areas = {area(0, 1)}}.mm();
    add_unknown_field(mm, 17);
    add_unknown_field(*mm.mutable_vmas(0), 18);
    const auto again = must(parse_message<image::Mm>(mm.SerializeAsString(), "mm"));
    const auto twice = must(parse_message<image::Mm>(again.SerializeAsString(), "mm"));
    EXPECT_EQ(unknown_field(twice), 17U);
    EXPECT_EQ(unknown_field(twice.vmas(0)), 18U);
    EXPECT_EQ(twice.SerializeAsString(), mm.SerializeAsString());
}

TEST(CriuImages, MessagesWithoutRequiredFieldsAreRefused) {
    EXPECT_THAT(error_of(parse_message<image::Process>("", "pstree.img")),
                HasSubstr("pstree.img: not a valid"));
    EXPECT_FALSE(parse_message<image::Process>("\xff\xff\xff", "pstree.img"));
}

std::string pagemap_bytes(const std::vector<image::PagemapEntry>& entries) {
    image::PagemapHead head;
    head.set_pages_id(7);
    std::vector<std::string> all{head.SerializeAsString()};
    for (const auto& entry : entries) all.push_back(entry.SerializeAsString());
    return format_entries(all, magic::pagemap);
}

image::PagemapEntry pages_at(uint64_t vaddr, uint64_t pages, uint32_t flags) {
    image::PagemapEntry entry;
    entry.set_vaddr(vaddr);
    entry.set_compat_nr_pages(static_cast<uint32_t>(pages));
    entry.set_nr_pages(pages);
    entry.set_flags(flags);
    return entry;
}

TEST(CriuPagemap, RangesGetTheirPlaceInThePagesImage) {
    const auto pagemap = must(
        parse_pagemap(pagemap_bytes({pages_at(at(1), 2, pagemap_flag::present),
                                     pages_at(at(3), 3, pagemap_flag::present | pagemap_flag::lazy),
                                     pages_at(at(9), 1, pagemap_flag::present)}),
                      "pagemap-1.img"));
    EXPECT_EQ(pagemap.pages_id, 7U);
    ASSERT_EQ(pagemap.ranges.size(), 3U);
    EXPECT_EQ(pagemap.ranges[1].vaddr, at(3));
    EXPECT_EQ(pagemap.ranges[1].pages, 3U);
    EXPECT_EQ(pagemap.ranges[1].offset, 2 * page_size);
    EXPECT_EQ(pagemap.ranges[2].offset, 5 * page_size);
    EXPECT_FALSE(pagemap.ranges[0].lazy);
    EXPECT_TRUE(pagemap.ranges[1].lazy);
}

TEST(CriuPagemap, FormatRoundTrips) {
    Pagemap pagemap{3, {{at(0), 5, 0, true}, {at(7), 1, 5 * page_size, false}}};
    const auto again = must(parse_pagemap(format_pagemap(pagemap), "pagemap-1.img"));
    EXPECT_EQ(again.pages_id, 3U);
    ASSERT_EQ(again.ranges.size(), 2U);
    for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(again.ranges[i].vaddr, pagemap.ranges[i].vaddr);
        EXPECT_EQ(again.ranges[i].pages, pagemap.ranges[i].pages);
        EXPECT_EQ(again.ranges[i].offset, pagemap.ranges[i].offset);
        EXPECT_EQ(again.ranges[i].lazy, pagemap.ranges[i].lazy);
    }
    // Readers of before CRIU 4.0 look at the old count, and every CRIU at the flags.
    const auto entries = must(parse_entries(format_pagemap(pagemap), "x", magic::pagemap));
    const auto first = must(parse_message<image::PagemapEntry>(entries.at(1), "x"));
    EXPECT_EQ(first.compat_nr_pages(), 5U);
    EXPECT_EQ(first.flags(), pagemap_flag::present | pagemap_flag::lazy);
}

TEST(CriuPagemap, OldCountIsUnderstood) {
    image::PagemapEntry entry;
    entry.set_vaddr(at(0));
    entry.set_compat_nr_pages(4);
    const auto pagemap = must(parse_pagemap(pagemap_bytes({entry}), "pagemap-1.img"));
    EXPECT_EQ(pagemap.ranges.at(0).pages, 4U);
    entry.set_nr_pages(6);
    EXPECT_EQ(must(parse_pagemap(pagemap_bytes({entry}), "x")).ranges.at(0).pages, 6U);
}

TEST(CriuPagemap, IncrementalImagesAreRefused) {
    auto entry = pages_at(at(0), 1, pagemap_flag::present);
    entry.set_in_parent(true);
    EXPECT_THAT(error_of(parse_pagemap(pagemap_bytes({entry}), "pagemap-1.img")),
                HasSubstr("pagemap-1.img: incremental image"));
    EXPECT_THAT(
        error_of(parse_pagemap(pagemap_bytes({pages_at(at(0), 1, pagemap_flag::in_parent)}), "x")),
        HasSubstr("incremental image"));
}

TEST(CriuPagemap, PagesLeftWithTheProcessAreRefused) {
    EXPECT_THAT(
        error_of(parse_pagemap(pagemap_bytes({pages_at(at(0), 1, pagemap_flag::lazy)}), "x")),
        HasSubstr("--lazy-pages"));
}

TEST(CriuPagemap, MisplacedPagesAreRefused) {
    constexpr uint32_t present = pagemap_flag::present;
    constexpr uint64_t top = uint64_t{1} << 56;
    const std::vector<std::vector<image::PagemapEntry>> cases{
        {pages_at(at(0), 0, present)},                               // no page
        {pages_at(at(0) + 1, 1, present)},                           // not a page's address
        {pages_at(at(5), 2, present), pages_at(at(6), 1, present)},  // overlapping
        {pages_at(at(5), 1, present), pages_at(at(2), 1, present)},  // out of order
        {pages_at(top, 1, present)},                                 // no user address
        {pages_at(top - page_size, 2, present)},                     // ends at none
        {pages_at(0, UINT64_MAX, present)},
        {pages_at(at(0), UINT64_MAX / page_size + 2, present)},  // wraps around
        {pages_at(UINT64_MAX - page_size + 1, 1, present)},
    };
    for (size_t i = 0; i < cases.size(); ++i)
        EXPECT_THAT(error_of(parse_pagemap(pagemap_bytes(cases[i]), "pagemap-1.img")),
                    HasSubstr("are misplaced"))
            << "case " << i;
    EXPECT_TRUE(parse_pagemap(pagemap_bytes({pages_at(top - page_size, 1, present)}), "x"));
}

TEST(CriuPagemap, BrokenMessagesAreRefused) {
    EXPECT_THAT(error_of(parse_pagemap(format_entries({}, magic::pagemap), "x")),
                HasSubstr("empty"));
    EXPECT_THAT(error_of(parse_pagemap(format_entries({"\xff"}, magic::pagemap), "x")),
                HasSubstr("not a valid"));
    image::PagemapHead head;
    head.set_pages_id(1);
    const std::string good = head.SerializeAsString();
    EXPECT_FALSE(parse_pagemap(format_entries({good, "\xff"}, magic::pagemap), "x"));
    EXPECT_FALSE(parse_pagemap(format_entries({good, ""}, magic::pagemap), "x"));
}

TEST(CriuPagemap, PrivatePagemapsAreKnownByName) {
    EXPECT_TRUE(is_private_pagemap("pagemap-1.img"));
    EXPECT_TRUE(is_private_pagemap("pagemap-4194304.img"));
    for (const char* name : {"pagemap-shmem-1.img", "pagemap-.img", "pagemap-1", "pagemap-1x.img",
                             "pages-1.img", "xpagemap-1.img", "pagemap-1.img.old", "pagemap-", ""})
        EXPECT_FALSE(is_private_pagemap(name)) << name;
}

TestProcess root_process() {
    TestProcess process;
    process.areas = {area(0, 8), area(8, 4), file_area(20, 4, 1, 2)};
    process.fill(2, 3, 'a');
    process.fill(6, 5, 'b');  // from the first area into the second
    process.fill(21, 1, 'c');
    return process;
}

TEST(CriuImageSet, LoadsADirectory) {
    ImageDirectory directory;
    TestProcess child{.pid = 101, .parent = 100, .comm = "child", .areas = {area(0, 2)}};
    child.pages_id = 2;
    const TestProcess zombie{.pid = 102, .parent = 100, .task_state = 2, .comm = "gone"};
    directory.fill({root_process(), child, zombie});
    const auto set = must(directory.load());
    ASSERT_EQ(set.processes.size(), 3U);
    EXPECT_EQ(set.processes[0].process.pid(), 100U);
    EXPECT_EQ(set.processes[0].comm, "function");
    EXPECT_EQ(set.processes[0].mm.vmas_size(), 3);
    ASSERT_EQ(set.processes[0].pagemap.ranges.size(), 3U);
    EXPECT_EQ(set.processes[0].pagemap.ranges[2].offset, 8 * page_size);
    EXPECT_EQ(set.processes[1].comm, "child");
    EXPECT_TRUE(set.processes[1].pagemap.ranges.empty());
    EXPECT_EQ(set.processes[2].comm, "gone");
    EXPECT_EQ(set.processes[2].mm.vmas_size(), 0);
    EXPECT_TRUE(std::ranges::is_sorted(set.names));
    EXPECT_TRUE(std::ranges::binary_search(set.names, "pages-1.img"));

    EXPECT_EQ(set.file_name(set.processes[0].mm.vmas(2)), "/bin/function");
    EXPECT_EQ(set.file_name(set.processes[0].mm.vmas(0)), "");
    ASSERT_NE(set.file(1), nullptr);
    EXPECT_EQ(set.file(2), nullptr);
}

TEST(CriuImageSet, StoppedTasksHaveMemoryZombiesHaveNone) {
    ImageDirectory directory;
    TestProcess process = root_process();
    process.task_state = 3;  // stopped
    directory.fill({process});
    EXPECT_EQ(must(directory.load()).processes.at(0).pagemap.ranges.size(), 3U);
    for (const uint32_t state : {2U, 6U}) {
        process.task_state = state;
        process.areas.clear();
        ImageDirectory zombies;
        zombies.fill({process});
        EXPECT_EQ(error_of(zombies.load()), "no error") << state;
    }
}

TEST(CriuImageSet, MissingImagesAreNamed) {
    for (const char* name : {"inventory.img", "files.img", "pstree.img", "core-100.img",
                             "mm-100.img", "pagemap-100.img"}) {
        ImageDirectory directory;
        directory.fill({root_process()});
        EXPECT_EQ(error_of(directory.load()), "no error");
        directory.remove(name);
        EXPECT_THAT(error_of(directory.load()), HasSubstr(name));
    }
}

TEST(CriuImageSet, BrokenImagesAreNamed) {
    for (const char* name : {"inventory.img", "files.img", "pstree.img", "core-100.img",
                             "mm-100.img", "pagemap-100.img"}) {
        ImageDirectory directory;
        directory.fill({root_process()});
        const std::string bytes = directory.get(name);
        directory.put(name, std::string_view(bytes).substr(0, bytes.size() - 1));
        EXPECT_EQ(error_of(directory.load()), std::string(name) + ": the image is cut short");
        directory.put(name, "something else altogether");
        EXPECT_THAT(error_of(directory.load()), HasSubstr(name));
    }
}

TEST(CriuImageSet, EmptyImagesAreRefused) {
    const std::vector<std::pair<std::string, uint32_t>> cases{{"inventory.img", magic::inventory},
                                                              {"pstree.img", magic::process_tree},
                                                              {"core-100.img", magic::core},
                                                              {"mm-100.img", magic::mm}};
    for (const auto& [name, kind] : cases) {
        ImageDirectory directory;
        directory.fill({root_process()});
        directory.put(name, format_entries({}, kind));
        EXPECT_THAT(error_of(directory.load()), HasSubstr(name));
    }
}

TEST(CriuImageSet, UnknownImageVersionsAreRefused) {
    ImageDirectory directory;
    directory.fill({root_process()});
    directory.put_inventory(1);
    EXPECT_TRUE(directory.load());
    directory.put_inventory(3);
    EXPECT_EQ(error_of(directory.load()), "inventory.img: image version 3 is not known");
}

TEST(CriuImageSet, MisplacedAreasAreRefused) {
    const std::vector<std::function<void(image::Mm&)>> cases{
        [](image::Mm& mm) { mm.mutable_vmas(0)->set_start(at(0) + 1); },
        [](image::Mm& mm) { mm.mutable_vmas(0)->set_end(at(8) - 1); },
        [](image::Mm& mm) { mm.mutable_vmas(1)->set_end(at(8)); },    // empty
        [](image::Mm& mm) { mm.mutable_vmas(1)->set_end(at(7)); },    // ends before it starts
        [](image::Mm& mm) { mm.mutable_vmas(1)->set_start(at(7)); },  // overlaps the first
        [](image::Mm& mm) { mm.mutable_vmas()->SwapElements(0, 2); },
    };
    for (size_t i = 0; i < cases.size(); ++i) {
        ImageDirectory directory;
        directory.fill({root_process()});
        image::Mm mm = root_process().mm();
        cases[i](mm);
        directory.put_message("mm-100.img", mm, magic::mm);
        EXPECT_THAT(error_of(directory.load()), HasSubstr("is misplaced")) << "case " << i;
    }
}

TEST(CriuImageSet, PagesOutsideOfAreasAreRefused) {
    for (const uint64_t stray : {uint64_t{12}, uint64_t{19}, uint64_t{24}, uint64_t{100}}) {
        ImageDirectory directory;
        TestProcess process = root_process();
        process.fill(stray, 1, 'x');
        directory.fill({process});
        EXPECT_THAT(error_of(directory.load()),
                    HasSubstr(fmt::format("page {:#x} belongs to no memory area", at(stray))));
    }
    // A range that begins inside an area and runs out of it.
    ImageDirectory directory;
    TestProcess process = root_process();
    process.fill(11, 2, 'x');
    directory.fill({process});
    EXPECT_THAT(error_of(directory.load()), HasSubstr(fmt::format("page {:#x}", at(12))));
}

}  // namespace
}  // namespace memplate::criu
