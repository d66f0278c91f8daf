// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "pool/pool.h"

namespace memplate::pool {

/// A set of pages, kept as disjoint runs: its cost depends on the number of runs, never on the size
/// of the pool.
class PageSet {
  public:
    void add(PageExtent extent);
    [[nodiscard]] bool contains(PageExtent extent) const;
    [[nodiscard]] bool overlaps(PageExtent extent) const;
    [[nodiscard]] uint64_t count() const;
    /// The parts of `extent` that are not in the set.
    [[nodiscard]] std::vector<PageExtent> missing_from(PageExtent extent) const;
    /// The runs of [0, total) that are not in the set.
    [[nodiscard]] std::vector<PageExtent> gaps(uint64_t total) const;
    [[nodiscard]] std::vector<PageExtent> runs() const;

  private:
    std::map<uint64_t, uint64_t> runs_;  ///< first → one past the last; never adjacent
};

/// Pages of `all` that are not in `without`.
[[nodiscard]] uint64_t count_difference(const PageSet& all, const PageSet& without);

/// Finds free pages: all but those that are occupied.
class Allocator {
  public:
    explicit Allocator(uint64_t total_pages, PageSet occupied = {})
        : total_(total_pages), occupied_(std::move(occupied)) {}
    /// The first free run that is long enough; nothing if there is none.
    [[nodiscard]] std::optional<PageExtent> reserve(uint64_t count);
    /// The same, or the beginning of a shorter one: at most `count` pages, nothing if none is free.
    [[nodiscard]] std::optional<PageExtent> reserve_some(uint64_t count);
    [[nodiscard]] std::vector<PageExtent> free_runs() const { return occupied_.gaps(total_); }
    [[nodiscard]] uint64_t free_pages() const { return total_ - occupied_.count(); }
    [[nodiscard]] uint64_t largest_free_run() const;

  private:
    uint64_t total_;
    PageSet occupied_;
};

}  // namespace memplate::pool
