// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool/bytes.h"
#include "pool/format.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

using ::testing::HasSubstr;

Superblock sample_superblock() {
    Superblock s = geometry_for(uint64_t{4} << 30);
    s.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    s.generation = 77;
    s.slot = 1;
    s.catalogue_bytes = 320;
    s.catalogue_crc = 0xdeadbeef;
    s.lease_epoch = 9;
    return s;
}

CatalogueEntry sample_entry(uint64_t id, const std::string& name) {
    CatalogueEntry e;
    e.id = id;
    e.created = 1795000000;
    e.data_pages = 12;
    e.profile_generation = 3;
    e.manifest = {10, 5000, 1};
    e.profile = {20, 1, 2};
    e.extent_table = {30, 32, 3};
    e.hash = {0xab, 0xcd};
    e.name = name;
    e.domain = "default";
    return e;
}

Catalogue sample_catalogue() {
    Catalogue c;
    c.generation = 5;
    c.next_id = 10;
    c.entries = {sample_entry(3, "one"), sample_entry(7, "two")};
    return c;
}

void reseal(Block& block) {
    store<uint32_t>(block, 4092, crc32c(std::span(block).first(4092)));
}

TEST(PoolFormat, SuperblockSurvivesARoundTrip) {
    const Superblock s = sample_superblock();
    const auto decoded = decode_superblock(encode(s));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(*decoded, s);
}

TEST(PoolFormat, SuperblockIsLaidOutAsDocumented) {
    const Block block = encode(sample_superblock());
    EXPECT_EQ(std::memcmp(block.data(), "MEMPLATE\1\0\0\0\0\x10\0\0", 16), 0);
    EXPECT_EQ(block[32], std::byte{77});
    EXPECT_EQ(load<uint64_t>(block, 40), uint64_t{4} << 30);
    EXPECT_EQ(load<uint64_t>(block, 48), 12288U);
    EXPECT_EQ(load<uint32_t>(block, 84), 0xdeadbeefU);
}

TEST(PoolFormat, EveryFlippedBitOfASuperblockIsNoticed) {
    const Block whole = encode(sample_superblock());
    for (size_t bit = 0; bit < block_bytes * 8; ++bit) {
        Block block = whole;
        block[bit / 8] ^= std::byte{static_cast<uint8_t>(1 << (bit % 8))};
        ASSERT_FALSE(decode_superblock(block).has_value()) << "bit " << bit;
    }
}

TEST(PoolFormat, SuperblockFaultsAreToldApart) {
    Block block = encode(sample_superblock());
    block[3] ^= std::byte{1};
    EXPECT_EQ(decode_superblock(block).error(), SuperblockFault::foreign);
    block = encode(sample_superblock());
    store<uint32_t>(block, 8, 2);
    EXPECT_EQ(decode_superblock(block).error(), SuperblockFault::damaged);
    reseal(block);
    EXPECT_EQ(decode_superblock(block).error(), SuperblockFault::future);
    EXPECT_EQ(future_version(block).version, 2U);
}

TEST(PoolFormat, ForgedSuperblocksAreRefused) {
    using Forge = void (*)(Superblock&);
    const std::vector<Forge> forgeries = {
        [](Superblock& s) { s.size_bytes += 1; },
        [](Superblock& s) { s.size_bytes = uint64_t{1} << 61; },
        [](Superblock& s) { s.size_bytes = s.data_offset - page_size; },
        [](Superblock& s) { s.slot_offset[0] = 4096; },
        [](Superblock& s) { s.slot_offset[0] = UINT64_MAX - 4095; },
        [](Superblock& s) { s.slot_offset[1] = s.slot_offset[0]; },
        [](Superblock& s) { s.slot_offset[1] += 1; },
        [](Superblock& s) { s.slot_bytes = 0; },
        [](Superblock& s) { s.slot_bytes = max_slot_bytes + page_size; },
        [](Superblock& s) { s.data_offset = s.slot_offset[1]; },
        [](Superblock& s) { s.slot = 2; },
        [](Superblock& s) { s.catalogue_bytes = s.slot_bytes + 1; },
        [](Superblock& s) { s.catalogue_bytes = 63; },
        [](Superblock& s) { s.generation = 0; },
        [](Superblock& s) { s.generation = UINT64_MAX; },
    };
    for (size_t i = 0; i < forgeries.size(); ++i) {
        Superblock s = sample_superblock();
        forgeries[i](s);
        const auto decoded = decode_superblock(encode(s));
        ASSERT_FALSE(decoded.has_value()) << "forgery " << i;
        EXPECT_EQ(decoded.error(), SuperblockFault::damaged) << "forgery " << i;
    }
}

