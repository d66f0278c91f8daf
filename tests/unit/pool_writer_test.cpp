// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "pool/lease.h"
#include "pool_fixture.h"
#include "util/lock.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using PoolWriter = PoolTest;

std::vector<std::byte> read(const Pool& pool, PageExtent extent) {
    std::vector<std::byte> data(extent.count * page_size);
    must(pool.read_pages(extent, data));
    return data;
}

/// The number of live templates that all others see.
size_t published(const std::string& path) {
    return must(Pool::open(path)).templates().size();
}

TEST_F(PoolWriter, ATemplateSurvivesARoundTrip) {
    const auto data = pattern(300, 7);
    PageExtent first;
    PageExtent second;
    TemplateRecord committed;
    {
        Pool pool = create(uint64_t{8} << 20);
        Writer writer = must(Writer::acquire(pool, "test"));
        must(writer.begin("py-200", "tenant-a"));
        first = must(writer.reserve(300));
        second = must(writer.reserve(10));
        must(writer.write_pages(first.first, data));
        must(writer.write_pages(second.first + 3, pattern(2, 8)));
        EXPECT_EQ(published(path_), 0U) << "nothing is visible before commit";
        committed = must(writer.commit("the manifest", false));
        EXPECT_EQ(pool.templates().size(), 1U) << "the writer's own view is renewed";
    }
    const Pool pool = must(Pool::open(path_));
    const TemplateRecord record = must(pool.find("py-200"));
    EXPECT_EQ(record.id, committed.id);
    EXPECT_EQ(record.hash, committed.hash);
    EXPECT_EQ(record.hash.size(), 32U);
    EXPECT_EQ(record.domain, "tenant-a");
    EXPECT_EQ(record.data_pages, 310U);
    EXPECT_EQ(record.manifest_bytes, 12U);
    EXPECT_EQ(record.profile_bytes, 0U);
    EXPECT_NEAR(static_cast<double>(record.created), static_cast<double>(::time(nullptr)), 100);
    EXPECT_EQ(must(pool.read_manifest(record)), "the manifest");
    EXPECT_EQ(must(pool.read_profile(record)), "");
    EXPECT_EQ(read(pool, first), data);
    EXPECT_EQ(read(pool, {second.first, 3}), std::vector<std::byte>(3 * page_size));
    EXPECT_EQ(read(pool, {second.first + 3, 2}), pattern(2, 8));
    EXPECT_EQ(read(pool, {second.first + 5, 5}), std::vector<std::byte>(5 * page_size));
    EXPECT_EQ(must(pool.info()).used_pages, 312U);
    const VerifyReport report = must(pool.verify());
    EXPECT_TRUE(report.damages.empty());
    EXPECT_EQ(report.templates, 1U);
    EXPECT_GT(report.bytes_read, 310 * page_size);

    // Pieces of at most 256 pages, in the order of reservation.
    std::vector<PageExtent> pieces;
    for (const Piece& piece : pieces_of(path_, "py-200")) pieces.push_back(piece.extent);
    EXPECT_EQ(pieces, (std::vector<PageExtent>{
                          {first.first, 256}, {first.first + 256, 44}, {second.first, 10}}));
    // And through the descriptor, as mmap would see it.
    std::array<std::byte, 16> bytes{};
    must(pread_exact(pool.fd(), bytes, pool.byte_offset(first.first)));
    EXPECT_TRUE(std::ranges::equal(bytes, std::span(data).first(16)));
}

TEST_F(PoolWriter, WorksOnADiskFileSystem) {
    const auto directory =
        must(TemporaryDirectory::create(::testing::TempDir(), "memplate-pool-test"));
    path_ = directory.path() + "/pool";
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_template(writer, "one", 5, 1);
    must(writer.remove("one"));
    EXPECT_GT(must(writer.gc()).freed_pages, 0U);
    EXPECT_THAT(error_of(pool.read_manifest(record)), HasSubstr("no longer in the pool"));
    EXPECT_TRUE(must(pool.verify()).damages.empty());
}

