// SPDX-License-Identifier: Apache-2.0
//
// Storing a directory of images. What engines make of it is in engine_images_test.cpp.
#include "image_fixture.h"
#include "template/store.h"
#include "template/template.h"

namespace memplate {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The pages that the manifest calls present.
Memory memory_of(const Template& tmpl, int process) {
    Memory result;
    const auto& pages = tmpl.manifest.processes(process);
    for (const auto& stretch : pages.present()) {
        for (uint64_t n = 0; n < stretch.pages(); ++n) {
            const uint64_t vaddr = stretch.vaddr() + n * page_size;
            for (const auto& run : pages.runs()) {
                if (vaddr < run.vaddr() || vaddr >= run.vaddr() + run.pages() * page_size) continue;
                std::string page(page_size, 'x');
                must(tmpl.pages.read(run.page() + (vaddr - run.vaddr()) / page_size,
                                     writable_bytes_of(page)));
                result[vaddr] = page;
            }
        }
    }
    return result;
}

struct Stored {
    MemfdPageStore store = must(MemfdPageStore::create());
    Template tmpl;

    explicit Stored(const ImageDirectory& directory, const StoreProgress& progress = {}) {
        must(store_images(directory.fd(), must(directory.load()), {}, store, tmpl.manifest,
                          progress));
        tmpl.manifest.set_version(manifest_version);
        tmpl.pages = store.source();
        must(validate(tmpl.manifest, tmpl.pages));
    }

