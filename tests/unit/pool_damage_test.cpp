// SPDX-License-Identifier: Apache-2.0
//
// One changed byte, anywhere: verify must notice and name the part it is in.
#include <cstdlib>
#include <functional>

#include "pool_fixture.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::IsEmpty;

/// A stretch of the file and what verify calls it.
struct Area {
    std::string template_name;
    std::string what;
    uint64_t offset;
    uint64_t length;
    uint64_t step;  ///< every step-th byte is tried; all with MEMPLATE_EXHAUSTIVE=1
};

class PoolDamage : public PoolTest {
  protected:
    PoolDamage() {
        Pool pool = create();
        Writer writer = must(Writer::acquire(pool, "test"));
        must(writer.begin("retired", "default"));
        must(writer.write_pages(must(writer.reserve(2)).first, pattern(2, 5)));
        must(writer.commit("retired manifest", false));
        add_template(writer, "one", 4, 1);
        add_template(writer, "two", 3, 2);
        must(writer.store_profile("one", std::string(5000, 'p')));
        must(writer.remove("retired"));
    }

    [[nodiscard]] std::vector<Area> areas() const {
        const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
        const Snapshot snapshot = must(load_snapshot(*medium));
        const Superblock& s = snapshot.superblock;
        std::vector<Area> out = {{"", "superblock 0", 0, 4096, 53},
                                 {"", "superblock 1", 4096, 4096, 53},
                                 {"", "lease block", 8192, 4096, 53},
                                 {"", fmt::format("catalogue slot {}", s.slot),
                                  s.slot_offset[s.slot], s.catalogue_bytes, 1},
                                 {"", fmt::format("catalogue slot {}", 1 - s.slot),
                                  s.slot_offset[1 - s.slot], encode(*snapshot.previous).size(), 1}};
        const auto add = [&](const std::string& name, const std::string& what, PageExtent extent) {
            out.push_back({name, what, s.byte_offset(extent.first), extent.count * page_size, 37});
        };
        for (const CatalogueEntry& entry : snapshot.catalogue.entries) {
            add(entry.name, "manifest", entry.manifest.extent());
            add(entry.name, "profile", entry.profile.extent());
            add(entry.name, "extent table", entry.extent_table.extent());
            const auto pieces = must(read_extent_table(*medium, s, entry)).pieces;
            for (size_t i = 0; i < pieces.size(); ++i)
                add(entry.name, fmt::format("extent {}", i), pieces[i].extent);
        }
        return out;
    }
};

TEST_F(PoolDamage, EveryFlippedByteIsNoticedAndNamed) {
    const bool exhaustive = std::getenv("MEMPLATE_EXHAUSTIVE") != nullptr;
    const UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
    ASSERT_THAT(must(must(Pool::open(path_)).verify()).damages, IsEmpty());
    uint64_t tried = 0;
    for (const Area& area : areas()) {
        for (uint64_t i = 0; i < area.length; i += exhaustive || i < 128 ? 1 : area.step) {
            flip(area.offset + i, static_cast<uint8_t>(1 << (i % 8)));
            const auto pool = Pool::open(path_);
            ASSERT_TRUE(pool.has_value()) << area.what << " byte " << i << pool.error().message;
            const VerifyReport report = must(pool->verify());
            ASSERT_THAT(
                report.damages,
                Contains(AllOf(Field(&Damage::template_name, area.template_name),
                               Field(&Damage::what, area.what), Field(&Damage::offset, area.offset),
                               Field(&Damage::length, area.length))))
                << "byte " << i << " of " << area.what << " of " << area.template_name;
            // A template's damage is reported once; a lost catalogue may bring others with it.
            if (!area.template_name.empty()) {
                ASSERT_EQ(report.damages.size(), 1U);
            }
            flip(area.offset + i, static_cast<uint8_t>(1 << (i % 8)));
            ++tried;
        }
    }
    EXPECT_GT(tried, 4000U);
    EXPECT_THAT(must(must(Pool::open(path_)).verify()).damages, IsEmpty());
}