TEST(PoolFormat, GeometryScalesWithTheSize) {
    for (const uint64_t size :
         {min_pool_bytes, uint64_t{1} << 30, uint64_t{1} << 40, max_pool_bytes}) {
        const Superblock s = geometry_for(size);
        EXPECT_EQ(s.data_offset % page_size, 0U);
        EXPECT_GE(s.slot_bytes, min_slot_bytes);
        EXPECT_LE(s.slot_bytes, max_slot_bytes);
        EXPECT_GT(s.total_pages(), 100U);
        EXPECT_LE(s.data_offset + s.total_pages() * page_size, size);
    }
    EXPECT_EQ(geometry_for(uint64_t{4} << 30).slot_bytes, uint64_t{4} << 20);
}

TEST(PoolFormat, LeaseSurvivesARoundTripAndEveryFlippedBitIsNoticed) {
    LeaseBlock lease{4, true, 17, 12345, 1795000000, {9, 8, 7}, "host", "memplate template build"};
    Block whole{};
    std::ranges::copy(encode(lease), whole.begin());
    ASSERT_TRUE(decode_lease(whole).has_value());
    EXPECT_EQ(*decode_lease(whole), lease);
    for (size_t bit = 0; bit < block_bytes * 8; ++bit) {
        Block block = whole;
        block[bit / 8] ^= std::byte{static_cast<uint8_t>(1 << (bit % 8))};
        ASSERT_FALSE(decode_lease(block).has_value()) << "bit " << bit;
    }
}

TEST(PoolFormat, LongLeaseTextsAreCut) {
    LeaseBlock lease;
    lease.host = std::string(300, 'h');
    lease.purpose = std::string(300, 'p');
    Block block{};
    std::ranges::copy(encode(lease), block.begin());
    const auto decoded = decode_lease(block);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded->host, std::string(67, 'h'));
    EXPECT_EQ(decoded->purpose, std::string(127, 'p'));
}

TEST(PoolFormat, CatalogueSurvivesARoundTrip) {
    const Catalogue c = sample_catalogue();
    const auto bytes = encode(c);
    EXPECT_EQ(bytes.size(), 64U + 2 * 256U);
    const auto decoded = decode_catalogue(bytes, 1000);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
    EXPECT_EQ(decoded->generation, 5U);
    EXPECT_EQ(decoded->next_id, 10U);
    EXPECT_EQ(decoded->entries, c.entries);
    EXPECT_EQ(decoded->live("two")->id, 7U);
    EXPECT_EQ(decoded->live("three"), nullptr);
}

