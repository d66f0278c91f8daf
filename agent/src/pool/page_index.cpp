// SPDX-License-Identifier: Apache-2.0
#include "pool/page_index.h"

#include <xxhash.h>

#include <algorithm>

#include "pool/snapshot.h"

namespace memplate::pool {

uint64_t hash_page(std::span<const std::byte> page) {
    return XXH3_64bits(page.data(), page.size());
}

PageIndex PageIndex::of_domain(const Medium& medium, const Superblock& superblock,
                               const Catalogue& catalogue, const std::string& domain) {
    PageIndex index;
    for (const CatalogueEntry& entry : catalogue.entries) {
        if (entry.domain != domain) continue;
        const auto table = read_extent_table(medium, superblock, entry);
        if (!table) continue;
        auto hash = table->page_hashes.begin();
        for (const Piece& piece : table->pieces) {
            for (uint64_t i = 0; i < piece.extent.count && hash != table->page_hashes.end(); ++i)
                index.stored_.push_back({*hash++, piece.extent.first + i});
        }
    }
    std::ranges::sort(index.stored_, [](const Entry& a, const Entry& b) {
        return a.hash != b.hash ? a.hash < b.hash : a.page < b.page;
    });
    const auto same = [](const Entry& a, const Entry& b) { return a.hash == b.hash; };
    const auto rest = std::ranges::unique(index.stored_, same);
    index.stored_.erase(rest.begin(), rest.end());
    return index;
}

std::optional<uint64_t> PageIndex::find(uint64_t hash) const {
    const auto stored = std::ranges::lower_bound(stored_, hash, {}, &Entry::hash);
    if (stored != stored_.end() && stored->hash == hash) return stored->page;
    const auto added = added_.find(hash);
    return added == added_.end() ? std::nullopt : std::optional(added->second);
}

}  // namespace memplate::pool
