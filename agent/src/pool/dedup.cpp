// SPDX-License-Identifier: Apache-2.0
//
// Storing pages once: those that the domain of a template has already are shared.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "pool/writer_state.h"
#include "util/hash.h"

namespace memplate::pool {
namespace {

void append(std::vector<PageExtent>& extents, uint64_t page) {
    if (!extents.empty() && extents.back().first + extents.back().count == page)
        ++extents.back().count;
    else
        extents.push_back({page, 1});
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
    return std::memcmp(a.data(), b.data(), page_size) == 0;
}

}  // namespace

bool WriterState::holds(uint64_t page, std::span<const std::byte> contents) const {
    std::array<std::byte, page_size> stored;
    // A page that cannot be read is not shared.
    return medium().read(stored, snapshot().superblock.byte_offset(page)) &&
           equal(stored, contents);
}

Result<std::vector<uint64_t>> WriterState::store_pages(
    const std::vector<std::span<const std::byte>>& pages) {
    std::vector<uint64_t> places;
    std::vector<std::byte> buffer;
    while (places.size() < pages.size()) {
        const uint64_t left = pages.size() - places.size();
        const auto extent = allocator_.reserve_some(left);
        if (!extent) return pool_full(left);
        draft->reserved.add(*extent);
        buffer.clear();
        for (uint64_t i = 0; i < extent->count; ++i) {
            const auto page = pages[places.size()];
            buffer.insert(buffer.end(), page.begin(), page.end());
            places.push_back(extent->first + i);
        }
        TRY(medium().write(buffer, snapshot().superblock.byte_offset(extent->first)));
    }
    return places;
}

Result<std::vector<PageExtent>> WriterState::store_once(std::span<const std::byte> data) {
    TRY(check_usable());
    TRY(check_pages_known());
    TRY(check_still_alone());
    if (!draft->index)
        draft->index = PageIndex::of_domain(medium(), snapshot().superblock, snapshot().catalogue,
                                            draft->domain);
    // Where each page of `data` is: in the pool already, or the n-th of those to be stored.
    struct Place {
        bool found = false;
        uint64_t number = 0;
    };
    std::vector<Place> places;
    std::vector<std::span<const std::byte>> missing;
    std::vector<uint64_t> missing_hashes;
    std::unordered_map<uint64_t, uint64_t> missing_by_hash;
    for (size_t at = 0; at < data.size(); at += page_size) {
        const auto page = data.subspan(at, page_size);
        const uint64_t hash = hash_page(page);
        if (const auto candidate = draft->index->find(hash); candidate && holds(*candidate, page)) {
            places.push_back({true, *candidate});
            if (!draft->reserved.contains({*candidate, 1})) draft->shared.add({*candidate, 1});
            continue;
        }
        const auto twin = missing_by_hash.find(hash);
        if (twin != missing_by_hash.end() && equal(missing[twin->second], page)) {
            places.push_back({false, twin->second});
            continue;
        }
        places.push_back({false, missing.size()});
        missing_by_hash.try_emplace(hash, missing.size());
        missing.push_back(page);
        missing_hashes.push_back(hash);
    }
    TRY_ASSIGN(const auto stored, store_pages(missing));
    for (size_t i = 0; i < stored.size(); ++i) draft->index->add(missing_hashes[i], stored[i]);
    std::vector<PageExtent> extents;
    for (const Place& place : places)
        append(extents, place.found ? place.number : stored[place.number]);
    draft->references += places.size();
    return extents;
}

}  // namespace memplate::pool
