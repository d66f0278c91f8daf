// SPDX-License-Identifier: Apache-2.0
//
// Power loss under a pool file.
#include "pool_crash_fixture.h"

namespace memplate::pool {
namespace {

using namespace test;

class PoolCrash : public PoolCrashTest {
  protected:
    PoolCrash() : PoolCrashTest(512, 3) {
        Pool pool = create();
        fill(pool);
    }

    [[nodiscard]] std::shared_ptr<Medium> medium_of(const Image& contents) const override {
        UniqueFd fd(::memfd_create("pool", MFD_CLOEXEC));
        must(pwrite_all(fd.get(), contents, 0));
        return std::make_shared<FileMedium>(std::move(fd), "crashed", OpenMode::read_write);
    }

    [[nodiscard]] std::shared_ptr<Medium> recording_medium() override {
        auto medium = std::make_shared<RecordingMedium<FileMedium>>(
            must(open_at(AT_FDCWD, path_, O_RDWR)), path_, OpenMode::read_write);
        operations_ = &medium->operations;
        return medium;
    }
};

TEST_F(PoolCrash, InACommit) {
    crash_anywhere_in([](Writer& writer) { add_template(writer, "new", 4, 5); });
    EXPECT_GT(states_, 100U);
}

TEST_F(PoolCrash, InAReplacingCommit) {
    crash_anywhere_in([](Writer& writer) { add_template(writer, "base", 4, 5, true); });
}

TEST_F(PoolCrash, InStoringAProfile) {
    crash_anywhere_in([](Writer& writer) { must(writer.store_profile("base", "second")); });
}

TEST_F(PoolCrash, InARemoval) {
    crash_anywhere_in([](Writer& writer) { must(writer.remove("other")); });
}

TEST_F(PoolCrash, InGc) {
    crash_anywhere_in([](Writer& writer) { must(writer.gc(for_sure)); });
}

TEST_F(PoolCrash, InGrowing) {
    crash_anywhere_in([](Writer& writer) { must(writer.grow(min_pool_bytes + 65536)); });
}

TEST_F(PoolCrash, InAWriterThatDidNothing) {
    crash_anywhere_in([](Writer&) {});
}

TEST_F(PoolCrash, InTheRepairAfterACrash) {
    // The first writer dies with half a catalogue written.
    const auto medium = must(FileMedium::open(path_, OpenMode::read_write));
    const Snapshot snapshot = must(load_snapshot(*medium));
    LeaseBlock lease = *snapshot.lease;
    lease.held = true;
    must(medium->write(encode(lease), lease_offset));
    const uint64_t slot = snapshot.superblock.slot_offset[1 - snapshot.superblock.slot];
    must(medium->write(pattern(1, 99), slot));
    const Pool pool = must(Pool::open(path_));
    EXPECT_EQ(must(pool.info()).warnings,
              std::vector<std::string>{
                  "the last writer did not finish; the next one repairs what it left"});
    EXPECT_TRUE(must(pool.verify()).damages.empty());
    crash_anywhere_in([](Writer& writer) { add_template(writer, "new", 4, 5); });
}

/// Fails one write, as a file system that is full for a moment would.
class FailingMedium : public FileMedium {
  public:
    using FileMedium::FileMedium;
    Result<> write(std::span<const std::byte> data, uint64_t offset) override {
        if (writes_left-- == 0) return fail_errno(ENOSPC, path());
        return FileMedium::write(data, offset);
    }
    int writes_left = 1 << 30;
};

TEST_F(PoolCrash, AWriteThatFailsLeavesTheOldCatalogue) {
    const std::string before = describe(must(Pool::open(path_)));
    int failures = 0;
    for (int n = 0; n < 8; ++n) {
        {
            const auto medium = std::make_shared<FailingMedium>(
                must(open_at(AT_FDCWD, path_, O_RDWR)), path_, OpenMode::read_write);
            Pool pool = must(Pool::open(medium));
            Writer writer = must(Writer::acquire(pool, "test"));
            must(writer.begin("new", "default"));
            const PageExtent extent = must(writer.reserve(2));
            medium->writes_left = n;
            const auto written = writer.write_pages(extent.first, pattern(2, 8));
            const auto record =
                written ? writer.commit("m", false) : std::unexpected(written.error());
            if (record) break;  // n writes are enough
            ++failures;
            EXPECT_EQ(record.error().code, ENOSPC);
            EXPECT_FALSE(writer.commit("m", false)) << "the template is dropped";
        }
        Pool pool = must(Pool::open(path_, OpenMode::read_write));
        EXPECT_EQ(describe(pool), before) << n;
        expect_whole(pool, fmt::format("{} writes", n));
        Writer writer = must(Writer::acquire(pool, "test"));
        must(writer.store_profile("base", "first profile"));
        expect_whole(pool, fmt::format("{} writes, repaired", n));
    }
    EXPECT_EQ(failures, 5) << "data, manifest, extent table, catalogue, superblock";
}

TEST_F(PoolCrash, AfterAFailedCommitTheWriterIsOfNoUse) {
    const auto medium = std::make_shared<FailingMedium>(must(open_at(AT_FDCWD, path_, O_RDWR)),
                                                        path_, OpenMode::read_write);
    Pool pool = must(Pool::open(medium));
    Writer writer = must(Writer::acquire(pool, "test"));
    medium->writes_left = 0;
    EXPECT_FALSE(writer.remove("base"));
    medium->writes_left = 100;
    EXPECT_EQ(error_of(writer.remove("base")),
              path_ + ": an earlier write to the pool failed; open the pool again");
    EXPECT_FALSE(writer.begin("new", "default"));
    EXPECT_FALSE(writer.gc());
}

}  // namespace
}  // namespace memplate::pool
