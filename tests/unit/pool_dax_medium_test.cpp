// SPDX-License-Identifier: Apache-2.0
//
// Pools in memory that is mapped: reading and writing without signals, creating over what is there,
// and what other hosts see and are refused.
#include "pool_dax_fixture.h"
#include "util/lock.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using PoolDax = PoolDaxTest;

std::vector<std::byte> read(const Pool& pool, PageExtent extent) {
    std::vector<std::byte> data(extent.count * page_size);
    must(pool.read_pages(extent, data));
    return data;
}

TEST_F(PoolDax, WhatIsWrittenIsReadThroughEveryMapping) {
    make_device();
    const auto writer = device();
    const auto reader = device(OpenMode::read_only);
    const auto data = pattern(300, 1);
    must(writer->write(std::span(data).subspan(5, 70000), 12345));
    must(writer->sync());
    std::vector<std::byte> found(70000);
    must(reader->read(found, 12345));
    EXPECT_TRUE(std::ranges::equal(found, std::span(data).subspan(5, 70000)));
    EXPECT_TRUE(std::ranges::equal(reader->mapping().subspan(12345, 70000), found));
    std::vector<std::byte> around(1);
    must(reader->read(around, 12344));
    EXPECT_EQ(around[0], pattern(1024, 4711)[12344]) << "nothing beside it was touched";
    EXPECT_EQ(must(reader->size()), uint64_t{4} << 20);
    EXPECT_EQ(reader->kind(), "dax");
    EXPECT_TRUE(reader->across_hosts());
}

TEST_F(PoolDax, AccessBeyondTheEndIsAnError) {
    make_device();
    const auto medium = device();
    std::vector<std::byte> bytes(4096);
    const uint64_t end = must(medium->size());
    EXPECT_TRUE(medium->read(bytes, end - 4096).has_value());
    EXPECT_EQ(medium->read(bytes, end - 4095).error().code, ENODATA);
    EXPECT_EQ(medium->read(bytes, UINT64_MAX - 10).error().code, ENODATA);
    EXPECT_EQ(medium->write(bytes, end - 4095).error().code, ENODATA);
    EXPECT_TRUE(medium->read({}, end).has_value());
}

TEST_F(PoolDax, MemoryThatIsGoneIsAnErrorAndNotASignal) {
    make_device();
    const auto medium = device();
    // What a damaged page of a device does, a file does when it is cut short.
    ASSERT_EQ(::truncate(path_.c_str(), 1 << 20), 0);
    std::vector<std::byte> bytes(8192);
    EXPECT_TRUE(medium->read(bytes, (1 << 20) - 8192).has_value());
    for (const uint64_t offset : {uint64_t{1} << 20, (uint64_t{1} << 20) - 4096}) {
        EXPECT_THAT(error_of(medium->read(bytes, offset)),
                    HasSubstr("the memory is damaged or gone"));
        EXPECT_THAT(error_of(medium->write(bytes, offset)),
                    HasSubstr("the memory is damaged or gone"));
    }
    EXPECT_EQ(medium->read(bytes, uint64_t{2} << 20).error().code, EIO);
}

TEST_F(PoolDax, AMediumOpenedForReadingIsNeverWritten) {
    (void)create_on_device();
    const std::string before = must(read_file(path_));
    Pool pool = open_device();
    EXPECT_FALSE(Writer::acquire(pool, "test").has_value());
    EXPECT_FALSE(device(OpenMode::read_only)->write(pattern(1, 1), 0).has_value());
    must(pool.verify());
    must(pool.refresh());
    must(pool.info());
    EXPECT_EQ(must(read_file(path_)), before);
}

TEST_F(PoolDax, ThePoolFillsTheDeviceAndCannotGrow) {
    Pool pool = create_on_device();
    const PoolInfo info = must(pool.info());
    EXPECT_EQ(info.size_bytes, uint64_t{4} << 20);
    EXPECT_EQ(info.allocated_bytes, uint64_t{4} << 20);
    EXPECT_EQ(info.medium, "dax");
    EXPECT_TRUE(info.dedup);
    EXPECT_TRUE(info.across_hosts);
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_EQ(error_of(writer.grow(uint64_t{8} << 20)),
              path_ +
                  ": the device has 4 MiB; a pool on it cannot be larger. Make a pool on a "
                  "larger device");
    add_template(writer, "one", 3, 1);
    EXPECT_TRUE(must(open_device().verify()).damages.empty());
}

