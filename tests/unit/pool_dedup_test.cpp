// SPDX-License-Identifier: Apache-2.0
//
// Pages stored once: what is shared with whom, what stays when its first owner goes, and that a
// hash alone never decides.
#include "pool/bytes.h"
#include "pool/page_index.h"
#include "pool_dax_fixture.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PoolDedup : public PoolTest {
  protected:
    [[nodiscard]] Pool create_dedup(uint64_t size = uint64_t{8} << 20) const {
        CreateOptions options;
        options.dedup = true;
        return must(Pool::create(path_, size, options));
    }
};

std::vector<std::byte> joined(std::initializer_list<std::vector<std::byte>> parts) {
    std::vector<std::byte> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

/// The pages that a template's manifest (see add_pages) names, in order.
std::vector<std::byte> contents(const Pool& pool, const TemplateRecord& record) {
    std::istringstream manifest(must(pool.read_manifest(record)));
    std::vector<std::byte> all;
    PageExtent extent;
    while (manifest >> extent.first >> extent.count) {
        std::vector<std::byte> part(extent.count * page_size);
        must(pool.read_pages(extent, part));
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

std::vector<std::string> damages(const Pool& pool) {
    std::vector<std::string> lines;
    for (const Damage& damage : must(pool.verify()).damages)
        lines.push_back(damage.template_name + ": " + damage.what);
    return lines;
}

TEST_F(PoolDedup, EqualPagesOfADomainAreStoredOnce) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_TRUE(writer.dedup());
    const auto first = pattern(300, 1);
    // Two pages in the middle differ.
    auto second = first;
    std::ranges::copy(pattern(2, 2), second.begin() + 100 * page_size);
    const TemplateRecord a = add_pages(writer, "a", "tenant", first);
    const uint64_t before = must(pool.info()).used_pages;
    const TemplateRecord b = add_pages(writer, "b", "tenant", second);
    EXPECT_EQ(contents(pool, a), first);
    EXPECT_EQ(contents(pool, b), second);
    EXPECT_EQ(a.data_pages, 300U);
    EXPECT_EQ(b.data_pages, 300U) << "a template lists what it uses, whoever stored it";
    const PoolInfo info = must(pool.info());
    EXPECT_EQ(info.used_pages - before, 2 + 1 + pages_for(32 + 5 * 16 + 300 * 8))
        << "two pages, a manifest, an extent table";
    EXPECT_EQ(info.dedup_saved_pages, 298U);
    EXPECT_THAT(damages(must(Pool::open(path_))), IsEmpty());
}

TEST_F(PoolDedup, RepeatedPagesOfOneTemplateAreStoredOnce) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto page = pattern(1, 1);
    const auto data = joined({page, pattern(3, 2), page, page, pattern(3, 2)});
    const TemplateRecord record = add_pages(writer, "a", "tenant", data);
    EXPECT_EQ(record.data_pages, 4U);
    EXPECT_EQ(contents(pool, record), data);
    EXPECT_EQ(must(pool.info()).dedup_saved_pages, 5U);
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, ManyCallsAreAsGoodAsOne) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto data = joined({pattern(5, 1), pattern(5, 2), pattern(5, 1)});
    must(writer.begin("a", "tenant"));
    std::vector<PageExtent> extents;
    for (size_t page = 0; page < 15; ++page) {
        const auto found =
            must(writer.add_pages(std::span(data).subspan(page * page_size, page_size)));
        ASSERT_EQ(found.size(), 1U);
        extents.push_back(found[0]);
    }
    for (size_t page = 0; page < 5; ++page) EXPECT_EQ(extents[page], extents[page + 10]);
    EXPECT_EQ(must(writer.commit("m", false)).data_pages, 10U);
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, DomainsShareNothing) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto data = pattern(10, 1);
    const TemplateRecord a = add_pages(writer, "a", "tenant-a", data);
    const TemplateRecord b = add_pages(writer, "b", "tenant-b", data);
    const TemplateRecord none = add_pages(writer, "c", "", data);
    EXPECT_EQ(must(pool.info()).dedup_saved_pages, 0U);
    EXPECT_NE(must(pool.read_manifest(a)), must(pool.read_manifest(b)));
    EXPECT_NE(must(pool.read_manifest(a)), must(pool.read_manifest(none)));
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, SharedPagesStayUntilTheLastTemplateGoes) {
    for (const bool first_goes_first : {true, false}) {
        std::filesystem::remove(path_);
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        const auto shared = pattern(10, 1);
        add_pages(writer, "a", "tenant", joined({shared, pattern(5, 2)}));
        add_pages(writer, "b", "tenant", joined({pattern(7, 3), shared}));
        const std::string goes = first_goes_first ? "a" : "b";
        const std::string stays = first_goes_first ? "b" : "a";
        const auto expected = contents(pool, must(pool.find(stays)));
        must(writer.remove(goes));
        const uint64_t own = (first_goes_first ? 5 : 7) + 1 + 1;
        EXPECT_EQ(must(pool.info()).retired_pages, own) << "shared pages do not wait for gc";
        EXPECT_EQ(must(writer.gc()).freed_pages, own);
        EXPECT_EQ(contents(pool, must(pool.find(stays))), expected);
        // Nothing that comes later overwrites them.
        add_pages(writer, "c", "tenant", pattern(1000, 4));
        EXPECT_EQ(contents(pool, must(pool.find(stays))), expected);
        EXPECT_THAT(damages(must(Pool::open(path_))), IsEmpty());
        must(writer.remove(stays));
        must(writer.remove("c"));
        must(writer.gc());
        EXPECT_EQ(must(pool.info()).used_pages, 0U);
    }
}