TEST(PoolFormat, ForgedCataloguesAreRefused) {
    struct Forgery {
        void (*forge)(Catalogue&);
        const char* message;
    };
    const std::vector<Forgery> forgeries = {
        {[](Catalogue& c) { c.entries[0].manifest.first_page = 999; }, "outside the pool"},
        {[](Catalogue& c) { c.entries[0].manifest.first_page = UINT64_MAX; }, "outside the pool"},
        {[](Catalogue& c) { c.entries[0].profile.bytes = UINT64_MAX; }, "outside the pool"},
        {[](Catalogue& c) { c.entries[0].profile.bytes = 0; }, "empty blob"},
        {[](Catalogue& c) { c.entries[0].data_pages = 1001; }, "more pages"},
        {[](Catalogue& c) { c.entries[1].id = 3; }, "not in order"},
        {[](Catalogue& c) { c.entries[1].id = 10; }, "not in order"},
        {[](Catalogue& c) { c.entries[0].id = 0; }, "not in order"},
        {[](Catalogue& c) { c.next_id = UINT64_MAX; }, "next template id"},
        {[](Catalogue& c) { c.entries[1].name = "one"; }, "two templates of one name"},
        {[](Catalogue& c) { c.entries[1].name = "../etc"; }, "template name"},
        {[](Catalogue& c) { c.entries[1].name = "a\033[2J"; }, "not text"},
        {[](Catalogue& c) { c.entries[1].name = ""; }, "template name"},
        {[](Catalogue& c) { c.entries[1].domain = "a b"; }, "domain"},
        {[](Catalogue& c) { c.entries[1].state = static_cast<TemplateState>(3); }, "state"},
    };
    for (const Forgery& forgery : forgeries) {
        Catalogue c = sample_catalogue();
        forgery.forge(c);
        const auto decoded = decode_catalogue(encode(c), 1000);
        ASSERT_FALSE(decoded.has_value()) << forgery.message;
        EXPECT_THAT(decoded.error().message, HasSubstr(forgery.message));
    }
    const auto bytes = encode(sample_catalogue());
    for (const size_t size : {size_t{0}, size_t{63}, size_t{64}, bytes.size() - 1})
        EXPECT_FALSE(decode_catalogue(std::span(bytes).first(size), 1000)) << size;
}

TEST(PoolFormat, RetiredTemplatesMayShareAName) {
    Catalogue c = sample_catalogue();
    c.entries[0].name = "two";
    c.entries[0].state = TemplateState::retired;
    const auto decoded = decode_catalogue(encode(c), 1000);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded->live("two")->id, 7U);
}

TEST(PoolFormat, ExtentTableSurvivesARoundTrip) {
    ExtentTable table;
    table.pieces = {{{5, 256}, 0x11111111}, {{900, 3}, 0x22222222}};
    const auto decoded = decode_extent_table(encode(table), 259, 1000, false);
    ASSERT_TRUE(decoded.has_value());
    ASSERT_EQ(decoded->pieces.size(), 2U);
    EXPECT_EQ(decoded->pieces[1].extent, (PageExtent{900, 3}));
    EXPECT_EQ(decoded->pieces[1].crc, 0x22222222U);
    EXPECT_EQ(decoded->references, 259U);
}

TEST(PoolFormat, ForgedExtentTablesAreRefused) {
    const auto table_of = [](PageExtent extent) {
        ExtentTable table;
        table.pieces = {{extent, 0}};
        return encode(table);
    };
    const auto refused = [&](PageExtent extent, uint64_t pages) {
        return !decode_extent_table(table_of(extent), pages, 1000, false);
    };
    EXPECT_TRUE(refused({0, 0}, 0));
    EXPECT_TRUE(refused({0, 257}, 257));
    EXPECT_TRUE(refused({1000, 1}, 1));
    EXPECT_TRUE(refused({UINT64_MAX, 1}, 1));
    EXPECT_TRUE(refused({5, 2}, 3)) << "another number of pages than the catalogue says";
    EXPECT_FALSE(refused({998, 2}, 2));
    auto bytes = table_of({1, 1});
    EXPECT_FALSE(decode_extent_table(bytes, 1, 1000, true)) << "of the other kind";
    store<uint64_t>(bytes, 8, UINT64_MAX);
    EXPECT_FALSE(decode_extent_table(bytes, 1, 1000, false));
}

TEST(PoolFormat, HexadecimalDigits) {
    const std::string text = "00112233445566778899aabbccddeeff";
    ASSERT_TRUE(from_hex(text));
    EXPECT_EQ(to_hex(*from_hex(text)), text);
    EXPECT_EQ(to_uuid(*from_hex(text)), "00112233-4455-6677-8899-aabbccddeeff");
    EXPECT_FALSE(from_hex("0"));
    EXPECT_FALSE(from_hex("g0112233445566778899aabbccddeeff"));
}

}  // namespace
}  // namespace memplate::pool
