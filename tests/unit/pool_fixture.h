// SPDX-License-Identifier: Apache-2.0
//
// What the pool tests share: a small pool in a directory of its own, and templates to put into it.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "pool/pool.h"
#include "pool/snapshot.h"
#include "util/fs.h"

namespace memplate::pool::test {

/// Fails the test with the message of the error.
template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error("unexpected error: " + result.error().message);
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

template <class T>
std::string error_of(const Result<T>& result) {
    return result ? std::string("no error") : result.error().message;
}

/// Pages that differ from each other and from those of another seed.
inline std::vector<std::byte> pattern(uint64_t pages, uint32_t seed) {
    std::vector<std::byte> data(pages * page_size);
    uint32_t x = seed * 2654435761U + 1;
    for (std::byte& b : data) {
        x = x * 1664525U + 1013904223U;
        b = static_cast<std::byte>(x >> 24);
    }
    return data;
}

/// A template with an extent of `pages` pages of data and one of as many holes.
inline TemplateRecord add_template(Writer& writer, const std::string& name, uint64_t pages,
                                   uint32_t seed, bool replace = false) {
    must(writer.begin(name, "default"));
    const PageExtent data = must(writer.reserve(pages));
    must(writer.write_pages(data.first, pattern(pages, seed)));
    must(writer.reserve(pages));
    return must(writer.commit(fmt::format("manifest of {} with seed {}", name, seed), replace));
}

/// The extents of a template as its pool stores them.
inline std::vector<Piece> pieces_of(const std::string& path, const std::string& name) {
    const auto medium = must(FileMedium::open(path, OpenMode::read_only));
    const Snapshot snapshot = must(load_snapshot(*medium));
    return must(read_extent_table(*medium, snapshot.superblock, *snapshot.catalogue.live(name)))
        .pieces;
}

class PoolTest : public ::testing::Test {
  protected:
    PoolTest()
        : directory_(must(TemporaryDirectory::create(
              on_tmpfs("/dev/shm") ? "/dev/shm" : ::testing::TempDir(), "memplate-pool-test"))),
          path_(directory_.path() + "/pool") {}

    [[nodiscard]] Pool create(uint64_t size = min_pool_bytes) const {
        return must(Pool::create(path_, size));
    }

    void flip(uint64_t offset, uint8_t mask = 0x10) const {
        const UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR));
        std::array<std::byte, 1> byte{};
        must(pread_exact(fd.get(), byte, offset));
        byte[0] ^= std::byte{mask};
        must(pwrite_all(fd.get(), byte, offset));
    }

    TemporaryDirectory directory_;
    std::string path_;
};

}  // namespace memplate::pool::test