TEST_F(PoolDamage, TheLastByteOfEachAreaIsCovered) {
    for (const Area& area : areas()) {
        if (area.length == 0) continue;
        flip(area.offset + area.length - 1);
        const VerifyReport report = must(must(Pool::open(path_)).verify());
        EXPECT_THAT(report.damages, Contains(Field(&Damage::what, area.what))) << area.what;
        flip(area.offset + area.length - 1);
    }
}

TEST_F(PoolDamage, EveryPageInUseBelongsToAnArea) {
    uint64_t pages = 0;
    for (const Area& area : areas())
        if (!area.template_name.empty()) pages += area.length / page_size;
    EXPECT_EQ(must(must(Pool::open(path_)).info()).used_pages, pages);
}

TEST_F(PoolDamage, VerifyTemplateLooksAtOneTemplateOnly) {
    const auto pieces = pieces_of(path_, "one");
    const Pool pool = must(Pool::open(path_));
    flip(pool.byte_offset(pieces[0].extent.first) + 5);
    const VerifyReport report = must(pool.verify_template(must(pool.find("one"))));
    EXPECT_EQ(report.templates, 1U);
    EXPECT_THAT(report.damages, Contains(Field(&Damage::what, "extent 0")));
    EXPECT_THAT(must(pool.verify_template(must(pool.find("two")))).damages, IsEmpty());
}

TEST_F(PoolDamage, DamagedBlobsAreNotHandedOut) {
    const Pool pool = must(Pool::open(path_));
    for (const Area& area : areas()) {
        if (area.template_name != "one") continue;
        if (area.what == "manifest") flip(area.offset + 3);
        if (area.what == "profile") flip(area.offset + 4099);
    }
    const TemplateRecord record = must(pool.find("one"));
    EXPECT_EQ(error_of(pool.read_manifest(record)),
              fmt::format("{}: the manifest of template one is damaged (wrong checksum); `memplate "
                          "pool verify {}` shows what else is",
                          path_, path_));
    EXPECT_THAT(error_of(pool.read_profile(record)),
                ::testing::HasSubstr("the profile of template one is damaged"));
}

/// Changes the catalogue in use and seals it again, as a forger would.
void forge(const std::string& path, const std::function<void(Catalogue&)>& change) {
    const auto medium = must(FileMedium::open(path, OpenMode::read_write));
    Snapshot snapshot = must(load_snapshot(*medium));
    change(snapshot.catalogue);
    const auto bytes = encode(snapshot.catalogue);
    Superblock& s = snapshot.superblock;
    s.catalogue_bytes = bytes.size();
    s.catalogue_crc = crc32c(bytes);
    must(medium->write(bytes, s.slot_offset[s.slot]));
    must(medium->write(encode(s), superblock_offset[snapshot.superblock_index]));
}

TEST_F(PoolDamage, AForgedHashIsFound) {
    forge(path_, [](Catalogue& c) { c.entries[1].hash[0] ^= 1; });
    EXPECT_THAT(must(must(Pool::open(path_)).verify()).damages,
                ::testing::ElementsAre(AllOf(Field(&Damage::template_name, "one"),
                                             Field(&Damage::what, "content hash"))));
}

TEST_F(PoolDamage, SharedPagesAreFound) {
    forge(path_, [](Catalogue& c) { c.entries[2].manifest = c.entries[1].manifest; });
    EXPECT_THAT(must(must(Pool::open(path_)).verify()).damages,
                Contains(AllOf(Field(&Damage::template_name, "two"),
                               Field(&Damage::what, "manifest (shares pages with another part)"))));
}

TEST_F(PoolDamage, VerifyCanBeInterrupted) {
    const Pool pool = must(Pool::open(path_));
    uint64_t calls = 0;
    const auto report = pool.verify([&](uint64_t) -> Result<> {
        if (++calls == 3) return fail(ErrorKind::interrupted, "interrupted");
        return {};
    });
    ASSERT_FALSE(report.has_value());
    EXPECT_EQ(report.error().kind, ErrorKind::interrupted);
    EXPECT_EQ(calls, 3U);
}

}  // namespace
}  // namespace memplate::pool
