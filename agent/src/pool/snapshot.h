// SPDX-License-Identifier: Apache-2.0
//
// One consistent view of a pool's metadata, read from the medium and checked.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "pool/format.h"
#include "pool/medium.h"

namespace memplate::pool {

struct Snapshot {
    Superblock superblock;  ///< the one in use
    size_t superblock_index = 0;
    uint64_t newest_generation = 0;  ///< of either superblock: the next one must be above it
    Catalogue catalogue;
    /// The generation before, if it is whole.
    std::optional<Catalogue> previous;
    std::optional<LeaseBlock> lease;
    /// Metadata that does not hold what was written. What a writer that did not finish left behind
    /// is not damage; it shows in `interrupted`.
    std::vector<Damage> damages;
    bool interrupted = false;
    std::array<Block, 2> raw_superblocks;

    [[nodiscard]] bool whole() const { return damages.empty() && !interrupted && previous; }
    /// `writing`: somebody holds the lease, so a half-written side is no news.
    [[nodiscard]] std::vector<std::string> warnings(bool writing) const;
};

/// Reads and checks; tries again while a writer changes the superblocks underneath.
[[nodiscard]] Result<Snapshot> load_snapshot(const Medium& medium);
/// True if nothing has been committed since `snapshot` was loaded.
[[nodiscard]] Result<bool> is_current(const Medium& medium, const Snapshot& snapshot);

/// `what` names the blob in errors. The result is exactly location.bytes long.
[[nodiscard]] Result<std::string> read_blob(const Medium& medium, const Superblock& superblock,
                                            const BlobLocation& location, std::string_view what);
[[nodiscard]] Result<ExtentTable> read_extent_table(const Medium& medium,
                                                    const Superblock& superblock,
                                                    const CatalogueEntry& entry);

/// The data pages of a template.
struct DataPages {
    std::vector<PageExtent> extents;
    uint64_t references = 0;
};

/// What Pool's methods share.
struct PoolState {
    std::shared_ptr<Medium> medium;
    Snapshot snapshot;
    /// By template id, as far as they were needed. Immutable: an id is never reused.
    std::map<uint64_t, DataPages> data_pages;

    /// Nothing if the extent table is damaged.
    const DataPages* data_pages_of(const CatalogueEntry& entry);
};

}  // namespace memplate::pool
