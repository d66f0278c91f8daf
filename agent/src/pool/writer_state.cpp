// SPDX-License-Identifier: Apache-2.0
#include "pool/writer_state.h"

#include <algorithm>
#include <set>

#include "util/hash.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::pool {

WriterState::~WriterState() {
    // After a failed write the next writer must look for what was left half done.
    if (failed_) return;
    lease_.held = false;
    if (check_lease()) (void)write_lease(medium(), lease_);
}

Result<> WriterState::prepare() {
    const bool whole = snapshot().whole();
    if (!whole) TRY(check_repair());
    // Across hosts it is written, and has settled, already.
    if (!medium().across_hosts()) TRY(write_lease(medium(), lease_));
    find_free_pages();
    if (whole) return {};
    Catalogue next = snapshot().catalogue;
    // Generations that were lost may have handed out ids; never hand one out twice.
    const uint64_t lost = snapshot().newest_generation - snapshot().superblock.generation + 1;
    next.next_id += std::min(lost, max_template_id - next.next_id);
    auto repaired = publish(std::move(next));
    if (!repaired) failed_ = true;  // leave the lease block as the sign that there is work to do
    return repaired;
}

Result<> WriterState::check_repair() const {
    // A lost catalogue may list templates that this one does not; instances of theirs still map
    // pages that look free.
    const uint64_t first_unknown = pin_lock_offset(snapshot().catalogue.next_id);
    const uint64_t length = pin_locks_offset + pin_locks_length - first_unknown;
    TRY_ASSIGN(const bool used,
               range_is_locked(medium().fd(), LockMode::exclusive, first_unknown, length));
    if (!used) return {};
    return fail(
        fmt::format("{}: the newest catalogue is damaged and instances still use templates "
                    "that only it lists; stop them before writing to the pool",
                    path()));
}

Result<> WriterState::check_usable() const {
    if (!failed_) return {};
    return fail(
        fmt::format("{}: an earlier write to the pool failed; open the pool again", path()));
}

Result<> WriterState::check_pages_known() const {
    if (unknown_pages_.empty()) return {};
    return fail(
        fmt::format("{}: the extent table of template {} is damaged, so its pages are not known; "
                    "remove the template and run `memplate pool gc {}`",
                    path(), unknown_pages_.front(), path()));
}

Result<> WriterState::check_lease() const {
    TRY_ASSIGN(const auto lease, read_lease(medium()));
    if (lease && lease->same_writer(lease_)) return {};
    if (lease && medium().across_hosts())
        return fail(fmt::format("{}: host {} has taken the lease over; nothing was committed",
                                path(), lease->host));
    return fail(
        fmt::format("{}: another writer has taken the lease (it needs locks that work across "
                    "all its users); nothing was committed",
                    path()));
}

Result<> WriterState::check_still_alone() const {
    return medium().across_hosts() ? check_lease() : Result<>();
}

PageSet WriterState::pages_of(const Catalogue& catalogue, std::vector<std::string>* unknown) {
    PageSet pages;
    for (const CatalogueEntry& entry : catalogue.entries) {
        pages.add(entry.manifest.extent());
        pages.add(entry.profile.extent());
        pages.add(entry.extent_table.extent());
        const DataPages* data = data_pages_of(entry);
        if (data == nullptr) {
            if (unknown != nullptr) unknown->push_back(entry.name);
            continue;
        }
        for (const PageExtent& extent : data->extents) pages.add(extent);
    }
    return pages;
}

const DataPages* WriterState::data_pages_of(const CatalogueEntry& entry) {
    return pool_->data_pages_of(entry);
}

void WriterState::find_free_pages() {
    unknown_pages_.clear();
    PageSet occupied = pages_of(snapshot().catalogue, &unknown_pages_);
    if (snapshot().previous) {
        for (const PageExtent& run : pages_of(*snapshot().previous, &unknown_pages_).runs())
            occupied.add(run);
    }
    if (draft) {
        for (const PageExtent& run : draft->reserved.runs()) occupied.add(run);
        for (const PageExtent& run : draft->shared.runs()) occupied.add(run);
    }
    allocator_ = Allocator(snapshot().superblock.total_pages(), std::move(occupied));
}

void WriterState::drop_draft() {
    draft.reset();
    find_free_pages();
}

Failure WriterState::pool_full(uint64_t count) const {
    const uint64_t free = allocator_.free_pages();
    auto failure = fail(fmt::format(
        "{}: the pool is full: {} needed in one piece, {} free, the largest piece {}; free removed "
        "templates with `memplate pool gc {}{}` or {}",
        path(), format_size(count * page_size), format_size(free * page_size),
        format_size(allocator_.largest_free_run() * page_size), path(),
        medium().across_hosts() ? " --no-other-hosts" : "",
        medium().mapping().empty()
            ? fmt::format("make room with `memplate pool grow {} --size ...`", path())
            : std::string("use a larger device")));
    failure.error().code = ENOSPC;
    return failure;
}

Result<PageExtent> WriterState::reserve(uint64_t count) {
    TRY_ASSIGN(const PageExtent extent, allocate(count));
    TRY(zero(extent));
    TRY(medium().allocate(snapshot().superblock.byte_offset(extent.first),
                          extent.count * page_size));
    return extent;
}

