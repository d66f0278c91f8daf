// SPDX-License-Identifier: Apache-2.0
#include "template/store.h"

#include <fcntl.h>

#include <algorithm>
#include <set>

namespace memplate {
namespace {

constexpr uint64_t page_size = pool::page_size;
constexpr uint64_t copy_pages = 256;

/// Where in the pages image the page at `vaddr` is. Callers ask in ascending order.
class RangeCursor {
  public:
    explicit RangeCursor(const criu::Pagemap& pagemap)
        : at_(pagemap.ranges.begin()), end_(pagemap.ranges.end()) {}

    /// The offset of `vaddr` and how many pages follow it contiguously.
    Result<std::pair<uint64_t, uint64_t>> find(uint64_t vaddr) {
        while (at_ != end_ && at_->vaddr + at_->pages * page_size <= vaddr) ++at_;
        if (at_ == end_ || at_->vaddr > vaddr)
            return fail(fmt::format("page {:#x} is not in the images", vaddr));
        const uint64_t skipped = (vaddr - at_->vaddr) / page_size;
        return std::pair(at_->offset + skipped * page_size, at_->pages - skipped);
    }

  private:
    std::vector<criu::PageRange>::const_iterator at_;
    std::vector<criu::PageRange>::const_iterator end_;
};

Result<> copy_run(const proto::Run& run, int pages_fd, RangeCursor& cursor,
                  google::protobuf::RepeatedPtrField<proto::Stretch>::const_iterator& stretch,
                  google::protobuf::RepeatedPtrField<proto::Stretch>::const_iterator stretches_end,
                  PageStore& store, const StoreProgress& progress) {
    std::vector<std::byte> buffer(copy_pages * page_size);
    const uint64_t run_end = run.vaddr() + run.pages() * page_size;
    for (; stretch != stretches_end && stretch->vaddr() < run_end; ++stretch) {
        uint64_t done = 0;
        while (done < stretch->pages()) {
            const uint64_t vaddr = stretch->vaddr() + done * page_size;
            TRY_ASSIGN(const auto place, cursor.find(vaddr));
            const uint64_t count = std::min({place.second, stretch->pages() - done, copy_pages});
            const auto bytes = std::span(buffer).first(count * page_size);
            TRY(pread_exact(pages_fd, bytes, place.first));
            TRY(store.write(run.page() + (vaddr - run.vaddr()) / page_size, bytes));
            done += count;
            if (progress.advance) progress.advance(count);
        }
    }
    return {};
}

/// The runs of a process, cut where their pages are not contiguous in the store.
class RunCutter {
  public:
    void begin(const proto::Run& run) { run_ = &run; }
    void add(uint64_t vaddr, const pool::PageExtent& extent) {
        if (joins(vaddr, extent)) {
            last_->set_pages(last_->pages() + extent.count);
            return;
        }
        last_ = runs_.Add();
        *last_ = *run_;
        of_ = run_;
        last_->set_vaddr(vaddr);
        last_->set_pages(extent.count);
        last_->set_page(extent.first);
    }
    [[nodiscard]] google::protobuf::RepeatedPtrField<proto::Run> take() { return std::move(runs_); }

  private:
    [[nodiscard]] bool joins(uint64_t vaddr, const pool::PageExtent& extent) const {
        return last_ != nullptr && of_ == run_ &&
               last_->vaddr() + last_->pages() * page_size == vaddr &&
               last_->page() + last_->pages() == extent.first;
    }