TEST_F(PoolWriter, TheHashDependsOnManifestAndContentsOnly) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto build = [&](const std::string& name, std::string_view manifest, uint32_t seed) {
        must(writer.begin(name, "default"));
        const PageExtent extent = must(writer.reserve(3));
        must(writer.write_pages(extent.first, pattern(3, seed)));
        return must(writer.commit(manifest, false)).hash;
    };
    const std::string hash = build("a", "m", 1);
    EXPECT_EQ(build("b", "m", 1), hash);
    EXPECT_NE(build("c", "n", 1), hash);
    EXPECT_NE(build("d", "m", 2), hash);
}

TEST_F(PoolWriter, AnEmptyTemplateIsATemplate) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("empty", ""));
    const TemplateRecord record = must(writer.commit("", false));
    EXPECT_EQ(record.data_pages, 0U);
    EXPECT_EQ(must(pool.read_manifest(record)), "");
    EXPECT_TRUE(must(must(Pool::open(path_)).verify()).damages.empty());
}

TEST_F(PoolWriter, ManifestsMayEndAnywhereInAPage) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}}) {
        const std::string manifest(size, 'x');
        must(writer.begin(fmt::format("t{}", size), "default"));
        const TemplateRecord record = must(writer.commit(manifest, false));
        EXPECT_EQ(must(pool.read_manifest(record)), manifest);
    }
}

TEST_F(PoolWriter, NamesAreUniqueUnlessReplaced) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord first = add_template(writer, "one", 2, 1);
    must(writer.begin("one", "default"));
    const auto again = writer.commit("m", false);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, EEXIST);
    EXPECT_EQ(again.error().message, path_ +
                                         ": there is a template one already; choose another name, "
                                         "replace it or remove it");
    const TemplateRecord second = add_template(writer, "one", 2, 2, true);
    EXPECT_GT(second.id, first.id);
    ASSERT_EQ(pool.templates().size(), 1U);
    EXPECT_EQ(must(pool.find("one")).id, second.id);
    EXPECT_EQ(must(pool.info()).retired_pages, 6U);
    EXPECT_EQ(must(pool.read_manifest(first)), "manifest of one with seed 1")
        << "removed templates can be read until gc";
}

TEST_F(PoolWriter, NamesAreChecked) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_FALSE(writer.begin("Not A Name", "default"));
    EXPECT_FALSE(writer.begin("name", "not a domain"));
    EXPECT_THAT(error_of(pool.find("none")), StartsWith(path_ + ": there is no template none;"));
    EXPECT_THAT(error_of(writer.remove("none")), HasSubstr("there is no template none"));
    EXPECT_THAT(error_of(writer.store_profile("none", "p")),
                HasSubstr("there is no template none"));
}

TEST_F(PoolWriter, TemplatesAreListedByName) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    for (const char* name : {"charlie", "alpha", "bravo"}) add_template(writer, name, 1, 1);
    std::vector<std::string> names;
    for (const TemplateRecord& record : pool.templates()) names.push_back(record.name);
    EXPECT_EQ(names, (std::vector<std::string>{"alpha", "bravo", "charlie"}));
}

TEST_F(PoolWriter, OnlyReservedPagesCanBeWritten) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_THAT(error_of(writer.reserve(1)), HasSubstr("outside a template"));
    EXPECT_THAT(error_of(writer.commit("m", false)), HasSubstr("no template to commit"));
    add_template(writer, "one", 2, 1);
    const PageExtent others = pieces_of(path_, "one").front().extent;
    must(writer.begin("two", "default"));
    const PageExtent extent = must(writer.reserve(4));
    const auto page = pattern(1, 9);
    EXPECT_THAT(error_of(writer.write_pages(others.first, page)), HasSubstr("not reserved"));
    EXPECT_THAT(error_of(writer.write_pages(extent.first + 4, page)), HasSubstr("not reserved"));
    EXPECT_THAT(error_of(writer.write_pages(extent.first + 3, pattern(2, 9))),
                HasSubstr("not reserved"));
    EXPECT_THAT(error_of(writer.write_pages(UINT64_MAX, page)), HasSubstr("not reserved"));
    EXPECT_THAT(error_of(writer.write_pages(extent.first, std::span(page).first(100))),
                HasSubstr("not whole pages"));
    EXPECT_THAT(error_of(writer.reserve(0)), HasSubstr("zero pages"));
    must(writer.write_pages(extent.first + 3, page));
}

