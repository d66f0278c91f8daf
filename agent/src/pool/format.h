// SPDX-License-Identifier: Apache-2.0
//
// The on-medium format (pool/FORMAT.md), encoded and decoded by value. Decoding trusts nothing: it
// checks sizes, ranges, text and reserved bytes, so that what comes out can be used as it is.
#pragma once

#include <array>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pool/pool.h"

namespace memplate::pool {

inline constexpr uint32_t format_version = 1;
inline constexpr uint64_t block_bytes = 4096;  ///< a superblock, and the lease block
inline constexpr std::array<uint64_t, 2> superblock_offset{0, 4096};
inline constexpr uint64_t lease_offset = 8192;
inline constexpr uint64_t lease_bytes = 512;  ///< one sector: written whole or not at all
inline constexpr uint64_t slots_offset = 12288;
inline constexpr uint64_t min_slot_bytes = uint64_t{256} << 10;
inline constexpr uint64_t max_slot_bytes = uint64_t{64} << 20;
inline constexpr uint64_t catalogue_header_bytes = 64;
inline constexpr uint64_t entry_bytes = 256;
inline constexpr uint64_t max_name_bytes = 63;
inline constexpr uint64_t min_pool_bytes = uint64_t{1} << 20;
inline constexpr uint64_t max_pool_bytes = uint64_t{1} << 60;
inline constexpr uint64_t max_template_id = uint64_t{1} << 60;
inline constexpr uint64_t max_blob_bytes = uint64_t{256} << 20;
inline constexpr uint64_t piece_pages = 256;  ///< pages under one checksum: 1 MiB

/// Templates of one domain share pages of equal contents.
inline constexpr uint64_t feature_dedup = 1;
inline constexpr uint64_t known_features = feature_dedup;

using Block = std::array<std::byte, block_bytes>;

/// Pages that `bytes` bytes occupy.
constexpr uint64_t pages_for(uint64_t bytes) {
    return (bytes + page_size - 1) / page_size;
}

/// The extent lies in an area of `total` pages; written so that nothing can overflow.
constexpr bool inside(PageExtent extent, uint64_t total) {
    return extent.count <= total && extent.first <= total - extent.count;
}

struct Superblock {
    std::array<uint8_t, 16> uuid{};
    uint64_t generation = 0;
    uint64_t size_bytes = 0;  ///< limit of the pool; the file is at least that long
    std::array<uint64_t, 2> slot_offset{};
    uint64_t slot_bytes = 0;
    uint64_t data_offset = 0;
    uint32_t slot = 0;  ///< which of the two holds the catalogue
    uint32_t catalogue_crc = 0;
    uint64_t catalogue_bytes = 0;
    uint64_t lease_epoch = 0;  ///< of the writer that committed this
    uint64_t features = 0;     ///< what a reader must know; never changes

    [[nodiscard]] bool dedup() const { return (features & feature_dedup) != 0; }
    [[nodiscard]] uint64_t total_pages() const { return (size_bytes - data_offset) / page_size; }
    [[nodiscard]] uint64_t byte_offset(uint64_t page) const {
        return data_offset + page * page_size;
    }
    bool operator==(const Superblock&) const = default;
};

enum class SuperblockFault {
    foreign,  ///< no magic
    damaged,  ///< checksum or contents
    future,   ///< whole, but of a later version of the format, or with unknown features
};
[[nodiscard]] Block encode(const Superblock& superblock);
[[nodiscard]] std::expected<Superblock, SuperblockFault> decode_superblock(const Block& block);
/// The version and generation of a block whose fault is `future`.
struct FutureVersion {
    uint32_t version = 0;
    uint64_t generation = 0;
    uint64_t unknown_features = 0;
};
[[nodiscard]] FutureVersion future_version(const Block& block);

/// Where a new pool of `size_bytes` puts its slots and its data.
[[nodiscard]] Superblock geometry_for(uint64_t size_bytes);

/// The pool that a device or file holds, from either superblock; nothing if neither is whole.
[[nodiscard]] std::optional<Superblock> newest_superblock(const std::array<Block, 2>& blocks);

struct LeaseBlock {
    uint64_t epoch = 0;
    bool held = false;  ///< false once the writer ended in good order
    uint64_t pid = 0;
    uint64_t start_time = 0;  ///< clock ticks since boot
    int64_t since = 0;        ///< seconds since the epoch
    std::array<uint8_t, 16> boot_id{};
    std::string host;
    std::string purpose;
    uint64_t sequence = 0;  ///< 0: the only copy; else the higher one of the two counts
    bool operator==(const LeaseBlock&) const = default;

