// SPDX-License-Identifier: Apache-2.0
//
// Pins, reclaiming and recycling of pages.
#include <sys/mman.h>

#include "pool_fixture.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::HasSubstr;

using PoolGc = PoolTest;

std::vector<std::byte> read(const Pool& pool, PageExtent extent) {
    std::vector<std::byte> data(extent.count * page_size);
    must(pool.read_pages(extent, data));
    return data;
}

TEST_F(PoolGc, GivesSpaceBack) {
    Pool pool = create(uint64_t{8} << 20);
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "stays", 10, 1);
    const uint64_t before = must(pool.info()).allocated_bytes;
    const TemplateRecord record = add_template(writer, "goes", 500, 2);
    EXPECT_GE(must(pool.info()).allocated_bytes, before + 500 * page_size);
    EXPECT_EQ(must(writer.gc()).freed_pages, 0U) << "nothing is retired yet";
    must(writer.remove("goes"));
    EXPECT_EQ(must(pool.info()).retired_pages, 1002U);
    EXPECT_FALSE(pool.find("goes").has_value());
    const auto report = must(writer.gc());
    EXPECT_EQ(report.freed_pages, 1002U);
    EXPECT_EQ(report.still_in_use_pages, 0U);
    EXPECT_LE(must(pool.info()).allocated_bytes, before);
    EXPECT_EQ(must(pool.info()).retired_pages, 0U);
    EXPECT_EQ(must(pool.info()).used_pages, 22U);
    EXPECT_EQ(must(writer.gc()).freed_pages, 0U);
    EXPECT_THAT(error_of(pool.pin(record)), HasSubstr("no longer in the pool"));
    EXPECT_THAT(error_of(pool.read_manifest(record)), HasSubstr("no longer in the pool"));
    EXPECT_TRUE(must(must(Pool::open(path_)).verify()).damages.empty());
}

TEST_F(PoolGc, GivesBackReplacedProfilesAndUnfinishedTemplates) {
    Pool pool = create(uint64_t{8} << 20);
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "one", 10, 1);
        must(writer.store_profile("one", std::string(100000, 'a')));
        must(writer.store_profile("one", std::string(5000, 'b')));
        must(writer.begin("unfinished", "default"));
        must(writer.write_pages(must(writer.reserve(500)).first, pattern(500, 1)));
    }
    const uint64_t before = must(pool.info()).allocated_bytes;
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_EQ(must(writer.gc()).freed_pages, pages_for(100000));
    EXPECT_LE(must(pool.info()).allocated_bytes, before - 500 * page_size);
    EXPECT_EQ(must(pool.read_profile(must(pool.find("one")))), std::string(5000, 'b'));
}

TEST_F(PoolGc, KeepsTheTemplateBeingWritten) {
    Pool pool = create(uint64_t{8} << 20);
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("one", "default"));
    const PageExtent extent = must(writer.reserve(5));
    must(writer.write_pages(extent.first, pattern(5, 4)));
    must(writer.gc());
    must(writer.commit("m", false));
    EXPECT_EQ(read(pool, extent), pattern(5, 4));
}

TEST_F(PoolGc, APinKeepsThePages) {
    Pool pool = create();
    const Pool reader = must(Pool::open(path_));
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_template(writer, "one", 10, 1);
    const PageExtent extent = pieces_of(path_, "one").front().extent;
    EXPECT_FALSE(must(pool.in_use(record)));
    {
        const TemplatePin pin = must(reader.pin(record));
        EXPECT_TRUE(must(pool.in_use(record)));
        must(writer.remove("one"));
        const auto report = must(writer.gc());
        EXPECT_EQ(report.freed_pages, 0U);
        EXPECT_EQ(report.still_in_use_pages, 22U);
        EXPECT_EQ(read(pool, extent), pattern(10, 1));
        // Nor is it handed out.
        add_template(writer, "two", 5, 2);
        add_template(writer, "three", 5, 3);
        EXPECT_EQ(read(pool, extent), pattern(10, 1));
        // A removed template that is not reclaimed yet can still be pinned.
        EXPECT_TRUE(pool.pin(record).has_value());
    }
    EXPECT_FALSE(must(pool.in_use(record)));
    EXPECT_EQ(must(writer.gc()).freed_pages, 22U);
    EXPECT_EQ(read(pool, extent), std::vector<std::byte>(10 * page_size));
    EXPECT_EQ(pool.templates().size(), 2U);
}

TEST_F(PoolGc, AMappingKeepsThePinAfterItsDescriptorIsClosed) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_template(writer, "one", 10, 1);
    const PageExtent extent = pieces_of(path_, "one").front().extent;
    void* map = nullptr;
    {
        const TemplatePin pin = must(pool.pin(record));
        map = ::mmap(nullptr, extent.count * page_size, PROT_READ, MAP_PRIVATE, pin.fd(),
                     static_cast<off_t>(pool.byte_offset(extent.first)));
        ASSERT_NE(map, MAP_FAILED);
    }
    EXPECT_TRUE(must(pool.in_use(record)));
    must(writer.remove("one"));
    EXPECT_EQ(must(writer.gc()).freed_pages, 0U);
    EXPECT_EQ(std::memcmp(map, pattern(10, 1).data(), 10 * page_size), 0);
    ASSERT_EQ(::munmap(map, extent.count * page_size), 0);
    EXPECT_FALSE(must(pool.in_use(record)));
    EXPECT_EQ(must(writer.gc()).freed_pages, 22U);
}

