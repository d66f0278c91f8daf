// SPDX-License-Identifier: Apache-2.0
//
// Creating, opening and removing pools; the line each refusal prints.
#include <sys/stat.h>

#include "pool/bytes.h"
#include "pool_fixture.h"
#include "util/hash.h"
#include "util/lock.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::HasSubstr;

class PoolOpen : public PoolTest {
  protected:
    [[nodiscard]] std::string open_error() const { return error_of(Pool::open(path_)); }
    void put(uint64_t offset, std::span<const std::byte> bytes) const {
        const UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR | O_CREAT, 0600));
        must(pwrite_all(fd.get(), bytes, offset));
    }
    void put(uint64_t offset, std::string_view text) const { put(offset, bytes_of(text)); }
    /// Replaces both superblocks by ones of format version `version`.
    void set_version(uint64_t offset, uint32_t version) const {
        Block block{};
        const UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
        must(pread_exact(fd.get(), block, offset));
        store<uint32_t>(block, 8, version);
        store<uint32_t>(block, 4092, crc32c(std::span(block).first(4092)));
        must(pwrite_all(fd.get(), block, offset));
    }
};

TEST_F(PoolOpen, ANewPoolIsEmptySparseAndPrivate) {
    const Pool pool = create(uint64_t{64} << 20);
    const PoolInfo info = must(pool.info());
    EXPECT_EQ(info.path, path_);
    EXPECT_EQ(info.medium, "file");
    EXPECT_EQ(info.format_version, 1U);
    EXPECT_EQ(info.size_bytes, uint64_t{64} << 20);
    EXPECT_EQ(info.total_pages, (info.size_bytes - 12288 - 2 * min_slot_bytes) / page_size);
    EXPECT_EQ(info.used_pages, 0U);
    EXPECT_EQ(info.lease_holder, "");
    EXPECT_LT(info.allocated_bytes, uint64_t{1} << 20);
    EXPECT_EQ(info.uuid.size(), 36U);
    EXPECT_THAT(info.warnings, ::testing::IsEmpty());
    EXPECT_TRUE(pool.templates().empty());
    EXPECT_EQ(std::filesystem::file_size(path_), uint64_t{64} << 20);
    struct stat st{};
    ASSERT_EQ(::stat(path_.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600U);
    EXPECT_TRUE(must(pool.verify()).damages.empty());
    EXPECT_EQ(must(list_directory(AT_FDCWD, directory_.path())), std::vector<std::string>{"pool"});
}

TEST_F(PoolOpen, TwoPoolsDiffer) {
    const std::string uuid = must(create().info()).uuid;
    const Pool other = must(Pool::create(directory_.path() + "/other", min_pool_bytes));
    EXPECT_NE(must(other.info()).uuid, uuid);
}

TEST_F(PoolOpen, CreateRefusesAnExistingPath) {
    put(0, "precious");
    EXPECT_EQ(error_of(Pool::create(path_, min_pool_bytes)),
              path_ +
                  ": exists already; choose another path, or remove it first with `memplate pool "
                  "rm " +
                  path_ + "`");
    EXPECT_EQ(must(read_file(path_)), "precious");
    std::filesystem::remove(path_);
    std::filesystem::create_symlink("nowhere", path_);
    EXPECT_THAT(error_of(Pool::create(path_, min_pool_bytes)), HasSubstr("exists already"));
}

TEST_F(PoolOpen, CreateRefusesImpossibleSizes) {
    for (const uint64_t size : {uint64_t{0}, min_pool_bytes - 1, max_pool_bytes + 1, UINT64_MAX}) {
        const auto pool = Pool::create(path_, size);
        ASSERT_FALSE(pool.has_value());
        EXPECT_EQ(pool.error().kind, ErrorKind::usage);
        EXPECT_THAT(pool.error().message, HasSubstr("is not possible"));
    }
    EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(PoolOpen, CreateNamesAMissingDirectory) {
    EXPECT_THAT(error_of(Pool::create(directory_.path() + "/none/pool", min_pool_bytes)),
                HasSubstr("No such file or directory"));
}

TEST_F(PoolOpen, Missing) {
    EXPECT_EQ(open_error(), path_ + ": no such pool; create it with `memplate pool create " +
                                path_ + " --size 4G`");
}

TEST_F(PoolOpen, Directory) {
    EXPECT_EQ(error_of(Pool::open(directory_.path())),
              directory_.path() + ": is a directory, not a pool file");
    EXPECT_EQ(error_of(Pool::open(directory_.path(), OpenMode::read_write)),
              directory_.path() + ": is a directory, not a pool file");
}

TEST_F(PoolOpen, FifoDoesNotHang) {
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    EXPECT_EQ(open_error(), path_ + ": is not a regular file, so not a pool");
}

TEST_F(PoolOpen, Empty) {
    put(0, "");
    EXPECT_EQ(open_error(), path_ + ": the file is empty, not a pool");
}

TEST_F(PoolOpen, Foreign) {
    put(0, "hello");
    EXPECT_EQ(open_error(), path_ + ": not a pool: it does not begin with \"MEMPLATE\"");
    put(0, std::string(100000, 'x'));
    EXPECT_EQ(open_error(), path_ + ": not a pool: it does not begin with \"MEMPLATE\"");
}

TEST_F(PoolOpen, Truncated) {
    (void)create();
    std::filesystem::resize_file(path_, min_pool_bytes - 1);
    EXPECT_EQ(open_error(), path_ +
                                ": truncated: the file has 1048575 bytes, its superblock says "
                                "1048576; restore it from a copy");
    std::filesystem::resize_file(path_, 5000);
    EXPECT_EQ(open_error(), path_ +
                                ": truncated: the file has 5000 bytes, a pool at least 1048576; "
                                "restore it from a copy");
}

TEST_F(PoolOpen, FutureVersion) {
    (void)create();
    set_version(4096, 7);  // the newer one
    const auto pool = Pool::open(path_);
    ASSERT_FALSE(pool.has_value());
    EXPECT_EQ(pool.error().kind, ErrorKind::unsupported);
    EXPECT_EQ(pool.error().message, path_ +
                                        ": the pool has format version 7, this memplate reads up "
                                        "to version 1; use a newer memplate");
    set_version(0, 7);
    EXPECT_THAT(open_error(), HasSubstr("format version 7"));
}

TEST_F(PoolOpen, BothSuperblocksDamaged) {
    (void)create();
    flip(100);
    EXPECT_TRUE(Pool::open(path_).has_value());
    flip(4096 + 100);
    EXPECT_EQ(open_error(), path_ +
                                ": both superblocks are damaged (wrong checksum); the pool cannot "
                                "be read, build it anew");
}

TEST_F(PoolOpen, BothCataloguesDamaged) {
    (void)create();
    flip(slots_offset + 8);
    EXPECT_TRUE(Pool::open(path_).has_value());
    flip(slots_offset + min_slot_bytes + 8);
    EXPECT_EQ(open_error(), path_ +
                                ": both catalogues are damaged (wrong checksum); the pool cannot "
                                "be read, build it anew");
}

TEST_F(PoolOpen, ADamagedMagicIsDamageNotAForeignFile) {
    (void)create();
    flip(0);
    EXPECT_TRUE(Pool::is_pool(path_));
    const Pool pool = must(Pool::open(path_));
    EXPECT_THAT(must(pool.info()).warnings,
                ::testing::ElementsAre("superblock 0 (byte 0, 4096 bytes) is damaged"));
}

TEST_F(PoolOpen, FallsBackToTheGenerationBefore) {
    {
        Pool pool = create();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "old", 2, 1);
        add_template(writer, "new", 2, 2);
    }
    const uint64_t generation = must(must(Pool::open(path_)).info()).generation;
    const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
    const Superblock newest = must(load_snapshot(*medium)).superblock;
    flip(newest.slot_offset[newest.slot] + 70);
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    const PoolInfo info = must(pool.info());
    EXPECT_EQ(info.generation, generation - 1);
    EXPECT_EQ(info.warnings.size(), 2U);
    EXPECT_THAT(info.warnings.back(), HasSubstr("the previous catalogue"));
    ASSERT_EQ(pool.templates().size(), 1U);
    EXPECT_EQ(pool.templates()[0].name, "old");
    EXPECT_FALSE(must(pool.verify()).damages.empty());
    // The next writer repairs it, above the lost generation and with ids that were never used.
    Writer writer = must(Writer::acquire(pool, "test"));
    EXPECT_TRUE(must(pool.verify()).damages.empty());
    EXPECT_EQ(must(pool.info()).generation, generation + 1);
    EXPECT_EQ(add_template(writer, "next", 1, 3).id, 4U);
}

TEST_F(PoolOpen, RepairWaitsForInstancesOfTheLostGeneration) {
    {
        Pool pool = create();
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "lost", 2, 1);
    }
    auto pin = [&] {
        const Pool pool = must(Pool::open(path_));
        return must(pool.pin(must(pool.find("lost"))));
    }();
    const auto medium = must(FileMedium::open(path_, OpenMode::read_only));
    const Superblock newest = must(load_snapshot(*medium)).superblock;
    flip(newest.slot_offset[newest.slot] + 70);
    Pool pool = must(Pool::open(path_, OpenMode::read_write));
    EXPECT_THAT(error_of(Writer::acquire(pool, "test")),
                HasSubstr("instances still use templates that only it lists"));
    pin = TemplatePin(UniqueFd());
    EXPECT_TRUE(Writer::acquire(pool, "test").has_value());
}