    /// True if both name the same writer.
    [[nodiscard]] bool same_writer(const LeaseBlock& other) const;
};
[[nodiscard]] std::array<std::byte, lease_bytes> encode(const LeaseBlock& lease);
/// Nothing if the block is damaged.
[[nodiscard]] std::optional<LeaseBlock> decode_lease(const Block& block);
/// Which of the two copies decode_lease() takes; nothing if the block is damaged.
[[nodiscard]] std::optional<size_t> newest_lease_copy(const Block& whole);

/// Bytes stored in pages of their own. The checksum covers whole pages, padding included.
struct BlobLocation {
    uint64_t first_page = 0;
    uint64_t bytes = 0;  ///< 0: there is none
    uint32_t crc = 0;
    [[nodiscard]] PageExtent extent() const { return {first_page, pages_for(bytes)}; }
    bool operator==(const BlobLocation&) const = default;
};

enum class TemplateState : uint32_t { live = 1, retired = 2 };

struct CatalogueEntry {
    uint64_t id = 0;
    TemplateState state = TemplateState::live;
    int64_t created = 0;
    uint64_t data_pages = 0;
    uint64_t profile_generation = 0;
    BlobLocation manifest;
    BlobLocation profile;
    BlobLocation extent_table;
    std::array<uint8_t, 16> hash{};
    std::string name;
    std::string domain;

    /// Data and blobs.
    [[nodiscard]] uint64_t all_pages() const;
    [[nodiscard]] TemplateRecord record() const;
    bool operator==(const CatalogueEntry&) const = default;
};

struct Catalogue {
    uint64_t generation = 0;
    uint64_t next_id = 1;
    std::vector<CatalogueEntry> entries;  ///< in ascending order of id

    [[nodiscard]] const CatalogueEntry* by_id(uint64_t id) const;
    [[nodiscard]] const CatalogueEntry* live(std::string_view name) const;
};
[[nodiscard]] std::vector<std::byte> encode(const Catalogue& catalogue);
/// What is wrong is in the error.
[[nodiscard]] Result<Catalogue> decode_catalogue(std::span<const std::byte> bytes,
                                                 uint64_t total_pages);

/// A part of an extent under one checksum.
struct Piece {
    PageExtent extent;
    uint32_t crc = 0;
};
/// What a template's data pages are.
struct ExtentTable {
    std::vector<Piece> pieces;
    /// Pools with dedup only: the pieces ascend, and their pages may be other templates' as well.
    bool dedup = false;
    uint64_t references = 0;            ///< pages before equal ones were stored once
    std::vector<uint64_t> page_hashes;  ///< XXH3-64 of each page, in the order of the pieces
};
[[nodiscard]] std::vector<std::byte> encode(const ExtentTable& table);
/// `dedup`: which of the two kinds the pool has.
[[nodiscard]] Result<ExtentTable> decode_extent_table(std::span<const std::byte> bytes,
                                                      uint64_t data_pages, uint64_t total_pages,
                                                      bool dedup);

/// 16 bytes as 32 hexadecimal digits, and back.
[[nodiscard]] std::string to_hex(std::span<const uint8_t, 16> bytes);
[[nodiscard]] std::optional<std::array<uint8_t, 16>> from_hex(std::string_view text);
/// As UUIDs are written: 8-4-4-4-12.
[[nodiscard]] std::string to_uuid(std::span<const uint8_t, 16> bytes);

}  // namespace memplate::pool