TEST_F(PoolDedup, PagesOfARemovedTemplateCanBeSharedAgain) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto data = pattern(20, 1);
    add_pages(writer, "a", "tenant", data);
    must(writer.remove("a"));
    const TemplateRecord b = add_pages(writer, "b", "tenant", data);
    must(writer.gc());
    must(writer.gc());
    EXPECT_EQ(contents(pool, b), data);
    EXPECT_EQ(must(pool.info()).used_pages, 22U);
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, GcWhileADraftSharesPagesKeepsThem) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const auto data = pattern(20, 1);
    add_pages(writer, "a", "tenant", data);
    must(writer.begin("b", "tenant"));
    const auto extents = must(writer.add_pages(data));
    must(writer.remove("a"));
    must(writer.gc());
    must(writer.gc());
    must(writer.add_pages(pattern(50, 2)));
    must(writer.commit(fmt::format("{} {}\n", extents[0].first, extents[0].count), false));
    EXPECT_EQ(contents(pool, must(pool.find("b"))), data);
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, ADroppedTemplateLeavesNothing) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord a = add_pages(writer, "a", "tenant", pattern(20, 1));
    must(writer.begin("dropped", "tenant"));
    must(writer.add_pages(joined({pattern(20, 1), pattern(20, 2)})));
    const TemplateRecord b = add_pages(writer, "b", "tenant", pattern(20, 2));
    EXPECT_EQ(must(pool.info()).used_pages, 40U + 2 + 2);
    EXPECT_EQ(contents(pool, a), pattern(20, 1));
    EXPECT_EQ(contents(pool, b), pattern(20, 2));
}

TEST_F(PoolDedup, AnotherWriterFindsThePagesByTheStoredHashes) {
    const auto data = pattern(600, 1);
    {
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "a", "tenant", data);
    }
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    Writer writer = must(Writer::acquire(pool, "test"));
    add_pages(writer, "b", "tenant", data);
    EXPECT_EQ(must(pool.info()).dedup_saved_pages, 600U);
    const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
    const Snapshot snapshot = must(load_snapshot(*medium));
    for (const char* name : {"a", "b"}) {
        const ExtentTable table =
            must(read_extent_table(*medium, snapshot.superblock, *snapshot.catalogue.live(name)));
        EXPECT_EQ(table.references, 600U);
        ASSERT_EQ(table.page_hashes.size(), 600U);
        EXPECT_EQ(table.page_hashes[0], hash_page(std::span(data).first(page_size)));
    }
}

TEST_F(PoolDedup, PagesOfImagesMayBeSharedButReservedOnesAreAlwaysOnesOwn) {
    Pool pool = create_dedup();
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("a", "tenant"));
    const PageExtent image = must(writer.reserve(3));
    must(writer.write_pages(image.first, pattern(3, 1)));
    must(writer.commit("m", false));
    must(writer.begin("b", "tenant"));
    EXPECT_THAT(must(writer.add_pages(pattern(3, 1))), ElementsAre(image));
    EXPECT_THAT(error_of(writer.write_pages(image.first, pattern(1, 9))),
                HasSubstr("are not reserved for this template"));
    EXPECT_NE(must(writer.reserve(3)), image);
    must(writer.commit("m", false));
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, AddingPagesWithoutDedupStoresThemInOnePiece) {
    Pool pool = create(uint64_t{8} << 20);
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_FALSE(writer.dedup());
    must(writer.begin("a", "tenant"));
    const auto data = joined({pattern(2, 1), pattern(2, 1)});
    const auto extents = must(writer.add_pages(data));
    ASSERT_EQ(extents.size(), 1U);
    EXPECT_EQ(extents[0].count, 4U);
    EXPECT_FALSE(writer.add_pages({}).has_value());
    EXPECT_FALSE(writer.add_pages(std::span(data).first(100)).has_value());
    must(writer.commit("m", false));
    EXPECT_FALSE(writer.add_pages(data).has_value()) << "outside a template";
}

