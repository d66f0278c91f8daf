// SPDX-License-Identifier: Apache-2.0
//
// What Writer's methods share: the lease, the free pages, and the one way to publish a catalogue.
#pragma once

#include <memory>
#include <optional>

#include "pool/allocator.h"
#include "pool/lease.h"
#include "pool/page_index.h"
#include "pool/snapshot.h"

namespace memplate::pool {

/// A template being written.
struct Draft {
    std::string name;
    std::string domain;
    std::vector<PageExtent> extents;  ///< in the order of reserve()
    PageSet reserved;                 ///< its own: these may be written
    /// Pools with dedup only.
    PageSet shared;           ///< stored by other templates
    uint64_t references = 0;  ///< pages given, whether stored or found
    std::optional<PageIndex> index;
};

class WriterState {
  public:
    WriterState(std::shared_ptr<PoolState> pool, UniqueFd lease_fd, LeaseBlock lease)
        : pool_(std::move(pool)),
          lease_fd_(std::move(lease_fd)),
          lease_(std::move(lease)),
          allocator_(0) {}
    WriterState(const WriterState&) = delete;
    WriterState& operator=(const WriterState&) = delete;
    /// Marks the lease block released, unless a write failed.
    ~WriterState();

    /// Learns what is free; repairs what an unfinished writer or a damage left behind.
    Result<> prepare();

    [[nodiscard]] const Snapshot& snapshot() const { return pool_->snapshot; }
    [[nodiscard]] Medium& medium() const { return *pool_->medium; }
    [[nodiscard]] const std::string& path() const { return medium().path(); }
    [[nodiscard]] int lease_fd() const { return lease_fd_.get(); }

    /// Fails if an earlier write failed half-way: what the medium holds is not known any more.
    [[nodiscard]] Result<> check_usable() const;
    /// Fails if a template's extent table is damaged: what looks free may be its pages.
    [[nodiscard]] Result<> check_pages_known() const;
    /// Contiguous free pages, zeroed.
    Result<PageExtent> reserve(uint64_t count);
    /// Finds the pages in the domain of the draft, or stores them; returns where they are.
    Result<std::vector<PageExtent>> store_once(std::span<const std::byte> data);
    Result<BlobLocation> store_blob(std::string_view bytes, std::string_view what);
    /// Checksums and content hash of what the draft has written.
    struct Contents {
        ExtentTable table;
        std::string hash;
    };
    Result<Contents> read_contents(const Draft& draft, std::string_view manifest) const;

    /// True if one more template fits into the catalogue.
    [[nodiscard]] Result<> check_room() const;
    /// Makes all pages durable, then the catalogue, then the superblock. `next` is given its
    /// generation here. Nothing of the old generation is touched.
    Result<> publish(Catalogue next, std::optional<uint64_t> size_bytes = {});

    /// All pages the catalogue refers to. Templates whose extent table is damaged are named in
    /// `unknown`.
    PageSet pages_of(const Catalogue& catalogue, std::vector<std::string>* unknown);
    /// Null if its extent table is damaged.
    [[nodiscard]] const DataPages* data_pages_of(const CatalogueEntry& entry);
    /// Both generations and the draft are occupied, all else is free.
    void find_free_pages();
    [[nodiscard]] std::vector<PageExtent> free_runs() const { return allocator_.free_runs(); }

    /// What it has reserved is free again.
    void drop_draft();

    std::optional<Draft> draft;

  private:
    Result<> check_lease() const;
    /// On a device another host may have broken the lease at any time.
    Result<> check_still_alone() const;
    Result<> check_repair() const;
    /// True if the pool holds exactly these bytes at `page`.
    [[nodiscard]] bool holds(uint64_t page, std::span<const std::byte> contents) const;
    /// Stores pages wherever there is room; returns the place of each.
    Result<std::vector<uint64_t>> store_pages(const std::vector<std::span<const std::byte>>& pages);
    /// Contiguous free pages that hold anything.
    Result<PageExtent> allocate(uint64_t count);
    Result<> zero(PageExtent extent) const;
    [[nodiscard]] Failure pool_full(uint64_t count) const;

    std::shared_ptr<PoolState> pool_;
    UniqueFd lease_fd_;
    LeaseBlock lease_;
    Allocator allocator_;
    std::vector<std::string> unknown_pages_;  ///< templates; nothing can be reserved
    bool failed_ = false;
};

}  // namespace memplate::pool