TEST_F(PoolDax, ReservedPagesAreZeroWhateverTheMemoryHeld) {
    Pool pool = create_on_device();
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("one", "default"));
    const PageExtent extent = must(writer.reserve(300));
    EXPECT_EQ(read(pool, extent), std::vector<std::byte>(300 * page_size));
    must(writer.write_pages(extent.first, pattern(300, 1)));
    must(writer.commit("m", false));
    must(writer.remove("one"));
    EXPECT_EQ(must(writer.gc(no_other_hosts())).freed_pages, 302U);
    must(writer.begin("two", "default"));
    EXPECT_EQ(must(writer.reserve(300)), extent) << "recycled";
    EXPECT_EQ(read(pool, extent), std::vector<std::byte>(300 * page_size));
}

TEST_F(PoolDax, OtherDataIsOnlyOverwrittenByForce) {
    make_device();
    const std::string before = must(read_file(path_));
    EXPECT_EQ(
        error_of(Pool::create_on(device())),
        path_ + ": holds data that is not a pool; --force destroys that and makes a new pool");
    EXPECT_EQ(must(read_file(path_)), before);
    UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
    must(pwrite_all(fd.get(), std::vector<std::byte>(slots_offset), 0));
    EXPECT_TRUE(Pool::create_on(device()).has_value()) << "a blank device needs no force";
}

TEST_F(PoolDax, APoolIsOnlyReplacedByForceAndNotWhileItIsUsed) {
    Pool pool = create_on_device();
    const std::string uuid = pool.uuid();
    TemplateRecord record;
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        record = add_template(writer, "py-200", 2, 1);
        add_template(writer, "zygote", 2, 2);
        CreateOptions force;
        force.force = true;
        EXPECT_THAT(error_of(Pool::create_on(device(), force)), HasSubstr("is being written by"));
    }
    EXPECT_EQ(
        error_of(Pool::create_on(device())),
        fmt::format("{}: holds pool {} with 2 templates: py-200, zygote; --force destroys that "
                    "and makes a new pool",
                    path_, uuid));
    CreateOptions force;
    force.force = true;
    force.no_other_hosts = true;
    {
        const TemplatePin pin = must(pool.pin(record));
        EXPECT_THAT(error_of(Pool::create_on(device(), force)), HasSubstr("are in use"));
    }
    force.pages_in_use = [&](const PageExtent& extent) -> Result<bool> {
        EXPECT_EQ(extent, (PageExtent{0, pool.total_pages()}));
        return true;
    };
    EXPECT_THAT(error_of(Pool::create_on(device(), force)), HasSubstr("are in use"));
    EXPECT_TRUE(must(open_device().verify()).damages.empty()) << "refusals change nothing";
    force.pages_in_use = {};
    must(write_lease(*device(), lease_of_other_host(9)));
    EXPECT_THAT(error_of(Pool::create_on(device(), force)), HasSubstr("on node7"));
    must(write_lease(*device(), LeaseBlock{}));
    force.no_other_hosts = false;
    const Error refusal = Pool::create_on(device(), force).error();
    EXPECT_EQ(refusal.kind, ErrorKind::usage);
    EXPECT_EQ(refusal.message,
              path_ +
                  ": other hosts may use the pool, which cannot be seen from here; when none "
                  "does, `memplate pool create --force --no-other-hosts` destroys it");
    EXPECT_EQ(open_device().uuid(), uuid);
    force.no_other_hosts = true;
    EXPECT_NE(must(Pool::create_on(device(), force)).uuid(), uuid);
    EXPECT_TRUE(open_device().templates().empty());
}

TEST_F(PoolDax, ABlankDeviceWhosePagesAreInUseIsLeftAlone) {
    make_device();
    UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
    must(pwrite_all(fd.get(), std::vector<std::byte>(slots_offset), 0));
    const uint64_t pages = must(device()->size()) / page_size;
    CreateOptions options;
    options.pages_in_use = [&](const PageExtent& extent) -> Result<bool> {
        EXPECT_EQ(extent, (PageExtent{0, pages}));
        return true;
    };
    EXPECT_THAT(error_of(Pool::create_on(device(), options)), HasSubstr("are in use"));
}

TEST_F(PoolDax, AFailedCreationLeavesNoPool) {
    // Cut short in the middle: superblocks come last.
    make_device(uint64_t{1} << 20);
    const auto medium = device();
    ASSERT_EQ(::truncate(path_.c_str(), 200000), 0);
    CreateOptions force;
    force.force = true;
    EXPECT_FALSE(Pool::create_on(medium, force).has_value());
    ASSERT_EQ(::truncate(path_.c_str(), 1 << 20), 0);
    EXPECT_THAT(error_of(Pool::open(device())), HasSubstr("not a pool"));
}