TEST_F(PoolDedup, ScatteredFreePagesAreUsed) {
    Pool pool = create_dedup(uint64_t{2} << 20);
    Writer writer = must(Writer::acquire(pool, "test"));
    uint32_t seed = 100;
    std::vector<std::string> names;
    while (must(pool.info()).used_pages + 20 < must(pool.info()).total_pages) {
        names.push_back(fmt::format("t{}", seed));
        add_pages(writer, names.back(), "tenant", pattern(5, seed++));
    }
    for (size_t i = 0; i < names.size(); i += 2) must(writer.remove(names[i]));
    must(writer.gc());
    const auto data = pattern(60, 1);
    const TemplateRecord record = add_pages(writer, "scattered", "tenant", data);
    EXPECT_GT(std::ranges::count(must(pool.read_manifest(record)), '\n'), 5);
    EXPECT_EQ(contents(pool, record), data);
    EXPECT_THAT(damages(pool), IsEmpty());
    must(writer.begin("too-large", "tenant"));
    const auto refused = writer.add_pages(pattern(400, 2));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ENOSPC);
    EXPECT_THAT(error_of(writer.commit("m", false)), HasSubstr("no template to commit"));
}

/// Changes the extent table of a live template and makes all checksums above it right again.
void forge_table(const std::string& path, const std::string& name,
                 const std::function<void(ExtentTable&)>& change) {
    const auto medium = must(FileMedium::open(path, OpenMode::read_write));
    const Snapshot snapshot = must(load_snapshot(*medium));
    Superblock superblock = snapshot.superblock;
    Catalogue catalogue = snapshot.catalogue;
    auto& entry = *std::ranges::find(catalogue.entries, name, &CatalogueEntry::name);
    ExtentTable table = must(read_extent_table(*medium, superblock, entry));
    change(table);
    auto bytes = encode(table);
    ASSERT_EQ(bytes.size(), entry.extent_table.bytes);
    bytes.resize(entry.extent_table.extent().count * page_size);
    must(medium->write(bytes, superblock.byte_offset(entry.extent_table.first_page)));
    entry.extent_table.crc = crc32c(bytes);
    const auto encoded = encode(catalogue);
    must(medium->write(encoded, superblock.slot_offset[superblock.slot]));
    superblock.catalogue_crc = crc32c(encoded);
    must(medium->write(encode(superblock), superblock_offset[snapshot.superblock_index]));
}

TEST_F(PoolDedup, AHashThatLiesIsNotBelieved) {
    {
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "victim", "tenant", pattern(5, 1));
    }
    const auto wanted = pattern(5, 2);
    forge_table(path_, "victim", [&](ExtentTable& table) {
        for (size_t i = 0; i < 5; ++i)
            table.page_hashes[i] = hash_page(std::span(wanted).subspan(i * page_size, page_size));
    });
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_pages(writer, "new", "tenant", wanted);
    EXPECT_EQ(contents(pool, record), wanted);
    EXPECT_EQ(must(pool.info()).dedup_saved_pages, 0U);
    EXPECT_EQ(contents(pool, must(pool.find("victim"))), pattern(5, 1));
}

TEST_F(PoolDedup, PagesOfAnotherDomainOrOfABlobAreFoundByVerify) {
    PageExtent other;
    {
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "a", "tenant-a", pattern(5, 1));
        add_pages(writer, "b", "tenant-b", pattern(5, 1));
    }
    {
        const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
        const Snapshot snapshot = must(load_snapshot(*medium));
        other = snapshot.catalogue.live("a")->manifest.extent();
    }
    const PageExtent first = pieces_of(path_, "a").front().extent;
    const uint32_t crc = pieces_of(path_, "a").front().crc;
    forge_table(path_, "b", [&](ExtentTable& table) { table.pieces = {{first, crc}}; });
    EXPECT_THAT(damages(must(Pool::open(path_))),
                ElementsAre("b: extent 0 (shares pages with another domain)"));
    forge_table(path_, "b",
                [&](ExtentTable& table) { table.pieces = {{{other.first, first.count}, crc}}; });
    EXPECT_THAT(damages(must(Pool::open(path_))),
                ::testing::Contains("b: extent 0 (shares pages with another part)"));
}

