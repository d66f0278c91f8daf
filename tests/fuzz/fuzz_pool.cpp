// SPDX-License-Identifier: Apache-2.0
//
// A pool file is untrusted input: whatever its bytes, opening, listing, reading and verifying must
// end with a result or an error.
//
// The input is a program: byte 0 are flags, then patches {offset: 3 bytes, length: 1 byte, data}
// that are applied to a small valid pool. With flag 1 the checksums are made right again
// afterwards, so that what lies behind them is reached. With flag 2 the rest of the input is the
// file itself; with flag 8 the pool is one with dedup; with flag 16 the bytes are read as memory
// is.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "pool/bytes.h"
#include "pool/dax_medium.h"
#include "pool/format.h"
#include "pool/medium.h"
#include "util/hash.h"

namespace {

using namespace memplate;
using namespace memplate::pool;

using Image = std::vector<std::byte>;

constexpr uint8_t reseal_flag = 1;
constexpr uint8_t raw_flag = 2;
constexpr uint8_t write_flag = 4;
constexpr uint8_t dedup_flag = 8;
constexpr uint8_t memory_flag = 16;

UniqueFd file_with(std::span<const std::byte> contents) {
    UniqueFd fd(::memfd_create("pool", MFD_CLOEXEC));
    if (!fd || !pwrite_all(fd.get(), contents, 0)) std::abort();
    return fd;
}

template <class T>
T must(Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().message.c_str());
        std::abort();
    }
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

Image make_base(bool dedup) {
    const std::string path = fmt::format("/tmp/fuzz_pool.{}", ::getpid());
    Pool pool = must(Pool::create(path, min_pool_bytes, {.dedup = dedup}));
    {
        Writer writer = must(Writer::acquire(pool, "fuzz"));
        for (const char* name : {"one", "two", "three"}) {
            must(writer.begin(name, "default"));
            const PageExtent extent = must(writer.reserve(2));
            must(writer.write_pages(extent.first, Image(page_size, std::byte{7})));
            must(writer.reserve(1));
            must(writer.add_pages(Image(2 * page_size, std::byte{8})));
            must(writer.commit(std::string(5000, 'm'), false));
        }
        must(writer.store_profile("two", "profile"));
        must(writer.remove("three"));
    }
    Image image(must(file_size(pool.fd())));
    must(pread_exact(pool.fd(), image, 0));
    ::unlink(path.c_str());
    return image;
}

const Image& base(bool dedup) {
    static const Image plain = make_base(false);
    static const Image shared = make_base(true);
    return dedup ? shared : plain;
}

Result<std::shared_ptr<Medium>> medium_with(const Image& image, bool memory) {
    if (memory) return DaxMedium::over(file_with(image), "fuzz", OpenMode::read_only, image.size());
    return std::make_shared<FileMedium>(file_with(image), "fuzz", OpenMode::read_write);
}

void patch(Image& image, std::span<const uint8_t> program) {
    while (program.size() >= 4) {
        const size_t offset = program[0] | program[1] << 8 | program[2] << 16;
        const size_t length = std::min<size_t>(program[3], program.size() - 4);
        for (size_t i = 0; i < length && offset + i < image.size(); ++i)
            image[offset + i] = std::byte{program[4 + i]};
        program = program.subspan(4 + length);
    }
}

/// Right checksums for blobs, catalogues and superblocks, as far as they can be found.
void reseal(Image& image) {
    const std::span<std::byte> file(image);
    for (const uint64_t at : superblock_offset) {
        const auto block = file.subspan(at, block_bytes);
        const auto slot = load<uint32_t>(block, 80) % 2;
        const auto offset = load<uint64_t>(block, 48 + slot * 8);
        const auto length = load<uint64_t>(block, 88);
        const auto data_offset = load<uint64_t>(block, 72);
        if (length <= image.size() && offset <= image.size() - length) {
            const auto catalogue = file.subspan(offset, length);
            for (size_t e = catalogue_header_bytes; e + entry_bytes <= length; e += entry_bytes) {
                for (const size_t blob : {40, 64, 88}) {
                    const auto entry = catalogue.subspan(e, entry_bytes);
                    const auto page = load<uint64_t>(entry, blob);
                    const auto pages = pages_for(load<uint64_t>(entry, blob + 8) % (1U << 20));
                    if (page > 1000 || data_offset > image.size()) continue;
                    const uint64_t start = data_offset + page * page_size;
                    if (pages == 0 || start + pages * page_size > image.size()) continue;
                    store<uint32_t>(entry, blob + 16,
                                    crc32c(file.subspan(start, pages * page_size)));
                }
            }
            store<uint32_t>(block, 84, crc32c(catalogue));
        }
        store<uint32_t>(block, 4092, crc32c(block.first(4092)));
    }
    const auto lease = file.subspan(lease_offset, lease_bytes);
    store<uint32_t>(lease, 508, crc32c(lease.first(508)));
}

void write_to(Pool& pool) {
    auto writer = Writer::acquire(pool, "fuzz");
    if (!writer) return;
    if (writer->begin("new", "default")) {
        const auto extent = writer->reserve(3);
        if (extent) (void)writer->write_pages(extent->first, Image(page_size, std::byte{9}));
        (void)writer->add_pages(Image(page_size, std::byte{8}));
        (void)writer->commit("m", true);
    }
    (void)writer->remove("one");
    (void)writer->gc();
    // A pool that could be written must be readable afterwards.
    must(pool.refresh());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const uint8_t flags = data[0];
    const std::span<const uint8_t> rest(data + 1, size - 1);
    Image image;
    if ((flags & raw_flag) != 0) {
        const auto bytes = std::as_bytes(rest);
        image.assign(bytes.begin(), bytes.end());
    } else {
        image = base((flags & dedup_flag) != 0);
        patch(image, rest);
        if ((flags & reseal_flag) != 0) reseal(image);
    }
    auto medium = medium_with(image, (flags & memory_flag) != 0);
    if (!medium) return 0;
    auto pool = Pool::open(std::move(*medium));
    if (!pool) return 0;
    const auto info = pool->info();
    if (!info) return 0;
    for (const TemplateRecord& record : pool->templates()) {
        (void)pool->read_manifest(record);
        (void)pool->read_profile(record);
        (void)pool->in_use(record);
        (void)pool->verify_template(record);
    }
    (void)pool->verify();
    if ((flags & write_flag) != 0) write_to(*pool);
    return 0;
}