TEST_F(PoolDax, TheStateChangesWithEveryCommitAndWithNothingElse) {
    Pool pool = create_on_device();
    const Pool reader = open_device();
    const std::string before = must(reader.state());
    EXPECT_THAT(before, StartsWith("dax:"));
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("one", "default"));
    must(writer.reserve(5));
    EXPECT_EQ(must(reader.state()), before) << "the lease and uncommitted pages do not count";
    must(writer.commit("m", false));
    const std::string after = must(reader.state());
    EXPECT_NE(after, before);
    EXPECT_EQ(must(open_device().state()), after) << "the same through another mapping";
}

TEST_F(PoolDax, ReadersFollowAWriterInAnotherMapping) {
    Pool pool = create_on_device();
    Pool reader = open_device();
    Writer writer = must(Writer::acquire(pool, "test"));
    const TemplateRecord record = add_template(writer, "one", 20, 1);
    EXPECT_TRUE(reader.templates().empty());
    must(reader.refresh());
    EXPECT_EQ(must(reader.find("one")).hash, record.hash);
    EXPECT_EQ(must(reader.read_manifest(record)), "manifest of one with seed 1");
    EXPECT_TRUE(must(reader.verify_template(record)).damages.empty());
    EXPECT_THAT(must(reader.info()).lease_holder, HasSubstr("(test), since"));
}

TEST_F(PoolDax, DamageIsFoundAndNamed) {
    TemplateRecord record;
    {
        Pool pool = create_on_device();
        Writer writer = must(Writer::acquire(pool, "test"));
        record = add_pages(writer, "one", "default", pattern(20, 1));
    }
    const Pool pool = open_device();
    flip(pool.byte_offset(3) + 99);
    const VerifyReport report = must(pool.verify_template(record));
    ASSERT_EQ(report.damages.size(), 1U);
    EXPECT_EQ(report.damages[0].what, "extent 0");
}

TEST_F(PoolDax, LocksBelongToTheDevice) {
    Pool pool = create_on_device();
    Pool second = open_device(OpenMode::read_write);
    const Writer writer = must(Writer::acquire(pool, "test"));
    const auto refused = Writer::acquire(second, "test");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, EBUSY);
    EXPECT_THAT(refused.error().message, HasSubstr("is being written by pid"));
}

TEST_F(PoolDax, AWriterOnAnotherHostIsRespected) {
    Pool pool = create_on_device();
    const auto medium = device();
    must(write_lease(*medium, lease_of_other_host(5)));
    const auto refused = Writer::acquire(pool, "test");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, EBUSY);
    EXPECT_THAT(refused.error().message,
                StartsWith(fmt::format("{}: the pool is being written by pid {} on node7 (memplate "
                                       "template build), since ",
                                       path_, ::getpid())));
    EXPECT_THAT(refused.error().message,
                EndsWith(fmt::format("; if that host has gone down or restarted since, take over "
                                     "with `memplate pool break-lease {} --host node7`",
                                     path_)));
    EXPECT_THAT(must(pool.info()).lease_holder, HasSubstr("on node7"));
    EXPECT_FALSE(Writer::acquire(pool, "test", {"node8"}).has_value()) << "another host is named";
    {
        const Writer writer = must(Writer::acquire(pool, "test", {"node7"}));
        EXPECT_GT(must(read_lease(*medium))->epoch, 5U);
    }
    EXPECT_TRUE(Writer::acquire(pool, "test").has_value()) << "broken for good";
}

TEST_F(PoolDax, AReleasedLeaseOfAnotherHostIsFree) {
    Pool pool = create_on_device();
    must(write_lease(*device(), lease_of_other_host(5, false)));
    EXPECT_TRUE(Writer::acquire(pool, "test").has_value());
}

TEST_F(PoolDax, ADamagedLeaseBlockHasToBeBrokenExplicitly) {
    Pool pool = create_on_device();
    const auto medium = device();
    must(medium->write(pattern(1, 3), lease_offset));
    EXPECT_EQ(
        error_of(Writer::acquire(pool, "test")),
        fmt::format("{0}: the lease block is damaged, so it is not known whether another host "
                    "writes to the pool; if none does, `memplate pool break-lease {0} --host "
                    "unknown`",
                    path_));
    {
        const Writer writer = must(Writer::acquire(pool, "test", {"unknown"}));
    }
    EXPECT_TRUE(must(open_device().verify()).damages.empty());
    EXPECT_TRUE(Writer::acquire(pool, "test").has_value());
}

