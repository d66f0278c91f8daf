// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/medium.h"

namespace memplate::pool {
namespace {

int open_flags(OpenMode mode) {
    return mode == OpenMode::read_write ? O_RDWR : O_RDONLY;
}

}  // namespace

Result<std::shared_ptr<Medium>> FileMedium::open(const std::string& path, OpenMode mode) {
    // O_NONBLOCK: a FIFO given by mistake must not hang the caller.
    auto fd = open_at(AT_FDCWD, path, open_flags(mode) | O_NONBLOCK | O_NOCTTY);
    if (!fd) {
        if (fd.error().code == ENOENT) {
            auto failure = fail(
                fmt::format("{}: no such pool; create it with `memplate pool create {} --size 4G`",
                            path, path));
            failure.error().code = ENOENT;
            return failure;
        }
        if (fd.error().code == EISDIR) return fail(path + ": is a directory, not a pool file");
        return Failure(std::move(fd.error()));
    }
    struct stat st{};
    if (::fstat(fd->get(), &st) != 0) return fail_errno(errno, path);
    if (S_ISDIR(st.st_mode)) return fail(path + ": is a directory, not a pool file");
    if (!S_ISREG(st.st_mode)) return fail(path + ": is not a regular file, so not a pool");
    return std::make_shared<FileMedium>(std::move(*fd), path, mode);
}

Result<uint64_t> FileMedium::size() const {
    auto size = file_size(fd_.get());
    if (!size) return Failure(std::move(size.error()).context(path_));
    return size;
}

Result<uint64_t> FileMedium::allocated_bytes() const {
    struct stat st{};
    if (::fstat(fd_.get(), &st) != 0) return fail_errno(errno, path_);
    return static_cast<uint64_t>(st.st_blocks) * 512;
}

Result<std::string> FileMedium::state() const {
    struct stat st{};
    if (::fstat(fd_.get(), &st) != 0) return fail_errno(errno, path_);
    return fmt::format("{}:{}:{}:{}.{:09}:{}.{:09}", st.st_dev, st.st_ino, st.st_size,
                       st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec,
                       st.st_ctim.tv_nsec);
}

Result<> FileMedium::read(std::span<std::byte> buffer, uint64_t offset) const {
    TRY_CONTEXT(pread_exact(fd_.get(), buffer, offset), path_);
    return {};
}

Result<> FileMedium::write(std::span<const std::byte> data, uint64_t offset) {
    auto written = pwrite_all(fd_.get(), data, offset);
    if (written) return {};
    if (written.error().code == ENOSPC) {
        auto failure = fail(fmt::format(
            "{}: the file system that holds the pool is full; free space there and try again",
            path_));
        failure.error().code = ENOSPC;
        return failure;
    }
    return Failure(std::move(written.error()).context(path_));
}

Result<bool> FileMedium::punch(uint64_t offset, uint64_t length) {
    while (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS) return false;
        if (errno != EINTR) return fail_errno(errno, path_ + ": give pages back");
    }
    return true;
}

Result<> FileMedium::allocate(uint64_t offset, uint64_t length) {
    while (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(length)) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS) return {};
        if (errno != EINTR) return fail_errno(errno, path_ + ": take storage");
    }
    return {};
}

Result<> FileMedium::resize(uint64_t size) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
        return fail_errno(errno, fmt::format("{}: resize to {} bytes", path_, size));
    return {};
}

Result<> FileMedium::sync() {
    if (::fdatasync(fd_.get()) != 0) return fail_errno(errno, path_ + ": fdatasync");
    return {};
}

Result<UniqueFd> FileMedium::reopen(OpenMode mode) const {
    // By descriptor, not by path: the path may name another file by now, or none.
    auto fd =
        open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd_.get()), open_flags(mode) | O_NOCTTY);
    if (!fd) return fail_errno(fd.error().code, path_ + ": open again");
    return fd;
}

}  // namespace memplate::pool
