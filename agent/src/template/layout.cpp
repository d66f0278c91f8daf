// SPDX-License-Identifier: Apache-2.0
#include "template/layout.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "util/fd.h"

namespace memplate {
namespace {

constexpr uint64_t page_size = criu::page_size;
namespace status = criu::vma_status;

constexpr int madv_wipeonfork_bit = 18;
constexpr uint32_t kernel_areas = status::vdso | status::vvar | status::vsyscall | status::aio_ring;

bool is_zero(std::span<const std::byte> page) {
    // A page equals itself shifted by one byte, and begins with zero, only if all of it is zero.
    return page[0] == std::byte{0} &&
           std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

proto::PageOwner owner_of(const criu::image::Vma& vma) {
    if ((vma.status() & (status::file_private | status::file_shared)) != 0)
        return proto::OWNER_FILE;
    if ((vma.status() & status::stack) != 0 || (vma.flags() & MAP_GROWSDOWN) != 0)
        return proto::OWNER_STACK;
    if ((vma.status() & status::heap) != 0) return proto::OWNER_HEAP;
    return proto::OWNER_ANONYMOUS;
}

/// What rules out mapping for the whole area.
proto::Placement placement_of(const criu::image::Vma& vma,
                              const std::vector<UnsharedArea>& unshared) {
    if ((vma.status() & kernel_areas) != 0) return proto::PLACEMENT_KERNEL;
    if ((vma.flags() & MAP_GROWSDOWN) != 0 || (vma.status() & status::stack) != 0)
        return proto::PLACEMENT_GROWSDOWN;
    if ((vma.flags() & MAP_HUGETLB) != 0) return proto::PLACEMENT_HUGETLB;
    if ((vma.flags() & MAP_LOCKED) != 0) return proto::PLACEMENT_LOCKED;
    if ((vma.madv() >> madv_wipeonfork_bit & 1) != 0) return proto::PLACEMENT_WIPEONFORK;
    for (const UnsharedArea& area : unshared) {
        if (area.start < vma.end() && vma.start() < area.end) return area.reason;
    }
    return proto::PLACEMENT_SHARED;
}

/// Collects the pages of one area in ascending order and cuts them into runs and stretches.
class AreaCutter {
  public:
    AreaCutter(const criu::image::Vma& vma, const LayoutOptions& options,
               const std::vector<UnsharedArea>& unshared, proto::ProcessPages& out)
        : owner_(owner_of(vma)),
          placement_(placement_of(vma, unshared)),
          options_(options),
          out_(out) {
        // Between written pages of a file mapping lies the file, not zeros: never join there.
        merge_gap_ = may_drop_zero() ? options.merge_gap : 0;
    }

    /// A page of zeros in anonymous memory needs no storage; over a file it hides the file's page.
    [[nodiscard]] bool may_drop_zero() const {
        return owner_ != proto::OWNER_FILE && placement_ != proto::PLACEMENT_KERNEL;
    }

    void add(uint64_t vaddr) {
        if (stretch_ == nullptr || stretch_end() != vaddr) {
            stretch_ = out_.add_present();
            stretch_->set_vaddr(vaddr);
        }
        stretch_->set_pages(stretch_->pages() + 1);

        if (run_ == nullptr || vaddr > run_end() + merge_gap_ * page_size) {
            finish();
            run_ = out_.add_runs();
            run_->set_vaddr(vaddr);
            run_->set_owner(owner_);
            run_->set_placement(placement_);
        }
        run_->set_pages((vaddr - run_->vaddr()) / page_size + 1);
    }

    void finish() {
        if (run_ != nullptr && placement_ == proto::PLACEMENT_SHARED &&
            run_->pages() <= options_.small_run)
            run_->set_placement(proto::PLACEMENT_SMALL);
        run_ = nullptr;
    }

  private:
    [[nodiscard]] uint64_t run_end() const { return run_->vaddr() + run_->pages() * page_size; }
    [[nodiscard]] uint64_t stretch_end() const {
        return stretch_->vaddr() + stretch_->pages() * page_size;
    }

    proto::PageOwner owner_;
    proto::Placement placement_;
    const LayoutOptions& options_;
    proto::ProcessPages& out_;
    uint64_t merge_gap_ = 0;
    proto::Run* run_ = nullptr;
    proto::Stretch* stretch_ = nullptr;
};

/// Reads the pages of a pages image in order, in large pieces.
class PageReader {
  public:
    explicit PageReader(int fd) : fd_(fd), buffer_(256 * page_size) {}
    Result<std::span<const std::byte>> page(uint64_t offset, uint64_t bytes_left) {
        if (offset < start_ || offset + page_size > start_ + filled_) {
            filled_ = std::min<uint64_t>(buffer_.size(), bytes_left);
            start_ = offset;
            TRY(pread_exact(fd_, std::span(buffer_).first(filled_), offset));
        }
        return std::span<const std::byte>(buffer_).subspan(offset - start_, page_size);
    }

  private:
    int fd_;
    std::vector<std::byte> buffer_;
    uint64_t start_ = 0;
    uint64_t filled_ = 0;
};

}  // namespace

Result<proto::ProcessPages> lay_out(const criu::ProcessImage& process, int pages_fd,
                                    const LayoutOptions& options) {
    static const std::vector<UnsharedArea> none;
    const auto found = options.unshared.find(process.process.pid());
    const auto& unshared = found == options.unshared.end() ? none : found->second;

    proto::ProcessPages out;
    out.set_pid(process.process.pid());
    uint64_t zero_pages = 0;
    PageReader reader(pages_fd);
    auto range = process.pagemap.ranges.begin();
    const auto ranges_end = process.pagemap.ranges.end();
    uint64_t page_in_range = 0;
    for (const auto& vma : process.mm.vmas()) {
        AreaCutter cutter(vma, options, unshared, out);
        while (range != ranges_end) {
            const uint64_t vaddr = range->vaddr + page_in_range * page_size;
            if (vaddr >= vma.end()) break;
            TRY_ASSIGN(const auto page, reader.page(range->offset + page_in_range * page_size,
                                                    (range->pages - page_in_range) * page_size));
            if (cutter.may_drop_zero() && is_zero(page))
                ++zero_pages;
            else
                cutter.add(vaddr);
            if (++page_in_range == range->pages) {
                ++range;
                page_in_range = 0;
            }
        }
        cutter.finish();
    }
    out.set_zero_pages(zero_pages);
    return out;
}

}  // namespace memplate