    google::protobuf::RepeatedPtrField<proto::Run> runs_;
    const proto::Run* run_ = nullptr;
    const proto::Run* of_ = nullptr;  ///< the run that `last_` is a part of
    proto::Run* last_ = nullptr;
};

/// Stores each page once. Runs have no holes then: see store_images().
Result<> store_process_once(proto::ProcessPages& process, const criu::Pagemap& pagemap,
                            int pages_fd, PageStore& store, const StoreProgress& progress) {
    RunCutter cutter;
    RangeCursor cursor(pagemap);
    std::vector<std::byte> buffer(copy_pages * page_size);
    for (const auto& run : process.runs()) {
        cutter.begin(run);
        for (uint64_t done = 0; done < run.pages();) {
            uint64_t vaddr = run.vaddr() + done * page_size;
            TRY_ASSIGN(const auto place, cursor.find(vaddr));
            const uint64_t count = std::min({place.second, run.pages() - done, copy_pages});
            const auto bytes = std::span(buffer).first(count * page_size);
            TRY(pread_exact(pages_fd, bytes, place.first));
            TRY_ASSIGN(const auto extents, store.add(bytes));
            for (const auto& extent : extents) {
                cutter.add(vaddr, extent);
                vaddr += extent.count * page_size;
            }
            done += count;
            if (progress.advance) progress.advance(count);
        }
    }
    *process.mutable_runs() = cutter.take();
    return {};
}

Result<> store_process(proto::ProcessPages& process, const criu::Pagemap& pagemap, int pages_fd,
                       PageStore& store, const StoreProgress& progress) {
    if (store.dedup()) return store_process_once(process, pagemap, pages_fd, store, progress);
    uint64_t total = 0;
    for (const auto& run : process.runs()) total += run.pages();
    if (total == 0) return {};
    TRY_ASSIGN(const auto extent, store.reserve(total));
    uint64_t next = extent.first;
    RangeCursor cursor(pagemap);
    auto stretch = process.present().begin();
    for (auto& run : *process.mutable_runs()) {
        run.set_page(next);
        next += run.pages();
        TRY(copy_run(run, pages_fd, cursor, stretch, process.present().end(), store, progress));
    }
    return {};
}

Result<> store_image(int images_dir, const std::string& name, PageStore& store,
                     proto::Manifest& manifest) {
    TRY_ASSIGN(UniqueFd file, open_at(images_dir, name, O_RDONLY | O_NOFOLLOW));
    TRY_ASSIGN(const uint64_t size, file_size(file.get()));
    auto* image = manifest.add_images();
    image->set_name(name);
    image->set_bytes(size);
    if (size == 0) return {};
    TRY_ASSIGN(const auto extent, store.reserve((size + page_size - 1) / page_size));
    image->set_page(extent.first);
    std::vector<std::byte> buffer(copy_pages * page_size);
    for (uint64_t done = 0; done < size;) {
        const uint64_t bytes = std::min<uint64_t>(buffer.size(), size - done);
        const uint64_t padded = (bytes + page_size - 1) / page_size * page_size;
        std::fill(buffer.begin() + static_cast<ptrdiff_t>(bytes),
                  buffer.begin() + static_cast<ptrdiff_t>(padded), std::byte{0});
        TRY(pread_exact(file.get(), std::span(buffer).first(bytes), done));
        TRY(store.write(extent.first + done / page_size, std::span(buffer).first(padded)));
        done += bytes;
    }
    return {};
}

std::string pages_name(uint32_t id) {
    return fmt::format("pages-{}.img", id);
}

/// Logs, statistics and private memory do not belong to the kept images.
bool is_kept(const std::string& name, const std::set<std::string>& private_pages) {
    return name.ends_with(".img") && !criu::is_private_pagemap(name) &&
           !private_pages.contains(name) && !name.starts_with("stats-");
}

}  // namespace

Result<> store_images(int images_dir, const criu::ImageSet& set, const LayoutOptions& options,
                      PageStore& store, proto::Manifest& manifest, const StoreProgress& progress) {
    std::set<std::string> private_pages;
    std::vector<UniqueFd> pages_fds;
    uint64_t total = 0;
    LayoutOptions layout = options;
    // Joining runs over holes is for mapping them, which needs contiguous pages.
    if (store.dedup()) layout.merge_gap = 0;
    for (const auto& process : set.processes) {
        UniqueFd fd;
        auto& pages = *manifest.add_processes();
        pages.set_pid(process.process.pid());
        if (!process.pagemap.ranges.empty()) {
            const std::string name = pages_name(process.pagemap.pages_id);
            private_pages.insert(name);
            TRY_ASSIGN(fd, open_at(images_dir, name, O_RDONLY | O_NOFOLLOW));
            auto laid_out = lay_out(process, fd.get(), layout);
            if (!laid_out) return Failure(std::move(laid_out.error()).context(name));
            pages = std::move(*laid_out);
        }
        for (const auto& stretch : pages.present()) total += stretch.pages();
        pages_fds.push_back(std::move(fd));
    }
    if (progress.begin) progress.begin(total);
    for (size_t i = 0; i < set.processes.size(); ++i)
        TRY(store_process(*manifest.mutable_processes(static_cast<int>(i)),
                          set.processes[i].pagemap, pages_fds[i].get(), store, progress));
    for (const std::string& name : set.names) {
        if (is_kept(name, private_pages)) TRY(store_image(images_dir, name, store, manifest));
    }
    return {};
}

}  // namespace memplate
