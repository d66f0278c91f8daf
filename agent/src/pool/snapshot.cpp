// SPDX-License-Identifier: Apache-2.0
#include "pool/snapshot.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "pool/allocator.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

/// A reader gives up when the superblocks stay the same and still do not check out, or after this
/// many changes in a row.
constexpr int unchanged_attempts = 3;
constexpr int all_attempts = 1000;

Result<std::array<Block, 2>> read_superblocks(const Medium& medium) {
    std::array<Block, 2> blocks;
    for (size_t i = 0; i < blocks.size(); ++i) TRY(medium.read(blocks[i], superblock_offset[i]));
    return blocks;
}

Result<Catalogue> read_catalogue(const Medium& medium, const Superblock& superblock) {
    std::vector<std::byte> bytes(superblock.catalogue_bytes);
    TRY(medium.read(bytes, superblock.slot_offset[superblock.slot]));
    if (crc32c(bytes) != superblock.catalogue_crc) return fail("wrong checksum");
    TRY_ASSIGN(Catalogue catalogue, decode_catalogue(bytes, superblock.total_pages()));
    if (catalogue.generation != superblock.generation) return fail("wrong generation");
    return catalogue;
}

/// Geometry never changes, the size limit only grows: two superblocks of one pool agree.
bool same_pool(const Superblock& newer, const Superblock& older) {
    return newer.uuid == older.uuid && newer.slot_offset == older.slot_offset &&
           newer.slot_bytes == older.slot_bytes && newer.data_offset == older.data_offset &&
           newer.features == older.features && newer.size_bytes >= older.size_bytes &&
           newer.generation > older.generation && newer.slot != older.slot;
}

Damage superblock_damage(size_t index) {
    return {{}, fmt::format("superblock {}", index), superblock_offset[index], block_bytes};
}

Damage slot_damage(const Superblock& s) {
    return {{}, fmt::format("catalogue slot {}", s.slot), s.slot_offset[s.slot], s.catalogue_bytes};
}

/// One attempt; no waiting, no second look.
class Loader {
  public:
    Loader(const Medium& medium, std::array<Block, 2> blocks) : medium_(medium) {
        snapshot_.raw_superblocks = blocks;
    }

    Result<Snapshot> load() {
        TRY(decode_superblocks());
        Block lease{};
        TRY(medium_.read(lease, lease_offset));
        snapshot_.lease = decode_lease(lease);
        if (!snapshot_.lease)
            snapshot_.damages.push_back({{}, "lease block", lease_offset, block_bytes});
        TRY(choose());
        // Only the side not in use can be half written: a superblock is flipped after its
        // catalogue is durable. A writer that died left its lease block "held".
        if (!fallback_damages_.empty()) {
            if (snapshot_.lease && snapshot_.lease->held) {
                snapshot_.interrupted = true;
            } else {
                std::ranges::move(fallback_damages_, std::back_inserter(snapshot_.damages));
            }
        }
        return std::move(snapshot_);
    }

  private:
    Result<> decode_superblocks() {
        std::optional<FutureVersion> future;
        size_t foreign = 0;
        for (size_t i = 0; i < 2; ++i) {
            const auto decoded = decode_superblock(snapshot_.raw_superblocks[i]);
            if (decoded) {
                superblocks_[i] = *decoded;
                snapshot_.newest_generation =
                    std::max(snapshot_.newest_generation, decoded->generation);
                continue;
            }
            if (decoded.error() == SuperblockFault::foreign) ++foreign;
            if (decoded.error() == SuperblockFault::future) {
                const auto found = future_version(snapshot_.raw_superblocks[i]);
                if (!future || found.generation > future->generation) future = found;
            }
        }
        if (future && future->generation >= snapshot_.newest_generation &&
            future->unknown_features != 0)
            return fail(ErrorKind::unsupported,
                        fmt::format("{}: the pool has features that this memplate does not know "
                                    "(bits {:#x}); use a newer memplate",
                                    medium_.path(), future->unknown_features));
        if (future && future->generation >= snapshot_.newest_generation)
            return fail(ErrorKind::unsupported,
                        fmt::format("{}: the pool has format version {}, this memplate reads up to "
                                    "version {}; use a newer memplate",
                                    medium_.path(), future->version, format_version));
        if (foreign == 2)
            return fail(
                fmt::format("{}: not a pool: it does not begin with \"MEMPLATE\"", medium_.path()));
        if (!superblocks_[0] && !superblocks_[1])
            return fail(
                fmt::format("{}: both superblocks are damaged (wrong checksum); the pool "
                            "cannot be read, build it anew",
                            medium_.path()));
        return {};
    }