TEST_F(PoolGc, PinsAreOfOneTemplateEach) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord one = add_template(writer, "one", 1, 1);
    const TemplateRecord two = add_template(writer, "two", 1, 2);
    const TemplatePin first = must(pool.pin(one));
    const TemplatePin second = must(pool.pin(one));
    EXPECT_TRUE(must(pool.in_use(one)));
    EXPECT_FALSE(must(pool.in_use(two)));
    TemplateRecord forged = one;
    forged.id = 0;
    EXPECT_FALSE(pool.pin(forged).has_value());
    forged.id = UINT64_MAX;
    EXPECT_FALSE(pool.pin(forged).has_value());
    forged = two;
    forged.hash = one.hash;
    EXPECT_FALSE(pool.pin(forged).has_value()) << "another template than the record says";
}

TEST_F(PoolGc, APinThroughAnOldViewOfThePoolIsRefused) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_template(writer, "one", 1, 1);
    const Pool reader = must(Pool::open(path_));
    must(writer.remove("one"));
    must(writer.gc());
    EXPECT_TRUE(reader.find("one").has_value()) << "the view is old";
    EXPECT_THAT(error_of(reader.pin(record)), HasSubstr("no longer in the pool"));
}

TEST_F(PoolGc, RecycledPagesReadAsZero) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 20, 1);
    const PageExtent old = pieces_of(path_, "one").front().extent;
    must(writer.remove("one"));
    must(writer.gc());
    must(writer.begin("two", "default"));
    const PageExtent extent = must(writer.reserve(40));
    EXPECT_EQ(extent.first, old.first) << "recycled";
    EXPECT_EQ(read(pool, extent), std::vector<std::byte>(40 * page_size));
}

TEST_F(PoolGc, PagesOfTheGenerationBeforeAreNotTouched) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 1, 1);
    must(writer.store_profile("one", "old profile"));
    must(writer.store_profile("one", "new profile"));
    // Losing the newest catalogue now must bring back the old profile, whatever was reserved.
    must(writer.begin("two", "default"));
    for (int i = 0; i < 20; ++i)
        must(writer.write_pages(must(writer.reserve(1)).first, pattern(1, 9)));
    const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
    const Superblock newest = must(load_snapshot(*medium)).superblock;
    flip(newest.slot_offset[newest.slot] + 70);
    const Pool fallback = must(Pool::open(path_));
    EXPECT_EQ(must(fallback.read_profile(must(fallback.find("one")))), "old profile");
}

/// A file system without hole punching.
class NoHoles : public FileMedium {
  public:
    using FileMedium::FileMedium;
    Result<bool> punch(uint64_t /*offset*/, uint64_t /*length*/) override { return false; }
};

TEST_F(PoolGc, RecycledPagesReadAsZeroWithoutHolePunching) {
    (void)create(uint64_t{8} << 20);
    Pool pool = must(Pool::open(std::make_shared<NoHoles>(must(open_at(AT_FDCWD, path_, O_RDWR)),
                                                          path_, OpenMode::read_write)));
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 300, 1);
    must(writer.remove("one"));
    EXPECT_EQ(must(writer.gc()).freed_pages, 602U);
    EXPECT_NE(read(pool, {0, 300}), std::vector<std::byte>(300 * page_size));
    must(writer.begin("two", "default"));
    EXPECT_EQ(must(writer.reserve(300)), (PageExtent{0, 300}));
    EXPECT_EQ(read(pool, {0, 300}), std::vector<std::byte>(300 * page_size));
}

TEST_F(PoolGc, ADamagedExtentTableStopsAllocationUntilTheTemplateIsGone) {
    uint64_t table_offset = 0;
    {
        Pool pool = create();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "whole", 5, 1);
        add_template(writer, "broken", 5, 2);
        const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
        const Snapshot snapshot = must(load_snapshot(*medium));
        table_offset = snapshot.superblock.byte_offset(
            snapshot.catalogue.live("broken")->extent_table.first_page);
    }
    flip(table_offset + 20);
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("more", "default"));
    const std::string message = path_ +
                                ": the extent table of template broken is damaged, so its pages "
                                "are not known; remove the template and run `memplate pool gc " +
                                path_ + "`";
    EXPECT_EQ(error_of(writer.reserve(1)), message);
    EXPECT_EQ(error_of(writer.gc()), message);
    const PageExtent extent{0, 1};
    EXPECT_EQ(read(pool, extent), pattern(1, 1)) << "nothing was punched";
    must(writer.remove("broken"));
    GcOptions used;
    used.pages_in_use = [&](const PageExtent& asked) -> Result<bool> {
        EXPECT_EQ(asked, (PageExtent{0, pool.total_pages()})) << "any page may be one of its own";
        return true;
    };
    EXPECT_EQ(error_of(writer.gc(used)), message) << "kept while any page is in use";
    must(writer.gc());
    must(writer.begin("more", "default"));
    must(writer.reserve(1));
    must(writer.commit("m", false));
    EXPECT_EQ(must(pool.read_manifest(must(pool.find("whole")))), "manifest of whole with seed 1");
    EXPECT_TRUE(must(pool.verify()).damages.empty());
}

}  // namespace
}  // namespace memplate::pool
