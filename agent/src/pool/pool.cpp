// SPDX-License-Identifier: Apache-2.0
#include "pool/pool.h"

#include <algorithm>

#include "pool/allocator.h"
#include "pool/lease.h"
#include "pool/reference.h"
#include "pool/snapshot.h"
#include "util/lock.h"

namespace memplate::pool {
namespace {

Failure gone(const Medium& medium, const TemplateRecord& record) {
    auto failure =
        fail(fmt::format("{}: template {} (id {}) is no longer in the pool; "
                         "`memplate pool show {}` lists what is",
                         medium.path(), record.name, record.id, medium.path()));
    failure.error().code = ENOENT;
    return failure;
}

/// The entry the record stands for, live or retired.
const CatalogueEntry* find_entry(const Snapshot& snapshot, const TemplateRecord& record) {
    const CatalogueEntry* entry = snapshot.catalogue.by_id(record.id);
    return entry != nullptr && to_hex(entry->hash) == record.hash ? entry : nullptr;
}

Result<std::string> read_entry_blob(const PoolState& state, const TemplateRecord& record,
                                    BlobLocation CatalogueEntry::* blob, std::string_view kind) {
    const std::string what = fmt::format("{} of template {}", kind, record.name);
    const Medium& medium = *state.medium;
    if (const auto* entry = find_entry(state.snapshot, record)) {
        auto text = read_blob(medium, state.snapshot.superblock, entry->*blob, what);
        if (text) return text;
        TRY_ASSIGN(const bool current, is_current(medium, state.snapshot));
        if (current) return text;
    }
    // A writer has replaced or moved it since this view was loaded.
    TRY_ASSIGN(const Snapshot snapshot, load_snapshot(medium));
    const auto* entry = find_entry(snapshot, record);
    if (entry == nullptr) return gone(medium, record);
    return read_blob(medium, snapshot.superblock, entry->*blob, what);
}

/// Where templates share pages, each page counts once.
void count_shared_pages(PoolState& state, PoolInfo& info) {
    PageSet live;
    PageSet all;
    uint64_t references = 0;
    uint64_t data_pages = 0;
    PageSet data;
    for (const CatalogueEntry& entry : state.snapshot.catalogue.entries) {
        std::vector<PageExtent> extents = {entry.manifest.extent(), entry.profile.extent(),
                                           entry.extent_table.extent()};
        if (const DataPages* pages = state.data_pages_of(entry)) {
            references += pages->references;
            for (const PageExtent& extent : pages->extents) data.add(extent);
            extents.insert(extents.end(), pages->extents.begin(), pages->extents.end());
        } else {
            data_pages += entry.data_pages;
            info.warnings.push_back(
                fmt::format("the extent table of template {} is damaged", entry.name));
        }
        for (const PageExtent& extent : extents) {
            all.add(extent);
            if (entry.state == TemplateState::live) live.add(extent);
        }
    }
    info.used_pages = all.count() + data_pages;
    info.retired_pages = count_difference(all, live);
    info.dedup_saved_pages = references - std::min(references, data.count());
}

}  // namespace

Pool::Pool(std::shared_ptr<PoolState> state) : state_(std::move(state)) {}
Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;
Pool::~Pool() = default;

Result<Pool> Pool::open(const std::string& path, OpenMode mode) {
    TRY_ASSIGN(auto medium, open_medium(path, mode));
    return open(std::move(medium));
}

Result<Pool> Pool::open(std::shared_ptr<Medium> medium) {
    TRY_ASSIGN(Snapshot snapshot, load_snapshot(*medium));
    return Pool(std::make_shared<PoolState>(std::move(medium), std::move(snapshot)));
}

Result<PoolInfo> Pool::info() const {
    const Snapshot& snapshot = state_->snapshot;
    PoolInfo info;
    info.path = path();
    info.uuid = uuid();
    info.medium = state_->medium->kind();
    info.dedup = dedup();
    info.across_hosts = state_->medium->across_hosts();
    info.format_version = format_version;
    info.generation = snapshot.superblock.generation;
    info.size_bytes = snapshot.superblock.size_bytes;
    info.total_pages = total_pages();
    TRY_ASSIGN(info.allocated_bytes, state_->medium->allocated_bytes());
    TRY_ASSIGN(info.lease_holder, lease_holder(*state_->medium));
    info.warnings = snapshot.warnings(!info.lease_holder.empty());
    if (info.dedup) {
        count_shared_pages(*state_, info);
        return info;
    }
    for (const CatalogueEntry& entry : snapshot.catalogue.entries) {
        info.used_pages += entry.all_pages();
        if (entry.state == TemplateState::retired) info.retired_pages += entry.all_pages();
    }
    return info;
}

std::string Pool::uuid() const {
    return to_uuid(state_->snapshot.superblock.uuid);
}

uint64_t Pool::total_pages() const {
    return state_->snapshot.superblock.total_pages();
}

bool Pool::dedup() const {
    return state_->snapshot.superblock.dedup();
}

Result<std::string> Pool::state() const {
    return state_->medium->state();
}

Result<> Pool::refresh() {
    TRY_ASSIGN(const bool current, is_current(*state_->medium, state_->snapshot));
    if (current && state_->snapshot.whole()) return {};
    TRY_ASSIGN(state_->snapshot, load_snapshot(*state_->medium));
    return {};
}

std::vector<TemplateRecord> Pool::templates() const {
    std::vector<TemplateRecord> records;
    for (const CatalogueEntry& entry : state_->snapshot.catalogue.entries)
        if (entry.state == TemplateState::live) records.push_back(entry.record());
    std::ranges::sort(records, {}, &TemplateRecord::name);
    return records;
}

Result<TemplateRecord> Pool::find(const std::string& name) const {
    if (const auto* entry = state_->snapshot.catalogue.live(name)) return entry->record();
    auto failure =
        fail(fmt::format("{}: there is no template {}; `memplate pool show {}` lists "
                         "what there is",
                         path(), name, path()));
    failure.error().code = ENOENT;
    return failure;
}

bool Pool::lists(uint64_t id) const {
    return std::ranges::any_of(state_->snapshot.catalogue.entries,
                               [&](const CatalogueEntry& entry) { return entry.id == id; });
}

Result<std::string> Pool::read_manifest(const TemplateRecord& record) const {
    return read_entry_blob(*state_, record, &CatalogueEntry::manifest, "manifest");
}

Result<std::string> Pool::read_profile(const TemplateRecord& record) const {
    return read_entry_blob(*state_, record, &CatalogueEntry::profile, "profile");
}

const std::string& Pool::path() const {
    return state_->medium->path();
}

int Pool::fd() const {
    return state_->medium->fd();
}

std::shared_ptr<const Medium> Pool::medium() const {
    return state_->medium;
}

std::span<const std::byte> Pool::mapping() const {
    return state_->medium->mapping();
}

uint64_t Pool::byte_offset(uint64_t page) const {
    return state_->snapshot.superblock.byte_offset(page);
}

Result<> Pool::read_pages(PageExtent extent, std::span<std::byte> buffer) const {
    const uint64_t total = state_->snapshot.superblock.total_pages();
    if (extent.count > total || extent.first > total - extent.count)
        return fail(fmt::format("{}: pages {}+{} lie outside the pool, which has {}", path(),
                                extent.first, extent.count, total));
    if (buffer.size() != extent.count * page_size)
        return fail(fmt::format("{}: a buffer of {} bytes for {} pages", path(), buffer.size(),
                                extent.count));
    return state_->medium->read(buffer, byte_offset(extent.first));
}

Result<TemplatePin> Pool::pin(const TemplateRecord& record) const {
    const Medium& medium = *state_->medium;
    if (record.id == 0 || record.id >= max_template_id) return gone(medium, record);
    TRY_ASSIGN(UniqueFd fd, medium.reopen(OpenMode::read_only));
    TRY_ASSIGN(const bool locked,
               try_lock_range(fd.get(), LockMode::shared, pin_lock_offset(record.id), 1));
    // Only gc locks it exclusively, once it has found the template unused and is about to free it.
    if (!locked) return gone(medium, record);
    // Under the lock: a gc that was quicker has committed a catalogue without the template.
    TRY_ASSIGN(const bool current, is_current(medium, state_->snapshot));
    if (current) {
        if (find_entry(state_->snapshot, record) == nullptr) return gone(medium, record);
    } else {
        TRY_ASSIGN(const Snapshot snapshot, load_snapshot(medium));
        if (find_entry(snapshot, record) == nullptr) return gone(medium, record);
    }
    return TemplatePin(std::move(fd));
}

Result<bool> Pool::in_use(const TemplateRecord& record) const {
    if (record.id == 0 || record.id >= max_template_id) return false;
    return range_is_locked(fd(), LockMode::exclusive, pin_lock_offset(record.id), 1);
}

}  // namespace memplate::pool