TEST_F(PoolWriter, WhatIsNotCommittedIsFreeAgain) {
    Pool pool = create();
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        must(writer.begin("one", "default"));
        must(writer.reserve(100));
        must(writer.begin("two", "default"));
        const PageExtent extent = must(writer.reserve(100));
        EXPECT_EQ(extent.first, 0U);
        must(writer.write_pages(0, pattern(100, 5)));
    }
    EXPECT_EQ(must(must(Pool::open(path_)).info()).used_pages, 0U);
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("three", "default"));
    EXPECT_EQ(must(writer.reserve(100)).first, 0U);
    EXPECT_EQ(read(pool, {0, 100}), std::vector<std::byte>(100 * page_size));
}

TEST_F(PoolWriter, AProfileIsStoredReplacedAndRemoved) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 2, 1);
    const uint64_t before = must(pool.info()).generation;
    TemplateRecord record = must(writer.store_profile("one", "written: 1 2 3"));
    EXPECT_EQ(record.profile_bytes, 14U);
    EXPECT_EQ(record.profile_generation, before + 1);
    EXPECT_EQ(must(pool.read_profile(record)), "written: 1 2 3");
    EXPECT_EQ(must(must(Pool::open(path_)).find("one")).profile_generation, before + 1);
    const std::string large(10000, 'p');
    record = must(writer.store_profile("one", large));
    EXPECT_EQ(must(pool.read_profile(record)), large);
    EXPECT_TRUE(must(pool.verify()).damages.empty());
    record = must(writer.store_profile("one", ""));
    EXPECT_EQ(record.profile_bytes, 0U);
    EXPECT_EQ(record.profile_generation, 0U);
    EXPECT_EQ(must(pool.read_profile(record)), "");
    EXPECT_EQ(must(pool.read_manifest(record)), "manifest of one with seed 1");
}

TEST_F(PoolWriter, AReaderFollowsAReplacedProfile) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 1, 1);
    must(writer.store_profile("one", "first"));
    const Pool reader = must(Pool::open(path_));
    const TemplateRecord record = must(reader.find("one"));
    for (int i = 0; i < 5; ++i) must(writer.store_profile("one", fmt::format("profile {}", i)));
    EXPECT_EQ(must(reader.read_profile(record)), "profile 4") << "the first one's page is reused";
}

TEST_F(PoolWriter, ReadersSeeCommitsOnRefresh) {
    Pool pool = create();
    Pool reader = must(Pool::open(path_));
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 1, 1);
    EXPECT_TRUE(reader.templates().empty());
    must(reader.refresh());
    EXPECT_EQ(reader.templates().size(), 1U);
}

TEST_F(PoolWriter, OneWriterAtATime) {
    Pool pool = create();
    Pool other = must(Pool::open(path_, OpenMode::read_write));
    {
        Writer writer = must(Writer::acquire(pool, "memplate template build"));
        const auto second = Writer::acquire(other, "memplate pool gc");
        ASSERT_FALSE(second.has_value());
        EXPECT_EQ(second.error().code, EBUSY);
        std::array<char, 256> host{};
        ASSERT_EQ(::gethostname(host.data(), host.size()), 0);
        const std::string holder =
            fmt::format("pid {} on {} (memplate template build), since 2", ::getpid(), host.data());
        EXPECT_THAT(second.error().message,
                    StartsWith(path_ + ": the pool is being written by " + holder));
        EXPECT_THAT(second.error().message, HasSubstr("; try again when it has finished"));
        EXPECT_THAT(must(other.info()).lease_holder, StartsWith(holder));
        EXPECT_THAT(must(pool.info()).lease_holder, StartsWith(holder));
        EXPECT_THAT(error_of(Writer::acquire(pool, "the same pool object")),
                    HasSubstr("is being written by"));
    }
    EXPECT_EQ(must(other.info()).lease_holder, "");
    EXPECT_TRUE(Writer::acquire(other, "test").has_value());
}

TEST_F(PoolWriter, EveryWriterHasAnEpochOfItsOwn) {
    Pool pool = create();
    uint64_t last = 0;
    for (int i = 0; i < 3; ++i) {
        {
            Writer writer = must(Writer::acquire(pool, "test"));
        }
        const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
        const auto lease = must(read_lease(*medium));
        ASSERT_TRUE(lease.has_value());
        EXPECT_FALSE(lease->held);
        EXPECT_EQ(lease->epoch, last + 1);
        last = lease->epoch;
    }
}