Result<PageExtent> WriterState::allocate(uint64_t count) {
    TRY(check_usable());
    if (count == 0) return fail(path() + ": zero pages cannot be reserved");
    TRY(check_pages_known());
    TRY(check_still_alone());
    // A count near 2^64 must not overflow in the message.
    if (count > snapshot().superblock.total_pages()) count = std::min(count, max_pool_bytes);
    const auto extent = allocator_.reserve(count);
    if (!extent) return pool_full(count);
    return *extent;
}

Result<> WriterState::zero(PageExtent extent) const {
    const uint64_t offset = snapshot().superblock.byte_offset(extent.first);
    TRY_ASSIGN(const bool punched, medium().punch(offset, extent.count * page_size));
    if (punched) return {};
    const std::vector<std::byte> zeros(std::min(extent.count, piece_pages) * page_size);
    for (uint64_t done = 0; done < extent.count * page_size; done += zeros.size()) {
        const uint64_t left = extent.count * page_size - done;
        TRY(medium().write(std::span(zeros).first(std::min<uint64_t>(left, zeros.size())),
                           offset + done));
    }
    return {};
}

Result<BlobLocation> WriterState::store_blob(std::string_view bytes, std::string_view what) {
    if (bytes.empty()) return BlobLocation{};
    if (bytes.size() > max_blob_bytes)
        return fail(fmt::format("{}: a {} of {} is too large; at most {} fit", path(), what,
                                format_size(bytes.size()), format_size(max_blob_bytes)));
    TRY_ASSIGN(const PageExtent extent, allocate(pages_for(bytes.size())));
    std::string padded(bytes);
    padded.resize(extent.count * page_size, '\0');
    TRY(medium().write(bytes_of(padded), snapshot().superblock.byte_offset(extent.first)));
    return BlobLocation{extent.first, bytes.size(), crc32c(bytes_of(padded))};
}

Result<WriterState::Contents> WriterState::read_contents(const Draft& template_draft,
                                                         std::string_view manifest) const {
    Contents contents;
    ExtentTable& table = contents.table;
    table.dedup = snapshot().superblock.dedup();
    table.references = template_draft.references;
    std::vector<PageExtent> extents = template_draft.extents;
    if (table.dedup) {
        PageSet pages = template_draft.reserved;
        for (const PageExtent& run : template_draft.shared.runs()) pages.add(run);
        extents = pages.runs();
    }
    Xxh3Stream hash;
    hash.update(bytes_of(manifest));
    std::vector<std::byte> buffer(piece_pages * page_size);
    for (const PageExtent& extent : extents) {
        for (uint64_t done = 0; done < extent.count; done += piece_pages) {
            const PageExtent piece{extent.first + done, std::min(piece_pages, extent.count - done)};
            const auto part = std::span(buffer).first(piece.count * page_size);
            TRY(medium().read(part, snapshot().superblock.byte_offset(piece.first)));
            hash.update(part);
            table.pieces.push_back({piece, crc32c(part)});
            for (uint64_t i = 0; table.dedup && i < piece.count; ++i)
                table.page_hashes.push_back(hash_page(part.subspan(i * page_size, page_size)));
        }
    }
    contents.hash = hash.hex();
    return contents;
}

Result<> WriterState::check_room() const {
    const uint64_t capacity =
        (snapshot().superblock.slot_bytes - catalogue_header_bytes) / entry_bytes;
    if (snapshot().catalogue.entries.size() < capacity) return {};
    auto failure =
        fail(fmt::format("{}: the catalogue is full: it holds {} templates, removed ones "
                         "included; run `memplate pool gc {}` or use another pool",
                         path(), capacity, path()));
    failure.error().code = ENOSPC;
    return failure;
}

Result<> WriterState::publish(Catalogue next, std::optional<uint64_t> size_bytes) {
    TRY(check_usable());
    TRY(check_lease());
    Snapshot& now = pool_->snapshot;
    next.generation = now.newest_generation + 1;
    const auto bytes = encode(next);
    if (bytes.size() > now.superblock.slot_bytes) return check_room();

    Superblock superblock = now.superblock;
    superblock.generation = next.generation;
    superblock.slot = 1 - now.superblock.slot;
    superblock.catalogue_bytes = bytes.size();
    superblock.catalogue_crc = crc32c(bytes);
    superblock.lease_epoch = lease_.epoch;
    if (size_bytes) superblock.size_bytes = *size_bytes;
    const size_t index = 1 - now.superblock_index;
    const Block block = encode(superblock);

    // What is written must be readable: a forged pool may have brought a counter to its limit.
    TRY_CONTEXT(decode_catalogue(bytes, superblock.total_pages()), path());
    if (!decode_superblock(block)) return fail(path() + ": the pool's counters are exhausted");

    failed_ = true;  // until everything below has succeeded
    TRY(medium().sync());
    TRY(medium().write(bytes, superblock.slot_offset[superblock.slot]));
    TRY(medium().sync());
    TRY(medium().write(block, superblock_offset[index]));
    TRY(medium().sync());
    failed_ = false;

    now.previous = std::move(now.catalogue);
    now.catalogue = std::move(next);
    now.superblock = superblock;
    now.superblock_index = index;
    now.newest_generation = superblock.generation;
    now.raw_superblocks[index] = block;
    now.lease = lease_;
    now.damages.clear();
    now.interrupted = false;

    // Forget templates that are gone for good.
    std::erase_if(pool_->data_pages, [&](const auto& item) {
        return now.catalogue.by_id(item.first) == nullptr &&
               now.previous->by_id(item.first) == nullptr;
    });
    find_free_pages();
    return {};
}

}  // namespace memplate::pool
