// SPDX-License-Identifier: Apache-2.0
//
// Where template pages are put and read from: a pool while a template is built, or a memfd for a
// one-off restore of a CRIU image directory (`memplate criu`).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pool/medium.h"
#include "pool/pool.h"
#include "util/fd.h"

namespace memplate {

class PageStore {
  public:
    virtual ~PageStore() = default;
    /// Reserves contiguous zero pages; returns the first.
    virtual Result<pool::PageExtent> reserve(uint64_t pages) = 0;
    /// Writes whole pages inside what was reserved.
    virtual Result<> write(uint64_t first_page, std::span<const std::byte> data) = 0;
    /// True if add() finds pages that are stored already: then runs need no contiguous pages.
    [[nodiscard]] virtual bool dedup() const { return false; }
    /// Puts whole pages wherever they fit best; returns where they are, in order.
    virtual Result<std::vector<pool::PageExtent>> add(std::span<const std::byte> data) = 0;
};

/// Read access for engines: page n is at byte_offset(n) of fd.
struct PageSource {
    int fd = -1;
    uint64_t base = 0;         ///< byte offset of page 0
    uint64_t total_pages = 0;  ///< bound for everything a template may refer to
    /// What read() goes through; without one, the descriptor.
    std::shared_ptr<const pool::Medium> medium = nullptr;
    /// Why engine `mapped` cannot take pages from here; empty if it can.
    std::string not_mappable = {};
    [[nodiscard]] uint64_t byte_offset(uint64_t page) const {
        return base + page * pool::page_size;
    }
    /// Bounds-checked read of whole pages.
    [[nodiscard]] Result<> read(uint64_t first_page, std::span<std::byte> buffer) const;
    static Result<PageSource> of(const pool::Pool& pool);
};

class PoolPageStore final : public PageStore {
  public:
    explicit PoolPageStore(pool::Writer& writer) : writer_(writer) {}
    Result<pool::PageExtent> reserve(uint64_t pages) override;
    Result<> write(uint64_t first_page, std::span<const std::byte> data) override;
    [[nodiscard]] bool dedup() const override { return writer_.dedup(); }
    Result<std::vector<pool::PageExtent>> add(std::span<const std::byte> data) override;
    [[nodiscard]] const std::vector<pool::PageExtent>& extents() const { return extents_; }

  private:
    pool::Writer& writer_;
    std::vector<pool::PageExtent> extents_;
};

class MemfdPageStore final : public PageStore {
  public:
    static Result<MemfdPageStore> create();
    Result<pool::PageExtent> reserve(uint64_t pages) override;
    Result<> write(uint64_t first_page, std::span<const std::byte> data) override;
    Result<std::vector<pool::PageExtent>> add(std::span<const std::byte> data) override;
    /// Seals the memfd against any change and returns a read-only descriptor of it.
    Result<UniqueFd> seal();
    [[nodiscard]] PageSource source() const { return {fd_.get(), 0, next_page_}; }

  private:
    explicit MemfdPageStore(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
    uint64_t next_page_ = 0;
};

}  // namespace memplate