    [[nodiscard]] Memory memory(int process) const { return memory_of(tmpl, process); }
};

std::vector<std::string> image_names(const Template& tmpl) {
    std::vector<std::string> names;
    for (const auto& image : tmpl.manifest.images()) names.push_back(image.name());
    return names;
}

TEST(TemplateStore, StoresEveryPageOfEveryProcess) {
    TestProcess root{.areas = {area(0, 1000), area(1000, 50), file_area(2000, 50, 1, 0)}};
    root.fill(0, 600, 'a');
    root.fill(610, 300, 'b');
    root.fill(990, 20, 'c');
    root.fill(2001, 3, 'd');
    TestProcess child{.pid = 101, .parent = 100, .areas = {area(0, 10)}};
    child.pages_id = 2;
    child.fill(3, 2, 'e');
    ImageDirectory directory;
    directory.fill({root, child});
    const Stored stored(directory);
    EXPECT_EQ(stored.memory(0), root.memory);
    EXPECT_EQ(stored.memory(1), child.memory);
}

TEST(TemplateStore, HolesReadAsZeros) {
    TestProcess process{.areas = {area(0, 40)}};
    process.fill(0, 2, 'a');
    process.fill(10, 2, 'b');
    ImageDirectory directory;
    directory.fill({process});
    const Stored stored(directory);
    const auto& run = stored.tmpl.manifest.processes(0).runs(0);
    ASSERT_EQ(run.pages(), 12U);
    std::string hole(8 * page_size, 'x');
    must(stored.tmpl.pages.read(run.page() + 2, writable_bytes_of(hole)));
    EXPECT_EQ(hole, std::string(8 * page_size, '\0'));
}

TEST(TemplateStore, APoolWithDedupStoresEqualPagesOnce) {
    TestProcess one{.areas = {area(0, 40)}};
    one.fill(0, 12, 'a');
    one.memory[at(3)] = one.memory[at(9)];
    one.fill(20, 6, 'b');
    TestProcess two = one;
    two.fill(8, 1, 'c');

    const auto folder = must(TemporaryDirectory::create(::testing::TempDir(), "pool"));
    pool::Pool pool =
        must(pool::Pool::create(folder.path() + "/pool", uint64_t{4} << 20, {.dedup = true}));
    pool::Writer writer = must(pool::Writer::acquire(pool, "test"));
    const auto store = [&](const TestProcess& process) {
        ImageDirectory directory;
        directory.fill({process});
        must(writer.begin(fmt::format("t{}", pool.templates().size()), "default"));
        PoolPageStore pages(writer);
        Template tmpl;
        must(store_images(directory.fd(), must(directory.load()), {}, pages, tmpl.manifest, {}));
        tmpl.manifest.set_version(manifest_version);
        tmpl.pages = must(PageSource::of(pool));
        must(writer.commit(tmpl.manifest.SerializeAsString(), false));
        must(validate(tmpl.manifest, tmpl.pages));
        EXPECT_EQ(memory_of(tmpl, 0), process.memory);
        EXPECT_THAT(tmpl.pages.not_mappable, HasSubstr("--dedup"));
        return must(pool.info()).dedup_saved_pages;
    };
    EXPECT_EQ(store(one), 1U);
    EXPECT_EQ(store(two), 1U + 17U);
}

TEST(TemplateStore, KeepsTheOtherImagesByteForByte) {
    TestProcess process{.areas = {area(0, 10)}};
    process.fill(0, 2, 'a');
    ImageDirectory directory;
    directory.fill({process});
    directory.put("tmpfs-dev-1.tar.gz.img", std::string(256 * page_size + 17, 'z'));
    directory.put("empty.img", "");
    directory.put("pagemap-shmem-5.img", "shared memory");
    directory.put("pages-9.img", std::string(page_size, 's'));
    directory.put("stats-dump", "statistics");
    directory.put("stats-dump.img", "statistics");
    directory.put("dump.log", "log");
    const Stored stored(directory);
    EXPECT_THAT(
        image_names(stored.tmpl),
        ElementsAre("core-100.img", "empty.img", "files.img", "inventory.img", "mm-100.img",
                    "pagemap-shmem-5.img", "pages-9.img", "pstree.img", "tmpfs-dev-1.tar.gz.img"));
    for (const auto& name : image_names(stored.tmpl))
        EXPECT_EQ(must(stored.tmpl.image(name)), directory.get(name)) << name;
    EXPECT_THAT(error_of(stored.tmpl.image("ids-100.img")), HasSubstr("ids-100.img is missing"));
}

TEST(TemplateStore, ZombiesHaveNoPages) {
    TestProcess process{.areas = {area(0, 10)}};
    process.fill(0, 2, 'a');
    ImageDirectory directory;
    directory.fill({process, {.pid = 101, .parent = 100, .task_state = 2}});
    const Stored stored(directory);
    ASSERT_EQ(stored.tmpl.manifest.processes_size(), 2);
    EXPECT_EQ(stored.tmpl.manifest.processes(1).pid(), 101U);
    EXPECT_EQ(stored.tmpl.manifest.processes(1).runs_size(), 0);
}

TEST(TemplateStore, ReportsProgress) {
    TestProcess process{.areas = {area(0, 1000)}};
    process.fill(0, 700, 'a');
    process.fill(710, 5, 0);
    ImageDirectory directory;
    directory.fill({process});
    uint64_t total = 0;
    uint64_t done = 0;
    const Stored stored(directory, {.begin = [&](uint64_t pages) { total = pages; },
                                    .advance = [&](uint64_t pages) { done += pages; }});
    EXPECT_EQ(total, 700U);
    EXPECT_EQ(done, 700U);
}

TEST(TemplateStore, MissingOrShortPagesImagesAreNamed) {
    TestProcess process{.areas = {area(0, 10)}};
    process.fill(0, 2, 'a');
    ImageDirectory directory;
    directory.fill({process});
    auto store = must(MemfdPageStore::create());
    proto::Manifest manifest;
    directory.put("pages-1.img", "short");
    EXPECT_THAT(error_of(store_images(directory.fd(), must(directory.load()), {}, store, manifest)),
                HasSubstr("pages-1.img"));
    directory.remove("pages-1.img");
    EXPECT_THAT(error_of(store_images(directory.fd(), must(directory.load()), {}, store, manifest)),
                HasSubstr("pages-1.img"));
}

TEST(TemplateStore, SealedMemoryFileCannotChange) {
    auto store = must(MemfdPageStore::create());
    const auto extent = must(store.reserve(2));
    must(store.write(extent.first, std::vector<std::byte>(page_size, std::byte{7})));
    const UniqueFd sealed = must(store.seal());
    EXPECT_FALSE(store.write(extent.first, std::vector<std::byte>(page_size)));
    EXPECT_FALSE(store.reserve(1));
    std::string bytes(2 * page_size, 'x');
    must(pread_exact(sealed.get(), writable_bytes_of(bytes), 0));
    EXPECT_EQ(bytes, std::string(page_size, 7) + std::string(page_size, 0));
}

TEST(TemplateStore, ReadsBeyondThePoolAreRefused) {
    auto store = must(MemfdPageStore::create());
    must(store.reserve(3));
    std::string bytes(2 * page_size, 'x');
    EXPECT_TRUE(store.source().read(1, writable_bytes_of(bytes)));
    EXPECT_FALSE(store.source().read(2, writable_bytes_of(bytes)));
    EXPECT_FALSE(store.source().read(UINT64_MAX, writable_bytes_of(bytes)));
}

}  // namespace
}  // namespace memplate
