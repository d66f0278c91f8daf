// SPDX-License-Identifier: Apache-2.0
//
// Pages of one domain by the hash of their contents. The hash only finds a candidate: whether the
// contents are equal is for the caller to compare.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "pool/format.h"
#include "pool/medium.h"

namespace memplate::pool {

[[nodiscard]] uint64_t hash_page(std::span<const std::byte> page);

class PageIndex {
  public:
    /// The pages of every template of `domain`, removed ones included: they stay as long as anybody
    /// refers to them. Templates whose table cannot be read are left out.
    [[nodiscard]] static PageIndex of_domain(const Medium& medium, const Superblock& superblock,
                                             const Catalogue& catalogue, const std::string& domain);

    /// A page that has been stored since.
    void add(uint64_t hash, uint64_t page) { added_.try_emplace(hash, page); }
    [[nodiscard]] std::optional<uint64_t> find(uint64_t hash) const;

  private:
    struct Entry {
        uint64_t hash = 0;
        uint64_t page = 0;
    };
    std::vector<Entry> stored_;  ///< by hash: half the memory of a hash table
    std::unordered_map<uint64_t, uint64_t> added_;
};

}  // namespace memplate::pool