TEST_F(PoolDax, AWriterWhoseLeaseWasTakenOverStops) {
    Pool pool = create_on_device();
    const auto medium = device();
    Writer writer = must(Writer::acquire(pool, "test"));
    must(writer.begin("one", "default"));
    must(writer.reserve(1));
    // The same epoch: two hosts may have counted from the same one.
    must(write_lease(*medium, lease_of_other_host(must(read_lease(*medium))->epoch)));
    const std::string message =
        path_ + ": host node7 has taken the lease over; nothing was committed";
    EXPECT_EQ(error_of(writer.reserve(1)), message);
    EXPECT_EQ(error_of(writer.commit("m", false)), message);
    must(writer.begin("one", "default"));
    EXPECT_EQ(error_of(writer.add_pages(pattern(1, 1))), message);
    EXPECT_TRUE(open_device().templates().empty());
}

/// Another host takes the lease while this one waits for it to settle.
class ContendedMedium : public DaxMedium {
  public:
    using DaxMedium::DaxMedium;
    Result<> sync() override {
        if (!rival) return DaxMedium::sync();
        const LeaseBlock lease = *std::exchange(rival, std::nullopt);
        return write_lease(*this, lease);
    }
    std::optional<LeaseBlock> rival;
};

TEST_F(PoolDax, OfTwoHostsAtTheSameMomentOneWins) {
    (void)create_on_device();
    UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
    SharedMapping mapping =
        must(SharedMapping::create(fd.get(), uint64_t{4} << 20, OpenMode::read_write, path_));
    const auto medium = std::make_shared<ContendedMedium>(std::move(fd), std::move(mapping), path_,
                                                          OpenMode::read_write);
    Pool pool = must(Pool::open(medium));
    medium->rival = lease_of_other_host(7);
    EXPECT_THAT(error_of(Writer::acquire(pool, "test")),
                HasSubstr("took the lease at the same moment; try again later"));
    EXPECT_EQ(must(read_lease(*medium))->host, "node7") << "the winner's lease stays";
}

TEST_F(PoolDax, ACommitCutOffOnAnotherHostIsRepairedByBreakingItsLease) {
    Pool pool = create_on_device();
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "one", 3, 1);
    }
    const auto medium = device();
    const Snapshot snapshot = must(load_snapshot(*medium));
    must(write_lease(*medium, lease_of_other_host(9)));
    must(medium->write(pattern(1, 99),
                       snapshot.superblock.slot_offset[1 - snapshot.superblock.slot]));
    EXPECT_TRUE(must(open_device().verify()).damages.empty()) << "unfinished is not damaged";
    {
        const Writer writer = must(Writer::acquire(pool, "test", {"node7"}));
    }
    const Pool after = open_device();
    EXPECT_TRUE(must(after.info()).warnings.empty());
    EXPECT_TRUE(must(load_snapshot(*medium)).whole());
    must(after.find("one"));
}

TEST_F(PoolDax, GcNeedsToKnowThatNoOtherHostUsesRemovedTemplates) {
    Pool pool = create_on_device();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "one", 10, 1);
    must(writer.remove("one"));
    auto report = must(writer.gc());
    EXPECT_EQ(report.freed_pages, 0U);
    EXPECT_EQ(report.other_hosts_pages, 22U);
    EXPECT_EQ(must(pool.info()).retired_pages, 22U);
    report = must(writer.gc(no_other_hosts()));
    EXPECT_EQ(report.freed_pages, 22U);
    EXPECT_EQ(report.other_hosts_pages, 0U);
    EXPECT_EQ(must(pool.info()).retired_pages, 0U);
}

TEST_F(PoolDax, GcKeepsWhatRunningProcessesHoldWithoutAPin) {
    Pool pool = create_on_device();
    Writer writer = must(Writer::acquire(pool, "test"));
    add_template(writer, "held", 10, 1);
    add_template(writer, "free", 5, 2);
    const PageExtent held = [&] {
        const auto medium = device();
        const Snapshot snapshot = must(load_snapshot(*medium));
        return must(read_extent_table(*medium, snapshot.superblock,
                                      *snapshot.catalogue.live("held")))
            .pieces.front()
            .extent;
    }();
    must(writer.remove("held"));
    must(writer.remove("free"));
    GcOptions options = no_other_hosts();
    options.pages_in_use = [&](const PageExtent& extent) -> Result<bool> {
        return extent.first <= held.first && held.first < extent.first + extent.count;
    };
    auto report = must(writer.gc(options));
    EXPECT_EQ(report.freed_pages, 12U);
    EXPECT_EQ(report.still_in_use_pages, 22U);
    EXPECT_EQ(read(pool, {held.first, 10}), pattern(10, 1));
    options.pages_in_use = [](const PageExtent&) -> Result<bool> {
        return fail("the module does not answer");
    };
    EXPECT_EQ(error_of(writer.gc(options)), "the module does not answer");
    options.pages_in_use = {};
    EXPECT_EQ(must(writer.gc(options)).freed_pages, 22U);
}

}  // namespace
}  // namespace memplate::pool
