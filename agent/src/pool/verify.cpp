// SPDX-License-Identifier: Apache-2.0
//
// Reads back everything a pool refers to. Every byte is under some checksum, so any byte that
// changed is found, and named by the part it belongs to.
#include <algorithm>
#include <map>

#include "pool/allocator.h"
#include "pool/lease.h"
#include "pool/snapshot.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

class Verifier {
  public:
    Verifier(const Medium& medium, Snapshot snapshot, const OnBytes& on_bytes)
        : medium_(medium), snapshot_(std::move(snapshot)), on_bytes_(on_bytes) {}

    Result<> metadata() {
        report_.damages = snapshot_.damages;
        uint64_t bytes = slots_offset + snapshot_.superblock.catalogue_bytes;
        if (snapshot_.previous) bytes += encode(*snapshot_.previous).size();
        return count(bytes);
    }

    /// The template must be pinned.
    Result<> check(uint64_t id) {
        for (;;) {
            const CatalogueEntry* entry = snapshot_.catalogue.by_id(id);
            if (entry == nullptr) return {};
            const size_t damages_before = report_.damages.size();
            TRY(check_entry(*entry));
            if (report_.damages.size() == damages_before) break;
            // Its profile may have been replaced, and the old one's pages reused: only what is
            // found with the catalogue unchanged counts.
            TRY_ASSIGN(const bool current, is_current(medium_, snapshot_));
            if (current) break;
            report_.damages.resize(damages_before);
            owned_ = {};
            shared_.clear();
            TRY_ASSIGN(snapshot_, load_snapshot(medium_));
        }
        ++report_.templates;
        return {};
    }

    VerifyReport take() { return std::move(report_); }

  private:
    Result<> check_entry(const CatalogueEntry& entry) {
        name_ = entry.name;
        const size_t damages_before = report_.damages.size();
        Xxh3Stream hash;
        TRY_ASSIGN(const auto manifest, blob(entry.manifest, "manifest"));
        if (manifest) hash.update(bytes_of(*manifest));
        TRY(blob(entry.profile, "profile"));
        TRY_ASSIGN(const auto table, blob(entry.extent_table, "extent table"));
        if (!table) return {};
        const auto decoded =
            decode_extent_table(bytes_of(*table), entry.data_pages,
                                snapshot_.superblock.total_pages(), snapshot_.superblock.dedup());
        if (!decoded) {
            damage(fmt::format("extent table ({})", decoded.error().message),
                   entry.extent_table.extent());
            return {};
        }
        std::vector<std::byte> buffer(piece_pages * page_size);
        const std::vector<Piece>& pieces = decoded->pieces;
        for (size_t i = 0; i < pieces.size(); ++i) {
            const Piece& piece = pieces[i];
            const auto part = std::span(buffer).first(piece.extent.count * page_size);
            const std::string what = fmt::format("extent {}", i);
            own_data(piece.extent, entry.domain, what);
            TRY_ASSIGN(const bool whole, read_and_check(piece.extent, piece.crc, part, what));
            if (whole) hash.update(part);
        }
        const bool whole = report_.damages.size() == damages_before;
        if (whole && hash.hex() != to_hex(entry.hash))
            damage("content hash", entry.manifest.extent());
        return {};
    }

    Result<> count(uint64_t bytes) {
        report_.bytes_read += bytes;
        return on_bytes_ ? on_bytes_(bytes) : Result<>();
    }

    void damage(std::string what, PageExtent extent) {
        report_.damages.push_back({name_, std::move(what),
                                   snapshot_.superblock.byte_offset(extent.first),
                                   extent.count * page_size});
    }

    /// Two owners of a page can only come from a damaged or forged pool: but for data pages of one
    /// domain, where the pool shares those.
    void own(PageExtent extent, const std::string& what) {
        bool taken = owned_.overlaps(extent);
        for (const auto& [domain, pages] : shared_) taken = taken || pages.overlaps(extent);
        if (taken) damage(what + " (shares pages with another part)", extent);
        owned_.add(extent);
    }

    void own_data(PageExtent extent, const std::string& domain, const std::string& what) {
        if (!snapshot_.superblock.dedup()) return own(extent, what);
        if (owned_.overlaps(extent)) damage(what + " (shares pages with another part)", extent);
        for (const auto& [other, pages] : shared_) {
            if (other != domain && pages.overlaps(extent))
                damage(what + " (shares pages with another domain)", extent);
        }
        shared_[domain].add(extent);
    }

    Result<bool> read_and_check(PageExtent extent, uint32_t crc, std::span<std::byte> buffer,
                                const std::string& what) {
        const auto read = medium_.read(buffer, snapshot_.superblock.byte_offset(extent.first));
        if (!read) {
            damage(fmt::format("{} (cannot be read: {})", what, read.error().message), extent);
            return false;
        }
        TRY(count(buffer.size()));
        if (crc32c(buffer) == crc) return true;
        damage(what, extent);
        return false;
    }

    /// Nothing if it is damaged.
    Result<std::optional<std::string>> blob(const BlobLocation& location, const std::string& what) {
        if (location.bytes == 0) return std::string();
        own(location.extent(), what);
        std::string bytes(location.extent().count * page_size, '\0');
        TRY_ASSIGN(const bool whole,
                   read_and_check(location.extent(), location.crc, writable_bytes_of(bytes), what));
        if (!whole) return std::nullopt;
        bytes.resize(location.bytes);
        return bytes;
    }

    const Medium& medium_;
    Snapshot snapshot_;
    const OnBytes& on_bytes_;
    VerifyReport report_;
    std::string name_;
    PageSet owned_;
    std::map<std::string, PageSet> shared_;  ///< data pages by domain; pools with dedup only
};

}  // namespace

Result<VerifyReport> Pool::verify_template(const TemplateRecord& record,
                                           const OnBytes& on_bytes) const {
    TRY_ASSIGN(const TemplatePin pinned, pin(record));
    TRY_ASSIGN(Snapshot snapshot, load_snapshot(*state_->medium));
    Verifier verifier(*state_->medium, std::move(snapshot), on_bytes);
    TRY(verifier.check(record.id));
    return verifier.take();
}

Result<VerifyReport> Pool::verify(const OnBytes& on_bytes) const {
    TRY_ASSIGN(Snapshot snapshot, load_snapshot(*state_->medium));
    const std::vector<CatalogueEntry> entries = snapshot.catalogue.entries;
    Verifier verifier(*state_->medium, std::move(snapshot), on_bytes);
    TRY(verifier.metadata());
    for (const CatalogueEntry& entry : entries) {
        // Pinned: it must not be reclaimed while it is read.
        const auto pinned = pin(entry.record());
        if (pinned) TRY(verifier.check(entry.id));
        if (!pinned && pinned.error().code != ENOENT) return Failure(pinned.error());
    }
    return verifier.take();
}

}  // namespace memplate::pool
