// SPDX-License-Identifier: Apache-2.0
//
// Reclaiming the pages of removed templates.
#include <algorithm>

#include "pool/writer_state.h"
#include "util/lock.h"

namespace memplate::pool {
namespace {

/// Decides which removed templates can go, and holds the pin locks of those: a reader that comes
/// meanwhile is told that the template is gone.
class Collector {
  public:
    Collector(WriterState& state, const GcOptions& options)
        : state_(state), options_(options), live_(pages_of_live(state)) {}
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;
    ~Collector() {
        for (const uint64_t id : gone_)
            (void)unlock_range(state_.lease_fd(), pin_lock_offset(id), 1);
    }

    Result<> judge(const CatalogueEntry& entry, Writer::GcReport& report) {
        std::optional<std::vector<PageExtent>> own = own_data_pages(entry);
        uint64_t pages = entry.all_pages() - entry.data_pages;
        if (own)
            for (const PageExtent& extent : *own) pages += extent.count;
        else  // any page that is in use may be one of its own
            own = {{0, state_.snapshot().superblock.total_pages()}};
        if (state_.medium().across_hosts() && !options_.no_other_hosts) {
            report.other_hosts_pages += pages;
            return {};
        }
        TRY_ASSIGN(const bool unpinned, try_lock_range(state_.lease_fd(), LockMode::exclusive,
                                                       pin_lock_offset(entry.id), 1));
        if (unpinned) gone_.push_back(entry.id);
        bool used = !unpinned;
        for (const PageExtent& extent : *own) {
            if (used || !options_.pages_in_use) break;
            TRY_ASSIGN(used, options_.pages_in_use(extent));
        }
        if (!used) return {};
        report.still_in_use_pages += pages;
        if (unpinned) {
            gone_.pop_back();
            TRY(unlock_range(state_.lease_fd(), pin_lock_offset(entry.id), 1));
        }
        return {};
    }

    [[nodiscard]] const std::vector<uint64_t>& gone() const { return gone_; }

  private:
    static PageSet pages_of_live(WriterState& state) {
        Catalogue live = state.snapshot().catalogue;
        std::erase_if(live.entries, [](const CatalogueEntry& entry) {
            return entry.state != TemplateState::live;
        });
        return state.pages_of(live, nullptr);
    }

    /// Those that no live template shares. Nothing if the extent table is damaged.
    std::optional<std::vector<PageExtent>> own_data_pages(const CatalogueEntry& entry) {
        const auto* data = state_.data_pages_of(entry);
        if (data == nullptr) return std::nullopt;
        std::vector<PageExtent> own;
        for (const PageExtent& extent : data->extents) {
            const auto parts = live_.missing_from(extent);
            own.insert(own.end(), parts.begin(), parts.end());
        }
        return own;
    }

    WriterState& state_;
    const GcOptions& options_;
    PageSet live_;
    std::vector<uint64_t> gone_;
};

}  // namespace

Result<Writer::GcReport> Writer::gc(const GcOptions& options) {
    TRY(state_->check_usable());
    const Snapshot& snapshot = state_->snapshot();
    PageSet before = state_->pages_of(snapshot.catalogue, nullptr);
    if (snapshot.previous) {
        for (const PageExtent& run : state_->pages_of(*snapshot.previous, nullptr).runs())
            before.add(run);
    }
    GcReport report;
    Collector collector(*state_, options);
    for (const CatalogueEntry& entry : snapshot.catalogue.entries) {
        if (entry.state == TemplateState::retired) TRY(collector.judge(entry, report));
    }
    Catalogue next = snapshot.catalogue;
    std::erase_if(next.entries, [&](const CatalogueEntry& entry) {
        return std::ranges::find(collector.gone(), entry.id) != collector.gone().end();
    });
    if (!collector.gone().empty()) TRY(state_->publish(next));
    // Once more if the generation before still refers to pages that this one does not.
    const bool same = snapshot.previous && snapshot.previous->entries == snapshot.catalogue.entries;
    if (!same) TRY(state_->publish(next));
    TRY(state_->check_pages_known());
    for (const PageExtent& run : state_->free_runs()) {
        TRY_ASSIGN(const bool punched,
                   state_->medium().punch(snapshot.superblock.byte_offset(run.first),
                                          run.count * page_size));
        if (!punched) break;  // the medium keeps the storage; the pages are free all the same
    }
    report.freed_pages = count_difference(before, state_->pages_of(snapshot.catalogue, nullptr));
    return report;
}

}  // namespace memplate::pool