TEST_F(PoolDedup, DamageOfASharedPageIsNamedInEveryTemplate) {
    {
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "a", "tenant", pattern(5, 1));
        add_pages(writer, "b", "tenant", pattern(5, 1));
        add_pages(writer, "c", "tenant", pattern(5, 2));
    }
    const Pool pool = must(Pool::open(path_));
    flip(pool.byte_offset(pieces_of(path_, "a").front().extent.first) + 5);
    EXPECT_THAT(damages(pool), ElementsAre("a: extent 0", "b: extent 0"));
}

TEST_F(PoolDedup, ADamagedPageIsNotSharedAnyMore) {
    Pool pool = create_dedup();
    const auto data = pattern(5, 1);
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "a", "tenant", data);
    }
    flip(pool.byte_offset(pieces_of(path_, "a").front().extent.first + 2) + 5);
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord b = add_pages(writer, "b", "tenant", data);
    EXPECT_EQ(contents(pool, b), data);
    EXPECT_EQ(must(pool.info()).dedup_saved_pages, 4U);
    EXPECT_THAT(damages(pool), ElementsAre("a: extent 0"));
}

TEST_F(PoolDedup, ADamagedExtentTableIsAWarning) {
    {
        Pool pool = create_dedup();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "a", "tenant", pattern(5, 1));
        add_pages(writer, "b", "tenant", pattern(5, 1));
    }
    const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
    const Snapshot snapshot = must(load_snapshot(*medium));
    flip(snapshot.superblock.byte_offset(snapshot.catalogue.live("a")->extent_table.first_page));
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    EXPECT_THAT(must(pool.info()).warnings,
                ElementsAre("the extent table of template a is damaged"));
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("c", "tenant"));
    EXPECT_THAT(error_of(writer.add_pages(pattern(5, 1))),
                HasSubstr("extent table of template a is damaged"));
    must(writer.remove("a"));
    must(writer.gc());
    const TemplateRecord c = add_pages(writer, "c", "tenant", pattern(5, 1));
    EXPECT_EQ(contents(pool, c), pattern(5, 1));
    EXPECT_EQ(contents(pool, must(pool.find("b"))), pattern(5, 1));
    EXPECT_THAT(damages(pool), IsEmpty());
}

TEST_F(PoolDedup, PoolsWithoutItHaveNoSuchBit) {
    (void)create();
    EXPECT_EQ(must(load_snapshot(*must(FileMedium::open(path_, OpenMode::read_only))))
                  .superblock.features,
              0U);
    EXPECT_FALSE(must(Pool::open(path_)).dedup());
}

TEST_F(PoolDedup, UnknownFeaturesAreRefused) {
    (void)create_dedup();
    for (const uint64_t at : superblock_offset) {
        const auto medium = must(FileMedium::open(path_, OpenMode::read_write));
        Block block{};
        must(medium->read(block, at));
        store<uint64_t>(block, 104, 0x11);
        store<uint32_t>(block, 4092, crc32c(std::span(block).first(4092)));
        must(medium->write(block, at));
    }
    const auto opened = Pool::open(path_);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().kind, ErrorKind::unsupported);
    EXPECT_EQ(opened.error().message, path_ +
                                          ": the pool has features that this memplate does not "
                                          "know (bits 0x10); use a newer memplate");
}

TEST_F(PoolDedup, ForgedTablesAreRefused) {
    ExtentTable table;
    table.dedup = true;
    table.references = 4;
    table.pieces = {{{5, 2}, 0}, {{10, 1}, 0}};
    table.page_hashes = {1, 2, 3};
    const auto refused = [](const ExtentTable& forged, uint64_t pages) {
        return !decode_extent_table(encode(forged), pages, 1000, true);
    };
    EXPECT_FALSE(refused(table, 3));
    EXPECT_FALSE(decode_extent_table(encode(table), 3, 1000, false)) << "of the other kind";
    EXPECT_TRUE(refused(table, 4));
    EXPECT_TRUE(refused(table, uint64_t{1} << 50));
    auto forged = table;
    forged.references = 2;
    EXPECT_TRUE(refused(forged, 3)) << "fewer references than pages";
    forged = table;
    forged.pieces = {{{10, 1}, 0}, {{5, 2}, 0}};
    EXPECT_TRUE(refused(forged, 3)) << "not in order";
    forged.pieces = {{{5, 2}, 0}, {{6, 1}, 0}};
    EXPECT_TRUE(refused(forged, 3)) << "a page twice";
    forged = table;
    forged.page_hashes.pop_back();
    EXPECT_TRUE(refused(forged, 3));
    auto bytes = encode(table);
    bytes[24] = std::byte{1};
    EXPECT_FALSE(decode_extent_table(bytes, 3, 1000, true));
}

}  // namespace
}  // namespace memplate::pool
