// SPDX-License-Identifier: Apache-2.0
#include "gpu/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "util/fd.h"

namespace memplate::gpu {
namespace {

uint64_t page_bytes() {
    return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

uint64_t bytes_in(const std::vector<bool>& pages) {
    return static_cast<uint64_t>(std::ranges::count(pages, true)) * page_bytes();
}

Result<UniqueFd> open_to_read(const std::string& path) {
    return open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

}  // namespace

Result<std::vector<bool>> cached_pages(int fd) {
    TRY_ASSIGN(const uint64_t bytes, file_size(fd));
    if (bytes == 0) return std::vector<bool>();
    const auto unmap = [bytes](void* address) { ::munmap(address, bytes); };
    void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return fail_errno(errno, "mmap");
    const std::unique_ptr<void, decltype(unmap)> mapping(address, unmap);
    std::vector<unsigned char> states((bytes + page_bytes() - 1) / page_bytes());
    if (::mincore(address, bytes, states.data()) != 0) return fail_errno(errno, "mincore");
    std::vector<bool> pages(states.size());
    for (size_t page = 0; page < states.size(); ++page) pages[page] = (states[page] & 1) != 0;
    return pages;
}

ColdFiles::ColdFiles(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
        const auto fd = open_to_read(path);
        if (!fd) continue;
        auto before = cached_pages(fd->get());
        if (!before) continue;
        (void)::fdatasync(fd->get());  // what is not on the medium yet cannot be dropped
        (void)::posix_fadvise(fd->get(), 0, 0, POSIX_FADV_DONTNEED);
        cached_bytes_ += bytes_in(*before);
        if (const auto after = cached_pages(fd->get())) kept_bytes_ += bytes_in(*after);
        files_.push_back({path, std::move(*before)});
    }
}

ColdFiles::~ColdFiles() {
    constexpr size_t pages_at_once = 256;
    std::vector<char> buffer(pages_at_once * page_bytes());
    for (const File& file : files_) {
        const auto fd = open_to_read(file.path);
        if (!fd) continue;
        for (size_t first = 0; first < file.cached.size();) {
            size_t count = 0;
            while (count < pages_at_once && first + count < file.cached.size() &&
                   file.cached[first + count])
                ++count;
            if (count != 0)
                (void)::pread(fd->get(), buffer.data(), count * page_bytes(),
                              static_cast<off_t>(first * page_bytes()));
            first += std::max<size_t>(count, 1);
        }
    }
}

}  // namespace memplate::gpu