TEST_F(PoolWriter, AStolenLeaseStopsTheWriter) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto medium = must(FileMedium::open(path_, OpenMode::read_write));
    must(write_lease(*medium, own_lease(100, "another host")));
    must(writer.begin("one", "default"));
    EXPECT_THAT(error_of(writer.commit("m", false)),
                HasSubstr("another writer has taken the lease"));
    EXPECT_EQ(published(path_), 0U);
}

TEST_F(PoolWriter, APoolOpenedForReadingCannotBeWritten) {
    (void)create();
    Pool pool = must(Pool::open(path_));
    EXPECT_EQ(error_of(Writer::acquire(pool, "test")),
              path_ + ": the pool was opened for reading only");
}

TEST_F(PoolWriter, AFullPoolSaysWhatIsMissing) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    const uint64_t total = must(pool.info()).total_pages;
    must(writer.begin("one", "default"));
    must(writer.reserve(total - 10));
    const auto extent = writer.reserve(11);
    ASSERT_FALSE(extent.has_value());
    EXPECT_EQ(extent.error().code, ENOSPC);
    EXPECT_EQ(extent.error().message,
              path_ +
                  ": the pool is full: 44 KiB needed in one piece, 40 KiB free, the largest piece "
                  "40 KiB; free removed templates with `memplate pool gc " +
                  path_ + "` or make room with `memplate pool grow " + path_ + " --size ...`");
    EXPECT_THAT(error_of(writer.reserve(UINT64_MAX)), HasSubstr("the pool is full"));
    must(writer.reserve(10));
    EXPECT_THAT(error_of(writer.commit("no page is left for me", false)),
                HasSubstr("the pool is full"));
    // The failed commit has given everything back.
    must(writer.begin("two", "default"));
    must(writer.reserve(total - 2));
    must(writer.commit("m", false));
    EXPECT_TRUE(must(must(Pool::open(path_)).verify()).damages.empty());
}

TEST_F(PoolWriter, GrowingMakesRoom) {
    Pool pool = create();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 20, 1);
    const uint64_t data_start = pool.byte_offset(0);
    must(writer.begin("two", "default"));
    EXPECT_FALSE(writer.reserve(1000));
    must(writer.grow(uint64_t{16} << 20));
    EXPECT_EQ(pool.byte_offset(0), data_start);
    const PageExtent extent = must(writer.reserve(1000));
    must(writer.write_pages(extent.first, pattern(1000, 3)));
    must(writer.commit("m", false));
    const Pool reader = must(Pool::open(path_));
    EXPECT_EQ(must(reader.info()).size_bytes, uint64_t{16} << 20);
    EXPECT_EQ(read(reader, extent), pattern(1000, 3));
    EXPECT_TRUE(must(reader.verify()).damages.empty());
    for (const uint64_t size : {uint64_t{0}, uint64_t{1} << 20, uint64_t{16} << 20, UINT64_MAX}) {
        const auto grown = writer.grow(size);
        ASSERT_FALSE(grown.has_value());
        EXPECT_EQ(grown.error().kind, ErrorKind::usage);
    }
}

TEST_F(PoolWriter, TheCatalogueIsFullAtItsCapacity) {
    Pool pool = create(uint64_t{64} << 20);
    Writer writer = must(Writer::acquire(pool, "test"));
    const uint64_t capacity = (min_slot_bytes - catalogue_header_bytes) / entry_bytes;
    for (uint64_t i = 0; i < capacity; ++i) {
        must(writer.begin(fmt::format("t{}", i), "default"));
        must(writer.commit("m", false));
    }
    EXPECT_EQ(
        error_of(writer.begin("more", "default")),
        fmt::format("{}: the catalogue is full: it holds 1023 templates, removed ones included; "
                    "run `memplate pool gc {}` or use another pool",
                    path_, path_));
    EXPECT_EQ(published(path_), capacity);
    must(writer.remove("t5"));
    must(writer.gc());
    must(writer.begin("more", "default"));
    must(writer.commit("m", false));
    EXPECT_TRUE(must(must(Pool::open(path_)).verify()).damages.empty());
}

}  // namespace
}  // namespace memplate::pool