    Result<> choose() {
        size_t first = !superblocks_[0] || (superblocks_[1] && superblocks_[1]->generation >
                                                                   superblocks_[0]->generation)
                           ? 1
                           : 0;
        for (const size_t index : {first, 1 - first}) {
            if (!superblocks_[index]) {
                fallback_damages_.push_back(superblock_damage(index));
                continue;
            }
            const Superblock& superblock = *superblocks_[index];
            TRY(check_size(superblock));
            if (chosen_ && !same_pool(snapshot_.superblock, superblock)) {
                fallback_damages_.push_back(superblock_damage(index));
                continue;
            }
            auto catalogue = read_catalogue(medium_, superblock);
            if (!catalogue) {
                (chosen_ ? fallback_damages_ : snapshot_.damages)
                    .push_back(slot_damage(superblock));
            } else if (chosen_) {
                snapshot_.previous = std::move(*catalogue);
            } else {
                chosen_ = true;
                snapshot_.superblock = superblock;
                snapshot_.superblock_index = index;
                snapshot_.catalogue = std::move(*catalogue);
            }
        }
        if (!chosen_)
            return fail(
                fmt::format("{}: both catalogues are damaged (wrong checksum); the pool "
                            "cannot be read, build it anew",
                            medium_.path()));
        return {};
    }

    Result<> check_size(const Superblock& superblock) const {
        TRY_ASSIGN(const uint64_t size, medium_.size());
        if (size < superblock.size_bytes)
            return fail(
                fmt::format("{}: truncated: the file has {} bytes, its superblock says {}; "
                            "restore it from a copy",
                            medium_.path(), size, superblock.size_bytes));
        return {};
    }

    const Medium& medium_;
    Snapshot snapshot_;
    std::array<std::optional<Superblock>, 2> superblocks_;
    std::vector<Damage> fallback_damages_;
    bool chosen_ = false;
};

Result<> check_length(const Medium& medium) {
    TRY_ASSIGN(const uint64_t size, medium.size());
    if (size == 0) return fail(medium.path() + ": the file is empty, not a pool");
    if (size >= slots_offset) return {};
    std::array<std::byte, 8> magic{};
    if (size >= magic.size()) TRY(medium.read(magic, 0));
    if (std::string_view(reinterpret_cast<const char*>(magic.data()), magic.size()) != "MEMPLATE")
        return fail(medium.path() + ": not a pool: it does not begin with \"MEMPLATE\"");
    return fail(
        fmt::format("{}: truncated: the file has {} bytes, a pool at least {}; restore it "
                    "from a copy",
                    medium.path(), size, min_pool_bytes));
}

}  // namespace

std::vector<std::string> Snapshot::warnings(bool writing) const {
    std::vector<std::string> lines;
    for (const Damage& damage : damages) {
        lines.push_back(fmt::format("{} (byte {}, {} bytes) is damaged", damage.what, damage.offset,
                                    damage.length));
    }
    if (superblock.generation < newest_generation)
        lines.push_back(
            fmt::format("generation {} is damaged: the previous catalogue, generation "
                        "{}, is in use",
                        newest_generation, superblock.generation));
    if (interrupted && !writing)
        lines.emplace_back("the last writer did not finish; the next one repairs what it left");
    return lines;
}

Result<Snapshot> load_snapshot(const Medium& medium) {
    TRY(check_length(medium));
    TRY_ASSIGN(auto blocks, read_superblocks(medium));
    int unchanged = 0;
    for (int attempt = 1;; ++attempt) {
        auto snapshot = Loader(medium, blocks).load();
        if (snapshot && snapshot->whole()) return snapshot;
        // A writer may have been in the middle of a commit: only a finding that stays counts.
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        TRY_ASSIGN(auto again, read_superblocks(medium));
        unchanged = again == blocks ? unchanged + 1 : 0;
        if (unchanged >= unchanged_attempts || attempt >= all_attempts) return snapshot;
        blocks = again;
    }
}

Result<bool> is_current(const Medium& medium, const Snapshot& snapshot) {
    TRY_ASSIGN(const auto blocks, read_superblocks(medium));
    return blocks == snapshot.raw_superblocks;
}

Result<std::string> read_blob(const Medium& medium, const Superblock& superblock,
                              const BlobLocation& location, std::string_view what) {
    if (location.bytes == 0) return std::string();
    std::string bytes(location.extent().count * page_size, '\0');
    TRY(medium.read(writable_bytes_of(bytes), superblock.byte_offset(location.first_page)));
    if (crc32c(bytes_of(bytes)) != location.crc)
        return fail(
            fmt::format("{}: the {} is damaged (wrong checksum); `memplate pool verify {}` "
                        "shows what else is",
                        medium.path(), what, medium.path()));
    bytes.resize(location.bytes);
    return bytes;
}

Result<ExtentTable> read_extent_table(const Medium& medium, const Superblock& superblock,
                                      const CatalogueEntry& entry) {
    const std::string what = fmt::format("extent table of template {}", entry.name);
    TRY_ASSIGN(const std::string bytes, read_blob(medium, superblock, entry.extent_table, what));
    auto table = decode_extent_table(bytes_of(bytes), entry.data_pages, superblock.total_pages(),
                                     superblock.dedup());
    if (!table)
        return Failure(std::move(table.error())
                           .context(fmt::format("{}: the {} is damaged", medium.path(), what)));
    return table;
}

const DataPages* PoolState::data_pages_of(const CatalogueEntry& entry) {
    if (const auto known = data_pages.find(entry.id); known != data_pages.end())
        return &known->second;
    const auto table = read_extent_table(*medium, snapshot.superblock, entry);
    if (!table) return nullptr;
    PageSet pages;
    for (const Piece& piece : table->pieces) pages.add(piece.extent);
    return &data_pages.emplace(entry.id, DataPages{pages.runs(), table->references}).first->second;
}

}  // namespace memplate::pool
