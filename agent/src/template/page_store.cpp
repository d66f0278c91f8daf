// SPDX-License-Identifier: Apache-2.0
#include "template/page_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace memplate {

Result<> PageSource::read(uint64_t first_page, std::span<std::byte> buffer) const {
    const uint64_t pages = buffer.size() / pool::page_size;
    if (first_page > total_pages || pages > total_pages - first_page)
        return fail(fmt::format("pages {}+{} are outside the pool", first_page, pages));
    if (medium) return medium->read(buffer, byte_offset(first_page));
    return pread_exact(fd, buffer, byte_offset(first_page));
}

Result<PageSource> PageSource::of(const pool::Pool& pool) {
    PageSource source{pool.fd(), pool.byte_offset(0), pool.total_pages(), pool.medium()};
    if (!pool.mapping().empty())
        source.not_mappable = "the pool is on a device, which cannot be mapped privately";
    else if (pool.dedup())
        source.not_mappable =
            "the pool shares single pages between templates (--dedup), a mapping needs runs";
    return source;
}

Result<pool::PageExtent> PoolPageStore::reserve(uint64_t pages) {
    TRY_ASSIGN(const auto extent, writer_.reserve(pages));
    extents_.push_back(extent);
    return extent;
}

Result<> PoolPageStore::write(uint64_t first_page, std::span<const std::byte> data) {
    return writer_.write_pages(first_page, data);
}

Result<std::vector<pool::PageExtent>> PoolPageStore::add(std::span<const std::byte> data) {
    return writer_.add_pages(data);
}

Result<MemfdPageStore> MemfdPageStore::create() {
    const int fd = ::memfd_create("memplate-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return fail_errno(errno, "memfd_create");
    return MemfdPageStore(UniqueFd(fd));
}

Result<pool::PageExtent> MemfdPageStore::reserve(uint64_t pages) {
    const pool::PageExtent extent{next_page_, pages};
    next_page_ += pages;
    if (::ftruncate(fd_.get(), static_cast<off_t>(next_page_ * pool::page_size)) != 0)
        return fail_errno(errno, "memfd: ftruncate");
    return extent;
}

Result<> MemfdPageStore::write(uint64_t first_page, std::span<const std::byte> data) {
    return pwrite_all(fd_.get(), data, first_page * pool::page_size);
}

Result<std::vector<pool::PageExtent>> MemfdPageStore::add(std::span<const std::byte> data) {
    TRY_ASSIGN(const auto extent, reserve(data.size() / pool::page_size));
    TRY(write(extent.first, data));
    return std::vector{extent};
}

Result<UniqueFd> MemfdPageStore::seal() {
    constexpr int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (::fcntl(fd_.get(), F_ADD_SEALS, seals) != 0) return fail_errno(errno, "memfd: seal");
    return open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd_.get()), O_RDONLY);
}

}  // namespace memplate
