// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "pool/writer_state.h"
#include "util/clock.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

Result<CatalogueEntry*> find_live(const WriterState& state, Catalogue& catalogue,
                                  const std::string& name) {
    const auto* found = catalogue.live(name);
    if (found != nullptr)
        return &catalogue.entries[static_cast<size_t>(found - &catalogue.entries[0])];
    auto failure =
        fail(fmt::format("{}: there is no template {}; `memplate pool show {}` lists "
                         "what there is",
                         state.path(), name, state.path()));
    failure.error().code = ENOENT;
    return failure;
}

/// Free again what was reserved for something that did not come about.
class ReservationGuard {
  public:
    explicit ReservationGuard(WriterState& state) : state_(state) {}
    ReservationGuard(const ReservationGuard&) = delete;
    ReservationGuard& operator=(const ReservationGuard&) = delete;
    ~ReservationGuard() {
        if (!done_) state_.find_free_pages();
    }
    void done() { done_ = true; }

  private:
    WriterState& state_;
    bool done_ = false;
};

}  // namespace

Writer::Writer(std::unique_ptr<WriterState> state) : state_(std::move(state)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<Writer> Writer::acquire(Pool& pool, const std::string& purpose,
                               const AcquireOptions& options) {
    Medium& medium = *pool.state_->medium;
    if (medium.mode() != OpenMode::read_write)
        return fail(medium.path() + ": the pool was opened for reading only");
    TRY_ASSIGN(UniqueFd lease_fd, lock_lease(medium));
    TRY(check_other_hosts(medium, options.break_lease_of));
    // In full, even if the superblocks are the same: a writer that died half-way shows in its slot.
    TRY_ASSIGN(pool.state_->snapshot, load_snapshot(medium));
    const Snapshot& snapshot = pool.state_->snapshot;
    const uint64_t last_epoch = snapshot.lease ? snapshot.lease->epoch : 0;
    const uint64_t epoch = std::max(last_epoch, snapshot.superblock.lease_epoch) + 1;
    const LeaseBlock lease = own_lease(epoch, purpose);
    if (medium.across_hosts()) {
        TRY(write_lease(medium, lease));
        TRY(settle_lease(medium, lease));
        TRY_ASSIGN(pool.state_->snapshot, load_snapshot(medium));
    }
    auto state = std::make_unique<WriterState>(pool.state_, std::move(lease_fd), lease);
    TRY(state->prepare());
    return Writer(std::move(state));
}

bool Writer::dedup() const {
    return state_->snapshot().superblock.dedup();
}

Result<> Writer::begin(const std::string& name, const std::string& domain) {
    TRY(state_->check_usable());
    TRY(check_name("template name", name));
    if (!domain.empty()) TRY(check_name("domain", domain));
    TRY(state_->check_room());
    state_->draft.emplace();
    state_->draft->name = name;
    state_->draft->domain = domain;
    state_->find_free_pages();
    return {};
}

Result<PageExtent> Writer::reserve(uint64_t count) {
    if (!state_->draft) return fail(state_->path() + ": pages reserved outside a template");
    TRY_ASSIGN(const PageExtent extent, state_->reserve(count));
    state_->draft->extents.push_back(extent);
    state_->draft->reserved.add(extent);
    state_->draft->references += extent.count;
    return extent;
}

Result<> Writer::write_pages(uint64_t first_page, std::span<const std::byte> data) {
    TRY(state_->check_usable());
    const PageExtent extent{first_page, data.size() / page_size};
    if (data.size() % page_size != 0)
        return fail(fmt::format("{}: {} bytes are not whole pages", state_->path(), data.size()));
    if (!state_->draft || !state_->draft->reserved.contains(extent))
        return fail(fmt::format("{}: pages {}+{} are not reserved for this template",
                                state_->path(), extent.first, extent.count));
    auto written =
        state_->medium().write(data, state_->snapshot().superblock.byte_offset(first_page));
    // A template with pages missing must not be committed by mistake.
    if (!written) state_->drop_draft();
    return written;
}

Result<std::vector<PageExtent>> Writer::add_pages(std::span<const std::byte> data) {
    if (!state_->draft) return fail(state_->path() + ": pages added outside a template");
    if (data.empty() || data.size() % page_size != 0)
        return fail(fmt::format("{}: {} bytes are not whole pages", state_->path(), data.size()));
    if (!state_->snapshot().superblock.dedup()) {
        TRY_ASSIGN(const PageExtent extent, reserve(data.size() / page_size));
        TRY(write_pages(extent.first, data));
        return std::vector{extent};
    }
    auto extents = state_->store_once(data);
    if (!extents) state_->drop_draft();
    return extents;
}

Result<TemplateRecord> Writer::commit(std::string_view manifest, bool replace) {
    TRY(state_->check_usable());
    if (!state_->draft) return fail(state_->path() + ": there is no template to commit");
    const Draft draft = *std::exchange(state_->draft, std::nullopt);
    ReservationGuard guard(*state_);

    Catalogue next = state_->snapshot().catalogue;
    if (auto existing = find_live(*state_, next, draft.name)) {
        if (!replace) {
            auto failure =
                fail(fmt::format("{}: there is a template {} already; choose another "
                                 "name, replace it or remove it",
                                 state_->path(), draft.name));
            failure.error().code = EEXIST;
            return failure;
        }
        (*existing)->state = TemplateState::retired;
    }
    CatalogueEntry entry;
    entry.id = next.next_id++;
    entry.name = draft.name;
    entry.domain = draft.domain;
    entry.created = unix_time();
    TRY_ASSIGN(entry.manifest, state_->store_blob(manifest, "manifest"));
    TRY_ASSIGN(const auto contents, state_->read_contents(draft, manifest));
    for (const Piece& piece : contents.table.pieces) entry.data_pages += piece.extent.count;
    entry.hash = from_hex(contents.hash).value();
    const auto table = encode(contents.table);
    const std::string_view table_bytes(reinterpret_cast<const char*>(table.data()), table.size());
    TRY_ASSIGN(entry.extent_table, state_->store_blob(table_bytes, "extent table"));
    next.entries.push_back(entry);
    TRY(state_->publish(std::move(next)));
    guard.done();
    return entry.record();
}

Result<TemplateRecord> Writer::store_profile(const std::string& name, std::string_view profile) {
    TRY(state_->check_usable());
    ReservationGuard guard(*state_);
    Catalogue next = state_->snapshot().catalogue;
    TRY_ASSIGN(CatalogueEntry * entry, find_live(*state_, next, name));
    TRY_ASSIGN(entry->profile, state_->store_blob(profile, "profile"));
    entry->profile_generation = profile.empty() ? 0 : state_->snapshot().newest_generation + 1;
    TemplateRecord record = entry->record();
    TRY(state_->publish(std::move(next)));
    guard.done();
    return record;
}

Result<> Writer::remove(const std::string& name) {
    Catalogue next = state_->snapshot().catalogue;
    TRY_ASSIGN(CatalogueEntry * entry, find_live(*state_, next, name));
    entry->state = TemplateState::retired;
    return state_->publish(std::move(next));
}

Result<> Writer::grow(uint64_t size_bytes) {
    TRY(state_->check_usable());
    const uint64_t now = state_->snapshot().superblock.size_bytes;
    const uint64_t wanted = size_bytes / page_size * page_size;
    if (wanted <= now || wanted > max_pool_bytes)
        return fail(
            ErrorKind::usage,
            fmt::format("{}: cannot grow from {} to {} bytes; give a size above the present "
                        "one (pools do not shrink)",
                        state_->path(), now, size_bytes));
    // The file first: a superblock never promises more than there is. A longer file does no harm.
    TRY(state_->medium().resize(wanted));
    return state_->publish(state_->snapshot().catalogue, wanted);
}

}  // namespace memplate::pool