TEST_F(PoolOpen, RemoveDeletesPoolsOnly) {
    (void)create();
    must(Pool::remove(path_));
    EXPECT_FALSE(std::filesystem::exists(path_));
    EXPECT_THAT(error_of(Pool::remove(path_)), HasSubstr("no such pool"));
    put(0, "precious");
    EXPECT_EQ(error_of(Pool::remove(path_)), path_ + ": not a pool; it is left alone");
    EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(PoolOpen, RemoveDeletesDamagedPoolsToo) {
    (void)create();
    flip(100);
    flip(4096 + 100);
    must(Pool::remove(path_));
    EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(PoolOpen, RemoveIsRefusedWhileThePoolIsUsed) {
    Pool pool = create();
    {
        Writer writer = must(Writer::acquire(pool, "memplate template build"));
        add_template(writer, "one", 1, 1);
        EXPECT_THAT(error_of(Pool::remove(path_)), HasSubstr("the pool is being written by"));
    }
    {
        const TemplatePin pin = must(pool.pin(must(pool.find("one"))));
        EXPECT_EQ(error_of(Pool::remove(path_)),
                  path_ +
                      ": templates of the pool are in use; stop the instances first (`memplate ps` "
                      "lists them)");
    }
    EXPECT_TRUE(std::filesystem::exists(path_));
    must(Pool::remove(path_));
}

TEST_F(PoolOpen, ReadingATruncatedPoolIsAnErrorNotASignal) {
    Pool pool = create();
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "one", 4, 1);
    }
    const TemplateRecord record = must(pool.find("one"));
    std::filesystem::resize_file(path_, 600000U / 4096 * 4096);
    std::vector<std::byte> page(page_size);
    EXPECT_THAT(error_of(pool.read_pages({100, 1}, page)), HasSubstr("file ends at byte"));
    EXPECT_THAT(error_of(pool.verify()), HasSubstr("truncated"));
    EXPECT_THAT(error_of(pool.pin(record)), ::testing::AnyOf("no error", HasSubstr("truncated")));
    EXPECT_THAT(error_of(pool.refresh()), ::testing::AnyOf("no error", HasSubstr("truncated")));
}

TEST_F(PoolOpen, ReadPagesIsBoundsChecked) {
    const Pool pool = create();
    const uint64_t total = must(pool.info()).total_pages;
    std::vector<std::byte> page(page_size);
    EXPECT_TRUE(pool.read_pages({total - 1, 1}, page).has_value());
    EXPECT_THAT(error_of(pool.read_pages({total, 1}, page)), HasSubstr("outside the pool"));
    EXPECT_THAT(error_of(pool.read_pages({UINT64_MAX, 1}, page)), HasSubstr("outside the pool"));
    EXPECT_THAT(error_of(pool.read_pages({0, UINT64_MAX}, page)), HasSubstr("outside the pool"));
    EXPECT_THAT(error_of(pool.read_pages({0, 2}, page)), HasSubstr("for 2 pages"));
}

}  // namespace
}  // namespace memplate::pool
