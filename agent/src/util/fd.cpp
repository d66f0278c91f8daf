// SPDX-License-Identifier: Apache-2.0
#include "util/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace memplate {

void UniqueFd::reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

Result<UniqueFd> UniqueFd::duplicate() const {
    const int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return fail_errno(errno, "duplicate a descriptor");
    return UniqueFd(fd);
}

Result<UniqueFd> open_at(int dirfd, const std::string& path, int flags, unsigned mode) {
    const int fd = ::openat(dirfd, path.c_str(), flags | O_CLOEXEC, mode);
    if (fd < 0) return fail_errno(errno, path);
    return UniqueFd(fd);
}

Result<> pread_exact(int fd, std::span<std::byte> buffer, uint64_t offset) {
    while (!buffer.empty()) {
        const ssize_t n = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "read");
        if (n == 0) {
            auto failure =
                fail(fmt::format("file ends at byte {}, {} more expected", offset, buffer.size()));
            failure.error().code = ENODATA;
            return failure;
        }
        buffer = buffer.subspan(static_cast<size_t>(n));
        offset += static_cast<uint64_t>(n);
    }
    return {};
}

Result<> pwrite_all(int fd, std::span<const std::byte> data, uint64_t offset) {
    while (!data.empty()) {
        const ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "write");
        if (n == 0) return fail_errno(EIO, "write");
        data = data.subspan(static_cast<size_t>(n));
        offset += static_cast<uint64_t>(n);
    }
    return {};
}

Result<> write_all(int fd, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t n = ::write(fd, data.data(), data.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(errno, "write");
        if (n == 0) return fail_errno(EIO, "write");
        data = data.subspan(static_cast<size_t>(n));
    }
    return {};
}

Result<uint64_t> file_size(int fd) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) return fail_errno(errno, "fstat");
    return static_cast<uint64_t>(st.st_size);
}

}  // namespace memplate
