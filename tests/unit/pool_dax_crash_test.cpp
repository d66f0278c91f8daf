// SPDX-License-Identifier: Apache-2.0
//
// Power loss under a pool on a device: what reaches it whole are cache lines, pages are shared, and
// the memory was full of other data before.
#include "pool_crash_fixture.h"
#include "pool_dax_fixture.h"

namespace memplate::pool {
namespace {

using namespace test;

constexpr uint64_t device_bytes = uint64_t{1} << 20;

class PoolDaxCrash : public PoolCrashTest {
  protected:
    // Taking the lease across hosts takes its time: fewer writers than on files.
    PoolDaxCrash() : PoolCrashTest(64, 20) {
        UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR | O_CREAT, 0600));
        must(pwrite_all(fd.get(), pattern(device_bytes / page_size, 4711), 0));
        CreateOptions options;
        options.force = true;
        Pool pool = must(Pool::create_on(
            must(DaxMedium::over(std::move(fd), path_, OpenMode::read_write, device_bytes)),
            options));
        fill(pool);
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "dedup", "default", pattern(6, 6));
    }

    [[nodiscard]] std::shared_ptr<Medium> medium_of(const Image& contents) const override {
        UniqueFd fd(::memfd_create("pool", MFD_CLOEXEC));
        must(pwrite_all(fd.get(), contents, 0));
        return must(
            DaxMedium::over(std::move(fd), "crashed", OpenMode::read_write, contents.size()));
    }

    [[nodiscard]] std::shared_ptr<Medium> recording_medium() override {
        UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
        SharedMapping mapping =
            must(SharedMapping::create(fd.get(), device_bytes, OpenMode::read_write, path_));
        auto medium = std::make_shared<RecordingMedium<DaxMedium>>(
            std::move(fd), std::move(mapping), path_, OpenMode::read_write);
        operations_ = &medium->operations;
        return medium;
    }
};

TEST_F(PoolDaxCrash, InACommit) {
    crash_anywhere_in([](Writer& writer) { add_template(writer, "new", 4, 5); });
    EXPECT_GT(states_, 100U);
}

TEST_F(PoolDaxCrash, InACommitThatSharesPages) {
    // Pages of another template, pages of its own, and pages that were free before.
    auto data = pattern(4, 6);
    const auto more = pattern(5, 77);
    data.insert(data.end(), more.begin(), more.end());
    crash_anywhere_in([&](Writer& writer) { add_pages(writer, "new", "default", data); });
}

TEST_F(PoolDaxCrash, InTheRemovalOfTheTemplateThatStoredThePages) {
    {
        Pool pool = must(Pool::open(recording_medium()));
        Writer writer = must(Writer::acquire(pool, "test"));
        add_pages(writer, "second", "default", pattern(6, 6));
    }
    crash_anywhere_in([](Writer& writer) { must(writer.remove("dedup")); });
    seen_.clear();
    crash_anywhere_in([](Writer& writer) { must(writer.gc(for_sure)); });
}

TEST_F(PoolDaxCrash, InStoringAProfile) {
    crash_anywhere_in([](Writer& writer) { must(writer.store_profile("base", "second")); });
}

TEST_F(PoolDaxCrash, InAWriterThatDidNothing) {
    crash_anywhere_in([](Writer&) {});
}

TEST_F(PoolDaxCrash, AHalfWrittenLeaseLeavesTheOtherCopy) {
    Image image_before = image();
    const auto medium = recording_medium();
    Pool pool = must(Pool::open(medium));
    {
        const Writer writer = must(Writer::acquire(pool, "test"));
    }
    unsigned leases = 0;
    for (const Operation& operation : *operations_) {
        if (operation.kind == Operation::Kind::sync) continue;
        EXPECT_TRUE(operation.offset >= lease_offset && operation.offset < slots_offset);
        ++leases;
        // Cut after every cache line.
        for (size_t lines = 0; lines <= lease_bytes / 64; ++lines) {
            Image state = image_before;
            size_t line = 0;
            apply(state, operation, 64, [&] { return line++ < lines; });
            Pool crashed = must(Pool::open(medium_of(state)));
            EXPECT_TRUE(must(crashed.verify()).damages.empty()) << lines << " lines";
            const auto writer = Writer::acquire(crashed, "test");
            EXPECT_TRUE(writer.has_value()) << writer.error().message;
        }
        apply(image_before, operation, 64);
    }
    EXPECT_EQ(leases, 2U) << "taken and given back";
}

}  // namespace
}  // namespace memplate::pool
